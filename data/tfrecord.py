"""TFRecord files and the tf.train.Example messages in them, without TensorFlow.

A record is framed as: uint64 length of the payload, masked CRC-32C of those 8 bytes, payload, masked CRC-32C of the
payload, all little-endian (TensorFlow, core/lib/io/record_writer.h). Both checksums are checked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

Feature = bytes | NDArray[np.float32] | NDArray[np.int64]
"""A byte string, or a 1-D array of numbers."""

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_HEADER_SIZE = _LENGTH.size + _CHECKSUM.size
_FRAME_SIZE = _HEADER_SIZE + _CHECKSUM.size


class RecordError(ValueError):
    """A record that is truncated, corrupt or no Example; the text names the file, the record and its byte offset."""


class FramingError(RecordError):
    """The same, where the records after it in the file can't be found either."""


@dataclass(frozen=True)
class Record:
    """Where a record is."""

    number: int
    """In its file, from 0."""
    offset: int
    """Of its frame in its file (bytes)."""
    length: int
    """Of its payload (bytes)."""

    @property
    def end(self) -> int:
        """Offset of the next record's frame."""
        return self.offset + self.length + _FRAME_SIZE


@dataclass(frozen=True)
class RecordFile:
    """A TFRecord file: a file of its own, or a member of an uncompressed tar."""

    path: Path
    """The file, or the tar."""
    start: int
    """Where it begins in `path` (bytes)."""
    size: int
    """Bytes."""
    name: str
    """For messages."""
    count: int | None = None
    """Records that it should have, where that is known."""

    def records(self, number: int = 0, offset: int = 0) -> Iterator[Record]:
        """Walks the frames, reading only the lengths, from the record with this number and offset on.

        Raises:
            FramingError: a record is truncated, its length is corrupt, or the file ends too soon or too late.
        """
        with open(self.path, "rb", buffering=0) as file:
            while offset < self.size:
                file.seek(self.start + offset)
                header = file.read(min(_HEADER_SIZE, self.size - offset))
                if len(header) < _HEADER_SIZE:
                    raise FramingError(self._text(number, offset, "is truncated"))
                if masked_crc(header[: _LENGTH.size]) != _CHECKSUM.unpack_from(header, _LENGTH.size)[0]:
                    raise FramingError(self._text(number, offset, "is corrupt: its length fails its checksum"))
                record = Record(number, offset, _LENGTH.unpack_from(header)[0])
                if record.end > self.size:
                    raise FramingError(self._text(number, offset, "is truncated"))
                yield record
                number, offset = number + 1, record.end
        if number != (number if self.count is None else self.count):
            raise FramingError(f"{self.name} has {number} records, but its name says {self.count}")

    def payload(self, record: Record) -> bytes:
        """A record's payload; any thread may ask for any record.

        Raises:
            RecordError: it is truncated, or fails its checksum.
        """
        with open(self.path, "rb") as file:
            file.seek(self.start + record.offset + _HEADER_SIZE)
            payload, checksum = file.read(record.length), file.read(_CHECKSUM.size)
        if len(checksum) < _CHECKSUM.size:
            raise FramingError(self._text(record.number, record.offset, "is truncated"))
        if masked_crc(payload) != _CHECKSUM.unpack(checksum)[0]:
            raise RecordError(self._text(record.number, record.offset, "is corrupt: it fails its checksum"))
        return payload

    def error(self, record: Record, reason: str) -> RecordError:
        """An error that says where the record is."""
        return RecordError(self._text(record.number, record.offset, reason))

    def _text(self, number: int, offset: int, reason: str) -> str:
        return f"{self.name}: record {number} at byte {offset:,} {reason}"


def read_records(path: Path) -> Iterator[bytes]:
    """The payloads of a TFRecord file, in order.

    Raises:
        RecordError: one is truncated or corrupt.
    """
    file = RecordFile(path, 0, path.stat().st_size, str(path))
    for record in file.records():
        yield file.payload(record)


def write_record(file: IO[bytes], payload: bytes) -> None:
    """Appends a record to a TFRecord file."""
    length = _LENGTH.pack(len(payload))
    file.write(length + _CHECKSUM.pack(masked_crc(length)))
    file.write(payload)
    file.write(_CHECKSUM.pack(masked_crc(payload)))


def masked_crc(payload: bytes) -> int:
    """CRC-32C, rotated right by 15 bits plus a constant, modulo 2^32 (TensorFlow, core/lib/hash/crc32c.h)."""
    crc = google_crc32c.value(payload)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def encode_example(features: Mapping[str, Any]) -> bytes:
    """A serialised tf.train.Example, its features in the order given.

    Args:
        features: bytes; or numbers, floating point ones as a float list, integers as an int64 list.
    """
    example = _Example()
    for key, value in features.items():
        entry = example.features.feature.add(key=key)
        if isinstance(value, bytes):
            entry.value.bytes_list.value.append(value)
        elif np.asarray(value).dtype.kind == "f":
            entry.value.float_list.value.extend(np.ravel(value).tolist())
        else:
            entry.value.int64_list.value.extend(np.ravel(value).tolist())
    return example.SerializeToString()


def decode_example(payload: bytes) -> dict[str, Feature]:
    """The features of a serialised tf.train.Example, in whatever order they come.

    Raises:
        ValueError: it is no such message, or a feature holds several byte strings.
    """
    try:
        example = _Example.FromString(payload)
    except DecodeError as error:
        raise ValueError(f"is not a tf.train.Example ({error})") from None
    features: dict[str, Feature] = {}
    for entry in example.features.feature:
        feature = entry.value
        if feature.HasField("bytes_list"):
            if len(feature.bytes_list.value) != 1:
                raise ValueError(f"has {len(feature.bytes_list.value)} byte strings as {entry.key}, not one")
            features[entry.key] = feature.bytes_list.value[0]
        elif feature.HasField("float_list"):
            features[entry.key] = np.array(feature.float_list.value, np.float32)
        else:
            features[entry.key] = np.array(feature.int64_list.value, np.int64)
    return features


def _example_class() -> Any:
    """The message class of tf.train.Example (TensorFlow, core/example/example.proto and feature.proto).

    On the wire a map is its entries, repeated; declared so, they keep their order.
    """
    Field = descriptor_pb2.FieldDescriptorProto
    one, many = Field.LABEL_OPTIONAL, Field.LABEL_REPEATED
    schema: dict[str, list[tuple[str, Any, Any]]] = {  # message: (field, label, type), fields numbered from 1
        "BytesList": [("value", many, Field.TYPE_BYTES)],
        "FloatList": [("value", many, Field.TYPE_FLOAT)],
        "Int64List": [("value", many, Field.TYPE_INT64)],
        "Feature": [
            ("bytes_list", one, "BytesList"),
            ("float_list", one, "FloatList"),
            ("int64_list", one, "Int64List"),
        ],
        "Entry": [("key", one, Field.TYPE_STRING), ("value", one, "Feature")],
        "Features": [("feature", many, "Entry")],
        "Example": [("features", one, "Features")],
    }
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="svg", syntax="proto3")
    for message, fields in schema.items():
        declared = file.message_type.add(name=message)
        for number, (name, label, kind) in enumerate(fields, start=1):
            field = declared.field.add(name=name, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = Field.TYPE_MESSAGE, f".svg.{kind}"
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("svg.Example"))


_Example = _example_class()

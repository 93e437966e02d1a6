"""TFRecord framing and Example messages: known bytes, any features in any order, any damage found."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.tfrecord import (
    FramingError,
    RecordError,
    RecordFile,
    decode_example,
    encode_example,
    masked_crc,
    read_records,
    write_record,
)

finite = st.floats(allow_nan=False, width=32)
features = st.dictionaries(
    st.text(max_size=20),
    st.binary(max_size=300)
    | st.lists(finite, max_size=5).map(lambda values: np.array(values, np.float32))
    | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5).map(lambda values: np.array(values, np.int64)),
    max_size=8,
)


def frame(payload: bytes) -> bytes:
    file = io.BytesIO()
    write_record(file, payload)
    return file.getvalue()


def whole(path: Path) -> RecordFile:
    return RecordFile(path, 0, path.stat().st_size, "a.tfrecords")


def test_crc_is_castagnoli_masked() -> None:
    """The check value of CRC-32C is E3069283 (RFC 3720, B.4: 32 zeros give 8A9136AA)."""
    assert masked_crc(b"123456789") == (((0xE3069283 >> 15) | (0xE3069283 << 17)) + 0xA282EAD8) % 2**32
    assert masked_crc(bytes(32)) == (((0x8A9136AA >> 15) | (0x8A9136AA << 17)) + 0xA282EAD8) % 2**32


def test_a_frame_is_length_crc_payload_crc() -> None:
    length = struct.pack("<Q", 5)
    parts = (length, struct.pack("<I", masked_crc(length)), b"hello", struct.pack("<I", masked_crc(b"hello")))
    assert frame(b"hello") == b"".join(parts)


def test_an_example_on_the_wire() -> None:
    """Written out by hand after example.proto: tag = field number << 3 | 2 for whatever has a length."""
    floats = b"\x12\x06" + b"\x0a\x04" + struct.pack("<f", 0.5)  # Feature.float_list {value, packed}
    entry = b"\x0a\x01a" + b"\x12" + bytes([len(floats)]) + floats  # key, value
    body = b"\x0a" + bytes([len(entry)]) + entry  # Features.feature
    assert encode_example({"a": np.array([0.5], np.float32)}) == b"\x0a" + bytes([len(body)]) + body


def test_unpacked_floats_are_read() -> None:
    """Writers of proto2 give each float its own tag; both must be understood."""
    values = b"\x0d" + struct.pack("<f", 1.5) + b"\x0d" + struct.pack("<f", -2)
    floats = b"\x12" + bytes([len(values)]) + values
    entry = b"\x0a\x01a" + b"\x12" + bytes([len(floats)]) + floats
    body = b"\x0a" + bytes([len(entry)]) + entry
    assert decode_example(b"\x0a" + bytes([len(body)]) + body)["a"].tolist() == [1.5, -2]  # type: ignore[union-attr]


@given(features, st.randoms())
def test_examples_come_back_in_any_order(features: dict[str, Any], random: Any) -> None:
    keys = list(features)
    random.shuffle(keys)
    decoded = decode_example(encode_example({key: features[key] for key in keys}))
    assert list(decoded) == keys
    for key, value in features.items():
        if isinstance(value, bytes):
            assert decoded[key] == value
        elif np.size(value):
            assert decoded[key].dtype == value.dtype  # type: ignore[union-attr]
            np.testing.assert_array_equal(decoded[key], value)


def test_what_is_no_example() -> None:
    with pytest.raises(ValueError, match=r"is not a tf\.train\.Example"):
        decode_example(b"\xff\xff\xff")


@given(st.lists(st.binary(max_size=100), max_size=6))
def test_records_come_back(tmp_path_factory: pytest.TempPathFactory, payloads: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("records") / "a.tfrecords"
    path.write_bytes(b"".join(map(frame, payloads)))
    assert list(read_records(path)) == payloads


def test_a_part_of_a_file_is_a_record_file(tmp_path: Path) -> None:
    """As a member of a tar is; and walking can begin at any record."""
    path = tmp_path / "a.tar"
    inner = b"".join(map(frame, [b"one", b"two", b"three"]))
    path.write_bytes(b"x" * 512 + inner + b"y" * 512)
    part = RecordFile(path, 512, len(inner), "a.tfrecords")
    records = list(part.records())
    assert [part.payload(record) for record in reversed(records)] == [b"three", b"two", b"one"]
    assert list(part.records(1, records[0].end)) == records[1:]


@given(st.data())
def test_no_flipped_bit_goes_unnoticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Every single-bit error in length, payload or either CRC is found, and named with its record and offset."""
    path = tmp_path_factory.mktemp("flip") / "a.tfrecords"
    frames = [frame(b"first payload"), frame(b"second"), frame(b"third")]
    position = data.draw(st.integers(0, len(frames[1]) - 1))
    damaged = bytearray(frames[1])
    damaged[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(frames[0] + damaged + frames[2])
    at = f"record 1 at byte {len(frames[0])} is corrupt"
    with pytest.raises(FramingError if position < 12 else RecordError, match=at) as caught:
        list(read_records(path))
    if position >= 12:  # the record after it can still be read
        assert type(caught.value) is RecordError
        file = whole(path)
        assert file.payload(list(file.records())[2]) == b"third"


@given(st.integers(1, 12 + 6 + 4 - 1))
def test_every_truncation_is_found(tmp_path_factory: pytest.TempPathFactory, kept: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.tfrecords"
    path.write_bytes(frame(b"first") + frame(b"second")[:kept])
    with pytest.raises(FramingError, match=r"a\.tfrecords: record 1 at byte 21 is truncated"):
        list(read_records(path))


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecords"
    path.write_bytes(frame(b"first"))
    file = whole(path)
    (record,) = file.records()
    path.write_bytes(frame(b"first")[:-1])
    with pytest.raises(FramingError, match="record 0 at byte 0 is truncated"):
        file.payload(record)

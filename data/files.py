"""Reads files without trusting them: JSON against a description, .npy headers; size, depth and numbers are bounded.

A description is a type: a TypedDict (other keys are ignored), `dict[str, ...]`, `list[...]`, `tuple[...]`, `int`,
`float`, `str`, `Any`, and `Annotated[int, Range(...)]` for a number that has limits.

    class Point(TypedDict):
        name: str
        at: tuple[Annotated[float, Range(0, 1)], Annotated[float, Range(0, 1)]]

    point = read_json(Path("point.json"), Point)

Whatever is wrong with a file is a `StoreError`, whose text names it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any, NoReturn, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

_JSON_BYTES = 1 << 28
"""Largest JSON file or line (bytes); the manifest of a million damaged records has half of it."""
_DEPTH = 64
"""Deepest nesting of JSON; a store that was merged of merged ones has three levels for each time."""
_NPY_MAGIC = b"\x93NUMPY"
_NPY_LONGEST = 1 << 12
"""Longest .npy header (bytes); numpy's own have 118."""
_NPY_HEADER = re.compile(
    r"\{'descr': '(?P<dtype>[<>|=][biufc]\d{1,2})', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>(?:\d{1,18}(?:, \d{1,18})*)?),?\), \} *\n?"
)
"""What numpy writes for an array of plain numbers; it is matched, never evaluated."""


class StoreError(ValueError):
    """A file of a data set that is damaged, missing or misused; the text is the line that a user reads."""


def read_json(path: Path, kind: type[T], remedy: str = "") -> T:
    """A JSON file that is as the description `kind` says.

    Raises:
        StoreError: it can't be read, is no JSON, or is not as described.
    """
    with naming(path, remedy):
        if path.stat().st_size > _JSON_BYTES:
            raise ValueError(f"has {path.stat().st_size:,} bytes, more than {_JSON_BYTES:,}")
        return parse_json(path.read_bytes(), kind)


def parse_json(text: bytes, kind: type[T]) -> T:
    """JSON text that is as the description `kind` says; NaN, infinities and numbers too large for a float are not JSON.

    Raises:
        ValueError: it is not; the text says where.
    """
    if len(text) > _JSON_BYTES:
        raise ValueError(f"has a line of {len(text):,} bytes, more than {_JSON_BYTES:,}")
    try:
        value = json.loads(text.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite, parse_int=_whole)
        _check_depth(value, _DEPTH)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text at byte {error.start:,}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from None
    check(value, kind)
    return value


def check(value: Any, kind: Any, name: str = "it") -> None:
    """Compares plain containers with a description.

    Raises:
        ValueError: they differ; the text names the entry.
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        check(value, args[0], name)
        if value not in args[1]:
            _refuse(name, value, f"a number {args[1]}")
    elif is_typeddict(kind):
        hints = get_type_hints(kind, include_extras=True)
        check(value, dict[str, Any], name)
        if missing := [key for key in hints if key not in value]:
            raise ValueError(f"lacks {', '.join(missing)}{'' if name == 'it' else f' in {name}'}")
        for key, hint in hints.items():
            check(value[key], hint, key if name == "it" else f"{name}.{key}")
    elif origin is dict:
        if not isinstance(value, dict):
            _refuse(name, value, "an object")
        for key, item in value.items():
            check(item, args[1], f"{name}.{key}")
    elif origin is list:
        if not isinstance(value, list):
            _refuse(name, value, "a list")
        for index, item in enumerate(value):
            check(item, args[0], f"{name}[{index}]")
    elif origin is tuple:
        if not isinstance(value, list) or len(value) != len(args):
            _refuse(name, value, f"a list of {len(args)}")
        for index, (item, hint) in enumerate(zip(value, args, strict=True)):
            check(item, hint, f"{name}[{index}]")
    elif kind is float:
        if type(value) not in (int, float):
            _refuse(name, value, "a number")
    elif kind is not Any and type(value) is not kind:
        _refuse(name, value, {int: "a whole number", str: "text"}.get(kind, f"a {kind.__name__}"))


def read_npy(data: bytes, dtype: type, shape: tuple[int, ...]) -> NDArray[Any]:
    """The array in the bytes of a .npy file, read-only.

    Raises:
        ValueError: it is no such file, or holds another dtype or shape.
    """
    start = _npy_start(data[: _NPY_LONGEST + 12], len(data), dtype, shape)
    return np.frombuffer(data, dtype, math.prod(shape), start).reshape(shape)


def check_npy(path: Path, dtype: type, shape: tuple[int, ...]) -> int:
    """Where the numbers begin in a .npy file, in bytes.

    Raises:
        ValueError: it is no such file, holds another dtype or shape, or is truncated.
    """
    with open(path, "rb") as file:
        return _npy_start(file.read(_NPY_LONGEST + 12), path.stat().st_size, dtype, shape)


def map_npy(path: Path, dtype: type, shape: tuple[int, ...]) -> NDArray[Any]:
    """A .npy file, memory-mapped read-only.

    Raises:
        ValueError: as `check_npy`.
    """
    mapped = np.memmap(path, dtype, "r", check_npy(path, dtype, shape), shape)
    return np.asarray(mapped)  # a plain view: slicing np.memmap itself is slow


def _npy_start(head: bytes, size: int, dtype: type, shape: tuple[int, ...]) -> int:
    """Where the numbers begin in a .npy file of `size` bytes, once its header is as it must be."""
    if head[:6] != _NPY_MAGIC or head[6:8] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ValueError("is no .npy file")
    begin = 10 if head[6] == 1 else 12
    length = int.from_bytes(head[8:begin], "little")
    match = _NPY_HEADER.fullmatch(head[begin : begin + length].decode("latin-1")) if length <= _NPY_LONGEST else None
    if match is None:
        raise ValueError("has a damaged .npy header, or holds other things than numbers")
    try:
        found = np.dtype(match["dtype"])
    except TypeError:
        raise ValueError(f"has a damaged .npy header (dtype {match['dtype']})") from None
    dims = tuple(int(n) for n in match["shape"].split(", ") if n)
    if found != dtype or dims != shape or match["fortran"] == "True":
        raise ValueError(f"holds {found} {dims}, but must hold {np.dtype(dtype)} {shape}")
    if begin + length + math.prod(shape) * found.itemsize > size:
        raise ValueError(f"is truncated ({size:,} bytes)")
    return begin + length


def sync(file: IO[bytes]) -> None:
    """Flushes a file to the disk."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def naming(path: Path, remedy: str = "") -> Iterator[None]:
    """Makes whatever is wrong with a file in the block a `StoreError` that begins with its name."""
    try:
        yield
    except StoreError:
        raise
    except (ValueError, OSError) as error:
        reason = f"cannot be read ({(error.strerror or str(error)).lower()})" if isinstance(error, OSError) else error
        raise StoreError(f"{path} {reason}{f': {remedy}' if remedy else ''}") from None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Gives the system's errors in the block, such as a full disk, the name of the file that is written."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def close(file: IO[bytes]) -> None:
    """Closes a file, whose buffer may have bytes that can't be written."""
    with writing(Path(file.name)):
        file.close()


def _refuse(name: str, value: Any, wanted: str) -> NoReturn:
    shown = json.dumps(value)
    raise ValueError(f"has {name} = {shown[:60]}{'...' if len(shown) > 60 else ''}, which must be {wanted}")


def _check_depth(value: Any, depth: int) -> None:
    if isinstance(value, (dict, list)):
        if depth == 0:
            raise RecursionError
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, depth - 1)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"holds {name}, which is no JSON number")


def _whole(text: str) -> int:
    if len(text) > 100:
        raise ValueError(f"holds {text[:20]}..., which is too long a number")
    return int(text)


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"holds {text[:20]}, which is too large a number")
    return number

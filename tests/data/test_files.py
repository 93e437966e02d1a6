"""The readers of JSON and .npy headers: what is as described comes back, all else is a ValueError that says where."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.files import StoreError, check, check_npy, parse_json, read_json, read_npy
from data.ranges import Range


class Point(TypedDict):
    name: str
    at: tuple[Annotated[float, Range(0, 1)], Annotated[float, Range(0, 1)]]
    tags: dict[str, list[int]]
    more: Any


SOUND: dict[str, Any] = {"name": "a", "at": [0, 0.5], "tags": {"b": [1, 2]}, "more": None, "unknown": 3}
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_what_is_as_described_comes_back() -> None:
    assert parse_json(json.dumps(SOUND).encode(), Point) == SOUND


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "has name = 3, which must be text"),
        ({"name": None}, "has name = null, which must be text"),
        ({"at": [0, 2]}, r"has at\[1\] = 2, which must be a number from 0 to 1"),
        ({"at": [0]}, r"has at = \[0\], which must be a list of 2"),
        ({"at": [0, True]}, r"has at\[1\] = true, which must be a number"),
        ({"tags": []}, r"has tags = \[\], which must be an object"),
        ({"tags": {"b": 1}}, r"has tags\.b = 1, which must be a list"),
        ({"tags": {"b": [1, 1.0]}}, r"has tags\.b\[1\] = 1\.0, which must be a whole number"),
        ({"more": float("inf")}, "holds Infinity, which is no JSON number"),
        ({"more": 10**101}, "holds 1000.*too long a number"),
    ],
)
def test_what_differs_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(json.dumps(SOUND | change).encode(), Point)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="lacks name, tags"):
        parse_json(json.dumps({"at": [0, 0], "more": 1}).encode(), Point)


@given(values)
def test_any_value_is_checked_without_surprise(value: Any) -> None:
    for key in SOUND:
        try:
            check(SOUND | {key: value}, Point)
        except ValueError as error:
            assert key in str(error)


@given(st.binary(max_size=200) | st.text('[]{}:,"0123456789eE.-+ntf\\u', max_size=60).map(str.encode))
def test_any_bytes_are_read_without_surprise(data: bytes) -> None:
    for read in (lambda: parse_json(data, Point), lambda: read_npy(data, np.int64, (3,))):
        with pytest.raises(ValueError):
            read()


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
@pytest.mark.parametrize("depth", [100, 3000, 1_000_000])
def test_depth_is_bounded(opening: bytes, depth: int) -> None:
    closing = {b"[": b"]", b'{"a":': b"}", b'[{"a":': b"}]"}[opening]
    with pytest.raises(ValueError, match="is nested too deeply"):
        parse_json(opening * depth + b"0" + closing * depth, dict)


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(StoreError, match=r"a\.json has 1,099,511,627,776 bytes, more than .*: make it again"):
        read_json(tmp_path / "a.json", dict, "make it again")
    with pytest.raises(StoreError, match=r"b\.json cannot be read \(no such file or directory\)"):
        read_json(tmp_path / "b.json", dict)


@given(st.sampled_from([np.int64, np.uint8, np.float32]), st.lists(st.integers(1, 4), max_size=4).map(tuple))
def test_arrays_that_numpy_writes_are_read(dtype: type, shape: tuple[int, ...]) -> None:
    array, file = np.random.default_rng(0).integers(0, 9, shape).astype(dtype), io.BytesIO()
    np.save(file, array)
    np.testing.assert_array_equal(read_npy(file.getvalue(), dtype, shape), array)
    with pytest.raises(ValueError, match="is truncated"):
        read_npy(file.getvalue()[:-1], dtype, shape)
    with pytest.raises(ValueError, match="but must hold"):
        read_npy(file.getvalue(), dtype, (*shape, 1))


def test_a_header_that_claims_the_earth_reserves_nothing(tmp_path: Path) -> None:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (10**15,)})
    (tmp_path / "a.npy").write_bytes(file.getvalue())
    with pytest.raises(ValueError, match="is truncated"):
        check_npy(tmp_path / "a.npy", np.uint8, (10**15,))
    with pytest.raises(ValueError, match="is truncated"):
        read_npy(file.getvalue(), np.uint8, (10**15,))

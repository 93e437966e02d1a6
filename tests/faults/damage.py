"""Damages of a file: what disks, downloads, editors and mistakes do to it, each drawn at random from a generator."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

Damage = Callable[[bytes, np.random.Generator], bytes]

STRANGE = (
    *(b"-1", b"0", b"1", b"0.5", b"1_0", b"010", b"1:30", b"1e999", b"-1e999", b"1e-9", b"NaN", b"Infinity"),
    *(b"9223372036854775807", b"18446744073709551616", b"9" * 5000, b"null", b"true", b'"x"', b'""', b"[]", b"{}"),
    *(b"[[[1]]]", b"[" * 3000, b'{"a":' * 3000, b'"\\ud800"', b"\xff\xfe", b'"../../x"', b"!!timestamp x"),
    b"&a [*a, *a]",
)
"""What stands in a text where something else should."""
_VALUE = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null|\[[^][]*\]|\{[^{}]*\}')


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four bits."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5)) if data else 0):
        changed[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def flip_early(data: bytes, rng: np.random.Generator) -> bytes:
    """One bit of the first 512 bytes, where headers are."""
    return flip(data[:512], rng) + data[512:]


def fill(data: bytes, rng: np.random.Generator) -> bytes:
    """A run of bytes is zeros, or ones, or random."""
    start = int(rng.integers(len(data) + 1))
    run = data[start : start + int(2 ** rng.uniform(0, 12))]
    what = (bytes(len(run)), b"\xff" * len(run), rng.bytes(len(run)))[rng.integers(3)]
    return data[:start] + what + data[start + len(run) :]


def zero_block(data: bytes, rng: np.random.Generator) -> bytes:
    """An aligned block of 512 bytes is zeros, as a disk leaves it."""
    start = int(rng.integers(len(data) // 512 + 1)) * 512
    return data[:start] + bytes(len(data[start : start + 512])) + data[start + 512 :]


def cut(data: bytes, rng: np.random.Generator) -> bytes:
    """The end is missing."""
    return data[: rng.integers(len(data) + 1)]


def cut_block(data: bytes, rng: np.random.Generator) -> bytes:
    """The end is missing from a block on."""
    return data[: int(rng.integers(len(data) // 512 + 1)) * 512]


def empty(data: bytes, rng: np.random.Generator) -> bytes:
    """Nothing is left."""
    return b""


def insert(data: bytes, rng: np.random.Generator) -> bytes:
    """Some random bytes more."""
    start = int(rng.integers(len(data) + 1))
    return data[:start] + rng.bytes(int(rng.integers(1, 600))) + data[start:]


def remove(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes less."""
    start = int(rng.integers(len(data) + 1))
    return data[:start] + data[start + int(rng.integers(1, 600)) :]


def repeat(data: bytes, rng: np.random.Generator) -> bytes:
    """A part is there twice."""
    start, end = sorted(int(place) for place in rng.integers(len(data) + 1, size=2))
    return data[:end] + data[start:end] + data[end:]


def other(data: bytes, rng: np.random.Generator) -> bytes:
    """Something else altogether."""
    web_page = b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n"
    return (web_page, rng.bytes(2000), b"\x1f\x8b\x08\0" + rng.bytes(300), b"PK\x03\x04" + rng.bytes(300))[
        rng.integers(4)
    ]


def strange_value(data: bytes, rng: np.random.Generator) -> bytes:
    """In a text, one value is of another kind or size."""
    values = list(_VALUE.finditer(data))
    if not values:
        return flip(data, rng)
    value = values[rng.integers(len(values))]
    return data[: value.start()] + STRANGE[rng.integers(len(STRANGE))] + data[value.end() :]


BYTES: tuple[Damage, ...] = (
    flip, flip_early, fill, zero_block, cut, cut_block, empty, insert, remove, repeat, other,
)  # fmt: skip
TEXT: tuple[Damage, ...] = (*BYTES, strange_value, strange_value, strange_value, strange_value, strange_value)

"""The files in an uncompressed tar, and whether the tar is whole.

A tar is headers of 512 bytes, each with a checksum and followed by its file's bytes, and ends with two blocks of zeros
(POSIX.1-2001, pax, "ustar Interchange Format"). Python's tarfile takes any damage between two files for that end.
"""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path

_BLOCK = 512
_PADDING = 1 << 20
"""Most zeros that end a tar (bytes): writers fill up their last record, which has 10 KiB, or up to 1 MiB if asked."""


@dataclass(frozen=True)
class Member:
    """A file in a tar."""

    name: str
    start: int
    """Where its bytes begin."""
    size: int
    """Bytes, as far as they are there."""


def read_tar(path: Path) -> tuple[list[Member], list[str]]:
    """The files in a tar, and what is wrong with it: phrases to follow its name.

    After a damaged header the next sound one is looked for.

    Raises:
        ValueError: it is no uncompressed tar.
    """
    total = path.stat().st_size
    members, position = _members(path, 0)
    if not members:
        raise ValueError(f"{path} is not an uncompressed tar")
    damage = []
    while position <= total and not _is_end(path, position, total):
        following = _next_header(path, position + _BLOCK, total)
        if following is None:
            damage.append(
                f"is truncated or damaged at byte {position:,}: neither a file nor the end of the tar is there"
            )
            return members, damage
        damage.append(f"has a damaged header at byte {position:,}: what is before byte {following:,} is missing")
        found, position = _members(path, following)
        members += found
    if position > total:
        damage.append(f"is truncated in {members[-1].name}")
    return members, damage


def _members(path: Path, begin: int) -> tuple[list[Member], int]:
    """The files from a header on, as far as headers are sound, and where the last one's bytes end."""
    total, end = path.stat().st_size, begin
    members: list[Member] = []
    with open(path, "rb") as file:
        file.seek(begin)
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (member := tar.next()) and member.size >= 0 and tar.offset > end:
                    end = tar.offset
                    if member.isreg():
                        there = max(0, total - member.offset_data)
                        members.append(Member(member.name, member.offset_data, min(member.size, there)))
        except (tarfile.TarError, ValueError, OverflowError, OSError):
            pass  # the header, or a pax record of it, is damaged; or the file ends
    return members, end


def _is_end(path: Path, position: int, total: int) -> bool:
    """Whether nothing but the end-of-archive marker and its padding follows."""
    if not 2 * _BLOCK <= total - position <= _PADDING:
        return False
    with open(path, "rb") as file:
        file.seek(position)
        return not any(file.read())


def _next_header(path: Path, position: int, total: int) -> int | None:
    """The next block that is a header with a sound checksum."""
    with open(path, "rb", buffering=1 << 20) as file:
        file.seek(position)
        while len(block := file.read(_BLOCK)) == _BLOCK:
            if block[257:262] == b"ustar":
                try:
                    tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
                except tarfile.HeaderError:
                    pass
                else:
                    return position
            position += _BLOCK
    return None

"""What is written is read again, by any process, whatever interrupted the writing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from svg.evaluation.journal import Journal
from tests.helpers.disk import files_up_to

DIGEST = "0123456789abcdef"


def written(folder: Path) -> Journal:
    journal = Journal(folder / "new", DIGEST)
    journal.merge()
    journal.append([{"clip": 4, "x": 0.1}], process=1)
    journal.append([{"clip": 2, "x": 1 / 3}, {"clip": 0, "x": 2.0}], process=0)
    journal.append([{"clip": 1, "x": 3.0}], process=1)
    return journal


def test_merging_gathers_all_processes_in_order(tmp_path: Path) -> None:
    journal = written(tmp_path)
    assert journal.records() == {}
    journal.merge()
    assert list(journal.records()) == [0, 1, 2, 4] and journal.records()[2] == {"clip": 2, "x": 1 / 3}
    assert [path.name for path in journal.folder.iterdir()] == ["clips.01234567.jsonl"]
    journal.append([{"clip": 3, "x": 4.0}], process=0)
    journal.merge()
    assert list(Journal(journal.folder, DIGEST).records()) == [0, 1, 2, 3, 4]


def test_a_damaged_line_is_left_out_and_the_others_stay(tmp_path: Path) -> None:
    journal = written(tmp_path)
    journal.merge()
    lines = journal.path.read_text().splitlines()
    for number, (before, after) in {1: ("2.0", "3.0"), 3: ("0.33", "0.34")}.items():
        damaged = [line.replace(before, after) if i == number else line for i, line in enumerate(lines)]
        assert damaged != lines
        journal.path.write_text("\n".join([*damaged, ""]))
        assert len(journal.records()) == 3 and lines[number].split()[1].strip(",") not in journal.records()
    for line in ("[" * 100_000, "3", "null", '"x"', "{}", '{"clip": 9}', '{"clip": 9, "crc32": "x"}'):
        journal.path.write_text("\n".join([*lines, line, ""]))
        assert list(journal.records()) == [0, 1, 2, 4]
    journal.path.write_text("\n".join(["[" * 100_000, *lines[1:], ""]))
    assert journal.records() == {}


@pytest.mark.parametrize("cut", [1, 2, 10])
def test_a_line_cut_short_is_left_out(tmp_path: Path, cut: int) -> None:
    """But for the end of the line, which its checksum does without."""
    journal = written(tmp_path)
    part = journal.path.with_suffix(".1.jsonl")
    part.write_bytes(part.read_bytes()[:-cut])
    journal.merge()
    assert list(journal.records()) == ([0, 1, 2, 4] if cut == 1 else [0, 2, 4])


def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    journal = written(tmp_path)
    with files_up_to(500), pytest.raises(OSError) as error:
        for clip in range(100):
            journal.append([{"clip": clip, "x": 0.1}], process=0)
    assert error.value.filename == str(journal.path.with_suffix(".0.jsonl"))
    journal.merge()
    assert list(journal.records())[:5] == [0, 1, 2, 3, 4]


def test_another_protocol_has_its_own_file(tmp_path: Path) -> None:
    journal = written(tmp_path)
    journal.merge()
    other = Journal(journal.folder, "ffff" + DIGEST)
    other.merge()
    assert other.records() == {} and len(journal.records()) == 4
    same_name = Journal(journal.folder, DIGEST + "0")
    assert same_name.records() == {}


def test_a_journal_of_an_earlier_format_is_set_aside(tmp_path: Path) -> None:
    journal = written(tmp_path)
    journal.merge()
    text = journal.path.read_text()
    journal.path.write_text(text.replace(text.splitlines()[0], json.dumps({"protocol": DIGEST}), 1))
    other = journal.folder / "bounds.ffff.jsonl"
    other.write_text('{"protocol": "ffff"}\n')
    assert journal.set_aside() == [journal.path.with_name("clips.01234567.jsonl.old")]
    journal.merge()
    assert journal.records() == {} and other.exists()  # of another name, which its own journal sets aside
    assert journal.set_aside() == []

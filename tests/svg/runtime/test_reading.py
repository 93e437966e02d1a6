"""Readers of files that somebody else may have written: bounded, typed, and with one line for whatever is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from svg.runtime.reading import ReadError, parse_yaml, read_json, read_tensors, read_text, read_yaml


class Entry(TypedDict):
    bytes: int
    sha256: str


class State(TypedDict):
    step: int
    seconds: float
    scaler: dict[str, float] | None
    files: dict[str, Entry]
    names: list[str]


SOUND: dict[str, Any] = {
    "step": 3,
    "seconds": 1,
    "scaler": {"scale": 2.0},
    "files": {"a": {"bytes": 1, "sha256": "f"}},
    "names": ["x"],
}


def refusal(path: Path, text: str | bytes, kind: Any = State) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ReadError) as error:
        read_json(path, kind)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)
    return str(error.value)


def test_what_is_sound_is_read(tmp_path):
    path = tmp_path / "a.json"
    for value in (SOUND, SOUND | {"scaler": None, "more": [1]}):
        path.write_text(json.dumps(value))
        assert read_json(path, State) == value


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"step": 1.5}, "step is '1.5', which is no whole number"),
        ({"step": True}, "step is 'True', which is no whole number"),
        ({"step": None}, "step is 'None', which is no whole number"),
        ({"seconds": "1"}, "seconds is '1', which is no number"),
        ({"scaler": {"scale": []}}, "scaler.scale is '[]', which is no number"),
        ({"scaler": 3}, "scaler is '3', which is no value of the right type"),
        ({"files": {"a": {"bytes": 1}}}, "it lacks files.a.sha256"),
        ({"files": {"a": 1}}, "files.a is '1', which is no group"),
        ({"names": ["x", 1]}, "names.1 is '1', which is no text"),
    ],
)
def test_wrong_types_are_named(tmp_path, change, problem):
    assert problem in refusal(tmp_path / "a.json", json.dumps(SOUND | change))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "damaged"),
        ("{", "damaged"),
        ("[1]", "it holds '[1]', which is no group"),
        ("{}", "it lacks"),
        (b"\xff\xfe", "it is not text"),
        ('{"step": NaN}', "NaN is no JSON number"),
        ('{"step": ' + "9" * 5000 + "}", "a number of 5000 digits"),
        ('{"seconds": 1e999}', "lacks"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 50 + "]" * 50, "nested too deeply"),
    ],
)
def test_damage_is_one_line_that_names_the_file(tmp_path, text, problem):
    assert problem in refusal(tmp_path / "a.json", text)


def test_infinity_is_no_number(tmp_path):
    text = json.dumps(SOUND).replace('"seconds": 1', '"seconds": 1e999')
    assert "seconds is 'inf', which is no number" in refusal(tmp_path / "a.json", text)


def test_files_are_bounded(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(" " * 1000)
    with pytest.raises(ReadError, match="too many for what it should hold"):
        read_text(path, largest=999)
    assert len(read_text(path, largest=1000)) == 1000
    for missing in (tmp_path / "none", tmp_path, Path("a\0b")):
        with pytest.raises(ReadError):
            read_text(missing)


@given(st.text(max_size=60) | st.text("{}[]:,&*!<-|>'\"#% \n0123456789eE.+xotruefalsn~?", max_size=60))
def test_any_text_is_read_as_yaml_or_refused_in_a_line(text):
    try:
        parse_yaml(text)
    except ReadError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("1:30", "1:30"),
        ("10_000", 10_000),
        ("-7", -7),
        ("1e-3", 1e-3),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("no", "no"),
        ("on", "on"),
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("2026-11-21", "2026-11-21"),
        ("0x10", "0x10"),
        ("[1, a, {b: 2}]", [1, "a", {"b": 2}]),
        ("'010'", "010"),
        ("!!str 3", "3"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: &x [1]\nb: *x", "line 2 .*aliases are not read"),
        ("!!timestamp x", "the tag .*timestamp is not read"),
        ("!!python/object/apply:os.system [ls]", "the tag .* is not read"),
        ("!!int x", "'x' is not what its tag says"),
        ("a: 1\na: 2", "line 2 .*'a' is there twice"),
        ("{[1]: 2}", "a list as a key"),
        ("[" * 100, "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ("[[[", "not YAML in line 1"),
        ("a: %", "not YAML"),
    ],
)
def test_what_is_no_plain_yaml_is_refused(text, problem):
    with pytest.raises(ReadError, match=problem):
        parse_yaml(text)


def test_an_alias_bomb_costs_nothing(tmp_path):
    path = tmp_path / "bomb.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    path.write_text("\n".join(lines))
    with pytest.raises(ReadError, match="bomb.yaml: not YAML in line 2"):
        read_yaml(path)


def test_tensors_are_read_or_refused_in_a_line(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.arange(3.0)}, path)
    assert torch.equal(read_tensors(path)["x"], torch.arange(3.0))
    whole = path.read_bytes()
    for damaged in (b"", whole[:10], b"\xff" * 100, whole[:-1], whole.replace(b"F32", b"F99")):
        path.write_bytes(damaged)
        with pytest.raises(ReadError, match="a.safetensors is damaged"):
            read_tensors(path)
    with pytest.raises(ReadError, match="no such file"):
        read_tensors(tmp_path / "none")

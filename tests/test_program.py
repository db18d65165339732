"""The search/replace contract, names of programs, and preflight."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolab.program.edits import MAX_EDIT_BYTES, EditRefused, apply_edits
from autolab.program.hashing import code_hash, program_id
from autolab.program.preflight import preflight
from autolab.task import Edit

FILES = {"train.py": "LR = 0.1\nSTEPS = 10\n"}


def edit(search: str, replace: str, path: str = "train.py") -> Edit:
    return Edit(path=path, search=search, replace=replace)


def test_edits_apply_in_order() -> None:
    changed = apply_edits(FILES, [edit("0.1", "0.2"), edit("LR = 0.2", "LR = 0.3")])
    assert changed == {"train.py": "LR = 0.3\nSTEPS = 10\n"}


@pytest.mark.parametrize(
    ("edits", "reason"),
    [
        ([], "no edit"),
        ([edit("absent", "x")], "not found"),
        ([edit("1", "2")], "matches 2 times"),
        ([edit("", "x")], "empty"),
        ([edit("LR", "x", "prepare.py")], "protected"),
        ([edit("LR", "x", "./train.py")], "may not be edited"),
        ([edit("LR", "x", "../train.py")], "may not be edited"),
        ([edit("LR", "x", "/etc/passwd")], "may not be edited"),
        ([edit("LR", "x", "train.py\0")], "may not be edited"),
        ([edit("LR", "x" * (MAX_EDIT_BYTES + 1))], "larger than"),
        ([edit("LR", "\ud800")], "Unicode"),
        ([edit("LR", "L")] * 65, "at most"),
    ],
)
def test_what_does_not_apply_is_refused_with_the_reason(edits: list[Edit], reason: str) -> None:
    with pytest.raises(EditRefused, match=reason):
        apply_edits(FILES, edits, protected=("prepare.py",))


def test_overlapping_matches_count() -> None:
    with pytest.raises(EditRefused, match="matches 2 times"):
        apply_edits({"a.py": "aaa"}, [edit("aa", "b", "a.py")])


@given(st.text(max_size=200), st.text(max_size=20), st.text(max_size=20))
def test_an_edit_either_replaces_one_place_or_is_refused(text: str, search: str, replace: str) -> None:
    try:
        changed = apply_edits({"f": text}, [edit(search, replace, "f")])["f"]
    except EditRefused:
        return
    before, after = text.split(search)
    assert changed == before + replace + after


def test_comments_white_space_and_docstrings_make_no_new_program() -> None:
    plain = "def f(x):\n    return x + 1\n"
    dressed = '"""Module."""\n\n\ndef f(x):  # rep57\n    """Doc."""\n\n    return (x  +  1)\n'
    assert code_hash({"a.py": plain}) == code_hash({"a.py": dressed})
    assert program_id({"a.py": plain}) != program_id({"a.py": dressed})
    assert code_hash({"a.py": plain}) != code_hash({"a.py": plain.replace("1", "2")})


def test_a_docstring_alone_in_a_body_is_a_pass() -> None:
    assert code_hash({"a.py": "class A:\n    'doc'\n"}) == code_hash({"a.py": "class A:\n    pass\n"})


@given(st.text(max_size=300))
def test_any_text_has_a_code_hash(text: str) -> None:
    files = {"a.py": text.encode("utf-8", "replace").decode()}
    assert len(code_hash(files)) == 16


def test_a_code_hash_is_the_same_in_every_process() -> None:
    source = "def f(x):\n    return x in {'a', 'b', 'c', ('d', 1), 2.5, None}\n"
    command = f"from autolab.program.hashing import code_hash; print(code_hash({{'a.py': {source!r}}}))"
    found = {
        subprocess.run(
            [sys.executable, "-c", command], env={"PYTHONHASHSEED": str(seed)}, capture_output=True, text=True
        ).stdout
        for seed in range(3)
    }
    assert found == {code_hash({"a.py": source}) + "\n"}


@pytest.mark.parametrize(("one", "other"), [("1", "1.0"), ("1", "True"), ("0.0", "-0.0"), ("(1, 2)", "(1.0, 2)"),
                                            ("'a'", "b'a'"), ("1e-3", "1e-4"), ("{1: 2}", "{2: 1}")])  # fmt: skip
def test_constants_that_differ_make_another_program(one: str, other: str) -> None:
    assert code_hash({"a.py": f"x = {one}"}) != code_hash({"a.py": f"x = {other}"})


def test_an_assert_is_part_of_the_program() -> None:
    assert code_hash({"a.py": "x = 1\nassert x"}) != code_hash({"a.py": "x = 1"})


def test_a_docstring_that_is_read_is_part_of_the_program() -> None:
    one, other = ("'LR=1'\nprint(__doc__)", "'LR=2'\nprint(__doc__)")
    assert code_hash({"a.py": one}) != code_hash({"a.py": other})


def test_file_names_count() -> None:
    assert code_hash({"a.py": "x = 1"}) != code_hash({"b.py": "x = 1"})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def f(:\n", "line 1"),
        ("return 1\n", "outside function"),
        ("x = 1\0\n", "null bytes"),
        ("(" * 5000, "train.py"),
        (
            "".join(f"{' ' * i}try:\n{' ' * i} pass\n{' ' * i}finally:\n" for i in range(19))
            + " " * 19
            + "pass",
            "finally",
        ),
        ("", "empty"),
        ("x = '" + "a" * 2_000_000 + "'", "at most"),
    ],
)
def test_preflight_names_what_cannot_run(text: str, reason: str) -> None:
    problem = preflight({"train.py": text})
    assert problem is not None and reason in problem and "\n" not in problem


def test_preflight_passes_what_compiles_and_executes_nothing() -> None:
    assert preflight({"train.py": "raise SystemExit('must not run')\n"}) is None


def test_a_syntax_warning_stays_quiet(recwarn: pytest.WarningsRecorder) -> None:
    assert preflight({"train.py": "x = '\\d'\nassert (x, 'm')\n"}) is None
    assert not recwarn.list

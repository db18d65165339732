"""Knobs: what counts as one, how it moves, and that an edit touches nothing else."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autolab.harness.knobs import Change, Knob, change_to, changes, coordinate, edit, occurs_once, read_knobs
from autolab.program.edits import apply_edits

NAMES = st.sampled_from(
    ["LR", "EMBED_LR", "DEPTH", "BETAS", "DROPOUT", "WEIGHT_DECAY", "WARMUP_FRAC", "X1", "low"]
)
NUMBERS = st.one_of(
    st.integers(-(2**40), 2**40).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(
        ["0.95", "1e-4", "2**19", "0.0", "1.0", "65_536", "0x10", "1", "-3", "5e-324", "1e29", "(3)"]
    ),
)
LITERALS = st.one_of(
    NUMBERS,
    st.sampled_from(["True", "False", "'a'", '"relu2"', "None", "f(3)", "x", "-True", "1j", "b'a'"]),
    st.lists(NUMBERS, max_size=3).map(lambda xs: f"({', '.join(xs)},)" if xs else "()"),
    st.lists(NUMBERS, max_size=3).map(lambda xs: f"[{', '.join(xs)}]"),
)
COMMENTS = st.sampled_from(
    [
        "",
        "  # é",
        '  # one of: "relu2", "gelu"',
        "  # one of: 1, 2, 0.5",
        "  # range: 0.1 .. 10",
        "  # fixed",
        "  # one of: (",
    ]
)
LINES = st.one_of(
    st.builds("{} = {}{}".format, NAMES, LITERALS, COMMENTS),
    st.builds("{}: float = {}{}".format, NAMES, LITERALS, COMMENTS),
    st.sampled_from(
        [
            "",
            "# LR = 3",
            "def f():\n    LR = 3",
            "A = 1; B = 2",
            '"""\nLR = 3\n"""',
            "if x:\n  DEPTH = 4",
            "\f",
        ]
    ),
    st.builds("X = (\n  {},\n  {},\n)".format, NUMBERS, NUMBERS),
)
MODULES = st.builds(
    lambda lines, end, last: end.join("\n".join(lines).split("\n")) + last,
    st.lists(LINES, max_size=8),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["", "\n"]),
)


def one(line: str) -> Knob:
    """The only knob of a one-line recipe."""
    (knob,) = read_knobs("train.py", line + "\n")
    return knob


def literals(line: str) -> list[str]:
    """What the only knob of a line can be changed to."""
    return [change.literal for change in changes(one(line))]


def constants(text: str) -> dict[str, object]:
    """Every module-level constant of a text, as its syntax tree."""
    tree = ast.parse(text)
    return {
        ast.unparse(node.targets[0]): ast.dump(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
    }


def all_changes(text: str) -> list[Change]:
    """Every change of every knob of a text."""
    return [change for knob in read_knobs("train.py", text) for change in changes(knob)]


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_read_without_a_crash(text: str) -> None:
    for change in all_changes(text):
        edit(text, change)


@settings(max_examples=50, deadline=None)
@given(MODULES)
def test_every_edit_applies_once_and_changes_only_its_constant(text: str) -> None:
    for change in all_changes(text):
        made = edit(text, change)
        after = apply_edits({"train.py": text}, [made])["train.py"]
        knob = change.knob
        assert after == text[: knob.start] + change.literal + text[knob.end :]
        old, new = constants(text), constants(after)
        assert [name for name in old if old[name] != new[name]] in ([knob.name.split("[")[0]], [])
        (again,) = (k for k in read_knobs("train.py", after) if k.name == knob.name)
        assert again.value == change.value != knob.value


@settings(max_examples=150, deadline=None)
@given(NAMES, NUMBERS, st.floats(-1e6, 1e6))
def test_a_number_can_be_sent_towards_any_target(name: str, number: str, target: float) -> None:
    for knob in read_knobs("train.py", f"{name} = {number}\n"):
        for digits in (0, 2, 3):
            change = change_to(knob, target, digits)
            assert change is None or change.value != knob.value


def test_a_text_that_does_not_parse_has_no_knobs() -> None:
    assert read_knobs("train.py", "LR = 0.1\ndef (") == ()


def test_a_deeply_nested_text_is_survived() -> None:
    assert read_knobs("train.py", "LR = 0.1\nx = " + "(" * 5000 + ")" * 5000) == ()


def test_other_files_have_no_knobs() -> None:
    assert read_knobs("notes.md", "LR = 0.1\n") == ()


@pytest.mark.parametrize(
    "line",
    [
        "lr = 0.1",
        "LR = f(0.1)",
        "A = B = 1",
        "LR = 1\nLR = 2",
        "LR = 1\nLR += 2",
        "A = 1; B = 2",
        "SEED = 3",
        "EVAL_SEED = 3",
        "LR = 0.1  # fixed: the evaluator's",
        "NAME = 'x'",
        "NAME = None",
        "if x:\n    LR = 1",
    ],
)
def test_what_is_not_a_knob(line: str) -> None:
    assert read_knobs("train.py", line + "\n") == ()


def test_fixed_must_stand_alone_in_the_comment() -> None:
    assert one("WINDOW = 4  # a fixed-size window").value == 4


def test_each_number_of_a_tuple_is_a_knob() -> None:
    knobs = read_knobs("train.py", "BETAS = (0.9, 0.95)\n")
    assert [(k.name, k.literal, k.scale) for k in knobs] == [
        ("BETAS[0]", "0.9", "unit"),
        ("BETAS[1]", "0.95", "unit"),
    ]


def test_an_annotation_makes_an_int_a_float() -> None:
    assert "2.0" in literals("SCALE: float = 1")


def test_choices_are_the_only_values() -> None:
    assert literals('ACT = "relu2"  # one of: "relu2", \'gelu\', "silu" (see notes)') == ["'gelu'", '"silu"']


def test_choices_of_numbers_keep_their_order() -> None:
    found = {change.literal: change.direction for change in changes(one("DIM = 64  # one of: 48, 64, 96"))}
    assert found == {"48": "down", "96": "up"}


def test_choices_of_whole_tuples() -> None:
    knobs = read_knobs("train.py", "LAYERS = (1, 2)  # one of: (1, 2), (2, 2)\n")
    assert [c.literal for c in changes(knobs[0])] == ["(2, 2)"]


def test_a_range_bounds_a_number_and_is_tried() -> None:
    values = [float(literal) for literal in literals("LR = 0.02  # range: 0.01 .. 0.05")]
    assert min(values) == 0.01 and max(values) == 0.05


def test_a_bool_toggles() -> None:
    assert literals("QK_NORM = True") == ["False"]


def test_a_float_moves_in_scale_and_reads_like_a_persons() -> None:
    assert set(literals("LR = 0.02")) == {
        "0.025",
        "0.03",
        "0.04",
        "0.06",
        "0.1",
        "0.015",
        "0.012",
        "0.01",
        "0.006",
        "0.004",
    }


def test_a_fraction_moves_towards_one_and_stays_below() -> None:
    values = [float(literal) for literal in literals("MOMENTUM = 0.95")]
    assert 0.99 in values and 0.9 in values and max(values) < 1


def test_a_zero_gets_small_positive_values() -> None:
    assert literals("WEIGHT_DECAY = 0.0") == ["0.001", "0.01", "0.1"]
    assert "1.0" in literals("GRAD_CLIP = 0.0")


def test_what_can_be_switched_off_is() -> None:
    assert "0.0" in literals("DROPOUT = 0.1") and "0.0" not in literals("LR = 0.1")


def test_a_small_int_moves_by_one_and_stays_positive() -> None:
    assert literals("DEPTH = 2") == ["1", "3", "4"]


def test_a_power_of_two_keeps_its_form() -> None:
    assert {"2**20", "2**18"} <= set(literals("BATCH = 2**19"))


def test_underscores_and_exponents_are_kept() -> None:
    assert "80_000" in literals("VOCAB = 40_000") and "2e-8" in literals("EPS = 1e-8")


def test_the_scale_of_a_fraction_is_log_odds() -> None:
    assert coordinate("unit", 0.8) == pytest.approx(2.0) and coordinate("log", 0.25) == -2.0


def test_a_repeated_line_is_extended_to_its_neighbours() -> None:
    text = "LR = 0.1\nx = 1\n'''\nLR = 0.1\n'''\n"
    (change, *_) = all_changes(text)
    made = edit(text, change)
    assert occurs_once(text, made.search) and made.search.startswith("LR = 0.1\nx")


def test_the_comment_is_kept() -> None:
    text = "LR = 0.02  # the best so far\n"
    assert edit(text, all_changes(text)[0]).replace.endswith("  # the best so far")

"""What an agent's last message is taken to say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolab.harness.answer import AnswerRefused, parse_answer
from autolab.program.edits import EditRefused, apply_edits, edits_between

FILES = {"train.py": "LR = 0.1\nSTEPS = 10\nprint(LR)"}
BLOCK = """\
I raised the rate.

**HYPOTHESIS:** a higher rate learns faster in so few steps
SURFACE: optimizer
EXPECTED: loss falls by 0.02
SOURCES: arXiv:2502.00593, 1412.6980; none
train.py
<<<<<<< SEARCH
LR = 0.1
=======
LR = 0.2
>>>>>>> REPLACE
"""


def test_a_block_answer_gives_a_proposal_that_applies() -> None:
    proposal = parse_answer(BLOCK, FILES)
    assert proposal.hypothesis == "a higher rate learns faster in so few steps"
    assert (proposal.surface, proposal.expected_effect) == ("optimizer", "loss falls by 0.02")
    assert proposal.sources == ("arXiv:2502.00593", "1412.6980")
    assert apply_edits(FILES, proposal.edits)["train.py"].startswith("LR = 0.2\nSTEPS")


def test_only_line_ends_end_lines() -> None:
    files = {"train.py": "LR = 0.1\n\x0cSIGN = '\u2028'\n"}
    said = "HYPOTHESIS: x\n<<<<<<< SEARCH\n\x0cSIGN = '\u2028'\n=======\n\x0cSIGN = '\u2028\x85'\n>>>>>>> REPLACE\n"
    for text in (said, said.replace("\n", "\r\n")):
        assert apply_edits(files, parse_answer(text, files).edits)["train.py"].endswith(
            "SIGN = '\u2028\x85'\n"
        )


def test_code_fences_and_a_missing_path_do_no_harm_where_there_is_one_file() -> None:
    text = "Hypothesis: faster\n```python\n<<<<<<< SEARCH\nprint(LR)\n=======\nprint(2 * LR)\n>>>>>>> REPLACE\n```\n"
    assert apply_edits(FILES, parse_answer(text, FILES).edits)["train.py"].endswith("print(2 * LR)")


def test_an_agent_that_edited_its_files_only_says_why() -> None:
    proposal = parse_answer("Done.\nHYPOTHESIS: fewer steps overfit less", FILES)
    assert proposal.hypothesis == "fewer steps overfit less" and proposal.edits == ()


def test_one_json_object_is_taken_as_well() -> None:
    edits = [{"path": "train.py", "search": "LR = 0.1", "replace": "LR = 0.3"}]
    said = {"hypothesis": "higher", "edits": edits, "sources": ["2502.00593"]}
    proposal = parse_answer(f"Here it is:\n```json\n{json.dumps(said)}\n```", FILES)
    assert proposal.edits[0].replace == "LR = 0.3" and proposal.sources == ("2502.00593",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("train.py\n<<<<<<< SEARCH\nLR\n", "has no ======= line"),
        ("train.py\n<<<<<<< SEARCH\nLR\n=======\nx\n", "has no >>>>>>> REPLACE line"),
        ('{"hypothesis": "h", "edits": [{"path": 3}]}', "edits: "),
    ],
)
def test_half_an_answer_is_refused_with_what_is_missing(text: str, reason: str) -> None:
    with pytest.raises(AnswerRefused, match=reason):
        parse_answer(text, FILES)


def test_with_several_files_a_block_needs_its_path() -> None:
    with pytest.raises(AnswerRefused, match=r"no file is named before the SEARCH block; one of a\.py, b\.py"):
        parse_answer("<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE", {"a.py": "x\n", "b.py": "x\n"})


@given(
    st.text() | st.lists(st.sampled_from([*BLOCK.splitlines(), "{", '{"hypothesis":"x"}', ""])).map("\n".join)
)
def test_no_answer_breaks_the_parser(text: str) -> None:
    try:
        proposal = parse_answer(text, FILES)
    except AnswerRefused as reason:
        assert str(reason)
    else:
        assert len(proposal.hypothesis) <= 1000 and len(proposal.sources) <= 10


LINES = st.lists(
    st.sampled_from(["a\n", "b\n", "\n", "a\r\n", "def f():\n", "a", "\x0c\n"]), min_size=1, max_size=30
)


@given(LINES, LINES)
def test_edits_between_two_programs_turn_one_into_the_other(old: list[str], new: list[str]) -> None:
    before, after = {"t.py": "".join(old)}, {"t.py": "".join(new)}
    edits = edits_between(before, after)
    assert (apply_edits(before, edits) if edits else before) == after


@pytest.mark.parametrize(
    ("files", "block", "reason"),
    [
        ({"t.py": "lr = 0.15\n"}, "lr = 0.1\n=======\nlr = 0.3", "is not found|not a whole line"),
        ({"t.py": "hidden_n = 4\n"}, "n = 4\n=======\nn = 5", "not a whole line of t.py"),
        ({"t.py": "x\n"}, "x\n=======\ny\n=======\nz", "======= in the middle of the block"),
    ],
)
def test_a_block_that_would_be_guessed_at_is_refused(files: dict[str, str], block: str, reason: str) -> None:
    with pytest.raises((AnswerRefused, EditRefused), match=reason):
        apply_edits(files, parse_answer(f"<<<<<<< SEARCH\n{block}\n>>>>>>> REPLACE", files).edits)


def test_lines_of_code_that_look_like_a_divider_are_code() -> None:
    files = {"t.py": '"""\nTitle\n=====\n"""\nx = 1\n'}
    text = "t.py\n<<<<<<< SEARCH\nTitle\n=====\n=======\nOther\n=====\n>>>>>>> REPLACE"
    assert apply_edits(files, parse_answer(text, files).edits)["t.py"] == '"""\nOther\n=====\n"""\nx = 1\n'


def test_files_with_other_line_ends_keep_them() -> None:
    files = {"t.py": "a = 1\r\nb = 2\r\n"}
    text = "<<<<<<< SEARCH\na = 1\nb = 2\n=======\na = 3\nb = 2\n>>>>>>> REPLACE"
    assert apply_edits(files, parse_answer(text, files).edits)["t.py"] == "a = 3\r\nb = 2\r\n"


def test_the_last_of_several_json_objects_counts() -> None:
    edits = [{"path": "train.py", "search": "LR = 0.1", "replace": "LR = 0.3"}]
    text = (
        json.dumps({"hypothesis": "a draft"})
        + "\nno, better:\n"
        + json.dumps({"hypothesis": "b", "edits": edits})
    )
    assert parse_answer(text, FILES).hypothesis == "b"

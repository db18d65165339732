"""The size of a program: layout and comments do not count, and nothing that is read breaks the count."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autolab.program.complexity import Size, code_lines, code_size, simpler

ROOT = Path(__file__).resolve().parent.parent
LONG = "".join(f"def f{i}(x):\n    return x + {i}\n" for i in range(20))
LAYOUT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip


def size(source: str) -> tuple[int, int]:
    found = code_size({"a.py": source})
    return found.lines, found.tokens


def lines_by_the_standard_library(source: str) -> int:
    """The same count, from `tokenize` and `ast`."""
    bare = [
        ((node.lineno, node.col_offset), (node.end_lineno or 0, node.end_col_offset or 0))
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    text = source.split("\n")
    rows: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT and not any(a <= token.start and token.end <= b for a, b in bare):
            rows.update(row for row in range(token.start[0], token.end[0] + 1) if text[row - 1].strip())
    return len(rows)


@pytest.mark.parametrize(
    "name", ["train.py", "evaluate.py", "src/autolab/task.py", "src/autolab/judge/price.py"]
)
def test_lines_are_those_that_pythons_own_tokenizer_finds(name: str) -> None:
    source = (ROOT / name).read_text(encoding="utf-8")
    assert code_lines({"a.py": source}) == lines_by_the_standard_library(source)


def test_comments_blank_lines_and_docstrings_are_no_code() -> None:
    plain = "def f(x):\n    return x + 1\n"
    dressed = '"""Module."""\n\n\ndef f(x):  # what\n    """Doc.\n\n    More.\n    """\n    # why\n    return x + 1\n'
    assert size(plain) == size(dressed) == (2, 7)


def test_the_prefix_of_a_string_is_part_of_it() -> None:
    assert size("x = rb'a'\n") == size("x = F'a'\n") == (1, 3)


def test_a_hash_in_a_string_is_code() -> None:
    assert size("x = '# no comment'\ny = '''\n# none\n\neither\n'''\n") == (5, 6)


def test_squeezing_lines_into_one_changes_no_tokens() -> None:
    assert size("a = 1\nb = 2\nc = (a, b)\n") == (3, 10)
    assert size("a = 1; b = 2; c = a, b\n") == (1, 10)


def test_another_layout_of_the_same_program_has_the_same_tokens() -> None:
    source = (ROOT / "train.py").read_text(encoding="utf-8")
    assert size(source)[1] == size(ast.unparse(ast.parse(source)))[1]


def test_a_string_in_two_parts_is_one_string() -> None:
    assert size("x = ('a'\n     'b')\n") == (2, 3)
    assert size("x = ('a',\n     'b')\n") == (2, 4)


def test_docstrings_that_are_read_are_code() -> None:
    assert size("'doc'\nx = 1\n") == (1, 3)
    assert size("'doc'\nx = __doc__\n") == (2, 4)
    assert size("'doc'\nx = 1  # not __doc__\n") == (1, 3)


def test_an_f_string_on_its_own_is_no_docstring() -> None:
    assert size("f'{print(1)}'\n") == (1, 1)


def test_other_files_count_by_their_lines() -> None:
    assert code_size({"a.yaml": "lr: 0.1\n\n# note\n"}) == Size(2, 6, 16)


def test_files_add_up() -> None:
    assert code_lines({"a.py": "x = 1\n", "b.py": "y = 2\n", "c.txt": "z\n"}) == 3


def test_less_code_is_simpler_and_as_much_is_not() -> None:
    shorter = {"a.py": LONG[: len(LONG) // 2]}
    assert simpler(shorter, {"a.py": LONG})
    assert not simpler({"a.py": LONG}, shorter)
    assert not simpler({"a.py": LONG}, {"a.py": LONG})


def test_a_saving_must_be_8_tokens_and_2_percent() -> None:
    def holds(tokens: int) -> dict[str, str]:
        return {"a.py": "x\n" * tokens}

    assert simpler(holds(92), holds(100)) and not simpler(holds(93), holds(100))
    assert simpler(holds(980), holds(1000)) and not simpler(holds(981), holds(1000))


def test_fewer_tokens_in_more_lines_are_not_simpler() -> None:
    assert not simpler({"a.py": "x\n" * 50}, {"a.py": "x = 1; y = 2; z = 3\n" * 49})


def test_code_packed_into_a_string_is_not_simpler() -> None:
    assert not simpler({"a.py": f"exec({LONG!r})\n"}, {"a.py": LONG})
    assert not simpler(
        {"a.py": "exec(open('b.txt').read())", "b.txt": LONG.replace("\n", "\f")}, {"a.py": LONG}
    )


PIECES = [
    "'",
    '"',
    "'''",
    '"""',
    "\\",
    "\n",
    "\r",
    "\0",
    "#",
    ";",
    ":",
    "(",
    ")",
    "f'",
    "{",
    " ",
    "x",
    "1e-",
    "é",
    "\ud800",
]


@settings(deadline=None)
@given(st.text(st.characters(), max_size=200) | st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_any_text_has_a_size(text: str) -> None:
    for path in ("a.py", "a.txt"):
        found = code_size({path: text})
        assert 0 <= found.lines <= text.count("\n") + text.count("\r") + 1
        assert 0 <= found.tokens <= 4 * len(text)
        assert not simpler({path: text}, {path: text})


@pytest.mark.parametrize(
    "unit",
    ["\\'", "'''\\'", '"', "(", "\0", "x ", "a.b", "1e", "''\n", "\\\n", "#", "- ", "\ud800", "if x:\n "],
)
def test_a_large_hostile_file_has_a_size(unit: str) -> None:
    """Quadratic time or a recursion would not end here."""
    text = unit * (50_000 // len(unit))
    assert code_size({"a.py": text}).lines <= text.count("\n") + 1


STATEMENTS = [
    "x = 1",
    "y = f(x)[0]",
    "s = '# no'",
    "b = rb'\\\\'",
    't = """a\n#b\n\n c"""',
    "if x: y = {1: 2}",
    "z = (1,\n     2)",
    "import os; os.x",
    "class A:\n    '''Doc.'''\n    def f(self):\n        return self",
]
COMMENT = st.text(st.characters(exclude_characters="\r\n"), max_size=12).map("#{}".format)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(STATEMENTS), st.none() | COMMENT, st.lists(st.just("") | COMMENT, max_size=2)
        )
    )
)
def test_comments_never_change_the_size(program: list[tuple[str, str | None, list[str]]]) -> None:
    plain = "\n".join(statement for statement, _, _ in program)
    dressed = "\n".join(
        line
        for statement, comment, around in program
        for line in (*around, f"{statement}  {comment}" if comment else statement)
    )
    assert code_size({"a.py": dressed}) == code_size({"a.py": plain})

"""How much code a program is, whatever its layout: the price of a change, and what counts as simpler."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from autolab.program.hashing import Files

LEAST_SHARE = 0.02
LEAST_TOKENS = 8

# Every alternative takes what it began without going back, so time is linear in the text, whatever it holds.
_PYTHON = re.compile(
    r"""
    (?P<blank>(?:[\ \t\f\r]|\\\n)++|\#[^\n]*+)
    | (?P<end>[\n;])
    | (?P<prefix>[a-z]{0,2})(?P<text>
        '''[^'\\]*+(?:(?:\\.|''?(?!'))[^'\\]*+)*+(?:'''|\\?\Z)?
        | \"\"\"[^"\\]*+(?:(?:\\.|""?(?!"))[^"\\]*+)*+(?:\"\"\"|\\?\Z)?
        | '[^'\\\n]*+(?:\\.[^'\\\n]*+)*+'?
        | "[^"\\\n]*+(?:\\.[^"\\\n]*+)*+"?)
    | (?P<number>\.?[0-9](?:e[+-][0-9]|[\w.])*+)
    | (?P<word>\w++)
    | (?P<open>[(\[{]) | (?P<close>[)\]}])
    | (?P<operator>(?://|\*\*|<<|>>)=?|[-+*/%@&|^<>=!:]=|->|\.\.\.|[^,:])
    | (?P<layout>[,:])
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_OTHER = re.compile(r"\w+|[^\w\s,:;(){}\[\]]")
_MEANS = frozenset({"text", "number", "word", "operator"})
_LITERAL = frozenset({"text", "number"})
_PLAIN = frozenset({"", "r", "R", "u", "U"})  # prefixes that a docstring may have
_AS_LETTERS = bytes(range(128)) + b"_" * 128


@dataclass(frozen=True)
class Size:
    """Lines that hold code; names, keywords, literals and operators in them; bytes of the literals."""

    lines: int = 0
    tokens: int = 0
    literal_bytes: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(
            self.lines + other.lines,
            self.tokens + other.tokens,
            self.literal_bytes + other.literal_bytes,
        )


def code_lines(files: Files) -> int:
    """Lines of code without comments, docstrings and blank lines; of files other than Python, without blank lines."""
    return code_size(files).lines


def code_size(files: Files) -> Size:
    """The size of a program, the same on every version of Python.

    Brackets, commas, colons, semicolons and line breaks are no tokens, and strings side by side are one: joining ten
    lines into one or wrapping one into ten changes `lines` and leaves `tokens` as they are. Any text has a size,
    also one that is no Python, in time linear in its length. Docstrings count if the source speaks of `__doc__`.
    """
    return sum((_size(path, text) for path, text in files.items()), Size())


def simpler(candidate: Files, master: Files) -> bool:
    """Whether the candidate is less code: 2 % and 8 tokens less, in no more lines.

    What its literals gain in bytes must stay below what it saves in tokens: code packed into a string is not gone.
    """
    new, old = code_size(candidate), code_size(master)
    saved = old.tokens - new.tokens
    return (
        saved >= max(LEAST_TOKENS, LEAST_SHARE * old.tokens)
        and new.lines <= old.lines
        and new.literal_bytes - old.literal_bytes < saved
    )


def _size(path: str, text: str) -> Size:
    # One letter for each byte that is not ASCII: the lexer below needs no more, and lone surrogates do no harm.
    text = text.encode("utf-8", "surrogatepass").translate(_AS_LETTERS).decode("ascii")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if path.endswith(".py"):
        return _python_size(text)
    tokens = sum(1 for _ in _OTHER.finditer(text))
    return Size(sum(1 for line in text.split("\n") if line.strip()), tokens, len(text))


def _python_size(source: str) -> Size:
    lines: set[int] = set()
    tokens = literal_bytes = 0
    keep_bare = _speaks_of_docstrings(source)
    for of_statement, bytes_of_statement, its_lines, bare in _statements(source):
        if keep_bare or not bare:
            tokens += of_statement
            literal_bytes += bytes_of_statement
            lines.update(its_lines)
    return Size(len(lines), tokens, literal_bytes)


def _speaks_of_docstrings(source: str) -> bool:
    if "__doc__" not in source:
        return False
    matches = _PYTHON.finditer(source)
    return any("__doc__" in match.group() for match in matches if match.lastgroup != "blank")


def _statements(source: str) -> Iterator[tuple[int, int, list[int], bool]]:
    """For each statement that is not empty: tokens, bytes of literals, lines, and whether it is a bare string.

    What follows a colon in the same line belongs to the statement before it.
    """
    line = depth = 0
    lines: list[int] = []
    tokens = literal_bytes = 0
    bare, last = True, ""
    for match in _PYTHON.finditer(source):
        kind = match.lastgroup or ""
        if kind == "blank":
            line += match.group().count("\n")
            continue
        if kind == "end" and depth == 0:
            if last:
                yield tokens, literal_bytes, lines, bare
                lines, tokens, literal_bytes, bare, last = [], 0, 0, True, ""
        elif kind != "end":
            if not lines or lines[-1] != line:
                lines.append(line)
            if kind == "text":
                parts = match.group().split("\n")
                lines += [line + i for i, part in enumerate(parts) if i and part.strip()]
                line += len(parts) - 1
                bare = bare and match["prefix"] in _PLAIN
            else:
                bare = False
            if kind in _LITERAL:
                literal_bytes += match.end() - match.start()
            elif kind == "open":
                depth += 1
            elif kind == "close":
                depth = max(0, depth - 1)
            tokens += kind in _MEANS and not kind == last == "text"
            last = kind
        if kind == "end" and source[match.start()] == "\n":
            line += 1
    if last:
        yield tokens, literal_bytes, lines, bare

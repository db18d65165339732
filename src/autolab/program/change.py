"""What a change is, whatever program it is applied to: its lines, and the constants that it sets.

Comments, white space and the way in which a number is written are no part of it. Lines are compared as they stand, so
this costs little: what a change does to the whole program is `hashing.code_hash`.
"""

from __future__ import annotations

import ast
import hashlib
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from autolab.program.hashing import Files

MOST_TOKENIZED = 120  # changed lines with quotes; of larger changes they are taken as they stand
MOST_TOUCHED = 64
_SILENT = re.compile(r"#.*|\s+")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\s*(?::[^=]+)?=(?!=)(.+)", re.DOTALL)
_PLAIN = (
    ast.Constant,
    ast.BinOp,
    ast.UnaryOp,
    ast.Tuple,
    ast.List,
    ast.operator,
    ast.unaryop,
    ast.expr_context,
)

Constants = tuple[tuple[str, str, str], ...]
"""(name, from, to), sorted by name; values as Python writes them."""


@dataclass(frozen=True)
class Change:
    """What tells changes apart.

    `edit_hash` is 16 hex digits over the lines that go and come; empty if none does, but by their order. `constants`
    are those of the module that change their value, if nothing else changes. `touched` names what is changed: constants
    by their names, other lines of the old program by a hash; the new lines if none of the old ones goes.
    """

    edit_hash: str
    constants: Constants
    touched: frozenset[str]


@dataclass(frozen=True)
class _Line:
    """A line without what says nothing. `name` and `value`: of the constant that it sets at the top level."""

    path: str
    indent: int
    text: str
    name: str = ""
    value: str = ""

    @property
    def key(self) -> str:
        return f"{self.path}:{self.name}={self.value}" if self.name else f"{self.path}:{self.text}"


def change_between(old: Files, new: Files) -> Change:
    """What turns `old` into `new`, from the files that are in both."""
    gone: list[_Line] = []
    come: list[_Line] = []
    for path in sorted(old):
        if path in new and old[path] != new[path]:
            before, after = _cancelled(
                *(list(_meant(path, lines)) for lines in _changed(old[path], new[path]))
            )
            gone += before
            come += after
    if not gone and not come:
        return Change("", (), frozenset())
    keys = sorted([f"-{line.key}" for line in gone] + [f"+{line.key}" for line in come])
    return Change(_digest("\n".join(keys))[:16], _constants(gone, come), _touched(gone, come))


def _changed(old: str, new: str) -> tuple[list[str], list[str]]:
    """The lines of each that the other does not have, or not as often; where they stand does not matter."""
    before, after = old.split("\n"), new.split("\n")
    first = 0
    for one, other in zip(before, after, strict=False):
        if one != other:
            break
        first += 1
    last = 0
    for one, other in zip(reversed(before[first:]), reversed(after[first:]), strict=False):
        if one != other:
            break
        last += 1
    before, after = before[first : len(before) - last], after[first : len(after) - last]
    return list((Counter(before) - Counter(after)).elements()), list(
        (Counter(after) - Counter(before)).elements()
    )


def _meant(path: str, lines: list[str]) -> Iterator[_Line]:
    if not path.endswith(".py"):
        yield from (_Line(path, 0, line.rstrip()) for line in lines if line.strip())
        return
    small = len(lines) <= MOST_TOKENIZED
    for line in lines:
        quoted = '"' in line or "'" in line
        text = _SILENT.sub("", line) if not quoted else _unquoted(line) if small else line.strip()
        if text:
            indent = len(line) - len(line.lstrip())
            name, value = ("", "") if indent else _constant(line)
            yield _Line(path, indent, text, name, value)


def _unquoted(line: str) -> str:
    """The tokens of a line without comments; strings as Python writes them."""
    found = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(line.strip()).readline):
            if token.type == tokenize.STRING:
                found.append(_value(token.string) or token.string)
            elif token.type != tokenize.COMMENT:
                found.append(token.string.strip())
    except (tokenize.TokenError, IndentationError, SyntaxError):  # a part of a longer statement, or of a text
        return "".join(found) or line.strip()
    return "".join(found)


def _constant(line: str) -> tuple[str, str]:
    """(name, value) if the line is `NAME = literal`; else empty. Values that are the same are written the same."""
    found = _ASSIGNMENT.match(line)
    value = _value(found[2]) if found else ""
    return (found[1], value) if found and value else ("", "")


@lru_cache(maxsize=1024)
def _value(source: str) -> str:
    try:
        tree = ast.parse(source.strip(), mode="eval").body
        if not all(isinstance(node, _PLAIN) for node in ast.walk(tree)):
            return ""
        try:
            return repr(ast.literal_eval(tree))
        except ValueError:
            return ast.unparse(tree)  # 2**14: not computed, it could take forever
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""


def _cancelled(gone: list[_Line], come: list[_Line]) -> tuple[list[_Line], list[_Line]]:
    """Without the lines that only changed their comments or white space."""
    before, after = (
        Counter((line.indent, line.key) for line in gone),
        Counter((line.indent, line.key) for line in come),
    )
    return list(_beyond(gone, before & after)), list(_beyond(come, before & after))


def _beyond(lines: Iterable[_Line], same: Counter[tuple[int, str]]) -> Iterator[_Line]:
    left = Counter(same)
    for line in lines:
        if left[line.indent, line.key]:
            left[line.indent, line.key] -= 1
        else:
            yield line


def _constants(gone: list[_Line], come: list[_Line]) -> Constants:
    old, new = ({line.name: line.value for line in lines} for lines in (gone, come))
    if "" in old or "" in new or old.keys() != new.keys() or len(old) != len(gone) or len(new) != len(come):
        return ()
    return tuple((name, old[name], new[name]) for name in sorted(old))


def _touched(gone: list[_Line], come: list[_Line]) -> frozenset[str]:
    marks = [line.name or _digest(line.key)[:8] for line in gone or come]
    return frozenset(sorted(set(marks))[:MOST_TOUCHED])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

"""What differs between two programs, for people to read."""

from __future__ import annotations

import difflib

from autolab.program.hashing import Files


def unified_diff(old: Files, new: Files) -> str:
    """All files as one unified diff; what is not printable, other than tabs and line ends, is named (`named`)."""
    pieces: list[str] = []
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):  # most files of a program stay as they are
            a, b = old.get(name, "").splitlines(), new.get(name, "").splitlines()
            label = named(name)
            pieces += difflib.unified_diff(a, b, f"a/{label}", f"b/{label}", lineterm="")
    return "".join("\t".join(map(named, line.split("\t"))) + "\n" for line in pieces)


def named(line: str) -> str:
    """A line in which whatever is not printable (control codes, marks that turn the direction of writing, half
    characters) is named instead of obeyed: <U+001B>. A reviewer then sees what a recipe hides."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() or c == "\xa0" else f"<U+{ord(c):04X}>" for c in line)

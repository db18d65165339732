"""The difference of two programs as a patch that `git apply` takes."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from autolab.program.hashing import Files


def patch(old: Files, new: Files) -> str:
    """A unified diff that turns `old` into `new`, exactly; empty if they are the same."""
    return "".join(
        piece
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
        for piece in _file_patch(name, old.get(name), new.get(name))
    )


def _file_patch(name: str, old: str | None, new: str | None) -> Iterator[str]:
    before = "/dev/null" if old is None else f"a/{name}"
    after = "/dev/null" if new is None else f"b/{name}"
    for line in difflib.unified_diff(_lines(old or ""), _lines(new or ""), before, after):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _lines(text: str) -> list[str]:
    """Lines with their ends, cut at line feeds alone, as git cuts them."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]

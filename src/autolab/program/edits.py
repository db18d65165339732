"""The search/replace contract: a search block matches exactly once, in a file that may be edited."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from autolab.program.hashing import Files
from autolab.task import Edit

MAX_EDITS = 64
MAX_EDIT_BYTES = 65_536
MAX_COMPARED = 4_000_000  # pairs of lines; comparing more would hold up everything else


class EditRefused(Exception):
    """Why a proposal cannot be applied; the text is fed back to the agent."""


def apply_edits(files: Files, edits: Sequence[Edit], protected: Sequence[str] = ()) -> dict[str, str]:
    """The files after the edits, which are applied in order.

    `files` are the parent's editable files, path to text. Paths are compared as they are written, so
    `./train.py`, absolute paths and `..` name no editable file. Raises EditRefused.
    """
    if not edits:
        raise EditRefused("the proposal holds no edit")
    if len(edits) > MAX_EDITS:
        raise EditRefused(f"{len(edits)} edits; at most {MAX_EDITS}")
    total = 0
    changed = dict(files)
    for number, edit in enumerate(edits, start=1):
        where = f"edit {number}"
        if edit.path not in changed:
            known = ", ".join(sorted(files))
            kind = "is protected" if edit.path in protected else "may not be edited"
            raise EditRefused(f"{where}: {edit.path[:80]!r} {kind}; editable: {known}")
        try:
            total += len(edit.search.encode()) + len(edit.replace.encode())
        except UnicodeEncodeError:
            raise EditRefused(f"{where}: text is not valid Unicode") from None
        if total > MAX_EDIT_BYTES:
            raise EditRefused(f"{where}: the edits are larger than {MAX_EDIT_BYTES} bytes")
        if not edit.search:
            raise EditRefused(f"{where}: the search block is empty")
        matches = _count(changed[edit.path], edit.search)
        if matches != 1:
            problem = (
                "is not found" if matches == 0 else f"matches {matches} times; add lines to make it unique"
            )
            raise EditRefused(f"{where}: search block {_first_line(edit.search)} {problem} in {edit.path}")
        changed[edit.path] = changed[edit.path].replace(edit.search, edit.replace)
    return changed


def edits_between(old: Files, new: Files) -> tuple[Edit, ...]:
    """Edits that turn `old` into `new` under the contract above: each changed passage with as many lines around
    it as make it unique. Only files that are in both count; where that is shorter, a file is replaced whole.
    """
    found: list[Edit] = []
    for path in sorted(old):
        if path in new and new[path] != old[path]:
            found += _file_edits(path, old[path], new[path])
    return tuple(found)


def _file_edits(path: str, old: str, new: str) -> list[Edit]:
    whole = [Edit(path=path, search=old, replace=new)]
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    if len(before) * len(after) > MAX_COMPARED:
        return whole
    text, edits, shift = old, [], 0
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for tag, first, last, new_first, new_last in matcher.get_opcodes():
        if tag == "equal":
            continue
        lines = text.splitlines(keepends=True)
        start, end = first + shift, last + shift
        around = 0
        while True:  # what stands above was changed already, what stands below is still the old text
            top, bottom = max(0, start - around), min(len(lines), end + around)
            search = "".join(lines[top:bottom])
            if search and _count(text, search) == 1:
                break
            if top == 0 and bottom == len(lines):
                return whole
            around += 1
        replace = "".join([*lines[top:start], *after[new_first:new_last], *lines[end:bottom]])
        edits.append(Edit(path=path, search=search, replace=replace))
        text = text.replace(search, replace)
        shift += (new_last - new_first) - (last - first)
        if len(text.splitlines()) != len(before) + shift:  # a passage without a line end met the next one
            return whole
    size = sum(len(edit.search) + len(edit.replace) for edit in edits)
    fits = len(edits) <= MAX_EDITS and size < len(old) + len(new)
    return edits if fits and text == new else whole


def _count(text: str, block: str) -> int:
    """Occurrences, overlapping ones too: `aa` is twice in `aaa`."""
    count, start = 0, text.find(block)
    while start != -1:
        count, start = count + 1, text.find(block, start + 1)
    return count


def _first_line(block: str) -> str:
    line = block.strip().splitlines()[0] if block.strip() else block
    return repr(line if len(line) <= 60 else line[:57] + "...")

"""What an agent's last message says: the hypothesis, and the edits of a model that cannot edit files itself.

The block format is the one that small models get right most often (a path, then SEARCH/REPLACE blocks as aider
made them known); one JSON object with the same fields is taken as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from autolab.ledger.records import Proposal
from autolab.program.hashing import Files
from autolab.task import Edit

FIELDS = {
    "hypothesis": "hypothesis",
    "surface": "surface",
    "expected": "expected_effect",
    "expected_effect": "expected_effect",
    "rationale": "rationale",
    "sources": "sources",
    "source": "sources",
}
LONGEST_FIELD = 1000  # characters
MOST_SOURCES = 10
MOST_OBJECTS = 200  # braces of a message that are tried as the start of a JSON object
_FIELD = re.compile(rf"^\W*({'|'.join(FIELDS)})\W*?:[\s*_]*(\S.*)$", re.IGNORECASE)
_SEARCH, _DIVIDER, _REPLACE = (
    "<<<<<<< SEARCH",
    "=======",
    ">>>>>>> REPLACE",
)  # exactly these: code may hold longer ones


class AnswerRefused(Exception):
    """Why an answer cannot be read; the text is fed back to the agent."""


def parse_answer(text: str, files: Files) -> Proposal:
    """The proposal that a message holds; its edits are empty if the agent edited files itself.

    `files` are the parent's editable files. Raises AnswerRefused for half a block, or a path that is none of them.
    """
    found = _json_answer(text)
    if found is not None and (found.edits or _SEARCH not in text):
        return found
    fields: dict[str, str] = {}
    edits: list[Edit] = []
    path = next(iter(files)) if len(files) == 1 else ""
    # Not splitlines(), for which form feeds and some signs inside of strings end a line as well.
    lines = iter(enumerate((line.removesuffix("\r") for line in text.split("\n")), start=1))
    for number, line in lines:
        stripped = line.strip().strip("`*").strip()
        if stripped in files:
            path = stripped
        elif line.strip() == _SEARCH:
            if not path:
                raise AnswerRefused(
                    f"line {number}: no file is named before the SEARCH block; one of {', '.join(files)}"
                )
            edits.append(_block(path, lines, number))
        elif (match := _FIELD.match(line)) and not edits:
            fields.setdefault(FIELDS[match[1].lower()], match[2].strip().rstrip("*_ ")[:LONGEST_FIELD])
    return _proposal(fields, tuple(_fitting(files, edits)))


def _block(path: str, lines: Iterator[tuple[int, str]], start: int) -> Edit:
    """The lines up to the divider, and from there to the end mark. A second mark of a kind is no block's content:
    which part it belongs to could only be guessed."""
    search: list[str] = []
    replace: list[str] = []
    taken = search
    for number, line in lines:
        mark = line.strip()
        if mark == _REPLACE and taken is replace:
            return Edit(path=path, search=_joined(search), replace=_joined(replace))
        if mark == _DIVIDER and taken is search:
            taken = replace
        elif mark in (_SEARCH, _DIVIDER, _REPLACE):
            raise AnswerRefused(
                f"line {number}: {mark} in the middle of the block that begins at line {start}"
            )
        else:
            taken.append(line)
    missing = _DIVIDER if taken is search else _REPLACE
    raise AnswerRefused(f"the block that begins at line {start} has no {missing} line")


def _joined(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)


def _fitting(files: Files, edits: Sequence[Edit]) -> list[Edit]:
    """Blocks are whole lines: refused if one begins in the middle of a line. They end with a line end, which the
    last line of a file may lack, and which is CR LF in some files. Raises AnswerRefused."""
    fitted = []
    for edit in edits:
        text, search, replace = files[edit.path], edit.search, edit.replace
        if "\r\n" in text and "\n" not in text.replace("\r\n", ""):
            search, replace = search.replace("\n", "\r\n"), replace.replace("\n", "\r\n")
        end = "\r\n" if search.endswith("\r\n") else "\n"
        if search not in text and search.endswith(end) and text.endswith(search.removesuffix(end)):
            search, replace = search.removesuffix(end), replace.removesuffix(end)
        place = text.find(search) if search else -1
        if place > 0 and text[place - 1] != "\n":
            raise AnswerRefused(f"SEARCH {search.splitlines()[0][:60]!r} is not a whole line of {edit.path}")
        fitted.append(Edit(path=edit.path, search=search, replace=replace))
    return fitted


def _json_answer(text: str) -> Proposal | None:
    """The last JSON object of the text that has a hypothesis, or None."""
    decoder = json.JSONDecoder()
    last, place = None, text.find("{")
    for _ in range(MOST_OBJECTS):
        if place < 0:
            break
        try:
            found, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            if isinstance(found, dict) and isinstance(found.get("hypothesis"), str):
                last = found
        place = text.find("{", end)
    return None if last is None else _from_json(last)


def _from_json(found: dict[str, object]) -> Proposal:
    fields: dict[str, str] = {}
    for key, value in found.items():
        if key in FIELDS and isinstance(value, str | list):
            text = value if isinstance(value, str) else ", ".join(str(item) for item in value)
            fields.setdefault(FIELDS[key], text[:LONGEST_FIELD])
    raw = found.get("edits") or []
    try:
        edits = tuple(Edit.model_validate(edit) for edit in raw)  # type: ignore[attr-defined]
    except (ValueError, TypeError) as error:
        raise AnswerRefused(
            f"edits: {str(error).splitlines()[0][:200]}; each is {{path, search, replace}}"
        ) from None
    return _proposal(fields, edits)


def _proposal(fields: dict[str, str], edits: tuple[Edit, ...]) -> Proposal:
    named = fields.get("sources", "")
    sources = [source.strip("[]()<>.\"' ") for source in re.split(r"[,;\s]+", named)]
    kept = [source for source in sources if source and source.lower() not in ("none", "n/a", "-")]
    return Proposal(
        hypothesis=fields.get("hypothesis", ""),
        edits=edits,
        surface=fields.get("surface", ""),
        expected_effect=fields.get("expected_effect", ""),
        rationale=fields.get("rationale", ""),
        sources=tuple(kept[:MOST_SOURCES]),
    )

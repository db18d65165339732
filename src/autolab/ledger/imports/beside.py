"""What multiautoresearch keeps beside its table: the record of the master, and the promoted rows as a tree."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolab.errors import LabError
from autolab.ledger.imports.draft import NOTHING, Draft, number
from autolab.ledger.imports.files import json_of
from autolab.ledger.imports.imported import ImportedTrial
from autolab.ledger.imports.table import quoted
from autolab.ledger.views import cell

LIVE = (".", "live", "../live", "research/live")


@dataclass(frozen=True)
class Master:
    """What a master.json says; "" where it says nothing."""

    file: str
    hash: str
    alias: str  # another hash of the same code: the seed has two
    score: float | None


def field(entry: dict[str, Any], *names: str) -> str:
    """The text of the first of these fields that an entry has; "" if it has none, or what is no plain value."""
    value = next((entry[name] for name in names if entry.get(name) is not None), "")
    if isinstance(value, float):
        return repr(value)
    return cell(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""


def lines_field(entry: dict[str, Any], name: str) -> str:
    """As `field`, of a text of several lines: "8 x A" for the same line eight times, "A + B" for two."""
    value = entry.get(name)
    lines = value.splitlines() if isinstance(value, str) else []
    kinds = Counter(line.strip() for line in lines if line.strip())
    return cell(" + ".join(kind if count == 1 else f"{count} x {kind}" for kind, count in kinds.items()))


def entries_beside(draft: Draft, table: Path) -> list[dict[str, Any]]:
    """The entries of the dag.json of a table; none if there is none. One that cannot be read is a problem."""
    found = _load(draft, table, ("dag.json",))
    if found is None:
        return []
    if not isinstance(found[1], list):
        draft.problem(0, f"{found[0].name} beside it is no list of entries")
        return []
    return [entry for entry in found[1] if isinstance(entry, dict)]


def master_beside(draft: Draft, table: Path) -> Master | None:
    """What the master.json of a table says; None if there is none. One that cannot be read is a problem."""
    seed = table.name.endswith(".seed.json")
    found = _load(draft, table, ("master.seed.json",) if seed else ("master.json",))
    if found is None:
        return None
    path, said = found
    if not isinstance(said, dict) or field(said, "hash").lower() in NOTHING:
        draft.problem(0, f"{path.name} beside it names no hash")
        return None
    own, alias = field(said, "hash").lower(), field(said, "legacy_hash").lower()
    return Master(path.name, own, alias, number(field(said, draft.metric)))


def check_master(draft: Draft, master: Master | None, last: ImportedTrial | None) -> None:
    """Note where the record of the master differs from the last row that was promoted."""
    if master is None:
        return
    if last is None:
        draft.problem(0, f"{master.file} names {quoted(master.hash)}, and no row was promoted")
    elif last.program not in (master.hash, master.alias):
        draft.problem(last.line, f"was promoted last, but {master.file} names {quoted(master.hash)}")
    elif last.score is not None and master.score is None:
        draft.problem(last.line, f"was promoted last, but {master.file} has no {draft.metric}")
    elif last.score is not None and master.score is not None:
        same = math.isclose(master.score, last.score, rel_tol=1e-9, abs_tol=1e-12)
        if not same:
            said = f"{master.file} has {draft.metric} {master.score:.9g}"
            draft.problem(last.line, f"was promoted last, with {draft.metric} {last.score:.9g}, but {said}")


def _load(draft: Draft, table: Path, names: tuple[str, ...]) -> tuple[Path, Any] | None:
    """The first such file in the places where one can be."""
    for path in (table.parent / place / name for place in LIVE for name in names):
        if os.path.isfile(path) and path != table:
            try:
                return path, json_of(path)
            except LabError as error:
                draft.problem(0, f"{path.name} beside it {error.what}")
                return None
    return None

"""A dag.json of multiautoresearch read for itself: the promoted runs of a lab, or the thousands of its seed.

Every entry has a hash of its own, even a repeat of the same code; its message may tell (see `group_repeats`).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from autolab.errors import LabError
from autolab.ledger.imports.beside import check_master, field, lines_field, master_beside
from autolab.ledger.imports.draft import NOTHING, Draft, in_time, parent_name
from autolab.ledger.imports.imported import ImportedCampaign, ImportedTrial
from autolab.ledger.imports.metrics import direction_of
from autolab.ledger.imports.table import quoted

Entry = tuple[int, dict[str, Any]]  # its place in the list, from 1


def is_dag(content: Any) -> bool:
    """Whether a JSON file with this content is of this format."""
    return isinstance(content, list) and any(isinstance(entry, dict) and "hash" in entry for entry in content)


def read_dag(
    path: Path, content: list[Any], *, metric: str | None = None, direction: str | None = None
) -> ImportedCampaign:
    """The campaign of such a list. In a lab's own file every entry was promoted; in the seed's form, which has all
    runs, the way from the first one to the master was. Raises LabError for a metric that no entry has, or of no clear
    direction.
    """
    name = metric or "val_bpb"
    if not any(isinstance(entry, dict) and name in entry for entry in content):
        names = {key for entry in content if isinstance(entry, dict) for key in entry if isinstance(key, str)}
        raise LabError(f"has no entry with {name!r}", where=str(path),
                       mend="--metric with one of: " + ", ".join(sorted(names)[:20]))  # fmt: skip
    draft = Draft(path, "dag", name, direction_of(name, direction, where=path))
    entries = _entries(draft, content)
    known = master_beside(draft, path)
    master = _master(draft, entries) or (known.hash if known else None)
    trials = [_trial(draft, place, entry) for place, entry in entries]
    if all("status" in entry or "job_id" in entry for _, entry in entries):
        promoted = {trial.line for trial in trials}
        master = master or (trials[-1].program if trials else None)
    else:
        master = master or _best(draft, trials)
        promoted = _way_to(master, trials)
    last: ImportedTrial | None = None
    for trial in trials:
        chosen = trial.line in promoted
        draft.add(dataclasses.replace(trial, promoted=chosen))
        last = trial if chosen else last
    check_master(draft, known, last)
    called = next((trial.id for trial in trials if trial.program == master), master)
    outside = {known.alias} if known else set()
    return draft.campaign(master=called, rows=len(content), known=outside)


def _entries(draft: Draft, content: list[Any]) -> list[Entry]:
    """The entries in the order of time; what is none is a problem."""
    entries: list[Entry] = []
    seen: dict[str, int] = {}
    for place, entry in enumerate(content, 1):
        if not isinstance(entry, dict) or not field(entry, "hash"):
            draft.problem(place, f"is no entry with a hash: {quoted(str(entry)[:200])}")
        elif (same := seen.setdefault(repr(sorted(entry.items())), place)) != place:
            draft.problem(place, f"says the same as entry {same}, and is not counted again")
        else:
            entries.append((place, entry))
    order = in_time(field(entry, "created_at") for _, entry in entries)
    return entries if order is None else [entries[place] for place in order]


def _master(draft: Draft, entries: list[Entry]) -> str | None:
    masters = [entry for entry in entries if entry[1].get("is_master") is True]
    for place, entry in masters[1:]:
        draft.problem(place, f"is the master, as entry {masters[0][0]} is: {quoted(field(entry, 'hash'))}")
    return field(masters[-1][1], "hash").lower() if masters else None


def _trial(draft: Draft, place: int, entry: dict[str, Any]) -> ImportedTrial:
    wanted = field(entry, "hash").lower()
    status = field(entry, "status")
    return ImportedTrial(
        order=0,
        id=draft.name(wanted, place, again="has the hash of entry {1}: {0}"),
        parent=parent_name(field(entry, "parent_hash").lower()),
        program="" if wanted in NOTHING else wanted,
        score=draft.score(place, field(entry, draft.metric), counts=True),
        status=status,
        promoted=False,
        host=lines_field(entry, "platform"),
        description=field(entry, "message", "comment", "hypothesis"),
        at=field(entry, "created_at"),
        line=place,
    )


def _best(draft: Draft, trials: list[ImportedTrial]) -> str | None:
    """The program with the best score, which a strict rule makes the master; for a file that names none."""
    sign = 1 if draft.direction == "maximize" else -1
    scored = [trial for trial in trials if trial.score is not None]
    best = max(scored, key=lambda trial: sign * (trial.score or 0.0), default=None)
    if best is None:
        draft.problem(0, "no entry is the master: which ones were promoted is not known")
        return None
    draft.problem(best.line, "is taken for the master, as the best score: no entry says that it is")
    return best.program


def _way_to(master: str | None, trials: list[ImportedTrial]) -> set[int]:
    """The entries between the first one and the master, both included."""
    by_program: dict[str, ImportedTrial] = {}
    for trial in trials:
        by_program.setdefault(trial.program, trial)
    way: set[int] = set()
    while master is not None and master in by_program and by_program[master].line not in way:
        way.add(by_program[master].line)
        master = by_program[master].parent
    return way

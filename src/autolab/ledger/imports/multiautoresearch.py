"""The ledger of multiautoresearch: results.tsv of 17 columns, with live/master.json and live/dag.json beside it.

A row is one run; its candidate_hash names the code, so rows with the same hash are repeats of one program. What is
known to go wrong there is noted: numbers that no run gives recorded as completed, rows written by hand without a
hash, one job credited to two programs, a master that is not the one that was promoted last.
"""

from __future__ import annotations

from pathlib import Path

from autolab.ledger.imports.beside import (
    Master,
    check_master,
    entries_beside,
    field,
    lines_field,
    master_beside,
)
from autolab.ledger.imports.draft import NOTHING, Draft, parent_name
from autolab.ledger.imports.imported import ImportedCampaign, ImportedTrial
from autolab.ledger.imports.metrics import direction_of
from autolab.ledger.imports.table import Row, Table, chosen, quoted

SCORED = ("completed", "legacy_seed")
FAILED = ("missing_metric", "failed")
YES, NO = ("true", "1", "yes"), ("false", "0", "no", "")


def is_multiautoresearch(header: tuple[str, ...]) -> bool:
    """Whether a table with this header is of this format."""
    return {"parent_hash", "candidate_hash", "status", "promoted"} <= set(header)


def read_multiautoresearch(
    path: Path, table: Table, *, metric: str | None = None, direction: str | None = None
) -> ImportedCampaign:
    """The campaign of such a table. Raises LabError for a metric that is no column, or of no clear direction."""
    place = chosen(table.header, metric or "val_bpb", where=path)
    name = table.header[place]
    draft = Draft(
        path, "multiautoresearch", name, direction_of(name, direction, where=path), list(table.problems)
    )
    reader = _Reader(draft, place)
    for row in table.rows:
        draft.add(reader.trial(row))
    reader.check()
    return draft.campaign(master=reader.called_master(), rows=table.length, known=reader.known)


class _Reader:
    """What the rows before say of the next one."""

    def __init__(self, draft: Draft, place: int) -> None:
        self.draft, self.place = draft, place
        self.entries = entries_beside(draft, draft.source)
        self.master: Master | None = master_beside(draft, draft.source)
        self.by_job = {job: entry for entry in self.entries if (job := field(entry, "job_id"))}
        said = self.master
        self.alias = {said.alias: said.hash} if said and said.alias not in NOTHING else {}
        self.by_hash = {self._program(field(entry, "hash")): entry for entry in self.entries}
        self.known = {*self.by_hash, said.hash} if said else set(self.by_hash)
        self.latest: dict[str, ImportedTrial] = {}  # by program; a run that was promoted stays for others
        self.jobs: dict[str, ImportedTrial] = {}
        self.last: ImportedTrial | None = None

    def trial(self, row: Row) -> ImportedTrial:
        """One row, and what is wrong with it."""
        draft, status = self.draft, row.get("status")
        draft.status(row, status.lower(), (*SCORED, *FAILED))
        promoted = self._promoted(row)
        program = self._program(row.get("candidate_hash"))
        if not program and (promoted or status.lower() in SCORED):
            draft.problem(row.line, f"is {'promoted' if promoted else status}, but has no candidate_hash")
        counts = promoted or status.lower() in SCORED
        trial = ImportedTrial(
            order=0,
            id=draft.name(row.get("run_id"), row.line),
            parent=self._parent(row),
            program=program,
            score=draft.cut_score(row, self.place, counts=counts, failed=status.lower() in FAILED),
            status=status,
            promoted=promoted,
            host=self._host(row, program, promoted),
            description=row.get("hypothesis") or row.get("comment"),
            at=row.get("created_at"),
            line=row.line,
        )
        self._remember(row, trial)
        return trial

    def check(self) -> None:
        """Note where the files beside the table tell another story than its rows."""
        promoted = {trial.program for trial in self.draft.trials if trial.promoted}
        for name in self.by_hash:
            if name not in promoted and name:
                self.draft.problem(0, f"dag.json has {quoted(name)} as promoted, and no row has")
        for trial in self.draft.trials if self.entries else ():
            if trial.promoted and trial.program not in self.by_hash:
                self.draft.problem(trial.line, "is promoted, but not in dag.json")
        masters = [field(entry, "hash") for entry in self.entries if entry.get("is_master") is True]
        if len(masters) > 1:
            self.draft.problem(0, f"dag.json has {len(masters)} masters: {quoted(', '.join(masters))}")
        check_master(self.draft, self.master, self.last)

    def called_master(self) -> str | None:
        """The run that they call master: by master.json, else by dag.json, else the one that was promoted last."""
        masters = [field(entry, "hash") for entry in self.entries if entry.get("is_master") is True]
        name = self._program(self.master.hash if self.master else masters[-1] if masters else "")
        if not name:
            return self.last.id if self.last else None
        return self.latest[name].id if name in self.latest else name

    def _promoted(self, row: Row) -> bool:
        word = row.get("promoted").lower()
        if len(row.cells) <= row.header.index("promoted"):
            cut = row.header[len(row.cells) - 1]
            self.draft.problem(row.line, f"is cut off after its {cut}: whether it was promoted is not known")
        elif word not in (*YES, *NO):
            self.draft.problem(row.line, f"has {quoted(word)} for promoted: taken as false")
        return word in YES

    def _parent(self, row: Row) -> str | None:
        name = self._program(parent_name(row.get("parent_hash")) or "")
        return self.latest[name].id if name in self.latest else name or None

    def _host(self, row: Row, program: str, promoted: bool) -> str:
        entry = self.by_job.get(row.get("job_id")) or (self.by_hash.get(program) if promoted else None)
        return lines_field(entry, "platform") if entry else ""

    def _remember(self, row: Row, trial: ImportedTrial) -> None:
        job = row.get("job_id")
        if job.lower() not in NOTHING:
            first = self.jobs.setdefault(job, trial)
            if first.program != trial.program:
                self.draft.problem(
                    trial.line,
                    f"has the job of line {first.line}, which ran other code: one score is not of its row",
                )
        before = self.latest.get(trial.program)
        if trial.program and (before is None or trial.promoted or not before.promoted):
            self.latest[trial.program] = trial
        if trial.promoted:
            self.last = trial

    def _program(self, text: str) -> str:
        """The one name of what a hash stands for; "" for none."""
        name = text.lower()
        return "" if name in NOTHING else self.alias.get(name, name)

"""What a slice is chosen from, by bounded questions that an index answers: none grows with the ledger.

Questions bring numbers, which the indexes hold; a finished trial never changes, so it is read once and kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from autolab.ledger.store import Ledger

MOST_SURFACES = 24
KEPT = 20_000  # finished trials; more are forgotten and read again


class Entry(NamedTuple):
    """A trial as a slice needs it."""

    number: int
    id: str
    ordinal: int
    state: str
    role: str
    surface: str
    status: str | None
    verdict: str | None
    score: float | None
    delta: float | None
    note: str
    finished_at: float
    hypothesis: str
    constants: str  # JSON of what the trial's claim says of them; empty: none, or other changes too


class Idea(NamedTuple):
    """A change that is worth trying, and where it comes from."""

    number: int
    surface: str
    change: str
    source: str


class Word(NamedTuple):
    """What a colleague said: `kind` is handover, learning, concern or plan."""

    kind: str
    role: str
    surface: str
    text: str


_COLUMNS = (
    "t.number, t.id, t.ordinal, t.state, t.role, t.surface, t.status, t.verdict, t.score, t.delta,"
    " substr(t.note, 1, 400), coalesce(t.finished_at, 0), coalesce(json_extract(t.proposal, '$.hypothesis'), ''),"
    " coalesce(c.constants, '')"
)


class Rows:
    """The questions of one ledger about one campaign."""

    def __init__(self, ledger: Ledger, campaign: str) -> None:
        self._db, self._campaign = ledger.rows, campaign
        self._kept: dict[int, Entry] = {}

    def newest(self, count: int) -> list[int]:
        """The finished trials that were opened last, the newest first; the baseline is none of them."""
        return self._numbers(
            "SELECT number FROM trial WHERE campaign = ? AND state = 'done' AND ordinal > 0"
            " ORDER BY ordinal DESC LIMIT ?",
            self._campaign, count,
        )  # fmt: skip

    def of_surface(self, surface: str, count: int) -> list[int]:
        """The same of one surface."""
        return self._numbers(
            "SELECT number FROM trial WHERE campaign = ? AND surface = ? AND state = 'done' AND ordinal > 0"
            " ORDER BY ordinal DESC LIMIT ?",
            self._campaign, surface, count,
        )  # fmt: skip

    def children(self, parent: int, count: int) -> list[int]:
        """The finished trials that branched from one, the newest first."""
        return self._numbers(
            "SELECT number FROM trial WHERE parent_trial = ? AND state = 'done' ORDER BY number DESC LIMIT ?",
            parent, count,
        )  # fmt: skip

    def best(self, surface: str, count: int, *, maximize: bool) -> list[int]:
        """The trials of a surface with the best scores, the best first."""
        order = "DESC" if maximize else "ASC"
        return self._numbers(
            "SELECT number FROM trial WHERE campaign = ? AND surface = ? AND score IS NOT NULL AND ordinal > 0"
            f" ORDER BY score {order}, ordinal {order} LIMIT ?",
            self._campaign, surface, count,
        )  # fmt: skip

    def under_way(self, count: int, surface: str | None = None) -> list[int]:
        """Trials that are open or queued, the newest first; of one surface if it is given."""
        where, values = ("AND surface = ?", [surface]) if surface is not None else ("", [])
        found: list[int] = []
        for state in ("open", "queued"):  # one at a time, so that the index has them in order
            found += self._numbers(
                f"SELECT number FROM trial WHERE campaign = ? {where} AND state = ? ORDER BY ordinal DESC LIMIT ?",
                self._campaign, *values, state, count,
            )  # fmt: skip
        return sorted(found, reverse=True)[:count]

    def surfaces(self) -> list[str]:
        """Surfaces that trials were opened on; the index is skipped through, so that this costs their number."""
        found: list[str] = []
        row = self._db.execute(
            "SELECT min(surface) FROM trial WHERE campaign = ?", (self._campaign,)
        ).fetchone()
        while row[0] is not None and len(found) < MOST_SURFACES:
            found.append(row[0])
            row = self._db.execute(
                "SELECT min(surface) FROM trial WHERE campaign = ? AND surface > ?", (self._campaign, row[0])
            ).fetchone()
        return found

    def entries(self, numbers: Iterable[int]) -> list[Entry]:
        """The trials of these numbers, in the order of the numbers."""
        if len(self._kept) > KEPT:
            self._kept.clear()
        wanted = list(numbers)
        missing = [number for number in wanted if number not in self._kept]
        read: dict[int, Entry] = {}
        for start in range(0, len(missing), 500):
            page = missing[start : start + 500]
            marks = ",".join("?" * len(page))
            rows = self._db.execute(
                f"SELECT {_COLUMNS} FROM trial t LEFT JOIN claim c ON c.trial = t.number WHERE t.number IN ({marks})",
                page,
            )
            read |= {row[0]: Entry(*row) for row in rows}
        self._kept |= {number: entry for number, entry in read.items() if entry.state == "done"}
        return [self._kept.get(number) or read[number] for number in wanted]

    def open_ideas(self, count: int) -> list[Idea]:
        """The ideas that are next."""
        rows = self._db.execute(
            "SELECT number, surface, change, source FROM idea WHERE campaign = ? AND state = 'open'"
            " ORDER BY rank, number LIMIT ?",
            (self._campaign, count),
        )
        return [Idea(*row) for row in rows]

    def handovers(self, count: int) -> list[Word]:
        """What colleagues said last, the newest first."""
        rows = self._db.execute(
            "SELECT kind, role, surface, text FROM handover WHERE campaign = ? ORDER BY number DESC LIMIT ?",
            (self._campaign, count),
        )
        return [Word(*row) for row in rows]

    def _numbers(self, question: str, *values: object) -> list[int]:
        return [row[0] for row in self._db.execute(question, values)]


def constants_of(entry: Entry) -> Sequence[tuple[str, str, str]]:
    """(name, from, to) of the constants that a trial changed, if it changed nothing else."""
    return [tuple(change) for change in json.loads(entry.constants)] if entry.constants else ()

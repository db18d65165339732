"""A campaign while it is read: names made unique, scores checked, parents looked for, problems noted."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from autolab.ledger.imports.imported import Direction, ImportedCampaign, ImportedTrial, Problem
from autolab.ledger.imports.metrics import never
from autolab.ledger.imports.table import Row, quoted

NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)", re.ASCII | re.IGNORECASE)
NOTHING = frozenset({"", "-", "--", "—", "none", "null", "n/a", "na", "nil", "?", "tbd", "todo", "pending"})
NO_PARENT = NOTHING | {"root", "baseline", "seed", "base"}


@dataclass
class Draft:
    """What was read so far of one table."""

    source: Path
    format: str
    metric: str
    direction: Direction
    problems: list[Problem] = field(default_factory=list)
    trials: list[ImportedTrial] = field(default_factory=list)
    _lines: dict[str, int] = field(default_factory=dict)  # where each id first came
    _times: dict[str, int] = field(default_factory=dict)  # how often a name was asked for

    def problem(self, line: int, text: str) -> None:
        """Note one thing that is wrong."""
        self.problems.append(Problem(line, text))

    def name(self, wanted: str, line: int, *, again: str = "has the id {0}, as line {1} has") -> str:
        """An id that no other trial has. `again` says what is wrong with one that came before."""
        if wanted.lower() in NOTHING:
            self.problem(line, "has no id")
            wanted = f"line-{line}"
        first = self._lines.get(wanted)
        if first is not None:
            self.problem(line, again.format(wanted, first))
        name = wanted
        while name in self._lines:
            self._times[wanted] = self._times.get(wanted, 1) + 1
            name = f"{wanted}-{self._times[wanted]}"
        self._lines[name] = line
        return name

    def status(self, row: Row, word: str, known: Collection[str]) -> bool:
        """Whether the row's status is a known one; it is a problem if not."""
        if word.lower() in known:
            return True
        cut = len(row.cells) <= row.header.index("status")
        self.problem(
            row.line,
            f"has the unknown status {quoted(word)}" if word
            else "is cut off before its status" if cut else "has no status",
        )  # fmt: skip
        return False

    def cut_score(self, row: Row, place: int, *, counts: bool, failed: bool = False) -> float | None:
        """`score`, of the cell at this place of a row; in a row that ends there it may be half a number."""
        if counts and row.ends_at(place):
            self.problem(row.line, f"is cut off in its {self.metric}: {quoted(row.at(place))}")
            return None
        return self.score(row.line, row.at(place), counts=counts, failed=failed)

    def score(self, line: int, text: str, *, counts: bool, failed: bool = False) -> float | None:
        """The score that a text says, if the row `counts` and it is one; whatever is wrong is noted.

        `failed` says that the row has a status which leaves no room for a score.
        """
        value = number(text)
        if not counts:
            if failed and value is not None and math.isfinite(value) and value != 0:
                self.problem(
                    line, f"has a failure for its status and yet {self.metric} {text}, which is not used"
                )
            return None
        if text.lower() in NOTHING:
            self.problem(line, f"has no {self.metric}")
        elif value is None:
            self.problem(line, f"has {quoted(text)} for {self.metric}, which is not a number")
        elif not math.isfinite(value) or never(self.metric, value):
            self.problem(line, f"has {self.metric} {text}, which no measurement gives")
        else:
            return value
        return None

    def add(self, trial: ImportedTrial) -> None:
        """One more trial; its order is its place."""
        self.trials.append(dataclasses.replace(trial, order=len(self.trials) + 1))

    def campaign(self, *, master: str | None, rows: int, known: Collection[str] = ()) -> ImportedCampaign:
        """The campaign as it was read. `known` are parents that are no trial of it, and no problem either."""
        self._check_parents(frozenset(known))
        problems = sorted(self.problems, key=lambda problem: problem.line)
        return ImportedCampaign(
            str(self.source), self.format, self.metric, self.direction, tuple(self.trials), tuple(problems), master,
            rows,
        )  # fmt: skip

    def _check_parents(self, known: frozenset[str]) -> None:
        """A parent is an earlier trial: what follows parents must come to an end."""
        orders = {trial.id: trial.order for trial in self.trials}
        missing: dict[str, list[int]] = {}
        for place, trial in enumerate(self.trials):
            parent = trial.parent
            if parent is None or orders.get(parent, trial.order) < trial.order:
                continue
            if parent in orders:
                came = "itself" if parent == trial.id else f"{quoted(parent)}, which came later,"
                self.problem(trial.line, f"names {came} as its parent")
                self.trials[place] = dataclasses.replace(trial, parent=None)
            elif parent not in known:
                missing.setdefault(parent, []).append(trial.line)
        for parent, lines in missing.items():
            more = f" (nor is it for {len(lines) - 1} more)" if len(lines) > 1 else ""
            self.problem(lines[0], f"has the parent {quoted(parent)}, which is no earlier row{more}")


def number(text: str) -> float | None:
    """The number that a text is, which may not be finite; None if it is none."""
    return float(text) if NUMBER.fullmatch(text) else None


def parent_name(text: str) -> str | None:
    """The name of a parent; None for the many ways to write that there is none."""
    return None if text.lower() in NO_PARENT else text


def moment(text: str) -> float | None:
    """A time of the day or of Unix as seconds since 1970; one without a zone is taken as UTC."""
    if (seconds := number(text)) is not None:
        return seconds if math.isfinite(seconds) else None
    try:
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def in_time(times: Iterable[str]) -> list[int] | None:
    """The places of these times from the earliest to the latest; None if one of them is none."""
    moments = [moment(text) for text in times]
    known = [at for at in moments if at is not None]
    return sorted(range(len(known)), key=known.__getitem__) if len(known) == len(moments) else None

"""What is left of a campaign when all there is of it is a table: its trials, and what is wrong with the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class ImportedTrial:
    """One row that somebody's loop wrote down. Text is as in the table, without control characters."""

    order: int  # 1, 2, …: the campaign's own clock
    id: str  # no two trials of a campaign share it; a name that came before gets "-2", "-3", …
    parent: str | None  # id of an earlier trial, or their name of one that no row has; None: it has none
    program: str  # trials with the same text ran the same code; "": nothing says so of any other trial
    score: float | None  # finite; None also where the table has a number that cannot be a score
    status: str  # their word
    promoted: bool  # became their master, the baseline included
    host: str  # what it ran on, as far as the table says
    description: str
    at: str  # their time of it, as written
    line: int  # of the file; of a JSON list, the place of the entry, from 1


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the table. Line 0 is the table as a whole, or a file beside it."""

    line: int
    text: str


@dataclass(frozen=True)
class ImportedCampaign:
    """A table that was read. Every row of it is a trial, or its line is named by a problem, or both."""

    source: str
    format: str  # "karpathy", "multiautoresearch", "dag", "specialists" or "autolab"
    metric: str
    direction: Direction
    trials: tuple[ImportedTrial, ...]  # in order
    problems: tuple[Problem, ...]  # by line
    master: str | None  # id of the trial that they call master, or their name of one that no row has
    rows: int  # that are not empty, without the header: trials and lines that are a problem only

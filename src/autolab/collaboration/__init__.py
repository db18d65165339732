"""Who works with whom: what the next trial is asked to be, and how its proposal comes about.

One module for each collaboration, named as `--collaboration` names it; each has one class `Collaborators`. Adding
another means adding one file. A collaboration keeps no files: what it asked of each trial is in the ledger, and on
resume it is told everything again, in order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from autolab.harness import Ticket
from autolab.ledger.records import Proposal, Trial
from autolab.ledger.store import Ledger
from autolab.task import Task

Ask = Callable[[Ticket], Awaitable[Proposal]]
"""One agent's proposal for a ticket; raises what `Harness.propose` raises."""

Consult = Callable[[Ticket], Awaitable[str]]
"""One agent's words on a ticket's goal; empty if nothing came."""


@dataclass(frozen=True)
class Assignment:
    """What the next trial is asked to be."""

    role: str = "worker"
    surface: str = ""  # empty: any
    parent: int | None = None  # the trial whose program it branches from; None: the archive chooses
    goal: str = ""
    round: str = ""  # of the collaboration: what belongs together
    part: str = ""  # within the round: draft | merge | repair | … as its module says
    of: tuple[int, ...] = ()  # the trials that this one merges, repairs or goes on with
    model: str = ""  # empty: the harness chooses


@dataclass(frozen=True)
class Setting:
    """What a collaboration works in."""

    task: Task
    ledger: Ledger
    campaign: str
    seed: int
    agents: int  # at work at once
    models: tuple[str, ...] = ()  # among which a router may choose
    generic: bool = False  # the control: specialists get the words of a plain worker


class Collaboration(Protocol):
    """The campaign calls it from one thread: `assign`, then `opened`, then `propose`; `tell` when a trial has ended.

    Only `opened` and `tell` change what it knows of trials, so that a resumed campaign can tell it all again.
    """

    name: str

    def assign(self) -> Assignment | None:
        """What the trial to be opened next is asked to be; None: nothing before one that is under way has ended."""
        ...

    def opened(self, trial: Trial, assignment: Assignment) -> None:
        """A trial was opened for an assignment; on resume, also those in the ledger."""
        ...

    async def propose(self, ask: Ask, consult: Consult, ticket: Ticket, assignment: Assignment) -> Proposal:
        """The proposal of an assignment's trial, from one agent or from several. Raises what `ask` raises."""
        ...

    def tell(self, trial: Trial) -> None:
        """A trial has ended."""
        ...

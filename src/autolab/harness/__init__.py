"""What runs an agent. Every harness, with a model or without, answers the same calls.

The lab asks (`propose`) and tells (`tell_proposed`, `tell`), after Optuna's ask/tell. A harness keeps no
files: on resume the campaign makes a new one and tells it the whole ledger again, in order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from autolab.ledger.records import Proposal, Status, Trial


class Exhausted(Exception):
    """The harness has nothing new left to propose for this ticket."""


class Spent(Exception):
    """The models' budget is spent: nothing more is proposed; what is under way ends."""


class NoProposal(Exception):
    """The agent of this ticket brought nothing that can be tried; `status` labels why, `spent` what it cost."""

    def __init__(self, status: Status, reason: str, spent: Proposal) -> None:
        super().__init__(reason)
        self.status, self.spent = status, spent


@dataclass(frozen=True)
class Ticket:
    """What the lab hands to a proposer when it opens a trial."""

    number: int  # the trial's number in the ledger
    ordinal: int  # its place in the campaign; what a seeded proposer counts by
    parent_program: str  # id of the parent program
    parent_files: Mapping[str, str]  # editable path -> text
    parent_score: float | None
    surface: str | None  # None: any
    guidance: tuple[str, ...] = ()  # human steering, most recent last
    trial: str = ""  # the trial's id
    role: str = ""
    parent_trial: int | None = None
    goal: str = ""  # what a planner or a coordinator asks of this trial
    notes: tuple[str, ...] = ()  # what colleagues hand over with this candidate, newest last
    model: str = ""  # which model is to be asked; empty: the harness chooses
    partial: bool = False  # others go on with the candidate: as it is, it may repeat a trial


class Harness(Protocol):
    """Ask/tell. The campaign calls it from one thread."""

    name: str
    ahead: int | None
    """None: the same seed gives the same proposals, so trials are judged in the order in which they were opened,
    and the campaign's window says how many are under way. A number: proposals differ from run to run anyway; that
    many trials are under way, and each is judged as soon as it is measured."""

    async def propose(self, ticket: Ticket) -> Proposal:
        """One change of the ticket's parent. Raises Exhausted when nothing new is left to try, NoProposal when
        this one came to nothing, LabError when a person has to mend something before anybody can propose."""
        ...

    async def consult(self, ticket: Ticket) -> str:
        """What an agent of the ticket's role answers to its goal in words: a plan, a summary. It changes no file and is
        no trial. Empty from a harness without a model, or if nothing came; never raises for one agent's failure."""
        ...

    def tell_proposed(self, ticket_number: int, proposal: Proposal, parent_program: str) -> None:
        """A proposal was accepted and is now in flight; on resume, also those already in the ledger."""
        ...

    def tell(self, trial: Trial, noise_sd: float) -> None:
        """The outcome of one judged trial, in trial order; `noise_sd` in the metric's unit."""
        ...

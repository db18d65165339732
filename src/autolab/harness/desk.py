"""What every harness of agents is given: what it may ask of the lab, and what its agents are told."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autolab.harness import Ticket
from autolab.ledger.records import AgentSession, Proposal, Status
from autolab.pack.roles import Role, roles
from autolab.pack.templates import render
from autolab.task import Task


@dataclass(frozen=True)
class AgentEvent:
    """Something that an agent did, or that happened to it."""

    trial: str
    role: str
    kind: str  # tool | model | ended
    text: str


@dataclass(frozen=True)
class Desk:
    """What agents need of the lab: questions about a proposal and the lineage, and a place for what they cost."""

    objection: Callable[[Ticket, Proposal], tuple[Status, str] | None]
    lineage: Callable[[Ticket], str]
    noise_sd: Callable[[], float | None]
    record: Callable[[AgentSession], None]
    heard: Callable[[AgentEvent], None] = lambda event: None
    standing: Callable[[str], str] = lambda program: (
        ""
    )  # of a program that is the master: score, interval, state

    def tell(self, event: AgentEvent) -> None:
        """Let the person who watches hear of it."""
        with contextlib.suppress(OSError):  # the terminal is gone; the loop notices by itself
            self.heard(event)


class Briefing:
    """What the agents of a campaign are told: the words of their role, and the messages about their ticket."""

    def __init__(self, task: Task, desk: Desk, *, generic: bool = False) -> None:
        self.task, self.desk = task, desk
        self.roles = roles()
        self._generic = generic
        self._task = _task_view(task)

    def role(self, ticket: Ticket) -> Role:
        """The agent file of a ticket's role; a specialist's is that of its surface, or a plain worker's in a campaign
        of generic agents."""
        if ticket.role != "specialist":
            return self.roles.get(ticket.role) or self.roles["worker"]
        name = "worker" if self._generic else f"specialists/{ticket.surface}"
        return self.roles.get(name) or self.roles["worker"]

    def trial(self, ticket: Ticket, *, can_edit: bool) -> str:
        """The message that asks for a proposal."""
        surface = ticket.surface or ""
        return render(
            "trial",
            **self._common(ticket),
            trial=ticket.trial,
            surface_text=self.task.surfaces.get(surface, ""),
            parent_score=ticket.parent_score,
            noise_sd=self.desk.noise_sd(),
            guidance=list(ticket.guidance),
            can_edit=can_edit,
            files={} if can_edit else dict(ticket.parent_files),
        )

    def consult(self, ticket: Ticket) -> str:
        """The message that asks for words on the ticket's goal."""
        return render("consult", **self._common(ticket))

    def feedback(self, reason: str, *, can_edit: bool) -> str:
        """The message that says what was wrong with a proposal."""
        return render("feedback", reason=reason, can_edit=can_edit)

    def _common(self, ticket: Ticket) -> dict[str, Any]:
        return {
            "role": ticket.role,
            "task": self._task,
            "goal": ticket.goal,
            "notes": list(ticket.notes),
            "surface": ticket.surface or "",
            "standing": self.desk.standing(ticket.parent_program),
            "lineage": self.desk.lineage(ticket),
        }

    def accepted(self, ticket: Ticket, proposal: Proposal) -> Proposal | tuple[Status, str]:
        """The proposal as it is handed in, or the label and the reason why the lab would not take it."""
        if not proposal.edits:
            return Status.PROPOSAL_FAILED, "nothing was changed"
        if not proposal.hypothesis.strip():
            return Status.PROPOSAL_FAILED, "there is no HYPOTHESIS: line"
        surface = proposal.surface if proposal.surface in self.task.surfaces else ticket.surface or ""
        proposal = dataclasses.replace(proposal, surface=surface)
        objection = self.desk.objection(ticket, proposal)
        if objection is None or (ticket.partial and objection[0] is Status.DUPLICATE):
            return proposal
        return objection


def _task_view(task: Task) -> Mapping[str, Any]:
    """What a prompt says of the task."""
    budget = task.budget
    spend = (
        f"{budget.cpu_seconds:g} CPU-seconds" if budget.cpu_seconds is not None
        else f"{budget.tokens} tokens" if budget.tokens is not None
        else f"{budget.wall_seconds:g} seconds"
    )  # fmt: skip
    return {
        "name": task.name,
        "metric": task.metric.name,
        "direction": task.metric.direction,
        "editable": list(task.editable),
        "protected": list(task.protected),
        "budget": f"{spend} of training, {budget.memory_gb:g} GB of memory",
    }

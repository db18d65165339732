"""Specialists, one for each surface in turn, who share their lineage; now and then a generalist is free.

After Ning, Li, Zeng, Kang and Xiong (arXiv 2605.05724): every agent reads what all others tried before it proposes, and
nobody waits for anybody. There each specialist runs in a loop of its own; here whoever is free takes the next surface,
which is the same order, and no surface stands still because its specialist does. In the generic control the agents are
as many and share as much, but have neither a surface nor a specialist's words.
"""

from __future__ import annotations

from autolab.collaboration import Ask, Assignment, Consult, Setting
from autolab.collaboration.common.surfaces import expert
from autolab.harness import Ticket
from autolab.ledger.records import Proposal, Trial


class Collaborators:
    """One surface after another, from the program that the archive chooses."""

    name = "swarm"

    def __init__(self, setting: Setting) -> None:
        free = Assignment()
        specialists = [Assignment(expert(setting, surface), surface) for surface in setting.task.surfaces]
        self._turns = [free] if setting.generic else [*specialists, free]
        self._opened = 0

    def assign(self) -> Assignment | None:
        """The next surface; after the last one, any."""
        return self._turns[self._opened % len(self._turns)]

    def opened(self, trial: Trial, assignment: Assignment) -> None:
        """That surface had its turn."""
        self._opened += 1

    async def propose(self, ask: Ask, consult: Consult, ticket: Ticket, assignment: Assignment) -> Proposal:
        """The specialist's own."""
        return await ask(ticket)

    def tell(self, trial: Trial) -> None:
        """Nothing to remember: what it teaches is in the lineage."""

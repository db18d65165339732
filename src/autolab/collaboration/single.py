"""Each agent for itself: a generalist that chooses its own surface, as in karpathy/autoresearch."""

from __future__ import annotations

from autolab.collaboration import Ask, Assignment, Consult, Setting
from autolab.harness import Ticket
from autolab.ledger.records import Proposal, Trial


class Collaborators:
    """Whoever is free gets the next trial."""

    name = "single"

    def __init__(self, setting: Setting) -> None:
        """Nothing to set up."""

    def assign(self) -> Assignment | None:
        """Any surface, from the program that the archive chooses."""
        return Assignment()

    def opened(self, trial: Trial, assignment: Assignment) -> None:
        """Nothing to remember."""

    async def propose(self, ask: Ask, consult: Consult, ticket: Ticket, assignment: Assignment) -> Proposal:
        """One agent's own."""
        return await ask(ticket)

    def tell(self, trial: Trial) -> None:
        """Nothing to remember."""

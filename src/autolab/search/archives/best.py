"""Best only: every trial branches from the best program so far, as in a hill climb."""

from __future__ import annotations

from collections.abc import Sequence

from autolab.search.archives.elites import Elites
from autolab.search.archives.history import Bounds, History


class Best(Elites):
    """One place. Of equals the newest holds it, so that a search can drift across a plateau."""

    def __init__(self, bounds: Sequence[Bounds], history: History | None = None) -> None:
        super().__init__(bounds, history)
        self._best: int | None = None

    def placed(self, place: int) -> bool:
        """Take in what the history has at a place; whether it is the best now."""
        objective = self.history.objective
        if self._best is not None and objective[place] < objective[self._best]:
            return False
        self._best = place
        return True

    def retrieve(self, measures: Sequence[float]) -> int | None:
        """The best one's id, whatever the measures; None before the first program."""
        return None if self._best is None else int(self.history.ids[self._best])

    def places(self) -> list[int]:
        """Where the best one is in the history."""
        return [] if self._best is None else [self._best]

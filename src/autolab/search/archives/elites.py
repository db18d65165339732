"""What archives with several places have in common: a history of their own or a shared one, and the parent choice."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from autolab.search.archives.history import Bounds, History
from autolab.search.archives.parents import choose_parents


class Elites(ABC):
    """`history` is given where several archives look at the same programs; its owner tells it, and calls `placed`."""

    def __init__(self, bounds: Sequence[Bounds], history: History | None = None) -> None:
        self.history = History(bounds) if history is None else history

    def add(
        self, solution_id: int, objective: float, measures: Sequence[float], parent: int | None = None
    ) -> bool:
        """Tell a program that was scored, and the id of the one that it branched from; whether it is an elite now."""
        return self.placed(self.history.append(solution_id, objective, measures, parent))

    def add_failed(self, parent: int | None = None) -> None:
        """Tell of a child that gave no score: it counts against its parent."""
        self.history.failed(parent)

    def sample_elites(self, n: int, rng: np.random.Generator, in_flight: int = 1) -> list[int]:
        """Ids of `n` elites to branch from, better, younger and more fruitful ones more often; none before the first
        program."""
        return choose_parents(self.history, self.places(), n, rng)

    def elites(self) -> list[int]:
        """The ids of all elites."""
        return [int(self.history.ids[place]) for place in self.places()]

    @abstractmethod
    def placed(self, place: int) -> bool:
        """Take in what the history has at a place; whether it is an elite now."""

    @abstractmethod
    def places(self) -> list[int]:
        """Where all elites are in the history."""

    @abstractmethod
    def retrieve(self, measures: Sequence[float]) -> int | None:
        """The id of the elite where these measures lie, or None if nobody is there."""

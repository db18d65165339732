"""MAP-Elites (Mouret and Clune 2015, arXiv 1504.04909): the best program of each cell of a grid over the measures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autolab.search.archives.elites import Elites
from autolab.search.archives.history import Bounds, History, best_of_each

CELLS = 64
DIMENSIONS = 4  # a grid over more measures has more cells than a campaign has trials


class Grid(Elites):
    """`cells` cells in all, as many along each of the first four measures.

    Cells are owned under today's bounds: when bounds change, every program ever told is placed anew. Of equals the
    newest owns a cell, so that a search can drift across a plateau.
    """

    def __init__(self, bounds: Sequence[Bounds], history: History | None = None, cells: int = CELLS) -> None:
        super().__init__(bounds, history)
        self._used = min(len(bounds), DIMENSIONS)
        self.side = max(2, round(cells ** (1 / self._used))) if self._used else 1
        self._elites: dict[int, int] = {}
        self._epoch = self.history.epoch

    def placed(self, place: int) -> bool:
        """Take in what the history has at a place; whether it owns its cell now."""
        if self._epoch != self.history.epoch:
            self._epoch = self.history.epoch
            cells = self.cells_of(self.history.unit)
            self._elites = best_of_each(cells, self.history.objective)
            return self._elites[int(cells[place])] == place
        cell = int(self.cells_of(self.history.unit[place : place + 1])[0])
        owner = self._elites.get(cell)
        if owner is not None and self.history.objective[place] < self.history.objective[owner]:
            return False
        self._elites[cell] = place
        return True

    def retrieve(self, measures: Sequence[float]) -> int | None:
        """The id of the elite of the cell in which these measures lie, or None if it is empty."""
        cell = int(self.cells_of(self.history.between(measures)[None])[0])
        place = self._elites.get(cell)
        return None if place is None else int(self.history.ids[place])

    def places(self) -> list[int]:
        """The places of all elites in the history."""
        return list(self._elites.values())

    def cells_of(self, unit: NDArray[np.float64]) -> NDArray[np.int64]:
        """The numbers of the cells in which rows of measures between 0 and 1 lie, counted as numpy counts."""
        along = np.minimum((unit[:, : self._used] * self.side).astype(np.int64), self.side - 1)
        steps = self.side ** np.arange(self._used - 1, -1, -1, dtype=np.int64)
        owner: NDArray[np.int64] = along @ steps
        return owner

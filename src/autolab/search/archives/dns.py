"""Dominated Novelty Search (Bahlous-Boldi et al. 2025, arXiv 2502.00593): no niches at all.

A fixed number of places; each program is worth its mean distance to the nearest programs that score better than it.
So a program survives by being good, or by being far from everything better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autolab.search.archives.elites import Elites
from autolab.search.archives.history import Bounds, History

PLACES = 64
NEIGHBOURS = 3


class DominatedNovelty(Elites):
    """Keeps `places` programs; a trial costs the same however many were told before."""

    def __init__(
        self, bounds: Sequence[Bounds], history: History | None = None, places: int = PLACES
    ) -> None:
        super().__init__(bounds, history)
        self._most = places
        rows = places + 1  # one more than is kept, for the next program
        self._kept = np.full(rows, -1, np.int64)  # place in the history; -1: the row is free
        self._score = np.full(rows, -np.inf)
        self._distance = np.full((rows, rows), np.inf)
        self._near = np.full((rows, NEIGHBOURS), np.inf)  # distances to the nearest better ones, in order
        self._free = 0
        self._epoch = self.history.epoch

    def placed(self, place: int) -> bool:
        """Take in what the history has at a place; whether it was kept."""
        unit, row = self.history.unit, self._free
        self._kept[row], self._score[row] = place, self.history.objective[place]
        held = np.flatnonzero(self._kept >= 0)
        if self._epoch != self.history.epoch:
            self._epoch = self.history.epoch
            self._distance[np.ix_(held, held)] = distances(unit[self._kept[held]], unit[self._kept[held]])
            self._look(held)
        else:
            gaps = distances(unit[place : place + 1], unit[self._kept[held]])[0]
            self._distance[row, held] = self._distance[held, row] = gaps
            nearer = held[(self._score[held] < self._score[row]) & (gaps < self._near[held, -1])]
            self._look(np.append(nearer, row))
        if len(held) <= self._most:
            self._free = len(held)
            return True
        worst = int(np.argmin(_worth(self._near)))
        self._free = worst
        self._kept[worst], self._score[worst] = -1, -np.inf
        # Whoever had it among the nearest better ones looks again.
        self._look(np.flatnonzero(self._distance[:, worst] <= self._near[:, -1]))
        return worst != row

    def _look(self, rows: NDArray[np.int64]) -> None:
        """Find the nearest better ones of some rows."""
        self._near[rows] = _nearest(self._score[rows, None] < self._score, self._distance[rows], NEIGHBOURS)

    def retrieve(self, measures: Sequence[float]) -> int | None:
        """The id of the kept program nearest to these measures; None before the first."""
        kept = self.places()
        if not kept:
            return None
        near = distances(self.history.between(measures)[None], self.history.unit[kept])
        return int(self.history.ids[kept[int(near.argmin())]])

    def places(self) -> list[int]:
        """The places of the kept programs in the history."""
        return [place for place in self._kept.tolist() if place >= 0]


def distances(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Euclidean distances between the rows of two arrays."""
    found: NDArray[np.float64] = np.sqrt(((one[:, None] - other[None]) ** 2).sum(axis=-1))
    return found


def dominated_novelty(
    objective: NDArray[np.float64], distance: NDArray[np.float64], neighbours: int = NEIGHBOURS
) -> NDArray[np.float64]:
    """The mean distance of each program to the `neighbours` nearest better ones; infinite for the best."""
    return _worth(_nearest(objective[:, None] < objective, distance, neighbours))


def _nearest(better: NDArray[np.bool_], distance: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The `count` smallest distances of each row to columns that are better; infinite where there are fewer."""
    near = np.where(better, distance, np.inf)
    if near.shape[1] < count:
        near = np.pad(near, ((0, 0), (0, count - near.shape[1])), constant_values=np.inf)
    near.sort(axis=1)
    return near[:, :count]


def _worth(near: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of what is finite in each row; infinite if nothing is."""
    known = np.isfinite(near)
    count = known.sum(axis=1)
    total = np.where(known, near, 0.0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.inf)

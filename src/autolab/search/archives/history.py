"""Everything that an archive was told, and where each program lies between today's bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bounds = tuple[float, float] | None

REFIT_SHARE = 0.1  # bounds and niches are made anew when the history has grown by this: O(1) a trial
SMALL = 32  # below this they are made anew with every trial
OUTLYING = 0.01  # share at either end that does not stretch bounds which nobody declared
LARGEST = 1e100


class History:
    """Programs by their place (0, 1, …) in the order in which they were told.

    Bounds that are declared stay. Others are the 1 % and 99 % quantiles of what was seen, so that one absurd value
    does not squeeze all others together; what lies outside counts as lying on the edge. `epoch` changes with them:
    an archive that placed programs under earlier bounds places all of them anew.
    """

    def __init__(self, bounds: Sequence[Bounds]) -> None:
        self.count = 0
        self.trials = 0  # with those that gave no score
        self.epoch = 0
        self.place: dict[int, int] = {}  # by solution id
        self._declared = tuple(bounds)
        self._fitted = 0
        width = len(self._declared)
        self._low, self._width = np.zeros(width), np.ones(width)
        self._open = np.array([bound is None for bound in self._declared], bool)
        for column, bound in enumerate(self._declared):
            if bound is not None:
                self._low[column], self._width[column] = bound[0], bound[1] - bound[0]
        self._bounds = self._pairs()
        room = 64
        self._ids = np.zeros(room, np.int64)
        self._objective = np.zeros(room)
        self._measures = np.zeros((room, width))
        self._unit = np.zeros((room, width))
        self._barren = np.zeros(room, np.int64)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Solution ids by place."""
        return self._ids[: self.count]

    @property
    def objective(self) -> NDArray[np.float64]:
        """Objectives by place; higher is better."""
        return self._objective[: self.count]

    @property
    def unit(self) -> NDArray[np.float64]:
        """(count, measures) between 0 and 1 under today's bounds."""
        return self._unit[: self.count]

    @property
    def barren(self) -> NDArray[np.int64]:
        """How many children each program has had since the last one that was better than it."""
        return self._barren[: self.count]

    def append(
        self, solution_id: int, objective: float, measures: Sequence[float], parent: int | None = None
    ) -> int:
        """Remember a program; returns its place. A measure that is no number lies in the middle."""
        self._born(parent, objective)
        if self.count == len(self._ids):
            self._grow()
        place = self.count
        self._ids[place], self._objective[place] = solution_id, objective
        self._measures[place] = [_tame(value) for value in measures]
        self._unit[place] = self.between(measures)
        self.place[solution_id] = place
        self.count += 1
        if None in self._declared and self.due(self._fitted):
            self._fit()
        return place

    def due(self, last: int) -> bool:
        """Whether what was made at `last` programs is to be made anew."""
        return self.count <= SMALL or self.count >= last * (1 + REFIT_SHARE)

    def failed(self, parent: int | None) -> None:
        """Remember that a child of a program (a solution id) gave no score."""
        self._born(parent, -math.inf)

    def _born(self, parent: int | None, objective: float) -> None:
        self.trials += 1
        place = None if parent is None else self.place.get(parent)
        if place is not None:
            better = objective > self._objective[place]
            self._barren[place] = 0 if better else self._barren[place] + 1

    def between(self, measures: Sequence[float]) -> NDArray[np.float64]:
        """Where measures lie between today's bounds, 0 to 1."""
        return np.array([_share(value, *bound) for value, bound in zip(measures, self._bounds, strict=True)])

    def _scaled(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        unit = np.clip((raw - self._low) / self._width, 0.0, 1.0)
        return np.where(np.isnan(unit), 0.5, unit)

    def _fit(self) -> None:
        self._fitted = self.count
        seen = self._measures[: self.count, self._open]
        known = ~np.isnan(seen).all(axis=0)
        low, high = np.zeros(seen.shape[1]), np.zeros(seen.shape[1])
        if known.any():
            low[known], high[known] = np.nanquantile(
                seen[:, known], (OUTLYING, 1 - OUTLYING), axis=0, method="nearest"
            )
        width = np.where(high > low, high - low, 1.0)
        if np.array_equal(low, self._low[self._open]) and np.array_equal(width, self._width[self._open]):
            return
        self._low[self._open], self._width[self._open] = low, width
        self._bounds = self._pairs()
        self._unit[: self.count] = self._scaled(self._measures[: self.count])
        self.epoch += 1

    def _pairs(self) -> list[tuple[float, float]]:
        return list(zip(self._low.tolist(), self._width.tolist(), strict=True))

    def _grow(self) -> None:
        for name in ("_ids", "_objective", "_measures", "_unit", "_barren"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old, np.zeros_like(old)]))


def _share(value: float, low: float, width: float) -> float:
    """Where a value lies between bounds: as `_scaled`, for one."""
    if not math.isfinite(value):
        return 0.5
    return max(0.0, min(1.0, (_tame(value) - low) / width))


def _tame(value: float) -> float:
    """A number that can be subtracted from another one; NaN for what is none."""
    return max(-LARGEST, min(LARGEST, value)) if math.isfinite(value) else math.nan


def best_of_each(owner: NDArray[np.int64], objective: NDArray[np.float64]) -> dict[int, int]:
    """The place of the best program of each owner (cell or niche); of equals, the newest."""
    order = np.argsort(objective, kind="stable")
    return dict(zip(owner[order].tolist(), order.tolist(), strict=True))

"""Cluster-Elites (Vassiliades, Chatzilygeroudis and Mouret 2017, "A comparison of illumination algorithms in unbounded
spaces"): the best program of each niche, where niches are clusters of everything that was tried.

A grid over measures that nobody can bound beforehand is mostly empty. Here niches go where programs are: a centroidal
Voronoi tessellation of the whole history (Lloyd's algorithm), made anew as the history grows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autolab.search.archives.elites import Elites
from autolab.search.archives.history import Bounds, History, best_of_each

NICHES = 64
STEPS = 3  # of Lloyd's algorithm at a time; the clusters of last time are the start
ROWS = 8192  # compared with all centroids at a time


class Clusters(Elites):
    """At most `niches` niches, none of them empty: fewer only if fewer different measures have been seen."""

    def __init__(
        self, bounds: Sequence[Bounds], history: History | None = None, niches: int = NICHES
    ) -> None:
        super().__init__(bounds, history)
        self.niches = niches
        self.centroids = np.zeros((0, len(bounds)))  # between today's bounds
        self._labels = np.zeros(64, np.int64)
        self._elites: dict[int, int] = {}
        self._epoch, self._clustered = self.history.epoch, 0

    def placed(self, place: int) -> bool:
        """Take in what the history has at a place; whether it owns its niche now."""
        if place >= len(self._labels):
            self._labels = np.concatenate([self._labels, np.zeros_like(self._labels)])
        if self._epoch != self.history.epoch or self.due():
            self._recluster()
            return self._elites[int(self._labels[place])] == place
        niche = int(nearest(self.history.unit[place : place + 1], self.centroids)[0])
        self._labels[place] = niche
        if self.history.objective[place] < self.history.objective[self._elites[niche]]:
            return False
        self._elites[niche] = place
        return True

    def due(self) -> bool:
        """Whether the niches are to be made anew."""
        return self.history.due(self._clustered)

    def retrieve(self, measures: Sequence[float]) -> int | None:
        """The id of the elite of the niche in which these measures lie; None before the first program."""
        if not self._elites:
            return None
        niche = int(nearest(self.history.between(measures)[None], self.centroids)[0])
        return int(self.history.ids[self._elites[niche]])

    def places(self) -> list[int]:
        """The places of all elites in the history."""
        return list(self._elites.values())

    def _recluster(self) -> None:
        unit = self.history.unit
        start = means(unit[: self._clustered], self._labels[: self._clustered], len(self.centroids))
        self.centroids, labels = tessellate(unit, start, self.niches)
        self._labels[: len(labels)] = labels
        self._elites = best_of_each(labels, self.history.objective)
        self._epoch, self._clustered = self.history.epoch, self.history.count


def tessellate(
    points: NDArray[np.float64], start: NDArray[np.float64], most: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """At most `most` centroids of points (rows), and the nearest one's number for each point; no centroid without one.

    Centroids that are missing, and those that no point is nearest to, go to the points farthest from all others.
    """
    centroids = _filled(points, start, most)
    labels = nearest(points, centroids)
    for _ in range(STEPS):
        moved = means(points, labels, len(centroids))
        centroids = _filled(points, moved[~np.isnan(moved[:, 0])] if moved.shape[1] else moved, most)
        labels = nearest(points, centroids)
    held = np.bincount(labels, minlength=len(centroids)) > 0
    if not held.all():  # nearer to no point than the others are: its place is taken
        labels = (np.cumsum(held) - 1)[labels]
    return centroids[held], labels


def nearest(points: NDArray[np.float64], centroids: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of the nearest centroid for each point; of equals the first."""
    found = np.empty(len(points), np.int64)
    half = 0.5 * (centroids * centroids).sum(axis=1)
    for start in range(0, len(points), ROWS):
        rows = points[start : start + ROWS]
        found[start : start + ROWS] = np.argmin(half - rows @ centroids.T, axis=1)
    return found


def means(points: NDArray[np.float64], labels: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """The mean of the points of each label, 0 to count - 1; NaN for a label without points."""
    size = np.bincount(labels, minlength=count)[:, None]
    total = [np.bincount(labels, weights=column, minlength=count) for column in points.T]
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.stack(total, axis=1) / size if total else np.zeros((count, 0))
    return mean


def _filled(points: NDArray[np.float64], centroids: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """The centroids and, as long as there are fewer than `most`, the point farthest from all of them."""
    if len(centroids) >= most:
        return centroids
    found = list(centroids) or [points[0]]
    gap = np.min([((points - one) ** 2).sum(axis=1) for one in found], axis=0)
    while len(found) < most and gap.max() > 1e-18:
        found.append(points[int(gap.argmax())])
        gap = np.minimum(gap, ((points - found[-1]) ** 2).sum(axis=1))
    return np.array(found)

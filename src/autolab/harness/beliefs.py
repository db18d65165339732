"""What the offline harness has learned: a Gaussian posterior over each axis of change.

An axis is one knob, or one structural move. Its response (score in units of noise, larger is better) is a
Gaussian process over the levels of that one axis, with the axes adding up; only differences between two
levels are ever observed, so each told trial is one Kalman update of a small matrix (Rasmussen & Williams,
Gaussian Processes for Machine Learning, 2006, ch. 2). Smoothness is what lets a win at one level speak for
the next step in the same direction, and lets steps get finer around a peak. Failures have no score; they
are counted apart, as evidence on what is valid.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autolab.harness.knobs import FAR

Array = NDArray[np.float64]

STEP = 0.25  # distance of two levels, in units of log2
REACH = 24  # levels on each side of the axis' first value: a factor of 64
AMPLITUDE = 3.0  # prior SD of the response, in squashed noise units
LENGTH = 2.0  # how far a response carries, in units of log2: a factor of 4
BEND = 0.3  # prior loss per log2-unit squared: far from where a person put it is rarely better
OBSERVATION = 1.25  # variance of one difference: the trial's noise and some of its parent's
FORGET = 0.03  # share of what was learned that a new master calls into question, as knobs interact
ACTIVE = 0.5  # prior log-odds that an axis matters at all
INERT = 0.3  # SD of the gains of one that does not
SQUASH = 3.0  # beyond so many noise SDs an effect is large, and how large matters less


def squash(gain: float) -> float:
    """A gain in noise units, compressed beyond ±SQUASH so that one disaster does not drown the rest."""
    return SQUASH * math.asinh(gain / SQUASH)


def _smooth_prior() -> tuple[Array, Array]:
    levels = STEP * np.arange(-REACH, REACH + 1)
    mean = -BEND * np.minimum(np.abs(levels), 4.0) ** 2
    cov = AMPLITUDE**2 * np.exp(-0.5 * ((levels[:, None] - levels[None, :]) / LENGTH) ** 2)
    # The two ends stand for "off" and "all": related to nothing else.
    for end, penalty in ((0, -1.0), (-1, -1.0)):
        variance = cov[end, end]
        cov[end, :] = cov[:, end] = 0.0
        cov[end, end] = variance
        mean[end] = penalty
    return mean, cov


SMOOTH_MEAN, SMOOTH_COV = _smooth_prior()


@dataclass(frozen=True, slots=True)
class Outlook:
    """The posterior over k steps from one level, in squashed noise units; all arrays (k,), root (k, k)."""

    start: float | str
    mean: Array
    spread: Array  # SD
    root: Array  # of the covariance: root @ N(0, 1) is one joint draw
    fresh: Array  # share of the prior variance that is left
    worked: Array
    failed: Array
    active: float  # chance that the axis matters at all


class Axis:
    """The posterior over one axis; `smooth` for numbers, otherwise levels are names without order."""

    __slots__ = (
        "_active",
        "_anchor",
        "_cov",
        "_failed",
        "_mean",
        "_names",
        "_outlooks",
        "_pending",
        "_view",
        "_worked",
        "smooth",
    )

    def __init__(self, smooth: bool, anchor: float = 0.0) -> None:
        self.smooth = smooth
        self._anchor = round(anchor / STEP) if abs(anchor) < FAR else 0
        self._names: dict[str, int] = {}
        size = 2 * REACH + 1 if smooth else 0
        self._mean: Array = SMOOTH_MEAN if smooth else np.zeros(0)
        self._cov: Array = SMOOTH_COV if smooth else np.zeros((0, 0))
        self._worked: Array = np.zeros(size)
        self._failed: Array = np.zeros(size)
        self._active = ACTIVE
        self._pending: dict[int, tuple[int, int]] = {}
        self._view: Array | None = None  # the covariance given what is in flight
        self._outlooks: dict[tuple[float | str, ...], Outlook] = {}

    def level(self, at: float | str) -> int:
        """The index of a coordinate (smooth axes) or of a name (others; a new name gets a new level)."""
        if isinstance(at, str):
            if at not in self._names:
                self._names[at] = len(self._names)
                self._grow()
            return self._names[at]
        if abs(at) >= FAR:
            return 0 if at < 0 else 2 * REACH
        return max(1, min(2 * REACH - 1, round(at / STEP) - self._anchor + REACH))

    def step(self, start: float | str, end: float | str) -> tuple[int, int]:
        """The two levels of a step; never the same one, however small the step."""
        first, last = self.level(start), self.level(end)
        if first == last and not isinstance(start, str) and not isinstance(end, str):
            last += 1 if (end > start and last < 2 * REACH) or last == 0 else -1
        return first, last

    def _grow(self) -> None:
        size = len(self._names)
        mean, cov = np.zeros(size), np.zeros((size, size))
        mean[:-1], cov[:-1, :-1] = self._mean, self._cov
        # A difference of two such levels then has the variance of a step of about a factor of 4.
        cov[-1, -1] = AMPLITUDE**2 / 2
        self._mean, self._cov = mean, cov
        self._worked, self._failed = np.append(self._worked, 0.0), np.append(self._failed, 0.0)
        self._changed()

    def outlook(self, starts: tuple[float | str, ...], ends: tuple[float | str, ...]) -> Outlook:
        """What is believed of going from each of `starts` (all the same) to each of `ends`.

        Pending trials count as if they had been measured as expected (the variance of GP-BUCB; Desautels,
        Krause & Burdick, JMLR 2014): what is in flight is no longer worth exploring. The answer is kept
        until something is told, so that asking costs little.
        """
        known = self._outlooks.get(ends)
        if known is not None and known.start == starts[0]:
            return known
        pairs = [self.step(a, b) for a, b in zip(starts, ends, strict=True)]
        start, levels = pairs[0][0], np.array([last for _, last in pairs], dtype=np.intp)
        if self._view is None:
            self._view = self._cov
            for pair in self._pending.values():
                self._view = _conditioned(self._view, *pair)
        cov = self._view
        to_start = cov[levels, start]
        spread = cov[np.ix_(levels, levels)] - to_start[:, None] - to_start[None, :] + cov[start, start]
        variance = np.maximum(np.diag(spread), 0.0)
        found = Outlook(
            starts[0],
            self._mean[levels] - self._mean[start],
            np.sqrt(variance),
            _root(spread, variance),
            np.minimum(1.0, variance / np.maximum(self.prior_variance(start, levels), 1e-9)),
            self._worked[levels],
            self._failed[levels],
            1 / (1 + math.exp(-self._active)),
        )
        if len(self._outlooks) >= 32:
            self._outlooks.clear()
        self._outlooks[ends] = found
        return found

    def prior_variance(self, start: int, ends: NDArray[np.intp]) -> Array:
        """(k,) what the variance of each gain was before anything was told."""
        if not self.smooth:
            return np.full(len(ends), AMPLITUDE**2)
        before = SMOOTH_COV[ends, ends] + SMOOTH_COV[start, start] - 2 * SMOOTH_COV[ends, start]
        return np.asarray(before)

    def begin(self, number: int, start: int, end: int) -> None:
        """Trial `number`, which goes from `start` to `end`, is in flight."""
        self._pending[number] = (start, end)
        self._outlooks.clear()
        if self._view is not None:
            self._view = _conditioned(self._view, start, end)

    def finish(self, number: int) -> None:
        """Trial `number` is no longer in flight."""
        if self._pending.pop(number, None) is not None:
            self._changed()

    def _changed(self) -> None:
        self._view = None
        self._outlooks.clear()

    def innovation(self, start: int, end: int) -> tuple[float, float]:
        """Expected gain of a step and its variance, by what was told; what is in flight does not count."""
        cov = self._cov
        variance = cov[end, end] + cov[start, start] - 2 * cov[end, start]
        return float(self._mean[end] - self._mean[start]), float(max(variance, 0.0))

    def weigh(self, gain: float, expected: float, variance: float) -> None:
        """Does this axis matter? The likelihood of one gain if it does, against that if it is inert."""
        inert = OBSERVATION + INERT**2
        active = -0.5 * ((gain - expected) ** 2 / variance + math.log(variance))
        self._active += active + 0.5 * (gain**2 / inert + math.log(inert))
        self._active = max(-5.0, min(5.0, self._active))
        self._outlooks.clear()

    def learn(self, start: int, end: int, residual: float, variance: float) -> None:
        """One Kalman update: the step's gain was `residual` above expectation; `variance` is that of it."""
        along = self._cov[:, end] - self._cov[:, start]
        self._mean = self._mean + along * (residual / variance)
        self._cov = self._cov - np.outer(along, along / variance)
        self._changed()

    def count(self, start: int, end: int, worked: bool, weight: float = 1.0) -> None:
        """A step gave a score, or none.

        On a smooth axis a failure also speaks against all that lies beyond it, and half as much against
        what lies one log2-unit before it; a success vouches for all that lies between.
        """
        self._outlooks.clear()
        if not self.smooth:
            (self._worked if worked else self._failed)[end] += weight
        elif worked:
            low, high = min(start, end), max(start, end)
            self._worked[low : high + 1] += weight
        else:
            distance = STEP * (np.arange(len(self._failed)) - end) * (1 if end > start else -1)
            self._failed += weight * np.where(distance >= 0, 1.0, 0.5 ** (-2 * distance))
            self._failed[start] -= weight * float(0.5 ** (2 * STEP * abs(end - start)))

    def age(self) -> None:
        """There is a new master: move back towards the prior by FORGET."""
        kept = 1 - FORGET
        if self.smooth:
            prior_mean, prior_cov = SMOOTH_MEAN, SMOOTH_COV
        else:
            prior_mean, prior_cov = np.zeros(len(self._mean)), np.eye(len(self._mean)) * (AMPLITUDE**2 / 2)
        self._active = ACTIVE + kept * (self._active - ACTIVE)
        self._mean = prior_mean + kept * (self._mean - prior_mean)
        self._cov = kept**2 * self._cov + (1 - kept**2) * prior_cov
        self._changed()


def _root(cov: Array, variance: Array) -> Array:
    """A square root of a covariance; its diagonal's if rounding has made it indefinite."""
    try:
        return np.asarray(np.linalg.cholesky(cov + 1e-6 * np.eye(len(cov))))
    except np.linalg.LinAlgError:
        return np.asarray(np.diag(np.sqrt(variance)))


def _conditioned(cov: Array, start: int, end: int) -> Array:
    along = cov[:, end] - cov[:, start]
    variance = along[end] - along[start] + OBSERVATION
    return np.asarray(cov - np.outer(along, along / variance))


@dataclass
class Record:
    """What trials of one arm (an axis and a direction) gave; gains in noise units, not squashed."""

    worked: int = 0
    failed: int = 0
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=2))


@dataclass
class Group:
    """The mean gain of all arms that share a surface or a kind, shrunk towards a wider group's."""

    count: float = 0.0
    total: float = 0.0

    def mean(self, wider: float = 0.0, weight: float = 4.0) -> float:
        """Posterior mean under a normal prior at `wider` that is worth `weight` observations."""
        return (self.total + weight * wider) / (self.count + weight)

    def add(self, gain: float, weight: float = 1.0) -> None:
        """Count one more gain."""
        self.count += weight
        self.total += weight * gain

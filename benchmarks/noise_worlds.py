"""Worlds in which a promotion rule can be tried: the score of one measurement is truth + level of the host + noise.

Lower is better. The figures are those of a public record of 11,153 repeats of one program (5-minute GPT runs,
validation bits per byte): SD 0.00037, in two clusters, one for each kind of host, 0.00068 apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LEVEL = 0.963589
SD = 0.00037
WALK = 0.1  # SD a trial
WAVE = 1.0  # SD, the amplitude of a slow sine …
PERIOD = 150  # … and its period in trials
TAILS = 3  # degrees of freedom of Student's t
CHUNK = 512


@dataclass(frozen=True)
class HostKind:
    """Where a measurement lands with probability `share`: what it adds to a score, and its scatter."""

    name: str
    share: float
    shift: float
    sd: float


@dataclass(frozen=True)
class Program:
    """A program's true score, and its own scatter in multiples of the world's."""

    name: str
    truth: float
    scatter: float = 1.0


@dataclass(frozen=True)
class Reading:
    """One measurement."""

    host: str
    score: float


@dataclass(frozen=True)
class World:
    """A kind of noise. Effects are given in units of `SD`, which is the scatter of one measurement in each of them."""

    name: str
    hosts: tuple[HostKind, ...] = (HostKind("A", 1.0, 0.0, SD),)
    labelled: bool = True
    heavy: bool = False
    drifts: bool = False
    uneven: bool = False

    @property
    def shift(self) -> float:
        """What the hosts add to a score on average."""
        return sum(host.share * host.shift for host in self.hosts)


CLUSTERS = (HostKind("A", 0.57, 0.0, 0.00017), HostKind("B", 0.43, 0.00068, 0.00012))
WORLDS = {
    world.name: world
    for world in (
        World("two_hosts", CLUSTERS),
        World("two_hosts_unlabelled", CLUSTERS, labelled=False),
        World("gaussian"),
        World("heavy_tails", heavy=True),
        World("drift", drifts=True),
        World("heteroscedastic", uneven=True),
    )
}


class Bench:
    """One campaign's supply of measurements; everything follows from the seed."""

    def __init__(self, world: World, seed: tuple[int, ...], trials: int) -> None:
        self.measurements = 0
        self._world = world
        self._rng = np.random.default_rng(seed)
        self._noise: list[float] = []
        self._places: list[float] = []
        self._drift = self._levels(trials + 1) if world.drifts else None
        self._edges = np.cumsum([host.share for host in world.hosts]).tolist()[:-1]

    def program(self, name: str, truth: float) -> Program:
        """A program with a scatter of its own where the world has that."""
        scatter = 2 ** float(self._rng.uniform(-1, 1)) if self._world.uneven else 1.0
        return Program(name, truth, scatter)

    def measure(self, program: Program, at: int) -> Reading:
        """Measure once, for the trial with the ordinal `at`, on a host that nobody can choose."""
        self.measurements += 1
        if not self._noise:
            self._refill()
        place = self._places.pop()
        host = self._world.hosts[sum(place > edge for edge in self._edges)]
        score = program.truth + host.shift + host.sd * program.scatter * self._noise.pop()
        if self._drift is not None:
            score += self._drift[at]
        return Reading(host.name if self._world.labelled else "?", score)

    def _refill(self) -> None:
        drawn = self._rng.standard_t(TAILS, CHUNK) if self._world.heavy else self._rng.standard_normal(CHUNK)
        scale = math.sqrt((TAILS - 2) / TAILS) if self._world.heavy else 1.0
        self._noise = (drawn * scale).tolist()
        self._places = self._rng.uniform(size=CHUNK).tolist()

    def _levels(self, trials: int) -> list[float]:
        walk = np.cumsum(self._rng.normal(0, WALK * SD, trials))
        phase = self._rng.uniform(0, 2 * math.pi)
        wave = WAVE * SD * np.sin(2 * math.pi * np.arange(trials) / PERIOD + phase)
        return [float(level) for level in walk + wave]

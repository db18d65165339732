"""How much one measurement scatters: learned from programs that were measured more than once, and never finished.

Scores of one program on one host scatter about a level. The scatter is pooled over programs (one-way analysis of
variance, program and host as the blocks), so every replicate of any program sharpens it. Only measurements that
were made for the same trial are compared, because a host's level may wander in the meantime.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from autolab.ledger.records import Observation

# A host's level is taken to wander like a random walk by this share of a measurement's variance per trial (0.09 SD a
# trial, 0.9 SD in 100 trials): old measurements of the master count less and less. It cannot be learned in time: with
# single runs, telling 0.01 from 0 takes hundreds of lagged pairs.
WANDER = 0.008
EQUAL = 1e-12  # relative; scores that differ by less are the same digits

LEAST_DF = 2  # degrees of freedom, without which a host beside others takes no part
QUIET_DF = 10  # from which a host may count as one that scatters less than the others
PRIOR = 4.0  # degrees of freedom that the pooled scatter weighs beside a host's own
WILDEST = 25.0  # times the median variance on its host, which one program's may count as at most
MANY = 8  # replicated programs on a host, from which that holds

Block = tuple[str, str, str, int]  # host, program, campaign, trial


@dataclass(frozen=True)
class HostNoise:
    """One host: SD of a measurement there and its degrees of freedom; `offset` of its scores from the mean of all
    runs, from programs measured on several hosts (None if none was); `runs` measured there."""

    sd: float
    df: int
    offset: float | None
    runs: int


@dataclass(frozen=True)
class Noise:
    """What is known of the noise under one comparability key.

    `sd`: of one measurement within a host, in the metric's unit, with `df` degrees of freedom, from so many `programs`
    that were measured more than once. `state`: known;
    unknown (nothing was measured twice on one host); or silent (everything measured twice gave the same digits).
    `tails`: excess kurtosis of the residuals, None below 30 of them.
    """

    state: Literal["known", "unknown", "silent"]
    sd: float = 0.0
    df: int = 0
    hosts: Mapping[str, HostNoise] = field(default_factory=dict)
    tails: float | None = None
    programs: int = 0

    @property
    def total(self) -> float:
        """SD of one measurement on whatever host it lands: what a user sees who repeats one program."""
        runs = sum(host.runs for host in self.hosts.values())
        between = math.fsum(host.runs * (host.offset or 0.0) ** 2 for host in self.hosts.values())
        return math.sqrt(self.sd**2 + between / runs) if runs else self.sd

    def ratio(self, host: str) -> float:
        """How much more one host scatters than all of them: shrunk towards 1 while little is known of it, at least 1
        until QUIET_DF, and infinite for a host beside others of which nothing is known."""
        seen = self.hosts.get(host)
        if len(self.hosts) < 2:
            return 1.0
        if seen is None or seen.df < LEAST_DF:
            return math.inf
        shrunk = (PRIOR * self.sd**2 + seen.df * seen.sd**2) / (PRIOR + seen.df)
        ratio = math.sqrt(shrunk) / self.sd
        return ratio if seen.df >= QUIET_DF else max(1.0, ratio)

    @property
    def yardstick(self) -> float:
        """The unit in which a target effect is given: the SD of one measurement; with several hosts the geometric mean
        of the SD within a host and that over hosts, so that comparing within hosts both finds smaller effects and
        costs fewer measurements."""
        return math.sqrt(self.sd * self.total)


def learn(observations: Iterable[Observation], alone: Mapping[str, int] | None = None) -> Noise:
    """The noise of measurements under one comparability key. Scores that are not finite are left out. `alone`: how many
    more runs each host had, of programs that were measured once: they tell nothing but that."""
    blocks, runs = _blocks(observations)
    for host, count in (alone or {}).items():
        runs[host] += count
    squares: dict[str, float] = defaultdict(float)
    freedom: dict[str, int] = defaultdict(int)
    around: list[float] = []
    for host, groups in _scattered(blocks).items():
        variances = [math.fsum(d * d for d in _deviations(scores)) / (len(scores) - 1) for scores in groups]
        # One recipe that scatters wildly must not hide what all the others can gain.
        most = WILDEST * statistics.median(variances) if len(groups) >= MANY else math.inf
        for scores, variance in zip(groups, variances, strict=True):
            squares[host] += (len(scores) - 1) * min(variance, most)
            freedom[host] += len(scores) - 1
            around += residuals(scores)
    df = sum(freedom.values())
    if df == 0:
        return Noise("unknown", hosts={host: HostNoise(0.0, 0, None, count) for host, count in runs.items()})
    sd = math.sqrt(math.fsum(squares.values()) / df)
    offsets = _offsets(blocks, runs) if len(runs) > 1 else {}
    hosts = {
        host: HostNoise(
            math.sqrt(squares[host] / freedom[host]) if freedom[host] else 0.0,
            freedom[host],
            offsets.get(host),
            count,
        )
        for host, count in sorted(runs.items())
    }
    programs = {
        (program, campaign) for (_, program, campaign, _), scores in blocks.items() if len(scores) > 1
    }
    return Noise("known" if sd > 0 else "silent", sd, df, hosts, _tails(around), len(programs))


def replicates(observations: Iterable[Observation]) -> dict[str, list[list[float]]]:
    """By host, the groups of scores that the noise is learned from: of one program, made for the same trial."""
    found: dict[str, list[list[float]]] = defaultdict(list)
    for (host, *_), scores in sorted(_blocks(observations)[0].items()):
        if len(scores) > 1:
            found[host].append(scores)
    return dict(found)


def _scattered(blocks: Mapping[Block, list[float]]) -> dict[str, list[list[float]]]:
    """By host, the groups of two scores or more. Those of the same digits are left out if others differ: a program
    that ignores its seed does not tell how much scores scatter."""
    found: dict[str, list[list[float]]] = defaultdict(list)
    same: dict[str, list[list[float]]] = defaultdict(list)
    for (host, *_), scores in blocks.items():
        if len(scores) > 1:
            (found if any(_deviations(scores)) else same)[host].append(scores)
    return found or same


def _blocks(observations: Iterable[Observation]) -> tuple[dict[Block, list[float]], dict[str, int]]:
    """Scores by host, program, campaign and trial; and how many runs each host had."""
    blocks: dict[Block, list[float]] = defaultdict(list)
    runs: dict[str, int] = defaultdict(int)
    for seen in observations:
        if math.isfinite(seen.score):
            blocks[seen.host, seen.program, seen.campaign, seen.at].append(seen.score)
            runs[seen.host] += 1
    return blocks, runs


def _deviations(scores: Sequence[float]) -> list[float]:
    """How far scores are from their mean; 0 where that is rounding."""
    mean = math.fsum(scores) / len(scores)
    near = EQUAL * max(map(abs, scores))
    return [0.0 if abs(score - mean) <= near else score - mean for score in scores]


def residuals(scores: Sequence[float]) -> list[float]:
    """How far two or more scores are from their mean, stretched by sqrt(n / (n - 1)) to scatter like single runs."""
    stretch = math.sqrt(len(scores) / (len(scores) - 1))
    return [stretch * deviation for deviation in _deviations(scores)]


def _offsets(blocks: Mapping[Block, Sequence[float]], runs: Mapping[str, int]) -> dict[str, float]:
    """Each host's level beside the mean of all runs, from programs that were measured on it and on the host with the
    most runs; hosts that share no program with that one have none."""
    means: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for (host, program, campaign, _), scores in blocks.items():
        means[program, campaign][host] += scores
    main = max(sorted(runs), key=lambda host: runs[host])
    beside: dict[str, list[float]] = defaultdict(list)
    for by_host in means.values():
        for host in by_host:
            if main in by_host and host != main:
                beside[host].append(statistics.fmean(by_host[host]) - statistics.fmean(by_host[main]))
    if not beside:
        return {}
    levels = {main: 0.0, **{host: statistics.fmean(gaps) for host, gaps in beside.items()}}
    middle = math.fsum(runs[host] * level for host, level in levels.items()) / sum(
        runs[host] for host in levels
    )
    return {host: level - middle for host, level in levels.items()}


def _tails(residuals: Sequence[float]) -> float | None:
    if len(residuals) < 30:
        return None
    second = statistics.fmean(r**2 for r in residuals)
    return statistics.fmean(r**4 for r in residuals) / second**2 - 3.0 if second else None

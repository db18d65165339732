"""Which of a campaign's promotions would stand, given its noise: whoever ran it, and by whatever rule.

The first promotion is the baseline. Every later one is compared with the last master that stands, within hosts, by all
that was ever measured of both programs. Its evidence must reach what the judge asks of the trial at that place, so the
choice of the best among many is paid for; a promotion that does not reach it leaves the master where it was.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from autolab.judge.comparison import KEPT, Comparison, compare
from autolab.judge.error_budget import log_share
from autolab.judge.evidence import log_evidence, log_ratio, student
from autolab.judge.noise import Noise, learn
from autolab.judge.promotion import OWN_SCATTER, WILD, Criterion
from autolab.ledger.records import Observation

HUGE, TINY = 1e50, 1e-30  # scores beyond the one are no figures, below the other they are 0
CERTAIN = 10**6  # degrees of freedom of a noise that the caller states
SELECTING = ("screen", "replicate")  # stages of the measurements by which a program was chosen
# The alternatives that a promotion is tested for, in shares of the criterion's target, with their weights. The judge's
# own test gives small effects up early, because runs cost; here the runs are there, and small effects may show.
EFFECTS = ((1.0, 0.7), (0.5, 0.1), (0.25, 0.1), (0.125, 0.1))
MOST_RUNS = 1 << 16

Outcome = Literal["stands", "not shown", "contradicted", "no comparison", "no score", "withdrawn"]


@dataclass(frozen=True)
class Entry:
    """A trial as the audit sees it. `order`: 0, 1, 2, …, the place among the trials; its observations have such places
    for `at`. Entries with the same `program` ran the same code; "" is a program of its own. `claimed` is the score that
    was said to be its own, `simpler` that it was promoted as good with less code, `withdrawn` that it was promoted and
    the loop itself took it back."""

    id: str
    order: int
    program: str
    observations: tuple[Observation, ...]
    promoted: bool = False
    description: str = ""
    claimed: float | None = None
    simpler: bool = False
    withdrawn: bool = False


@dataclass(frozen=True)
class AuditedPromotion:
    """What is left of a promotion.

    `claimed_gain` is over the master that it replaced, by the scores as they were written down; `gain` and its standard
    error `se` over `against`, the last master that stands, from `runs` measurements of the one and `controls` of the
    other on shared hosts. Positive is better. Evidence and what was `needed` are natural logarithms. `runs_needed`: of
    each program until a gain as large is shown; None if no number is, or if it is shown.
    """

    id: str
    order: int
    description: str
    outcome: Outcome
    claimed_score: float | None
    claimed_gain: float | None
    against: str | None = None
    gain: float | None = None
    se: float | None = None
    runs: int = 0
    controls: int = 0
    log_evidence: float | None = None
    needed: float | None = None
    runs_needed: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Audit:
    """The verdicts on all promotions after the baseline, in order.

    `expected_by_luck`: promotions under "keep what is better" if no trial were better than another; `luckiest_gain`:
    the gain that would then be claimed, None if the noise is unknown. `claimed_gain`: from the first to the last
    promoted score; `standing_gain`: of the `master` that stands over the baseline, None if nothing can be told.
    `copies`: programs whose measurements all have the same digits, from which no noise was learned.
    """

    baseline: str | None
    master: str | None
    verdicts: tuple[AuditedPromotion, ...]
    noise: Noise
    given: bool  # the noise was stated by the caller
    trials: int
    scored: int
    measurements: int
    repeated: int  # programs that were measured more than once on a host
    copies: int
    expected_by_luck: float
    luckiest_gain: float | None
    claimed_gain: float | None
    standing_gain: float | None

    def count(self, outcome: Outcome) -> int:
        """How many promotions had this outcome."""
        return sum(verdict.outcome == outcome for verdict in self.verdicts)


def audit(entries: Iterable[Entry], criterion: Criterion, noise_sd: float | None = None) -> Audit:
    """Judge every promotion of a campaign again. `noise_sd` > 0: the SD of one measurement within a host, if it is
    known from elsewhere; else it is learned from what was measured more than once."""
    ordered = sorted(map(_believable, entries), key=lambda entry: entry.order)
    seen: dict[str, list[Observation]] = {}
    for entry in ordered:
        seen.setdefault(entry.program, []).extend(entry.observations)
    for observations in seen.values():
        observations.sort(key=lambda one: one.at)
    noise, copies = (Noise("known", noise_sd, CERTAIN), 0) if noise_sd else _learned(seen.values())
    scored = sum(bool(entry.observations) for entry in ordered)
    chain = [entry for entry in ordered if entry.promoted]
    baseline = next((entry for entry in chain if seen[entry.program]), None)
    verdicts, master, standing_gain = _walk(chain, baseline, seen, criterion, noise)
    scores = [entry.claimed for entry in chain if entry.claimed is not None and not entry.withdrawn]
    known = noise.state == "known"
    return Audit(
        baseline=baseline.id if baseline else None,
        master=master.id if master else None,
        verdicts=tuple(verdicts),
        noise=noise,
        given=bool(noise_sd),
        trials=len(ordered),
        scored=scored,
        measurements=sum(map(len, seen.values())),
        repeated=sum(len(own) > len({one.host for one in own}) for own in seen.values()),
        copies=copies,
        expected_by_luck=expected_records(scored),
        luckiest_gain=expected_best(scored) * noise.total if known else None,
        claimed_gain=criterion.sign * (scores[-1] - scores[0]) if scores else None,
        standing_gain=standing_gain if known or master is not baseline else None,
    )


def expected_records(trials: int) -> float:
    """How often a new best score comes up among equal trials, the first not counted: 1/2 + 1/3 + … + 1/trials."""
    return math.fsum(1 / k for k in range(2, trials + 1))


def expected_best(trials: int) -> float:
    """By how many SDs the best of so many normal draws is better than their mean, on average (numerical integral)."""
    if trials < 2:
        return 0.0
    step, steps = 0.01, 1000

    def below(x: float) -> float:
        """The probability that all draws are below x."""
        return math.exp(trials * math.log1p(-0.5 * math.erfc(x / math.sqrt(2))))

    right = math.fsum(1 - below((k + 0.5) * step) for k in range(steps))
    left = math.fsum(below(-(k + 0.5) * step) for k in range(steps // 2))
    return step * (right - left)


def _believable(entry: Entry) -> Entry:
    """The entry with a program of its own if it has none, and without scores that are no figures."""
    program = entry.program or f"the code of {entry.id} alone"
    observations = tuple(
        dataclasses.replace(one, program=program, score=score)
        for one in entry.observations
        if (score := _figure(one.score)) is not None
    )
    claimed = _figure(entry.claimed)
    return dataclasses.replace(entry, program=program, observations=observations, claimed=claimed)


def _figure(score: float | None) -> float | None:
    if score is None or not abs(score) <= HUGE:
        return None
    return score if abs(score) >= TINY else 0.0


def _learned(programs: Iterable[Sequence[Observation]]) -> tuple[Noise, int]:
    """The noise from repeats, and how many programs gave the same digits every time: those are taken for copies of one
    measurement, if others scatter.

    Measurements that were made for the same trial are compared; if there are none, those of the whole campaign.
    """
    several = [list(own) for own in programs if len(own) > 1]
    scattered = [own for own in several if len({one.score for one in own}) > 1]
    others = [one for own in programs if len(own) == 1 for one in own]
    used = [one for own in scattered or several for one in own] + others
    noise = learn(used)
    if noise.state != "known":
        noise = learn(dataclasses.replace(one, at=0) for one in used)
    return noise, len(several) - len(scattered) if scattered else 0


def _walk(
    chain: Sequence[Entry],
    baseline: Entry | None,
    seen: Mapping[str, Sequence[Observation]],
    criterion: Criterion,
    noise: Noise,
) -> tuple[list[AuditedPromotion], Entry | None, float]:
    """(the verdicts after the baseline, the last master that stands, its gain over the baseline)."""
    verdicts: list[AuditedPromotion] = []
    standing, total = baseline, 0.0
    said: float | None = None  # the score of their master
    for entry in chain:
        gain = None if said is None or entry.claimed is None else criterion.sign * (entry.claimed - said)
        if entry is not baseline:
            against = standing.id if standing else None
            blank = AuditedPromotion(
                entry.id, entry.order, entry.description, "no score", entry.claimed, gain, against
            )
            verdict = _verdict(blank, entry, standing, seen, criterion, noise)
            verdicts.append(verdict)
            if verdict.outcome == "stands":
                standing, total = entry, total + (verdict.gain or 0.0)
        if not entry.withdrawn and entry.claimed is not None:
            said = entry.claimed
    return verdicts, standing, total


def _verdict(
    blank: AuditedPromotion,
    entry: Entry,
    standing: Entry | None,
    seen: Mapping[str, Sequence[Observation]],
    criterion: Criterion,
    noise: Noise,
) -> AuditedPromotion:
    if entry.withdrawn:
        return dataclasses.replace(blank, outcome="withdrawn", note="the loop took it back itself")
    own = seen[entry.program]
    if standing is None or not own:
        return dataclasses.replace(blank, note="nothing was measured of it that counts")
    if standing.program == entry.program:
        return dataclasses.replace(
            blank, outcome="contradicted", gain=0.0, note=f"the same code as {standing.id}, measured again"
        )
    master = seen[standing.program]
    hosts = {one.host for one in own} & {one.host for one in master}
    if not hosts:
        return dataclasses.replace(blank, outcome="no comparison", note=_apart(own, master, standing.id))
    own = [one for one in own if one.host in hosts]
    master = [one for one in master if one.host in hosts]
    blank = dataclasses.replace(blank, outcome="not shown", runs=len(own), controls=len(master))
    if noise.state == "known":
        return _tested(blank, entry, own, master, criterion, noise)
    gain = criterion.sign * (_mean(own) - _mean(master))
    if criterion.deterministic and noise.state == "silent":
        better = gain > criterion.min_effect
        note = "the task says that it has no noise" if better else "not better by what was measured"
        return dataclasses.replace(blank, outcome="stands" if better else "not shown", gain=gain, note=note)
    why = "nothing was measured twice" if noise.state == "unknown" else "repeats have the same digits"
    return dataclasses.replace(blank, gain=gain, note=f"the noise is unknown: {why}")


def _tested(
    blank: AuditedPromotion,
    entry: Entry,
    own: Sequence[Observation],
    master: Sequence[Observation],
    criterion: Criterion,
    noise: Noise,
) -> AuditedPromotion:
    """The verdict where the noise is known; `own` and `master` are on shared hosts."""
    noise = max(_noise_of(noise, own), _noise_of(noise, master, wild=math.inf), key=lambda one: one.sd)
    found = _compared(own, master, noise.sd, criterion.sign)
    scale, null = noise.sd * math.sqrt(found.spread), criterion.min_effect
    needed = -log_share(max(1, entry.order), criterion.level)
    evidence = _evidence(criterion, noise, found.gain, scale)
    judged = dataclasses.replace(blank, gain=found.gain, se=scale, log_evidence=evidence, needed=needed)
    if evidence >= needed:
        return dataclasses.replace(judged, outcome="stands")
    if entry.simpler and null > 0:
        equal = log_ratio(found.gain, scale, noise.df, -null, null)
        if equal >= needed + math.log(2):
            return dataclasses.replace(judged, outcome="stands", note="as good, with less code")
    against = _against(entry, own, master, criterion, noise)
    if against:
        return dataclasses.replace(judged, outcome="contradicted", note=against)
    runs = _runs_needed(criterion, noise, found.gain, needed)
    if found.gain <= null:
        note = "not better by what was measured"
    elif runs is None:
        note = "too small a gain to be shown in this noise"
    else:
        note = f"{runs} run{'' if runs == 1 else 's'} of each, in turn, would show it"
        note += "; those there are lie too far apart" * (runs <= min(len(own), len(master)))
    return dataclasses.replace(judged, runs_needed=runs, note=note)


def _compared(
    own: Sequence[Observation], master: Sequence[Observation], sd: float, sign: float
) -> Comparison:
    """As `compare`, which looks at the newest KEPT runs of a master on a host, for all of them: stretch by stretch of
    the campaign, each with a level of its own, joined by their precision."""
    found: list[Comparison] = []
    for host in {one.host for one in own}:
        there = [one for one in master if one.host == host]
        for start in range(0, len(there), KEPT):
            begin = there[start].at if start else -math.inf
            end = there[start + KEPT].at if start + KEPT < len(there) else math.inf
            here = [one for one in own if one.host == host and begin <= one.at < end]
            if here:
                found.append(compare(here, there[start : start + KEPT], sd, sign))
    weight = math.fsum(1 / one.spread for one in found)
    if not weight:
        return Comparison(0.0, math.inf, 0, 0)
    gain = math.fsum(one.gain / one.spread for one in found) / weight
    return Comparison(gain, 1 / weight, sum(one.runs for one in found), sum(one.controls for one in found))


def _noise_of(noise: Noise, own: Sequence[Observation], wild: float = WILD) -> Noise:
    """The noise with more scatter where these measurements of one program have more: as in the judge's test their own
    alone from `wild` times the pooled variance. (Of a master they are not: wild runs of it are pulled in.)"""
    alone = learn(dataclasses.replace(one, at=0) for one in own)
    if alone.df < 2 or alone.sd <= noise.sd or noise.df >= CERTAIN:
        return noise
    if alone.sd**2 > wild * noise.sd**2:
        return dataclasses.replace(noise, sd=alone.sd, df=alone.df)
    squares = OWN_SCATTER * noise.sd**2 + alone.df * alone.sd**2
    return dataclasses.replace(noise, sd=math.sqrt(squares / (OWN_SCATTER + alone.df)))


def _evidence(criterion: Criterion, noise: Noise, gain: float, scale: float) -> float:
    """Log likelihood ratio of a gain of any of these sizes, mixed by their weights, to none."""
    target = criterion.target * max(noise.yardstick, noise.sd)
    terms = [
        math.log(weight) + log_evidence(gain, scale, noise.df, criterion.min_effect, share * target)
        for share, weight in EFFECTS
    ]
    highest = max(terms)
    return highest + math.log(math.fsum(math.exp(term - highest) for term in terms))


def _against(
    entry: Entry,
    own: Sequence[Observation],
    master: Sequence[Observation],
    criterion: Criterion,
    noise: Noise,
) -> str:
    """Why the runs that did not select a program contradict its promotion; "" if they do not.

    They do if they put it at or below the master, and the upper end of their 95 % interval below what the runs that
    selected it claim.
    """
    chosen = [one for one in own if one.at == entry.order and one.stage in SELECTING]
    fresh = [one for one in own if one not in chosen]
    claim, found = (_compared(some, master, noise.sd, criterion.sign) for some in (chosen, fresh))
    if not fresh or not chosen or not math.isfinite(claim.spread + found.spread):
        return ""
    upper = found.gain + student(0.975, noise.df) * noise.sd / math.sqrt(len(fresh))
    if found.gain > criterion.min_effect or upper >= claim.gain:
        return ""
    runs = "the other run says" if len(fresh) == 1 else f"{len(fresh)} other runs average"
    return f"{runs} {_mean(fresh):.6g}, not {_mean(chosen):.6g}"


def _runs_needed(criterion: Criterion, noise: Noise, gain: float, needed: float) -> int | None:
    """Runs of each of two programs, in turn on one host, that show a gain as large; None beyond MOST_RUNS."""

    def shown(runs: int) -> bool:
        sharper = dataclasses.replace(noise, df=noise.df + 2 * (runs - 1))
        return _evidence(criterion, sharper, gain, noise.sd * math.sqrt(2 / runs)) >= needed

    if gain <= criterion.min_effect:
        return None
    high = 1
    while not shown(high):
        high *= 2
        if high > MOST_RUNS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def _apart(own: Sequence[Observation], master: Sequence[Observation], against: str) -> str:
    here, there = (
        "+".join(sorted({one.host or "an unnamed host" for one in some})) for some in (own, master)
    )
    return f"measured on {here}, {against} on {there}"


def _mean(observations: Sequence[Observation]) -> float:
    return statistics.fmean(one.score for one in observations)

"""What a study found: arms of several campaigns each, side by side, with intervals; data in, text out.

One campaign says little of a way of searching: two campaigns with the same settings differ as much as published arms
do (arXiv 2605.05724, recomputed: 0.0021 bits per byte between two of the same, 0.0014 between arms, n = 1 each). So
every figure here is a mean over seeds with its 95 % interval by Student's t, and arms are compared seed by seed: the
campaigns of one seed ran one after the other, and what the machine did to one it probably did to all (Student 1908).
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from autolab.collaboration.common.surfaces import touched
from autolab.judge.evidence import student
from autolab.ledger.agents import sessions
from autolab.ledger.jobs import costs
from autolab.ledger.masters import steps
from autolab.ledger.observations import standing
from autolab.ledger.records import Status, Trial, TrialState
from autolab.ledger.store import Ledger
from autolab.task import Task

FEWEST = 2  # seeds for an interval
CRASHED = frozenset({Status.CRASH, Status.OOM, Status.NAN, Status.TIMEOUT, Status.EVAL_TIMEOUT})
NOT_OF_THE_ARM = frozenset({Status.INFRA_ERROR})  # the machine's doing
NOT_INVALID = frozenset({Status.OK, Status.ABORTED})  # an aborted run was only bad
REFUSED = frozenset({Status.PROPOSAL_FAILED, Status.PREFLIGHT_FAILED, Status.DUPLICATE})  # nothing was run


@dataclass(frozen=True)
class Measure:
    """A figure of a campaign. `share`: from 0 to 1, shown in per cent. `least`: it cannot be lower."""

    name: str
    text: str
    share: bool = False
    least: float = 0.0


MEASURES = (
    Measure("ok", "success: trials with a score", share=True),
    Measure("invalid", "invalid: trials refused, or without a score", share=True),
    Measure("crash", "crash: trials that crashed, ran out of time or memory, or into NaN", share=True),
    Measure("refused", "refused: repeats of earlier trials, and proposals that cannot be tried", share=True),
    Measure("trials_per_hour", "trials run an hour, without those that were refused"),
    Measure("scored_per_hour", "trials with a score an hour"),
    Measure("surfaces", "surfaces touched in a campaign"),
    Measure("surfaces_per_candidate", "surfaces touched by a candidate"),
    Measure("gain", "confirmed gain over the baseline", least=-math.inf),
    Measure("usd", "dollars"),
    Measure("tokens", "tokens"),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """One campaign of a study: its arm's label, its seed, and its figures by name (those of MEASURES, and `trials` and
    `minutes`)."""

    arm: str
    seed: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Interval:
    """A mean over `n` seeds with its 95 % interval."""

    mean: float
    low: float
    high: float
    n: int


def figures_of(ledger: Ledger, campaign: str, hours: float) -> dict[str, float]:
    """The figures of one campaign that was at work for so many hours. Trials that the machine failed do not count, nor
    does the baseline; shares and means without a trial are NaN."""
    ended = [
        trial
        for trial in ledger.sequence(campaign)
        if trial.ordinal > 0 and trial.state is TrialState.DONE and trial.status not in NOT_OF_THE_ARM
    ]
    scored = sum(trial.status is Status.OK for trial in ended)
    invalid = sum(trial.status not in NOT_INVALID for trial in ended)
    crashed = sum(trial.status in CRASHED for trial in ended)
    refused = sum(trial.status in REFUSED for trial in ended)
    changed = [names for trial in ended if (names := _surfaces(trial))]
    spent = sessions(ledger, campaign)
    return {
        "trials": float(len(ended)),
        "minutes": 60 * hours,
        "ok": _share(scored, len(ended)),
        "invalid": _share(invalid, len(ended)),
        "crash": _share(crashed, len(ended)),
        "refused": _share(refused, len(ended)),
        "trials_per_hour": _share(len(ended) - refused, hours),
        "scored_per_hour": _share(scored, hours),
        "surfaces": float(len({name for names in changed for name in names})),
        "surfaces_per_candidate": _share(sum(map(len, changed)), len(changed)),
        "gain": _gain(ledger, campaign),
        "usd": costs(ledger, campaign)[0],
        "tokens": float(sum(session.tokens_in + session.tokens_out for session in spent)),
    }


def _surfaces(trial: Trial) -> tuple[str, ...]:
    """What a trial's candidate touches; nothing if there was no candidate."""
    if trial.proposal is None or not trial.proposal.edits:
        return ()
    return touched(trial.proposal) or ((trial.surface,) if trial.surface else ())


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _gain(ledger: Ledger, campaign: str) -> float:
    """How much better the master is than the baseline, by measurements that had no part in its selection."""
    chain = steps(ledger, campaign)
    seen = standing(ledger, campaign)
    if not chain:
        return math.nan
    first, last = chain[0].promotion, chain[-1].promotion
    if last.program == first.program:
        return 0.0
    task = Task.model_validate(ledger.campaign(campaign).config["task"])
    score = seen.score if seen is not None and seen.promotion == last.number else last.score
    return task.gain(score, first.score)


# ------------------------------------------------------------------------------------------------------------
# Statistics.


def interval(values: Iterable[float]) -> Interval | None:
    """Mean and 95 % interval of the values that are finite; None with fewer than two of them."""
    known = [value for value in values if math.isfinite(value)]
    if len(known) < FEWEST:
        return None
    mean = statistics.fmean(known)
    half = student(0.975, len(known) - 1) * statistics.stdev(known) / math.sqrt(len(known))
    return Interval(mean, mean - half, mean + half, len(known))


def of_arm(outcomes: Sequence[Outcome], arm: str, measure: Measure) -> Interval | None:
    """A figure of an arm; its interval ends where the figure itself has to."""
    found = interval(one.figures.get(measure.name, math.nan) for one in outcomes if one.arm == arm)
    if found is None:
        return None
    most = 1.0 if measure.share else math.inf
    return Interval(found.mean, max(measure.least, found.low), min(most, found.high), found.n)


def difference(outcomes: Sequence[Outcome], arm: str, against: str, measure: Measure) -> Interval | None:
    """By how much an arm exceeds another one in a figure, over the seeds that both have."""
    figures = {(one.arm, one.seed): one.figures.get(measure.name, math.nan) for one in outcomes}
    seeds = sorted(
        {seed for name, seed in figures if name == arm} & {s for name, s in figures if name == against}
    )
    return interval(figures[arm, seed] - figures[against, seed] for seed in seeds)


def is_apart(found: Interval | None) -> bool:
    """Whether a difference's interval leaves out zero. Two seeds with the same difference say nothing of how much it
    varies: shares of a few trials often come out alike."""
    if found is None or (found.n == FEWEST and found.low == found.high):
        return False
    return found.low > 0 or found.high < 0


# ------------------------------------------------------------------------------------------------------------
# Text.


def study_text(outcomes: Sequence[Outcome], arms: Sequence[str], told: str) -> str:
    """The results for people: a block for each measure, a line for each arm. The first arm is what the others are
    compared with; `told` says what the study was."""
    seeds = sorted({one.seed for one in outcomes})
    width = max(len(arm) for arm in arms)
    lines = [told, _means_text(len(arms), len(seeds)), ""]
    for measure in MEASURES:
        rows = []
        for arm in arms:
            found = of_arm(outcomes, arm, measure)
            row = f"  {arm:<{width}}  {_shown(found, measure):<28}"
            if arm != arms[0]:
                apart = difference(outcomes, arm, arms[0], measure)
                row += f"  {_shown(apart, measure, signed=True)}" + (" *" if is_apart(apart) else "")
            rows.append(row.rstrip())
        lines += [measure.text, *rows, ""]
    return "\n".join(lines).rstrip() + "\n"


def _means_text(arms: int, seeds: int) -> str:
    text = f"mean over {seeds} seeds [95 % interval]"
    if arms > 1:
        text += (
            "\nbeside it: the difference from the first arm, paired by seed; * if its interval leaves out 0"
        )
    return text


def _shown(found: Interval | None, measure: Measure, *, signed: bool = False) -> str:
    if found is None:
        return "-"
    scale, unit = (
        (100, " %") if measure.share and not signed else (100, " points") if measure.share else (1, "")
    )
    sign = "+" if signed else ""
    mean, low, high = (
        _number(scale * value, sign, measure.share) for value in (found.mean, found.low, found.high)
    )
    return f"{mean}{unit} [{low}, {high}]"


def _number(value: float, sign: str, share: bool) -> str:
    if share:
        return f"{value:{sign}.1f}"
    return f"{value:{sign},.0f}" if abs(value) >= 1000 else f"{value:{sign}.3g}"


def study_record(
    outcomes: Sequence[Outcome], arms: Mapping[str, Mapping[str, str]], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """The same for machines. `arms` is what each arm's label stands for."""
    names = list(arms)
    return {
        **settings,
        "arms": {name: dict(said) for name, said in arms.items()},
        "against": names[0],
        "campaigns": [
            {
                "arm": one.arm,
                "seed": one.seed,
                **{name: _finite(value) for name, value in one.figures.items()},
            }
            for one in outcomes
        ],
        "results": {
            measure.name: {
                arm: {
                    "interval": _as_dict(of_arm(outcomes, arm, measure)),
                    "difference": _as_dict(difference(outcomes, arm, names[0], measure))
                    if arm != names[0]
                    else None,
                }
                for arm in names
            }
            for measure in MEASURES
        },
    }


def study_tsv(outcomes: Sequence[Outcome]) -> str:
    """One row a campaign."""
    names = ["trials", "minutes", *(measure.name for measure in MEASURES)]
    rows = [["arm", "seed", *names]]
    for one in outcomes:
        values = [_finite(one.figures.get(name, math.nan)) for name in names]
        rows.append([one.arm, str(one.seed), *("" if value is None else f"{value:.6g}" for value in values)])
    return "".join("\t".join(row) + "\n" for row in rows)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _as_dict(found: Interval | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)


def study_json(record: Mapping[str, Any]) -> str:
    """A record as a file holds it."""
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"

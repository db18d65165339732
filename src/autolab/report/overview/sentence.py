"""The first sentence of everything that a person is shown, from numbers alone: whoever has them can say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autolab.judge.error_budget import LEVEL
from autolab.ledger.masters import BASELINE
from autolab.report.overview.words import counted, decimals, duration, number, percent


@dataclass(frozen=True)
class Found:
    """What a campaign found. `better`: is the master another program than the baseline? `failed`: the status of a
    baseline that was measured in vain, or empty."""

    metric: str
    before: float | None
    score: float | None
    low: float | None
    high: float | None
    state: str
    better: bool
    confidence: float | None
    promotions: int
    demotions: int
    self_reported: bool
    failed: str
    trials: int
    seconds: float
    dollars: float


def sentence(found: Found) -> str:
    """`val_bpb 2.31 → 2.18 [2.17, 2.19], confirmed at 99 %, 41 trials, 38 min, $0.00`."""
    spent = [counted(found.trials, "trial"), duration(found.seconds), f"${found.dollars:,.2f}"]
    return ", ".join([_climb(found), *spent])


def _climb(found: Found) -> str:
    """What became of the score, and how sure that is."""
    before, score, low, high = found.before, found.score, found.low, found.high
    if before is None or score is None or low is None or high is None:
        return (
            f"{found.metric}: the baseline failed ({found.failed})"
            if found.failed
            else f"{found.metric}: no baseline yet"
        )
    half = (high - low) / 2
    # Without noise every digit counts; with it, those that the interval and the gain are worth.
    places = decimals(half, score - before if found.better else None) if half else None
    now = number(score, places)
    if half:
        now += f" [{number(low, places)}, {number(high, places)}]"
    now += ", self-reported" * found.self_reported
    if not found.better:
        after = f" ({counted(found.promotions, 'promotion')}, taken back)" if found.demotions else ""
        return f"{found.metric} {now}, nothing better than the baseline yet{after}"
    state = found.state + (f" at {percent(found.confidence)}" if found.confidence is not None else "")
    state += f", after {counted(found.demotions, 'demotion')}" if found.demotions else ""
    return f"{found.metric} {number(before, places)} → {now}, {state}"


def confidence(task: dict[str, Any], state: str, *, foreign: bool) -> float | None:
    """With which probability none of a campaign's promotions is luck, at least: what its error budget allows (expected
    false promotions, which bound the probability of one by Markov's inequality). `task`: as it was when the campaign
    began. None where no such test was made: of the baseline, of a task without noise, and of another lab's (`foreign`)
    campaign, which does not tell."""
    if state in ("", BASELINE) or foreign or task["metric"].get("deterministic"):
        return None
    return 1.0 - float((task.get("promotion") or {}).get("level", LEVEL))

"""Overviews made up without a ledger, for tests of what is drawn and sent."""

from __future__ import annotations

import base64
import gzip
import json
import random
from dataclasses import replace
from typing import Any

from autolab.report.overview.records import (
    Climb,
    Concern,
    DeadEnd,
    Group,
    Headline,
    Learned,
    Mark,
    Noise,
    Overview,
    Slots,
    Span,
    UnderWay,
)

HOSTILE = "$\\frac1$\t\x1b\u202e\ud800\u4e2d</text><script>`|`&amp;{{ x }}"
BEGAN = 1_760_000_000.0
SURFACES = (
    "optimizer",
    "architecture",
    "data order",
    "loss",
    "embedding",
    "schedule",
    "regularization",
    "attention",
    "init",
)
LOST = ("crash", "oom", "timeout", "duplicate", "infra_error")


def campaign(
    trials: int = 40, *, seed: int = 0, lanes: int = 3, words: str = "", alive: bool = False, climbs: int = 4
) -> Overview:
    """A campaign of so many finished trials after its baseline, and two under way. `words` stand in every name."""
    chance = random.Random(seed)
    marks, climbed = [_baseline(words)], [_climb(_baseline(words), "baseline", 0.0)]
    now, hours, dollars = BEGAN + 30.0, 0.01, 0.0
    better = set(chance.sample(range(1, trials + 1), min(climbs, trials)))
    for ordinal in range(1, trials + 1):
        master = marks[climbed[-1].trial]
        now, hours, dollars = (
            now + chance.uniform(5, 40),
            hours + chance.uniform(0.004, 0.02),
            dollars + 0.002,
        )
        parent = master if chance.random() < 0.7 else chance.choice(marks)
        mark = _trial(chance, ordinal, parent, master, ordinal in better, words)
        mark = replace(mark, created_at=now - 30, finished_at=now, compute_hours=hours, spent_dollars=dollars)
        marks.append(mark)
        if ordinal in better:
            climbed.append(_climb(mark, "improvement", mark.delta or 0.0))
    spans = tuple(_spans(chance, marks, lanes))
    open_marks = [_waiting(n, words) for n in (trials + 1, trials + 2)]
    last = climbed[-1]
    headline = Headline(
        f"loss 2.3 → {last.score:.3g}{words}", 2.3, last.score - 0.001, last.score - 0.006, last.score + 0.004,
        last.state, 0.95, len(climbed) - 1, 0, trials, 2, now - BEGAN, hours, "slot-hours", dollars, 1000 * trials,
    )  # fmt: skip
    slots = Slots(
        tuple(f"slot {n}{words}" for n in range(lanes)),
        spans,
        tuple((BEGAN + 60.0 * n, chance.randrange(4)) for n in range(min(2000, trials))),
        0.83,
        12.5,
    )
    return Overview(
        f"toy-ab12cd-1{words}", f"toy{words}", "key", "running" if alive else "finished", alive, f"loss{words}",
        "minimize", now, BEGAN, headline,
        (Concern("crash_cluster", "warning", f"3 crashes{words}", ("ab12cd-0002",), "look"),),
        tuple(marks + open_marks), tuple(climbed), Noise(0.02, 20, 2.0, 2.26, 2.34), slots, _learned(words),
        (UnderWay("ab12cd-9999", trials + 1, "running", "slot 0", 12.0, f"more of it{words}"),),
    )  # fmt: skip


def without_master(view: Overview) -> Overview:
    """The campaign before its baseline was measured."""
    headline = replace(view.headline, before=None, score=None, low=None, high=None, state="", confidence=None)
    slots = replace(view.slots, spans=(), queue=(), utilisation=None, queue_seconds=None)
    waiting = replace(_waiting(0, ""), outcome="queued", parent=None, generation=0)
    return replace(view, headline=headline, marks=(waiting,), climbs=(), noise=None, slots=slots)


def _baseline(words: str) -> Mark:
    return Mark(
        "ab12cd-0001", 0, "baseline", "ok", "", "", "", None, 0, 2.3, 2.28, 2.32, None, 3, 20.0, 2.0, 0.0, 0, 900.0,
        BEGAN, BEGAN + 30.0, 0.01, 0.0, 0, f"the recipe as it is{words}",
    )  # fmt: skip


def _waiting(ordinal: int, words: str) -> Mark:
    return Mark(
        f"ab12cd-{ordinal + 1:04d}", ordinal, "running", "", "worker", "w", f"loss{words}", 0, 1, None, None, None,
        None, 0, 0.0, 0.0, 0.0, 0, 0.0, BEGAN, None, 0.0, 0.0, None, "more of it",
    )  # fmt: skip


def _trial(chance: random.Random, ordinal: int, parent: Mark, master: Mark, better: bool, words: str) -> Mark:
    assert master.score is not None
    delta: float | None = chance.uniform(0.03, 0.1) if better else min(0.02, chance.gauss(-0.05, 0.05))
    assert delta is not None
    outcome = chance.choice(["confirmed", "confirmed", "certified"]) if better else "worse"
    if not better and delta > -0.03:
        outcome = (
            "no_difference" if delta < 0.01 else chance.choice(["provisional", "demoted", "simplification"])
        )
    status, score = "ok", master.score - delta
    if not better and chance.random() < 0.2:
        outcome = status = chance.choice(LOST)
    failed = status != "ok"
    return Mark(
        f"ab12cd-{ordinal + 1:04d}", ordinal, outcome, status, f"worker{words}", f"w{words}",
        chance.choice(SURFACES) + words, parent.ordinal, parent.generation + 1, None if failed else score,
        None if failed else score - 0.02, None if failed else score + 0.02, None if failed else delta,
        0 if failed else 1, 10.0, 1.0, 0.002, 1000, 900.0, BEGAN, BEGAN, 0.0, 0.0, ordinal, f"try {ordinal}{words}",
    )  # fmt: skip


def _climb(mark: Mark, kind: str, gain: float) -> Climb:
    assert mark.score is not None and mark.low is not None and mark.high is not None
    assert mark.finished_at is not None and mark.place is not None
    return Climb(
        mark.ordinal, mark.id, kind, mark.outcome, mark.score, mark.low, mark.high, gain, mark.finished_at, mark.place,
        mark.compute_hours, mark.spent_dollars, "better",
    )  # fmt: skip


def _spans(chance: random.Random, marks: list[Mark], lanes: int) -> list[Span]:
    spans, free = [], [BEGAN + 2.0 * n for n in range(lanes)]
    for mark in marks:
        lane = min(range(lanes), key=lambda n: free[n])
        begin = free[lane] + chance.choice([0.2, 0.2, 15.0])
        if mark.status != "ok":
            free[lane] = begin + chance.uniform(2, 30)
            spans.append(Span(lane, "failed", begin, free[lane], mark.ordinal, "screen"))
            continue
        middle = begin + chance.uniform(20, 40)
        free[lane] = middle + chance.uniform(3, 6)
        spans.append(Span(lane, "training", begin, middle, mark.ordinal, "screen"))
        spans.append(Span(lane, "evaluation", middle, free[lane], mark.ordinal, "screen"))
    spans.append(Span(0, "running", free[0] + 1, max(free) + 10, len(marks), "screen"))
    return sorted(spans, key=lambda span: span.begin)


def _learned(words: str) -> Learned:
    group = Group(f"optimizer{words}", 10, 8, 2, 1, 1, 3, 0, 2, 0.2, 1.5, 0.1)
    dead = DeadEnd(f"loss{words}", "ab12cd-0003", f"z-loss{words}", "worse", "delta -0.1", "")
    return Learned((group,), (group,), (dead,))


def unpacked(piece: str) -> dict[str, Any]:
    """A piece of a page's details as its scripts read it, by ordinal (as text)."""
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(piece)))
    return found

"""A campaign as a whole over time: one row for each stretch of time in which something changed, from the ledger's
history alone, so that the same ledger gives the same rows whenever it is asked.

Stretches are of 10 s in the first ten minutes, of a minute until ten hours, then of ten minutes: a campaign of an
hour is smooth, and one of a month is not a million rows.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

from autolab.ledger.records import NOT_LOST
from autolab.report.overview.records import Mark, Overview
from autolab.report.overview.slots import idle_stretches
from autolab.report.overview.words import HOUR
from autolab.report.trackio.alarms import kind_of
from autolab.report.trackio.trials import Series

SETTLE = 5.0  # seconds after which what happened in a stretch of a running campaign stands in the ledger
_FINE, _MIDDLE = 60, 650  # stretches of 10 s, and up to there of a minute


@dataclass(frozen=True)
class Row:
    """The state at the end of a stretch. `bucket` is its number, or None for the state after the last event."""

    bucket: int | None
    at: float
    values: dict[str, float]


def bucket_end(bucket: int) -> float:
    """Seconds from the campaign's begin to the end of its stretch of that number; the first is 1."""
    if bucket <= _FINE:
        return 10.0 * bucket
    if bucket <= _MIDDLE:
        return 600.0 + 60.0 * (bucket - _FINE)
    return 36_000.0 + 600.0 * (bucket - _MIDDLE)


def rows(view: Overview, series: Series, after: int = 0) -> Iterator[Row]:
    """What is to be written of the stretches past number `after` that are over; each says what had changed since the
    one before, so those in which nothing changed are left out."""
    last = _last_event(view)
    until = view.now - SETTLE if view.alive else last
    sweep = _Sweep(view, series)
    bucket, before = 0, None
    while view.began + bucket_end(bucket + 1) <= until:
        bucket += 1
        at = view.began + bucket_end(bucket)
        values = sweep.to(at)
        if bucket > after and values != before:
            yield Row(bucket, at, values)
        before = values
    if not view.alive and last > view.began:
        yield Row(None, last, sweep.to(last))


def _last_event(view: Overview) -> float:
    times = [view.began]
    times += [mark.finished_at or mark.created_at for mark in view.marks]
    times += [climb.at for climb in view.climbs]
    times += [span.begin if span.kind == "running" else span.end for span in view.slots.spans]
    return max(times)


class _Sweep:
    """Walks through a campaign's events, oldest first."""

    def __init__(self, view: Overview, series: Series) -> None:
        self.view, self.series = view, series
        self.lanes = len(view.slots.lanes)
        self.changes = deque(sorted(
            [(span.begin, 1) for span in view.slots.spans]
            + [(span.end, -1) for span in view.slots.spans if span.kind != "running"]
        ))  # fmt: skip
        self.queue = deque(view.slots.queue)
        self.done = deque(sorted((m for m in view.marks if m.finished_at is not None), key=_ended))
        self.demotions = deque(sorted(climb.at for climb in view.climbs if climb.kind == "demotion"))
        self.idle = deque(begin for begin, _ in idle_stretches(view.slots))
        self.recent: deque[float] = deque()
        self.failures: Counter[str] = Counter()
        self.now, self.busy, self.waiting, self.trials, self.anomalies, self.tokens = (
            view.began,
            0,
            0,
            0,
            0,
            0,
        )
        self.last: Mark | None = None
        self.best: float | None = None

    def to(self, at: float) -> dict[str, float]:
        """Go on to a time, and say what is so then."""
        width, used = at - self.now, self._occupied(at)
        while self.queue and self.queue[0][0] <= at:
            self.waiting = self.queue.popleft()[1]
        while self.done and _ended(self.done[0]) <= at:
            self._count(self.done.popleft())
        for some in (self.demotions, self.idle):
            while some and some[0] <= at:
                self.anomalies += 1
                some.popleft()
        while self.recent and self.recent[0] <= at - HOUR:
            self.recent.popleft()
        hours = min(HOUR, max(at - self.view.began, 1.0)) / HOUR
        values: dict[str, float] = {
            "fleet/active": self.busy,
            "fleet/queued": self.waiting,
            "fleet/idle_slots": max(0, self.lanes - self.busy),
            "fleet/done": self.trials,
            "fleet/trials_per_hour": round(len(self.recent) / hours, 3),
            "fleet/anomalies": self.anomalies,
            "cost/usd": self.last.spent_dollars if self.last else 0.0,
            "cost/compute_hours": self.last.compute_hours if self.last else 0.0,
            "cost/model_tokens": self.tokens,
        }
        if self.lanes and width > 0:
            values["fleet/utilisation"] = round(used / (self.lanes * width), 4)
        values |= {f"failures/{status}": count for status, count in sorted(self.failures.items())}
        return values | self._best(at)

    def _occupied(self, at: float) -> float:
        """Seconds of slots that were in use since the time before."""
        used, since = 0.0, self.now
        while self.changes and self.changes[0][0] <= at:
            when, change = self.changes.popleft()
            used += self.busy * max(0.0, when - since)
            since, self.busy = max(since, when), self.busy + change
        self.now = at
        return used + self.busy * (at - since)

    def _count(self, mark: Mark) -> None:
        self.last = mark
        self.tokens += mark.tokens
        if mark.ordinal > 0:
            self.trials += 1
            self.recent.append(_ended(mark))
        if mark.status not in NOT_LOST:
            self.failures[mark.status] += 1
        kind = kind_of(mark.status, mark.outcome)
        self.anomalies += kind is not None
        before = self.series.master_score(mark.created_at)
        if before is not None and mark.score is not None and mark.ordinal > 0:
            delta = self.series.sign * (mark.score - before)
            self.best = delta if self.best is None else max(self.best, delta)

    def _best(self, at: float) -> dict[str, float]:
        score = self.series.master_score(at)
        if score is None:
            return {}
        first = self.series.promotions[0].score
        found = {
            f"best/{self.series.metric}": score,
            "best/gain_vs_baseline": self.series.sign * (score - first),
        }
        return found if self.best is None else {**found, "best/delta_vs_master_at_launch": self.best}


def _ended(mark: Mark) -> float:
    assert mark.finished_at is not None
    return mark.finished_at

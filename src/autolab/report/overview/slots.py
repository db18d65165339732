"""What the slots did, from the measurements' own times: the ledger keeps no other record of it."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from autolab.ledger.observations import CONTROL
from autolab.ledger.records import Measurement, Status, Trial, TrialState
from autolab.ledger.runs import Run
from autolab.report.overview.gathered import Gathered
from autolab.report.overview.records import Slots, Span, UnderWay

STARTING = 10.0  # seconds between two measurements in a slot that are no idleness: the next one is started
LEAST_IDLE = 60.0  # seconds, from which idleness is worth telling
MOST_POINTS = 2000  # of the queue; more are joined, with the longest queue of each stretch of time


@dataclass(frozen=True)
class Running:
    """A measurement that has a slot now, and since when. The ledger only says that it was begun: which slot it has is
    told by which ones are free."""

    measurement: Measurement
    lane: int
    since: float


@dataclass(frozen=True)
class Occupation:
    """Slots over time, and what they do now."""

    lanes: tuple[str, ...]
    spans: tuple[Span, ...]
    running: tuple[Running, ...]


def occupation(found: Gathered) -> Occupation:
    """The slots of a campaign. A slot is a place for one measurement of the lab, wherever that runs, so it can have
    several hosts one after the other; where it has one of several, it is named after it."""
    ran = [run for run in found.runs if not run.cached and 0 < run.started_at < run.finished_at]
    ran.sort(key=lambda run: (run.started_at, run.finished_at, run.id))
    by_lane = _lanes(ran)
    running = _running(found, {lane: runs[-1].finished_at for lane, runs in by_lane.items()})
    every = sorted({*by_lane, *(one.lane for one in running)})
    place = {lane: n for n, lane in enumerate(every)}
    hosts = {run.host for run in ran}
    names = [_name(lane, {run.host for run in by_lane.get(lane, ())}, hosts) for lane in every]
    trials = found.by_number
    spans = [
        span for lane, runs in by_lane.items() for run in runs for span in _spans(run, place[lane], trials)
    ]
    for one in running:
        ordinal, end = trials[one.measurement.trial].ordinal, max(one.since, found.now)
        spans.append(Span(place[one.lane], "running", one.since, end, ordinal, one.measurement.stage))
    spans.sort(key=lambda span: (span.begin, span.end, span.lane))
    there = tuple(Running(one.measurement, place[one.lane], one.since) for one in running)
    return Occupation(tuple(names), tuple(spans), there)


def slots(found: Gathered, used: Occupation) -> Slots:
    """Slots over time, with who waited for one."""
    waits = _waits(found, used)
    begin = min((span.begin for span in used.spans), default=0.0)
    end = max((span.end for span in used.spans), default=0.0)
    busy = sum(span.end - span.begin for span in used.spans)
    done = {trial.number for trial in found.trials}
    waited = [until - since for number, since, until in waits if number in done]
    return Slots(
        used.lanes,
        used.spans,
        _thinned(_queue(found.now, waits)),
        busy / (len(used.lanes) * (end - begin)) if end > begin else None,
        statistics.median(waited) if waited else None,
    )


def under_way(found: Gathered, used: Occupation) -> tuple[UnderWay, ...]:
    """The trials that are not finished, in the order in which they were opened."""
    at_work = {_for_whom(found, one.measurement): one for one in reversed(used.running)}
    shown = []
    for trial in found.undone:
        there = at_work.get(trial.number)
        if there is not None:
            state, slot, since = "running", used.lanes[there.lane], there.since
        else:
            state, slot, since = str(trial.state), "", found.submitted.get(trial.number, trial.created_at)
        shown.append(
            UnderWay(trial.id, trial.ordinal, state, slot, max(0.0, found.now - since), trial.hypothesis)
        )
    return tuple(shown)


def idle_while_waiting(used: Slots) -> float:
    """Seconds in which a slot stood idle while a trial waited for one, added up over the slots that did."""
    return sum(slots * (end - begin) for begin, end, slots in _idle(used))


def idle_stretches(used: Slots) -> list[tuple[float, float]]:
    """(begin, end) of every time of LEAST_IDLE or more in which some slot was idle while a trial waited for one."""
    found: list[tuple[float, float]] = []
    for begin, end, _ in _idle(used):
        if found and found[-1][1] == begin:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return [(begin, end) for begin, end in found if end - begin >= LEAST_IDLE]


def _idle(used: Slots) -> Iterator[tuple[float, float, int]]:
    """(begin, end, slots) of every time in which so many slots were idle and a trial waited for each of them, between
    the first measurement and the last one. The moments between two measurements of a slot, in which the next one is
    started, are no idleness."""
    if not used.spans or not used.queue:
        return
    first, end = used.spans[0].begin, max(span.end for span in used.spans)
    moves = [(at, more, 0) for lane in range(len(used.lanes)) for at, more in _occupied(used.spans, lane)]
    last = 0
    for at, waiting in used.queue:
        moves.append((at, 0, waiting - last))
        last = waiting
    busy = waiting = 0
    before = first
    for at, slots_more, waiting_more in sorted(moves):
        begin, until, idle = max(before, first), min(at, end), min(len(used.lanes) - busy, waiting)
        if until > begin and idle > 0:
            yield begin, until, idle
        busy, waiting, before = busy + slots_more, waiting + waiting_more, at


def _occupied(spans: Sequence[Span], lane: int) -> list[tuple[float, int]]:
    """(when, +1 or -1): when a lane begins and ends to be occupied."""
    stretches: list[list[float]] = []
    for span in spans:
        if span.lane == lane and stretches and span.begin - stretches[-1][1] <= STARTING:
            stretches[-1][1] = max(stretches[-1][1], span.end)
        elif span.lane == lane:
            stretches.append([span.begin, span.end])
    return [move for begin, end in stretches for move in ((begin, 1), (end, -1))]


def _for_whom(found: Gathered, measurement: Measurement) -> int:
    """The number of the trial that waits for a measurement: a control is made for a candidate."""
    if measurement.stage.startswith(CONTROL):
        ordinal = measurement.stage.removeprefix(CONTROL)
        return next((t.number for t in found.undone if str(t.ordinal) == ordinal), measurement.trial)
    return measurement.trial


def _lanes(ran: Iterable[Run]) -> dict[int, list[Run]]:
    """Measurements by slot, in order. Two at once in one slot (a replay beside a campaign, say, or clocks that do not
    agree) get another one, that none of the lab's has the number of."""
    found: dict[int, list[Run]] = defaultdict(list)
    beside: list[Run] = []
    for run in ran:
        lane = found[run.slot]
        if lane and run.started_at < lane[-1].finished_at - 1e-3:
            beside.append(run)
        else:
            lane.append(run)
    first = max(found, default=-1) + 1
    for run in beside:
        lane_number = first
        while found[lane_number] and run.started_at < found[lane_number][-1].finished_at - 1e-3:
            lane_number += 1
        found[lane_number].append(run)
    return dict(found)


def _running(found: Gathered, free_since: dict[int, float]) -> list[Running]:
    """The measurements that have a slot: those that were begun first, on the slots that are free the longest. Before
    any has ended, nobody knows how many slots there are, and all that were begun count as running."""
    if not found.alive:
        return []
    lanes = sorted(free_since, key=lambda lane: (free_since[lane], lane)) or list(range(len(found.begun)))
    return [
        Running(measurement, lane, max(measurement.started_at, free_since.get(lane, 0.0)))
        for measurement, lane in zip(found.begun, lanes, strict=False)
    ]


def _spans(run: Run, lane: int, trials: dict[int, Trial]) -> Iterable[Span]:
    """Training, then evaluation, which is at the end; a failed measurement is one span."""
    ordinal = trials[run.trial].ordinal
    if run.status != Status.OK:
        return [Span(lane, "failed", run.started_at, run.finished_at, ordinal, run.stage)]
    middle = max(run.started_at, run.finished_at - run.eval_seconds)
    parts = [("training", run.started_at, middle), ("evaluation", middle, run.finished_at)]
    return [Span(lane, kind, begin, end, ordinal, run.stage) for kind, begin, end in parts if end > begin]


def _name(lane: int, own: set[str], every: set[str]) -> str:
    return f"{next(iter(own))}, slot {lane}" if len(own) == 1 and len(every) > 1 else f"slot {lane}"


def _waits(found: Gathered, used: Occupation) -> list[tuple[int, float, float]]:
    """(trial, since, until) of every trial that was submitted and needed a slot: until its first measurement began, or
    now."""
    began: dict[int, float] = {}
    for run in found.runs:
        if not run.cached and run.started_at > 0:
            began[run.trial] = min(run.started_at, began.get(run.trial, run.started_at))
    for one in used.running:
        number = one.measurement.trial
        began[number] = min(one.since, began.get(number, one.since))
    waits = []
    for trial in (*found.trials, *found.undone):
        since = found.submitted.get(trial.number, trial.created_at)
        if trial.number in began:
            waits.append((trial.number, since, max(since, began[trial.number])))
        elif trial.state is TrialState.QUEUED:
            waits.append((trial.number, since, max(since, found.now)))
    return waits


def _queue(now: float, waits: Sequence[tuple[int, float, float]]) -> list[tuple[float, int]]:
    """(time, how many wait from then on), one point for each time at which that changed."""
    changes: dict[float, int] = defaultdict(int)
    for _, since, until in waits:
        if until > since:
            changes[since] += 1
            if until < now:
                changes[until] -= 1
    points, waiting = [], 0
    for at in sorted(changes):
        if changes[at]:
            waiting += changes[at]
            points.append((at, waiting))
    return points


def _thinned(points: Sequence[tuple[float, int]]) -> tuple[tuple[float, int], ...]:
    """At most MOST_POINTS of them: of each stretch of time the longest queue, and the last."""
    if len(points) <= MOST_POINTS:
        return tuple(points)
    first, last = points[0][0], points[-1][0]
    edges = [first + (last - first) * n / (MOST_POINTS // 2) for n in range(1, MOST_POINTS // 2)]
    stretches: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for point in points:
        stretches[bisect_right(edges, point[0])].append(point)
    kept: set[tuple[float, int]] = set()
    for some in stretches.values():
        kept |= {max(some, key=lambda point: (point[1], -point[0])), some[-1]}
    return tuple(sorted(kept))

"""Concerns about how it was measured: evidence, sandbox, what hangs, hosts that differ, slots that stand idle."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autolab.judge.noise import learn
from autolab.ledger.jobs import LAUNCHING
from autolab.ledger.records import Observation
from autolab.ledger.runs import Run
from autolab.report.overview.gathered import Gathered
from autolab.report.overview.records import Concern, Slots
from autolab.report.overview.slots import LEAST_IDLE, Occupation, idle_while_waiting
from autolab.report.overview.words import counted, duration, percent, quote

PATIENCE = 1.5  # times all that a measurement may take by its budget, from which it hangs,
SLACK = 30.0  # seconds more than that
QUEUED_JOB = 900.0  # seconds that a job waits for its machine, from which somebody should know
SURE = 3.0  # standard errors by which a host must differ
IDLE = (
    0.05  # share of the slots' time that they stood idle while trials waited, from which it is worth telling
)


@dataclass(frozen=True)
class Shift:
    """By how much scores of one host differ from another's, where both measured the same `programs`."""

    host: str
    beside: str
    gap: float
    error: float  # standard error
    programs: int


def of_measuring(found: Gathered, used: Occupation, shown: Slots) -> Iterator[Concern]:
    """What makes scores doubtful, and what stands still."""
    weak = [run for run in found.runs if run.evidence == "self_reported"]
    if weak:
        text = (
            f"Self-reported scores in {counted(len(weak), 'measurement')}: whatever the recipe prints counts"
        )
        mend = "give the task an `evaluate` command (docs/task.md)"
        yield Concern("self_reported", "warning", text, _trials(found, weak), mend)
    bare = [run for run in found.runs if run.sandbox == "none"]
    if bare:
        text = f"No sandbox in {counted(len(bare), 'measurement')}: trials could read files and the network"
        yield Concern("no_sandbox", "warning", text, _trials(found, bare), "autolab doctor")
    yield from _hung(found, used)
    for shift in host_shifts(found.repeated):
        text = (
            f"Host {quote(shift.host)} scores {shift.gap:+.3g} ± {2 * shift.error:.2g} beside {quote(shift.beside)},"
            f" on {counted(shift.programs, 'program')} measured on both: scores compare within a host only"
        )
        yield Concern("host_shift", "warning", text, (), "autolab noise")
    idle = idle_while_waiting(shown)
    end = max((span.end for span in shown.spans), default=0.0)
    whole = len(shown.lanes) * (end - shown.spans[0].begin) if shown.spans else 0.0
    if idle > LEAST_IDLE and idle > IDLE * whole:
        share = percent(round(idle / whole, 2))
        text = f"Slots stood idle for {duration(idle)} ({share} of their time) while trials waited for one"
        yield Concern("idle", "warning", text, (), "")


def host_shifts(repeated: Sequence[Observation]) -> list[Shift]:
    """Hosts whose scores differ from those of the host with the most runs by more than the noise allows.

    Each program that was measured on both gives one difference of means, with the variance sd² (1/n + 1/m); they are
    joined by their precision (blocking by program, as the judge's own comparisons are by host).
    """
    noise = learn(repeated)
    if noise.state != "known" or len(noise.hosts) < 2:
        return []
    scores: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in repeated:
        if math.isfinite(one.score):
            scores[one.program, one.campaign][one.host].append(one.score)
    main = max(sorted(noise.hosts), key=lambda host: noise.hosts[host].runs)
    found = []
    for host in sorted(noise.hosts):
        both = [by_host for by_host in scores.values() if host in by_host and main in by_host]
        if host == main or not both:
            continue
        gaps = [statistics.fmean(one[host]) - statistics.fmean(one[main]) for one in both]
        weights = [1 / (1 / len(one[host]) + 1 / len(one[main])) for one in both]
        gap = math.fsum(g * w for g, w in zip(gaps, weights, strict=True)) / math.fsum(weights)
        error = noise.sd / math.sqrt(math.fsum(weights))
        if abs(gap) > SURE * error:
            found.append(Shift(host, main, gap, error, len(both)))
    return found


def most_seconds(task: Mapping[str, Any]) -> float:
    """How long one measurement may take by its task's budget, before something must have gone wrong."""
    budget = task.get("budget") or {}
    allowed = sum(
        float(budget.get(name) or 0.0) for name in ("wall_seconds", "eval_seconds", "startup_seconds")
    )
    return PATIENCE * allowed + SLACK


def _hung(found: Gathered, used: Occupation) -> Iterator[Concern]:
    """Measurements and jobs that run far longer than they may, and jobs that get no machine."""
    if not found.alive:
        return
    most = most_seconds(found.campaign.config["task"])
    open_jobs = [job for job in found.jobs if not job.ended]
    in_jobs = {job.measurement for job in open_jobs}
    for one in used.running:
        seconds = found.now - one.since
        if one.measurement.id not in in_jobs and seconds > most:
            name = found.by_number[one.measurement.trial].id
            text = f"{name} ({one.measurement.stage}) has run for {duration(seconds)} on {quote(used.lanes[one.lane])}"
            text += f", {duration(most)} would be long"
            yield Concern("hung", "error", text, (name,), "autolab stop --now && autolab run")
    begun = {measurement.id: measurement for measurement in found.begun}
    for job in open_jobs:
        waits = found.now - job.launched_at - job.running_seconds
        names = _of(found, begun[job.measurement].trial) if job.measurement in begun else ()
        called = quote(job.id or job.ticket)
        known = job.id is not None and job.id.replace("-", "").isalnum()  # people paste commands
        mend = f"autolab jobs cancel {job.id}" if known else "autolab jobs ls --unfinished"
        if job.running_seconds > most:
            text = f"Job {called} on {job.flavor} has run for {duration(job.running_seconds)},"
            text += f" {duration(most)} would be long; it can cost ${job.most_usd:.2f}"
            yield Concern("hung", "error", text, names, mend)
        elif job.stage in (LAUNCHING, "SCHEDULING") and waits > QUEUED_JOB:
            text = f"Job {called} has waited for its machine ({job.flavor}) for {duration(waits)}"
            yield Concern("hung", "warning", text, names, mend)


def _trials(found: Gathered, runs: Sequence[Run]) -> tuple[str, ...]:
    """The ids of the trials that runs were made of, the newest first."""
    numbers = {run.trial for run in runs}
    some = [trial for trial in found.by_number.values() if trial.number in numbers]
    return tuple(trial.id for trial in sorted(some, key=lambda trial: -trial.ordinal))


def _of(found: Gathered, number: int) -> tuple[str, ...]:
    return (found.by_number[number].id,) if number in found.by_number else ()

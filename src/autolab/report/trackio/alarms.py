"""What Trackio alerts of, from the ledger's history: each thing once, at the time at which it happened.

An alert's id says what it is about, so the same thing found again is the same alert.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autolab.ledger.masters import Step, outcome
from autolab.ledger.records import Campaign, Status, Trial, Verdict
from autolab.report.overview.records import Overview
from autolab.report.overview.rules import NEARLY, budgets, reached, reigns
from autolab.report.overview.slots import LEAST_IDLE, idle_stretches
from autolab.report.trackio.inbox import Level
from autolab.report.trackio.naming import plain

SPENT: tuple[tuple[float, Level], ...] = ((NEARLY, "warn"), (1.0, "error"))  # shares of a budget
_KINDS: dict[str, tuple[str, Level]] = {
    Status.CRASH: ("crash", "error"),
    Status.OOM: ("crash", "error"),
    Status.TIMEOUT: ("crash", "error"),
    Status.EVAL_TIMEOUT: ("crash", "error"),
    Status.NAN: ("nan", "error"),
    Status.TAMPERED: ("tampering", "error"),
    Status.ILLEGAL: ("tampering", "error"),
    Status.OVER_SIZE: ("limit", "warn"),
    Status.GATE_MISSED: ("limit", "warn"),
    Status.INFRA_ERROR: ("machine", "warn"),
    Verdict.PROVISIONAL: ("within-noise", "warn"),
}


@dataclass(frozen=True)
class Alarm:
    """One alert. `id` is what it is about, and the same whenever it is found again."""

    id: str
    level: Level
    title: str
    text: str
    at: float


def kind_of(status: str, called: str) -> tuple[str, Level] | None:
    """What sort of alert a finished trial gives by its status and its outcome, if any."""
    return _KINDS.get(status) or _KINDS.get(called)


def of_trial(trial: Trial, known: dict[int, str]) -> Alarm | None:
    """The alert of a finished trial: it failed, or its win is within the noise."""
    called = outcome(trial, known)
    kind = kind_of(str(trial.status), called)
    if kind is None or trial.finished_at is None:
        return None
    word, level = kind
    title = f"{trial.id}: {called}"
    text = f"`autolab show {trial.id}`: {plain(trial.note) or 'no cause was told'}"
    if word == "within-noise":
        title = f"{trial.id}: better, but within the noise"
        text = f"{'' if trial.delta is None else f'{trial.delta:+.4g}; '}`autolab confirm {trial.id}` measures on"
    return Alarm(f"{word}:{trial.id}", level, title, text, trial.finished_at)


def of_masters(chain: Sequence[Step]) -> Iterator[Alarm]:
    """New masters, and those that were taken back."""
    for step in chain:
        made, name = step.promotion, step.trial.id
        if step.kind == "demotion":
            yield Alarm(
                f"demotion:{made.campaign}:{made.number}",
                "warn",
                f"back to {name}",
                plain(made.reason),
                made.at,
            )
        elif step.kind != "baseline":
            text = f"{made.score:.6g} [{made.score_low:.6g}, {made.score_high:.6g}], gain {made.gain:.4g}"
            yield Alarm(f"master:{name}:{made.number}", "info", f"new master {name}", text, made.at)


def of_campaign(view: Overview, settings: Campaign) -> Iterator[Alarm]:
    """Idle slots, a master that nothing beats any more, budgets."""
    yield from _idle(view)
    yield from _stale(view)
    yield from _budgets(view, settings)


def _idle(view: Overview) -> Iterator[Alarm]:
    """Stretches in which a slot had nothing to do although trials waited."""
    for begin, end in idle_stretches(view.slots):
        at = begin + LEAST_IDLE
        text = f"trials waited for {end - begin:.0f} s while a slot had nothing to do; `autolab status`"
        yield Alarm(f"idle:{view.campaign}:{int(begin // 300)}", "warn", "idle slot", text, at)


def _stale(view: Overview) -> Iterator[Alarm]:
    """Once for each master, when it has stood for longer than is the campaign's pace."""
    done = sorted((mark for mark in view.marks if mark.place is not None), key=lambda mark: mark.place or 0)
    for reign in reigns(view.climbs, len(done)):
        if reign.stale:
            climb, wait = reign.climb, reign.patience
            at = done[climb.place + wait].finished_at or view.began
            text = f"no promotion for {wait} trials; `autolab steer` gives a direction"
            yield Alarm(f"stale-master:{climb.id}:{climb.place}", "warn", "no better master", text, at)


def _budgets(view: Overview, settings: Campaign) -> Iterator[Alarm]:
    """Once for each share of a budget, when it was reached."""
    done = sorted(
        (mark for mark in view.marks if mark.finished_at is not None), key=lambda mark: mark.finished_at or 0
    )
    tried = [mark for mark in done if mark.ordinal > 0]
    given = budgets(settings)
    for share, level in SPENT:
        if given.dollars:
            over = next((mark for mark in done if reached(mark.spent_dollars, given.dollars, share)), None)
            if over is not None:
                text = f"${over.spent_dollars:.2f} of ${given.dollars:.2f} are spent"
                name = f"budget:{view.campaign}:usd:{share:g}"
                yield Alarm(name, level, "budget", text, over.finished_at or 0.0)
        if given.trials:
            place = next((n for n in range(1, len(tried) + 1) if reached(n, given.trials, share)), None)
            if place is not None:
                text = f"{place} of {given.trials} trials have ended"
                name = f"budget:{view.campaign}:trials:{share:g}"
                yield Alarm(name, level, "budget", text, tried[place - 1].finished_at or 0.0)

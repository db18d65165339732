"""What Trackio alerts of, from the ledger's history: each thing once, at the time at which it happened.

An alert's id says what it is about, so the same thing found again is the same alert.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autolab.ledger.masters import Step, outcome
from autolab.ledger.records import Campaign, Status, Trial, Verdict
from autolab.report.overview.attention.course import LEAST_WAIT, LONGER, NEARLY
from autolab.report.overview.attention.measuring import LEAST_IDLE
from autolab.report.overview.records import Overview
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
    for begin, end in idle_stretches(view):
        at = begin + LEAST_IDLE
        text = f"trials waited for {end - begin:.0f} s while a slot had nothing to do; `autolab status`"
        yield Alarm(f"idle:{view.campaign}:{int(begin // 300)}", "warn", "idle slot", text, at)


def idle_stretches(view: Overview) -> list[tuple[float, float]]:
    """(begin, end) of every time of a minute or more in which trials waited and a slot was idle."""
    changes = [(when, "queue", waiting) for when, waiting in view.slots.queue]
    for span in view.slots.spans:
        changes += [(span.begin, "busy", 1), (span.end, "busy", -1)]
    waiting = busy = 0
    since: float | None = None
    found = []
    for when, kind, value in [*sorted(changes), (view.now if view.alive else 0.0, "end", 0)]:
        waiting = value if kind == "queue" else waiting
        busy += value if kind == "busy" else 0
        idle = kind != "end" and waiting > 0 and 0 < busy < len(view.slots.lanes)
        if idle and since is None:
            since = when
        elif not idle and since is not None:
            if when - since >= LEAST_IDLE:
                found.append((since, when))
            since = None
    return found


def _stale(view: Overview) -> Iterator[Alarm]:
    """Once for each master, when it has stood for longer than any before it."""
    done = sorted((mark for mark in view.marks if mark.place is not None), key=lambda mark: mark.place or 0)
    climbs = [climb for climb in view.climbs if climb.kind != "demotion"]
    longest = 0
    for climb, following in zip(climbs, [*climbs[1:], None], strict=True):
        wait = max(LEAST_WAIT, int(LONGER * longest) + 1)
        until = len(done) if following is None else following.place
        if climb.place + wait < until:
            at = done[climb.place + wait].finished_at or view.began
            text = f"no promotion for {wait} trials; `autolab steer` gives a direction"
            yield Alarm(f"stale-master:{climb.id}:{climb.place}", "warn", "no better master", text, at)
        longest = max(longest, until - climb.place)


def _budgets(view: Overview, settings: Campaign) -> Iterator[Alarm]:
    done = sorted(
        (mark for mark in view.marks if mark.finished_at is not None), key=lambda mark: mark.finished_at or 0
    )
    dollars, trials = settings.config.get("max_usd"), (settings.config.get("serving") or {}).get("trials")
    for share, level in SPENT:
        if dollars:
            over = next((mark for mark in done if mark.spent_dollars >= share * dollars), None)
            if over is not None:
                text = f"${over.spent_dollars:.2f} of ${dollars:.2f} are spent"
                yield Alarm(
                    f"budget:{view.campaign}:usd:{share:g}", level, "budget", text, over.finished_at or 0.0
                )
        if trials:
            place = max(1, round(share * trials))
            counted = [mark for mark in done if mark.ordinal > 0]
            if len(counted) >= place:
                text = f"{place} of {trials} trials have ended"
                at = counted[place - 1].finished_at or 0.0
                yield Alarm(f"budget:{view.campaign}:trials:{share:g}", level, "budget", text, at)

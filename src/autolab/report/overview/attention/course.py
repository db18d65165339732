"""Concerns about the campaign's course: its baseline, its budget, its master, who is at work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from autolab.ledger.records import TrialState
from autolab.report.overview.attention.trials import names
from autolab.report.overview.gathered import Gathered
from autolab.report.overview.records import Climb, Concern, Level
from autolab.report.overview.rules import NEARLY, budgets, reached, reigns
from autolab.report.overview.words import counted, duration, percent, quote

LEFT_OFF = 0.2  # share of the sessions without an answer, from which it is a warning
MANY_LOOKS = 20  # at the sealed split: each tells a little of it, and after many it is sealed no more


def of_the_course(found: Gathered, climbed: Sequence[Climb]) -> Iterator[Concern]:
    """What stops the campaign, what it has used up, and what became of its master."""
    first = found.baseline
    if first is not None and found.baseline_failed:
        text = f"The baseline failed ({first.status}): {quote(first.note)}"
        yield Concern("baseline", "error", text, (first.id,), "mend the recipe, then autolab run --new")
    yield from _nobody_at_work(found)
    yield from _budget(found)
    yield from _demotions(found)
    yield from _stale(found, climbed)
    yield from _sessions(found)
    count = len(found.looks)
    if count > MANY_LOOKS:
        by_hand = sum(look.asked_by == "hand" for look in found.looks)
        text = f"{counted(count, 'look')} at the sealed split, {by_hand:,} of them by hand: it wears out"
        numbers = {look.trial for look in found.looks}
        some = sorted((t for t in found.by_number.values() if t.number in numbers), key=lambda t: t.ordinal)
        yield Concern("sealed", "info", text, names(some), "certify on another split from now on")


def _nobody_at_work(found: Gathered) -> Iterator[Concern]:
    waiting = [trial for trial in found.undone if trial.state is TrialState.QUEUED and trial.ordinal > 0]
    go_on = "autolab serve" if "serving" in found.campaign.config else "autolab run"
    if found.state == "interrupted":
        text = f"Nobody works on the campaign, although it is called {found.campaign.state}"
        text += f"; {counted(len(found.undone), 'trial')} under way" if found.undone else ""
        yield Concern("interrupted", "warning", text, names(found.undone), go_on)
    elif waiting and not found.alive:
        wait = "waits" if len(waiting) == 1 else "wait"
        text = f"{counted(len(waiting), 'trial')} {wait} to be measured, and nobody is at work"
        mend = (
            "autolab run --new" if found.baseline_failed else go_on
        )  # without a baseline nothing can be judged
        yield Concern("waiting", "warning", text, names(waiting), mend)


def _budget(found: Gathered) -> Iterator[Concern]:
    given, done = budgets(found.campaign), len(found.candidates)
    allowed, most = given.trials, given.dollars
    if allowed and reached(done, allowed, NEARLY):
        over = reached(done, allowed)
        text = f"The budget of {counted(allowed, 'trial')} is used up"
        text = (
            text
            if over
            else f"{done:,} of {counted(allowed, 'trial')} are used ({percent(round(done / allowed, 2))})"
        )
        yield _used(text, f"autolab serve --trials {2 * allowed}", over=over)
    dollars, committed = found.dollars, found.committed
    if most and reached(dollars + committed, most, NEARLY):
        over = reached(dollars, most)
        held = f", and jobs under way can cost ${committed:,.2f} more" if committed else ""
        text = f"${dollars:,.2f} of ${most:,.2f} are spent ({percent(round(dollars / most, 2))}){held}"
        yield _used(text, f"autolab run --max-usd {2 * most:g}", over=over)


def _used(text: str, mend: str, *, over: bool) -> Concern:
    return Concern("budget", "warning" if over else "info", text, (), mend)


def _demotions(found: Gathered) -> Iterator[Concern]:
    back = [step for step in found.chain if step.kind == "demotion" and step.before is not None]
    if back:
        fallen = [found.by_number[step.before.trial] for step in back if step.before is not None
                  and step.before.trial in found.by_number]  # fmt: skip
        were = "was" if len(back) == 1 else "were"
        text = f"{counted(len(back), 'promotion')} {were} taken back, the last one: {quote(back[-1].promotion.reason)}"
        yield Concern("demotion", "info", text, names(fallen), "autolab lineage")


def _stale(found: Gathered, climbed: Sequence[Climb]) -> Iterator[Concern]:
    """No promotion for more than twice as many trials as it ever took: then it is not just this campaign's pace."""
    masters = list(reigns(climbed, len(found.trials)))
    if not masters or not masters[-1].stale:
        return
    now = masters[-1]
    ended = max((trial.finished_at or 0.0 for trial in found.trials), default=now.climb.at)
    text = f"No promotion for {counted(now.waited, 'trial')} and {duration(max(0.0, ended - now.climb.at))}"
    text += (
        f"; the longest wait before was {counted(now.longest, 'trial')}"
        if masters[1:]
        else " since the baseline"
    )
    yield Concern("stale_master", "warning", text, (), 'autolab steer "…"')


def _sessions(found: Gathered) -> Iterator[Concern]:
    ends = Counter(session.outcome for session in found.sessions if session.outcome != "answered")
    if ends:
        count = sum(ends.values())
        share = count / len(found.sessions)
        level: Level = "warning" if share >= LEFT_OFF else "info"
        told = ", ".join(f"{number:,} {quote(end, 40)}" for end, number in sorted(ends.items()))
        text = f"{count:,} of {counted(len(found.sessions), 'session')} of models did not end in an answer: {told}"
        yield Concern("sessions", level, text, (), "autolab doctor")

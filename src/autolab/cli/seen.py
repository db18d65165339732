"""What a terminal shows of a campaign that works in this process: read from its slots and its ledger, now and then.

One look costs about a millisecond, however many trials there were: nothing reads them all.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autolab.campaign.loop import Event, Limits
from autolab.cli.told import gain_text, over_baseline, standing_text
from autolab.lab import Lab
from autolab.ledger.agents import newest_ordinal
from autolab.ledger.jobs import costs
from autolab.ledger.masters import is_control, master_now, steps
from autolab.ledger.records import PROMOTED, Measurement, TrialState
from autolab.ledger.views import cell

REMEMBERED = 15  # measurements of a stage, of which the median is what one takes
SLOWLY = 1.0  # seconds between two looks at the ledger


@dataclass(frozen=True)
class Busy:
    """What a slot does: `seconds` of about `expected`."""

    slot: int
    trial: str
    stage: str
    about: str  # role, surface and hypothesis, in short
    seconds: float
    expected: float


@dataclass(frozen=True)
class Standing:
    """The master as it is seen now, in words."""

    trial: str
    score: str  # "loss 1.301 [1.299, 1.303] confirmed, from 26 runs"
    gain: str  # "+0.1 [0.09, 0.11] over the baseline (1.4)"; empty for the baseline


@dataclass(frozen=True)
class Seen:
    """A campaign at one moment. Limits that nobody set are None."""

    campaign: str
    task: str
    state: str
    seconds: float
    slots: int
    busy: tuple[Busy, ...]  # by slot
    waiting: int  # trials that wait for a slot
    judging: int  # trials that are measured and wait for their turn to be judged
    proposing: int  # trials that nobody has handed in yet
    trials: int  # finished, without the baseline
    limits: Limits
    seconds_left: float | None
    dollars: float
    fruitless: int  # trials since the last promotion
    master: Standing | None
    outcomes: Mapping[str, int]  # of trials that ended since the start


class Watch:
    """Keeps an eye on a campaign. `running`: what runs on each of so many `slots`, kept up to date by others."""

    def __init__(self, lab: Lab, limits: Limits, running: Mapping[int, Measurement], slots: int) -> None:
        self.lab, self.limits, self.running, self.slots = lab, limits, running, slots
        self.began = time.time()
        self.state = "running"
        self.outcomes: Counter[str] = Counter()
        budget = lab.task.budget
        self._expected = 1.2 * (budget.cpu_seconds or budget.wall_seconds) + 2
        self._took: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._about: dict[
            int, tuple[str, str]
        ] = {}  # by number of a trial that runs: its id, and what it is about
        self._fruitless = self._since_promotion()
        self._looked_at = 0.0
        self._waiting = self._judging = self._proposing = self._trials = 0
        self._dollars = 0.0
        self._master: Standing | None = None

    def heed(self, event: Event) -> None:
        """Take note of an event; must cost next to nothing, as there can be hundreds a second."""
        if event.kind == "measured" and event.measurement is not None:
            done = event.measurement
            self._took[_kind(done)].append(done.finished_at - done.started_at)
        elif event.kind in ("judged", "promoted") and event.trial is not None:
            if event.trial.ordinal > 0:
                self.outcomes[str(event.trial.verdict or event.trial.status)] += 1
            self._fruitless = 0 if event.trial.verdict in PROMOTED else self._fruitless + 1
            if event.kind == "promoted":
                self._looked_at = 0.0  # the new master is shown at once
        elif event.kind in ("draining", "paused", "resumed"):
            state = f"ending: {cell(event.text)}" if event.kind == "draining" else event.kind
            self.state = "running" if event.kind == "resumed" else state

    def look(self) -> Seen:
        """What is to be seen now."""
        now = time.time()
        if now - self._looked_at >= SLOWLY or now < self._looked_at:
            self._looked_at = now
            self._look_at_ledger()
        hours = self.limits.hours
        return Seen(
            campaign=self.lab.campaign.id, task=self.lab.task.name, state=self.state, seconds=now - self.began,
            slots=self.slots, busy=self._busy(now), waiting=self._waiting, judging=self._judging,
            proposing=self._proposing, trials=self._trials, limits=self.limits,
            seconds_left=None if hours is None else max(0.0, self.began + 3600 * hours - now),
            dollars=self._dollars, fruitless=self._fruitless, master=self._master, outcomes=self.outcomes,
        )  # fmt: skip

    def _busy(self, now: float) -> tuple[Busy, ...]:
        running = dict(self.running)
        numbers = {measurement.trial for measurement in running.values()}
        self._about = {number: self._about.get(number) or self._describe(number) for number in numbers}
        return tuple(
            Busy(slot, self._about[m.trial][0], m.stage, "as the master" if is_control(m) else self._about[m.trial][1],
                 max(0.0, now - m.started_at), self._typical(m))
            for slot, m in sorted(running.items())
        )  # fmt: skip

    def _describe(self, number: int) -> tuple[str, str]:
        trial = self.lab.ledger.trial(number)
        parts = (trial.role.removeprefix("specialists/"), trial.surface, trial.hypothesis)
        about = (
            "the recipe as it is"
            if trial.ordinal == 0
            else " · ".join(cell(p) for p in dict.fromkeys(parts) if p)
        )
        return trial.id, about

    def _typical(self, measurement: Measurement) -> float:
        took = self._took.get(_kind(measurement))
        return max(0.001, statistics.median(took)) if took else self._expected

    def _look_at_ledger(self) -> None:
        ledger, campaign = self.lab.ledger, self.lab.campaign.id
        undone = ledger.undone(campaign)
        measured = {measurement.trial for measurement in self.running.values()}
        self._proposing = sum(trial.state is TrialState.OPEN for trial in undone)
        queued = [t for t in undone if t.state is TrialState.QUEUED and t.number not in measured]
        self._judging = sum(_all_measured(ledger.measurements(trial.number)) for trial in queued)
        self._waiting = len(queued) - self._judging
        self._trials = newest_ordinal(ledger, campaign) - sum(trial.ordinal > 0 for trial in undone)
        self._dollars = costs(ledger, campaign)[0]
        chain = steps(ledger, campaign)
        if not chain:
            return
        seen, first = master_now(ledger, campaign, chain), chain[0].promotion
        gain = ""
        if seen.promotion.program != first.program:
            gain = f"{gain_text(*over_baseline(ledger, seen, chain))} over the baseline ({first.score:.5g})"
        score = f"{self.lab.task.metric.name} {standing_text(seen)}"
        self._master = Standing(seen.trial.id, score, gain)

    def _since_promotion(self) -> int:
        """Trials that ended since the last one that was promoted; what `--patience` counts."""
        ledger, campaign = self.lab.ledger, self.lab.campaign.id
        # Not the newest promotion: one by hand is of a trial that ended long before, and the limit does not count it.
        masters = [ledger.trial(made.trial) for made in ledger.promotions(campaign)]
        last = max((trial.order or 0 for trial in masters if trial.verdict in PROMOTED), default=None)
        return 0 if last is None else sum(1 for _ in ledger.trials(campaign, after=last))


def _all_measured(measurements: Sequence[Measurement]) -> bool:
    return bool(measurements) and all(one.status is not None for one in measurements)


def _kind(measurement: Measurement) -> str:
    return measurement.stage.partition("-")[0]

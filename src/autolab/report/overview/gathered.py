"""Everything that an overview is drawn from, read from the ledger once: what cannot change any more is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from autolab.ledger.dead_ends import newest_changes
from autolab.ledger.jobs import CloudJob, campaign_jobs, costs
from autolab.ledger.masters import Master, Step, master_now, sign, states, steps
from autolab.ledger.observations import looks, newest_ordinal, scatter_sample
from autolab.ledger.records import Campaign, Measurement, Observation, SealedLook, Status, Trial
from autolab.ledger.runs import Run, Spent, new_runs, new_sessions, snapshot, submissions
from autolab.ledger.store import Ledger

# States in which somebody should be at work.
AT_WORK = ("running", "paused", "stopping", "cancelling")


@dataclass(frozen=True)
class Gathered:
    """A campaign as it is in the ledger at `now`. `alive`: somebody works on it."""

    now: float
    alive: bool
    campaign: Campaign
    trials: tuple[Trial, ...]  # finished, the baseline among them, in the order in which they finished
    undone: tuple[Trial, ...]  # opened and not finished
    runs: tuple[Run, ...]  # finished measurements, by their end
    begun: tuple[Measurement, ...]  # measurements that are not finished, by their begin
    submitted: dict[int, float]  # when a trial was submitted to be measured
    sessions: tuple[Spent, ...]
    jobs: tuple[CloudJob, ...]
    dollars: float  # spent, and
    committed: float  # what jobs under way can still cost
    chain: tuple[Step, ...]  # changes of the master, oldest first
    master: Master | None
    looks: tuple[SealedLook, ...]
    changes: tuple[float, ...]  # when the master changed last
    repeated: tuple[Observation, ...]  # runs of programs that were measured more than once

    @cached_property
    def known(self) -> dict[int, str]:
        """The state of every trial that was ever promoted."""
        return states(self.chain)

    @cached_property
    def candidates(self) -> tuple[Trial, ...]:
        """The finished trials without the baseline."""
        return tuple(trial for trial in self.trials if trial.ordinal > 0)

    @cached_property
    def baseline(self) -> Trial | None:
        """The baseline's trial, finished or not; None if it has not come here."""
        return next((trial for trial in (*self.trials, *self.undone) if trial.ordinal == 0), None)

    @cached_property
    def by_number(self) -> dict[int, Trial]:
        """Every trial by its number."""
        return {trial.number: trial for trial in (*self.trials, *self.undone)}

    @cached_property
    def own_runs(self) -> dict[int, list[Run]]:
        """What was measured of each trial, by its number."""
        found: dict[int, list[Run]] = {}
        for run in self.runs:
            found.setdefault(run.trial, []).append(run)
        return found

    @property
    def metric(self) -> str:
        """The metric's name."""
        return str(self.campaign.config["task"]["metric"]["name"])

    @property
    def direction(self) -> str:
        """Which scores are better: `minimize` or `maximize`."""
        return "maximize" if sign(self.campaign) > 0 else "minimize"

    @property
    def baseline_failed(self) -> bool:
        """Whether the baseline ended without a score."""
        return self.baseline is not None and self.baseline.status not in (None, Status.OK)

    @property
    def state(self) -> str:
        """The campaign's state; `interrupted` if it says that somebody is at work, and nobody is."""
        gone = self.campaign.state in AT_WORK and not self.alive
        return "interrupted" if gone else self.campaign.state


class Gathering:
    """Gathers one campaign again and again; each time it reads only what was added since, beside the few rows that can
    change."""

    def __init__(self, ledger: Ledger, campaign: str) -> None:
        self._ledger, self._campaign = ledger, campaign
        self._trials: list[Trial] = []
        self._runs: dict[str, Run] = {}
        self._sessions: list[Spent] = []
        self._submitted: dict[int, float] = {}
        self._version: tuple[int, int] | None = None

    def changed(self) -> bool:
        """Whether anything was written since it was gathered last; costs microseconds."""
        return self._version != self._current()

    def gather(self, now: float, alive: bool) -> Gathered:
        """The campaign as it is in the ledger at this moment. Raises LabError if there is none of this name."""
        version = self._current()  # before it is read: what comes in between is only read again
        with snapshot(self._ledger):
            found = self._gather(now, alive)
        self._version = version
        return found

    def _gather(self, now: float, alive: bool) -> Gathered:
        ledger, name = self._ledger, self._campaign
        campaign = ledger.campaign(name)
        after = self._trials[-1].order or 0 if self._trials else 0
        self._submitted |= submissions(ledger, name, after)
        self._trials += ledger.trials(name, after=after)
        self._runs |= {run.id: run for run in new_runs(ledger, name, self._runs)}
        self._sessions += new_sessions(ledger, name, self._sessions[-1].number if self._sessions else 0)
        chain = steps(ledger, name)
        repeated: Sequence[Observation] = ()
        if not campaign.lab:
            repeated, _ = scatter_sample(ledger, campaign, newest_ordinal(ledger, name) + 1)
        dollars, committed = costs(ledger, name)
        return Gathered(
            now, alive, campaign, tuple(self._trials), tuple(ledger.undone(name)),
            tuple(sorted(self._runs.values(), key=lambda run: (run.finished_at, run.id))),
            tuple(ledger.begun(name)), dict(self._submitted), tuple(self._sessions),
            tuple(campaign_jobs(ledger, name)), dollars, committed, tuple(chain),
            master_now(ledger, name, chain) if chain else None, tuple(looks(ledger, name)),
            newest_changes(ledger, name), tuple(repeated),
        )  # fmt: skip

    def _current(self) -> tuple[int, int]:
        return self._ledger.changes(), self._ledger.rows.total_changes

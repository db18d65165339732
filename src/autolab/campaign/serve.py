"""Serving: measures what agents submit, whoever they are and however many, and judges each trial as it comes.

The loop proposes; this does not. Agents open and submit trials in processes of their own, the ledger is the only
thing between them and the slots, and `judging.course.advance` judges against the master that is in force, so the order
in which trials are judged is free.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from autolab.campaign.agent_trial import abandon_expired, settle_ideas, sweep_workspaces
from autolab.campaign.lock import holder
from autolab.campaign.loop import VIEW_SECONDS, Event, Limits
from autolab.campaign.signals import heeded
from autolab.campaign.slots import Closed, SlotPool, settle
from autolab.errors import LabError
from autolab.execution.executor import Executor, Unstarted
from autolab.lab import Lab
from autolab.ledger.agents import newest_ordinal, open_workspaces
from autolab.ledger.records import PROMOTED, Status, Trial, TrialState
from autolab.ledger.views import write_views

LOOK_SECONDS = 0.2  # between two looks at the ledger; one costs microseconds
LEASE_LOOK_SECONDS = 5.0


class Service:
    """One process' work on what agents submit to a campaign.

    `limits.trials` is a total for the campaign; `idle` are the minutes without an open or queued trial after which it
    ends (None: never).
    """

    def __init__(
        self,
        lab: Lab,
        executor: Executor,
        limits: Limits,
        idle: float | None = None,
        listener: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.lab, self.limits, self.idle, self.listener = lab, limits, idle, listener
        self.executor = executor
        executor.notice = lambda text: self._emit(Event("notice", text=text))
        self.pool = SlotPool(
            lab, executor, lambda kind, measurement: self._emit(Event(kind, None, measurement))
        )
        self.reason = ""
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._draining = False
        self._paused = False
        self._seen = -1
        self._leases_at = self._views_at = 0.0
        self._busy_at = self._started_at = time.time()

    async def run(self) -> str:
        """Work until a limit, a stop, idleness or an error; returns why it ended.

        Raises LabError when the baseline fails or the disk is full. Whatever happens, the ledger is consistent and
        no process is left over.
        """
        ledger, campaign = self.lab.ledger, self.lab.campaign.id
        config = {k: v for k, v in self.lab.campaign.config.items() if k not in ("serving", "ended")}
        serving = {"process": holder(self.lab.root), "trials": self.limits.trials}
        ledger.set_campaign(campaign, config={**config, "serving": serving}, state="running")
        write_views(ledger, self.lab.root)
        state = "stopped"
        with heeded(self.drain, lambda: self._draining):
            try:
                self._adopt()
                while not self._ended():
                    self._look()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._news.wait(), LOOK_SECONDS)
                    self._news.clear()
                    self._gather()
                state = "stopped" if self._draining else "finished"
            except asyncio.CancelledError:
                self.drain("cancelled")
            finally:
                await self._cancel()
                settle_ideas(self.lab)
                ledger.set_campaign(campaign, config={**config, "ended": self.reason}, state=state)
                write_views(ledger, self.lab.root)
        return self.reason

    def drain(self, reason: str) -> None:
        """Let what is running end, start nothing more."""
        if not self._draining:
            self.reason, self._draining = reason, True
            self.pool.close()
            self._emit(Event("draining", text=reason))
        self._news.set()

    # what the ledger says --------------------------------------------------------------------------

    def _look(self) -> None:
        """Notice what others wrote: orders, submitted trials, agents that went away."""
        now = time.time()
        if self.limits.hours is not None and now >= self._started_at + 3600 * self.limits.hours:
            self.drain(f"{self.limits.hours:g} hours are over")
        if now >= self._leases_at + LEASE_LOOK_SECONDS:
            self._leases_at = now
            for trial in abandon_expired(self.lab):
                self._emit(Event("refused", trial))
        changed = self._seen != (changes := self.lab.ledger.changes())
        self._seen = changes
        if changed:
            self._obey()
        if (changed or not self._tasks) and not self._draining:
            self._take_up()
        if now >= self._views_at + VIEW_SECONDS:
            self._views_at = now
            write_views(self.lab.ledger, self.lab.root)

    def _obey(self) -> None:
        state = self.lab.ledger.campaign(self.lab.campaign.id).state
        if state == "stopping":
            self.drain("stopped by `autolab stop`")
        elif state == "cancelling":
            self.drain("stopped by `autolab stop --now`")
            raise asyncio.CancelledError
        elif (state == "paused") != self._paused and not self._draining:
            self._paused = state == "paused"
            if self._paused:
                self.pool.pause()
            else:
                self.pool.resume()
            self._emit(Event("paused" if self._paused else "resumed"))

    def _take_up(self) -> None:
        """Begin with every submitted trial; before the baseline has been measured with that one alone."""
        measurable = self.lab.ledger.newest_promotion(self.lab.campaign.id) is not None
        for trial in self.lab.ledger.undone(self.lab.campaign.id):
            wanted = trial.state is TrialState.QUEUED and (measurable or trial.ordinal == 0)
            if wanted and trial.number not in self._tasks:
                self._emit(Event("opened", trial))
                task = asyncio.create_task(self._settle(trial))
                task.add_done_callback(lambda _: self._news.set())
                self._tasks[trial.number] = task

    def _adopt(self) -> None:
        """Record what an earlier process measured but did not live to record, and tidy up after it."""
        ledger = self.lab.ledger
        for measurement in self.executor.adopt(ledger.begun(self.lab.campaign.id)):
            self._emit(Event("measured", measurement=self.lab.record(measurement)))
        settle_ideas(self.lab)
        sweep_workspaces(self.lab)

    # one trial -------------------------------------------------------------------------------------

    async def _settle(self, trial: Trial) -> None:
        try:
            done = await settle(self.pool, trial)
        except Closed:
            return
        except Unstarted as reason:
            self.drain(str(reason))
            return
        settle_ideas(self.lab)
        self._emit(Event("promoted" if _promoted(done) else "judged", done))
        if done.ordinal == 0 and done.status is not Status.OK:
            raise LabError(
                f"the baseline failed: {done.status}: {done.note}",
                where=str(self.lab.root),
                mend="mend the recipe, then `autolab run --new`, or `scripts/lab.py start` for agents",
            )
        if self.limits.patience is not None:
            recent = list(self.lab.ledger.trials(self.lab.campaign.id, last=self.limits.patience))
            if len(recent) == self.limits.patience and not any(_promoted(trial) for trial in recent):
                self.drain(f"{self.limits.patience} trials without a promotion")

    # ending ----------------------------------------------------------------------------------------

    def _gather(self) -> None:
        """Drop what has ended. Raises what ended badly."""
        for number, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[number]
                self._seen = -1  # our own writing is no change to `changes`
                task.result()

    def _ended(self) -> bool:
        """Whether there is nothing left to do; says why."""
        if self._draining:
            return not self._tasks
        ledger, campaign = self.lab.ledger, self.lab.campaign.id
        if self._tasks or self._paused or open_workspaces(ledger, campaign):
            self._busy_at = time.time()
            return False
        if any(trial.state is TrialState.QUEUED for trial in ledger.undone(campaign)):
            return False
        if self.limits.trials is not None and newest_ordinal(ledger, campaign) >= self.limits.trials:
            self.reason = "all trials are done"
        elif self.idle is not None and time.time() >= self._busy_at + 60 * self.idle:
            self.reason = f"nothing was opened or submitted for {self.idle:g} minutes"
        return bool(self.reason)

    async def _cancel(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _emit(self, event: Event) -> None:
        try:
            self.listener(event)
        except OSError:  # the terminal or the pipe is gone: end as if asked to
            self.listener = lambda event: None
            self.drain("nobody reads the output any more")


def _promoted(trial: Trial) -> bool:
    return trial.verdict in PROMOTED

"""The loop: keeps proposals ahead of slots, judges in order, obeys budgets, stops, and resumes.

A harness whose proposals depend on a seed alone gets its trials judged *in the order in which they were
opened*, and trial k is opened exactly when trial k - window has been judged. What a proposer sees therefore
does not depend on which slot was quicker: the same seed gives the same campaign, and a resumed one goes on as
if it had never stopped. Agents with a model have no such seed to keep faith with, and some of them are slow or
hang: their trials are judged as they come, and no trial waits for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolab.campaign.signals import heeded
from autolab.collaboration import Assignment, Collaboration, Setting
from autolab.collaboration.single import Collaborators as Alone
from autolab.errors import LabError
from autolab.execution.executor import Executor, Unstarted
from autolab.harness import Exhausted, Harness, NoProposal, Spent, Ticket
from autolab.judging.course import advance
from autolab.lab import Lab
from autolab.ledger.agents import workspace
from autolab.ledger.assignments import add_assignment, assignment
from autolab.ledger.jobs import costs
from autolab.ledger.records import PROMOTED, Measurement, Status, Trial, TrialState
from autolab.ledger.views import write_views

if TYPE_CHECKING:
    from autolab.search.population import Population

POLL_SECONDS = 0.5
VIEW_SECONDS = 2.0
PAGE = 200
URGENT, ORDINARY = 0, 1
TOLD = "told"  # key of an assignment's record: how many outcomes had been told when the trial was opened
NOTHING_IN_PARTICULAR = Assignment()
DRY = "nothing left to propose"
COST_SECONDS = 1.0  # between two looks at what everything cost


@dataclass(frozen=True)
class Limits:
    """When to stop. `trials` is a total for the campaign; `hours` counts from this start."""

    trials: int | None = None
    hours: float | None = None
    max_usd: float | None = None
    patience: int | None = None


@dataclass(frozen=True)
class Event:
    """Something a person may want to see: opened, refused, started, measured, judged, promoted, notice."""

    kind: str
    trial: Trial | None = None
    measurement: Measurement | None = None
    text: str = ""


@dataclass(order=True)
class _Job:
    priority: int
    ordinal: int
    id: str
    measurement: Measurement = field(compare=False)
    bundle: Path = field(compare=False)
    done: asyncio.Future[Measurement] = field(compare=False)


class CampaignRun:
    """One process' work on a campaign, from start or resumption to a stop."""

    def __init__(
        self,
        lab: Lab,
        harness: Harness,
        executor: Executor,
        limits: Limits,
        listener: Callable[[Event], None] = lambda event: None,
        collaboration: Collaboration | None = None,
        population: Population | None = None,
    ) -> None:
        """Without a collaboration every agent is for itself; without a population all trials branch from the master."""
        self.lab, self.harness, self.executor, self.limits = lab, harness, executor, limits
        self.listener = listener
        seed = lab.campaign.config["seed"]
        self.collaboration = collaboration or Alone(Setting(lab.task, lab.ledger, lab.campaign.id, seed, 1))
        self.population = population
        self.window: int = lab.campaign.config["window"] if harness.ahead is None else harness.ahead
        self.running: dict[int, Measurement] = {}
        self.busy_seconds = 0.0
        self.gaps: list[float] = []  # seconds that a slot waited between two measurements
        self.started_at = time.time()
        self.reason = ""
        self._ready: asyncio.PriorityQueue[_Job] = asyncio.PriorityQueue()
        self._wanted: dict[str, asyncio.Future[Measurement]] = {}
        self._unpaused = asyncio.Event()
        self._draining = asyncio.Event()
        self._has_master = asyncio.Event()
        self._pipeline: deque[tuple[int, asyncio.Task[None]]] = deque()  # of trials in order
        self._at_work: dict[int, asyncio.Task[None]] = {}  # of trials in any order
        self._ended: asyncio.Queue[int] = asyncio.Queue()
        self._told = 0  # trials whose outcome everybody has heard of
        self._dry: set[str] = set()  # surfaces on which nothing is left to propose
        self._opened = -1  # highest ordinal
        self._judged = -1
        self._since_promotion = 0
        self._spent = 0.0
        self._exhausted = self._broke = False  # nothing to propose; no money for models
        self._costs, self._costs_at = 0.0, 0.0

    # the whole ------------------------------------------------------------------------------------

    async def run(self) -> str:
        """Work until a limit, a stop or an error; returns why it ended.

        Raises LabError when the baseline fails or the disk is full. Whatever happens, the ledger is
        consistent and no process is left over.
        """
        self._unpaused.set()
        self.executor.notice = lambda text: self._emit("notice", text=text)
        write_views(self.lab.ledger, self.lab.root)
        self.lab.ledger.set_campaign(self.lab.campaign.id, state="running")
        slots = [asyncio.create_task(self._slot(slot)) for slot in self.executor.slots]
        helpers = [asyncio.create_task(self._watch()), asyncio.create_task(self._keep_views())]
        judge = asyncio.create_task(self._judge_all())
        drained = asyncio.create_task(self._drained(slots))
        everything = [*slots, *helpers, judge, drained]
        with heeded(self.drain, self._draining.is_set):
            try:
                await self._until_first_of(judge, drained, everything)
            except asyncio.CancelledError:
                self.drain("cancelled")
            finally:
                await _cancel([*everything, *(task for _, task in self._pipeline), *self._at_work.values()])
                self._finish()
        return self.reason

    async def _until_first_of(
        self, judge: asyncio.Task[None], drained: asyncio.Task[None], everything: list[asyncio.Task[None]]
    ) -> None:
        """Wait for the judge to end or the slots to drain; an error anywhere ends the campaign."""
        while not judge.done() and not drained.done():
            done, _ = await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            everything = [task for task in everything if not task.done()]
        if drained.done() and not judge.done():
            # What was measured last may still be judged; a trial that never ran stays queued.
            await asyncio.wait([judge], timeout=1.0)

    def _finish(self) -> None:
        state = "finished" if self.reason and not self._draining.is_set() else "stopped"
        config = {**self.lab.campaign.config, "ended_at": time.time()}  # later than its last finished trial
        self.lab.ledger.set_campaign(self.lab.campaign.id, state=state, config=config)
        write_views(self.lab.ledger, self.lab.root)

    # proposing ------------------------------------------------------------------------------------

    async def _open_next(self) -> None:
        """Open as many trials as the window, the collaboration and the limits allow."""
        while self._under_way() < self.window and self._may_open():
            # Here, and not once it is open: what a proposer knows must not depend on when somebody paused.
            await self._unpaused.wait()
            if not self._may_open():  # stopped while it was paused
                return
            asked = self.collaboration.assign()
            if asked is None:
                if not self._under_way():
                    raise RuntimeError(f"{self.collaboration.name} waits, and nothing is under way")
                return
            trial = self._open(asked)
            ticket = self.lab.ticket(trial, goal=asked.goal, model=asked.model)
            await self._enter(trial, self._bring(ticket, asked))

    def _open(self, asked: Assignment) -> Trial:
        """Reserve a trial, and note what is asked of it and how much was known then."""
        ledger = self.lab.ledger
        with ledger.transaction():
            trial = self.lab.reserve(
                role=asked.role, agent=self.harness.name, surface=asked.surface, parent=self._parent(asked)
            )
            if asked != NOTHING_IN_PARTICULAR:
                record = {**dataclasses.asdict(asked), TOLD: self._told}
                add_assignment(ledger, trial.number, self.collaboration.name, record)
        self.collaboration.opened(trial, asked)
        return trial

    def _parent(self, asked: Assignment) -> tuple[str, int] | None:
        """(program, trial) that an assignment's trial branches from; None: the master."""
        if asked.parent is not None:
            program = self.lab.ledger.trial(asked.parent).program
            if program is not None:
                return program, asked.parent
        return None if self.population is None else self.population.choose(self._opened + 1)

    def _under_way(self) -> int:
        """How many trials count against the window."""
        return len(self._at_work) if self.harness.ahead is not None else self._opened - self._judged

    def _may_open(self) -> bool:
        if self._exhausted or self._draining.is_set():
            return False
        return self.limits.trials is None or self._opened < self.limits.trials

    async def _enter(self, trial: Trial, bring: Coroutine[Any, Any, None]) -> None:
        """Put a trial into the pipeline and let its proposer look at the ledger as it is now."""
        self._opened = trial.ordinal
        if self.harness.ahead is None:
            self._pipeline.append((trial.number, asyncio.create_task(bring)))
        else:
            task = asyncio.create_task(self._through(trial.number, bring))
            self._at_work[trial.number] = task
            task.add_done_callback(lambda _, number=trial.number: self._ended.put_nowait(number))  # type: ignore[misc]
        await asyncio.sleep(
            0
        )  # callbacks run in order: the proposer's first step comes before the next outcome

    async def _bring(self, ticket: Ticket, asked: Assignment) -> None:
        """Have one trial proposed, checked and screened."""
        try:
            proposal = await self.collaboration.propose(
                self.harness.propose, self.harness.consult, ticket, asked
            )
        except Exhausted as reason:
            self._run_dry(ticket.surface or "")
            self.lab.refuse(ticket.number, Status.PROPOSAL_FAILED, f"{DRY}: {reason}")
            return
        except Spent as reason:
            self._exhausted = self._broke = True
            self.lab.refuse(ticket.number, Status.INFRA_ERROR, str(reason))
            return
        except NoProposal as reason:
            self._emit("refused", self.lab.refuse(ticket.number, reason.status, str(reason), reason.spent))
            return
        self.harness.tell_proposed(ticket.number, proposal, ticket.parent_program)
        trial = self.lab.submit(ticket, proposal)
        self._emit("opened" if trial.state is TrialState.QUEUED else "refused", trial)
        await self._screen(trial)

    def _run_dry(self, surface: str) -> None:
        """Nothing is left to propose on a surface (empty: on any); the search ends when that holds for all."""
        self._dry.add(surface)
        self._exhausted = "" in self._dry or self._dry >= set(self.lab.task.surfaces)

    async def _through(self, number: int, bring: Coroutine[Any, Any, None]) -> None:
        """One trial from its proposal to its outcome; candidates wait for the baseline, which is their measure."""
        await bring
        trial = self.lab.ledger.trial(number)
        if trial.ordinal > 0 and trial.state is not TrialState.DONE:
            await self._has_master.wait()
        ended = await self._settle(number)
        if ended.ordinal == 0 and ended.status is Status.OK:
            self._has_master.set()

    async def _bring_again(self, trial: Trial) -> None:
        """Whatever an earlier process left to be done of one trial."""
        if trial.repeats is not None:  # killed between finding a duplicate and refusing it
            self.lab.refuse(
                trial.number, Status.DUPLICATE, f"repeats trial {self.lab.ledger.trial_id(trial.repeats)}"
            )
        elif trial.state is TrialState.OPEN and workspace(self.lab.ledger, trial.number) is not None:
            self.lab.refuse(trial.number, Status.PROPOSAL_FAILED, "abandoned: `autolab run` took over")
        elif trial.state is TrialState.OPEN:
            asked, _ = self._asked(trial)
            await self._bring(self.lab.ticket(trial, goal=asked.goal, model=asked.model), asked)
        else:
            if trial.proposal is not None and trial.ordinal > 0:
                self.harness.tell_proposed(trial.number, trial.proposal, trial.parent_program or "")
            await self._screen(trial)

    async def _screen(self, trial: Trial) -> None:
        if trial.state is TrialState.QUEUED:
            await asyncio.gather(*(self._measure(m, ORDINARY) for m in self.lab.first_measurements(trial)))

    # measuring ------------------------------------------------------------------------------------

    async def _measure(self, measurement: Measurement, priority: int) -> None:
        """Queue one measurement and wait until it is recorded; what two trials want is measured once."""
        if measurement.status is not None:
            return
        if measurement.id in self._wanted:
            await asyncio.shield(self._wanted[measurement.id])
            return
        trial = self.lab.ledger.trial(measurement.trial)
        bundle = self.executor.stage(measurement, self.lab.program(trial))
        self.lab.ledger.start_measurement(measurement)
        job = _Job(
            priority,
            trial.ordinal,
            measurement.id,
            measurement,
            bundle,
            asyncio.get_running_loop().create_future(),
        )
        self._ready.put_nowait(job)
        self._wanted[measurement.id] = job.done
        try:
            await job.done
        finally:
            del self._wanted[measurement.id]

    async def _slot(self, slot: Any) -> None:
        """Run one measurement after another; the next one starts before the last one is recorded."""
        free_since: float | None = None
        while True:
            await self._unpaused.wait()
            job = await self._next_job()
            if job is None:
                return
            begun = time.perf_counter()
            if free_since is not None:
                self.gaps.append(begun - free_since)
            self.running[slot.index] = job.measurement.replace(started_at=time.time(), slot=slot.index)
            self._emit("started", measurement=self.running[slot.index])
            try:
                result = await self.executor.run(job.bundle, job.measurement, slot)
            except Unstarted as reason:
                self.drain(str(reason))
                return
            finally:
                self.running.pop(slot.index, None)
            free_since = time.perf_counter()
            self.busy_seconds += free_since - begun
            asyncio.get_running_loop().call_soon(self._record, job, result)

    async def _next_job(self) -> _Job | None:
        """The next job, or None as soon as the campaign is draining."""
        if self._draining.is_set():
            return None
        with contextlib.suppress(asyncio.QueueEmpty):
            return self._ready.get_nowait()
        get = asyncio.ensure_future(self._ready.get())
        stop = asyncio.ensure_future(self._draining.wait())
        try:
            await asyncio.wait([get, stop], return_when=asyncio.FIRST_COMPLETED)
            if stop.done() or not self._unpaused.is_set():
                if get.done():
                    self._ready.put_nowait(get.result())
                return None if stop.done() else await self._after_pause()
            return get.result()
        finally:
            get.cancel()
            stop.cancel()

    async def _after_pause(self) -> _Job | None:
        await self._unpaused.wait()
        return await self._next_job()

    def _record(self, job: _Job, result: Measurement) -> None:
        if job.done.done():
            return
        try:
            recorded = self.lab.record(result)
            self.executor.clear(result)
        except Exception as error:
            job.done.set_exception(error)
            return
        self._emit("measured", measurement=recorded)
        job.done.set_result(recorded)

    # judging --------------------------------------------------------------------------------------

    async def _judge_all(self) -> None:
        """Tell outcomes as they come, or in the order in which their trials were opened, and open more."""
        for measurement in self.executor.adopt(self.lab.ledger.begun(self.lab.campaign.id)):
            self._emit("measured", measurement=self.lab.record(measurement))
        self._look_at_costs()  # before an agent is asked again for what it was at
        if self._draining.is_set():
            return
        await self._catch_up()
        self._look_at_costs()
        await self._open_next()
        while self._pipeline or self._at_work:
            step = await (self._next_in_order() if self.harness.ahead is None else self._next_to_end())
            self._heed(step)
            if step.ordinal == 0 and step.status is not Status.OK:
                raise LabError(
                    f"the baseline failed: {step.status}: {step.note}",
                    where=str(self.lab.root),
                    mend="mend the recipe, then `autolab run --new`",
                )
            await self._open_next()
        if not self._draining.is_set():
            dry = "the models' budget is spent" if self._broke else DRY
            self.reason = dry if self._exhausted else "all trials are done"

    async def _next_in_order(self) -> Trial:
        """The outcome of the oldest trial under way."""
        number, brought = self._pipeline[0]
        await brought
        ended = await self._settle(number)
        self._pipeline.popleft()
        return ended

    async def _next_to_end(self) -> Trial:
        """The outcome of whichever trial under way ends first; tasks have settled their trials themselves."""
        number = await self._ended.get()
        self._at_work.pop(number).result()
        return self.lab.ledger.trial(number)

    async def _settle(self, number: int) -> Trial:
        """Measure what is missing of a trial, until it is judged."""
        step = advance(self.lab, number)
        while not isinstance(step, Trial):
            await asyncio.gather(*(self._measure(m, URGENT) for m in step))
            step = advance(self.lab, number)
        return step

    async def _catch_up(self) -> None:
        """Re-enact an earlier run: everybody hears what they knew, in the order in which they learned it. A trial is
        opened again when as many outcomes have been told as were known when it was opened."""
        ledger, campaign = self.lab.ledger, self.lab.campaign.id
        if ledger.newest_promotion(campaign) is not None:
            self._has_master.set()
        untold = min((trial.ordinal for trial in ledger.undone(campaign)), default=None)
        opened = self._openings()
        waiting = next(opened, None)
        for trial in self._outcomes(untold):
            while waiting is not None and (waiting[2] <= self._told or waiting[0].ordinal <= trial.ordinal):
                await self._re_enter(*waiting[:2], untold)
                waiting = next(opened, None)
            self._heed(trial, quiet=True)
        while waiting is not None:
            await self._re_enter(*waiting[:2], untold)
            waiting = next(opened, None)

    def _outcomes(self, untold: int | None) -> Iterator[Trial]:
        """What was told in an earlier run, as it was told: in order up to trial `untold`, or as the trials ended."""
        ledger, campaign = self.lab.ledger, self.lab.campaign.id
        if self.harness.ahead is None:
            yield from itertools.takewhile(lambda trial: trial.ordinal != untold, ledger.sequence(campaign))
            return
        last = 0  # read in pages: no read transaction stays open
        while page := list(itertools.islice(ledger.trials(campaign, after=last), PAGE)):
            # What was opened again may have ended since; it is told in its turn.
            yield from (trial for trial in page if trial.number not in self._at_work)
            last = page[-1].order or last

    def _openings(self) -> Iterator[tuple[Trial, Assignment, int]]:
        """Every trial in the order of opening: what was asked of it, and how many outcomes had been told by then."""
        for trial in self.lab.ledger.sequence(self.lab.campaign.id):
            yield (trial, *self._asked(trial))

    def _asked(self, trial: Trial) -> tuple[Assignment, int]:
        record = assignment(self.lab.ledger, trial.number, self.collaboration.name)
        if not record:
            told = max(0, trial.ordinal - self.window + 1) if self.harness.ahead is None else 0
            return Assignment(role=trial.role, surface=trial.surface), told
        told = record.pop(TOLD)
        return Assignment(**{**record, "of": tuple(record["of"])}), told

    async def _re_enter(self, trial: Trial, asked: Assignment, untold: int | None) -> None:
        """Let everybody, and the pipeline if its outcome is not told yet, know of a trial that was opened before."""
        self._opened = trial.ordinal
        if trial.ordinal > 0:
            self.collaboration.opened(trial, asked)
        if trial.note.startswith(DRY):
            self._run_dry(trial.surface)
        if trial.state is not TrialState.DONE:
            await self._enter(trial, self._bring_again(trial))
            return
        if trial.proposal is not None and trial.ordinal > 0:
            self.harness.tell_proposed(trial.number, trial.proposal, trial.parent_program or "")
        if self.harness.ahead is None and untold is not None and trial.ordinal > untold:
            await self._enter(trial, asyncio.sleep(0))

    def _heed(self, trial: Trial, quiet: bool = False) -> None:
        """Learn from a judged trial, and see whether a limit is reached."""
        self._judged = trial.ordinal
        self._told += 1
        promoted = trial.verdict in PROMOTED
        self._since_promotion = 0 if promoted else self._since_promotion + 1
        if promoted:  # there is a new program to change
            self._dry.clear()
            self._exhausted = self._broke
        if self.population is not None:
            self.population.tell(trial)
        if trial.ordinal > 0:
            self.collaboration.tell(trial)
            self.harness.tell(trial, self.lab.ledger.noise_sd(trial.campaign))
        if not quiet:
            self._emit("promoted" if promoted else "judged", trial)
        patience = self.limits.patience
        if patience is not None and self._since_promotion >= patience:
            self.drain(f"{patience} trials without a promotion")
        self._spent += trial.proposal.cost_usd if trial.proposal else 0.0
        if not quiet:
            self._look_at_costs()

    def _look_at_costs(self) -> None:
        """End when the money is spent. What agents' sessions and jobs cost is in the ledger, also of those that were
        cut off and of earlier runs; it is added up once in a while."""
        dollars, now = self.limits.max_usd, time.monotonic()
        if dollars is None:
            return
        if now - self._costs_at >= COST_SECONDS:
            self._costs, self._costs_at = costs(self.lab.ledger, self.lab.campaign.id)[0], now
        if max(self._spent, self._costs) >= dollars:
            self.drain(f"${dollars:g} are spent")

    # stopping -------------------------------------------------------------------------------------

    def drain(self, reason: str) -> None:
        """Let what is running end, start nothing more."""
        self._unpaused.set()
        if not self._draining.is_set():
            self.reason = reason
            self._draining.set()
            self.executor.wind_down()
            self._emit("draining", text=reason)

    async def _drained(self, slots: list[asyncio.Task[None]]) -> None:
        await self._draining.wait()
        await asyncio.gather(*slots)
        await asyncio.sleep(0)  # the last results are recorded now

    async def _watch(self) -> None:
        """Notice `stop`, `pause` and the deadline."""
        ledger, campaign = self.lab.ledger, self.lab.campaign.id
        deadline = None if self.limits.hours is None else self.started_at + 3600 * self.limits.hours
        seen = -1
        while True:
            if deadline is not None and time.time() >= deadline:
                self.drain(f"{self.limits.hours:g} hours are over")
            if seen != (seen := ledger.changes()):
                state = ledger.campaign(campaign).state
                if state == "stopping":
                    self.drain("stopped by `autolab stop`")
                elif state == "cancelling":
                    self.drain("stopped by `autolab stop --now`")
                    raise asyncio.CancelledError
                elif state == "paused" and self._unpaused.is_set() and not self._draining.is_set():
                    self._unpaused.clear()
                    self._emit("paused")
                elif state == "running" and not self._unpaused.is_set():
                    self._unpaused.set()
                    self._emit("resumed")
            await asyncio.sleep(POLL_SECONDS)

    async def _keep_views(self) -> None:
        while True:
            await asyncio.sleep(VIEW_SECONDS)
            write_views(self.lab.ledger, self.lab.root)

    def _emit(
        self, kind: str, trial: Trial | None = None, measurement: Measurement | None = None, text: str = ""
    ) -> None:
        try:
            self.listener(Event(kind, trial, measurement, text))
        except OSError:  # the terminal or the pipe is gone: end as if asked to
            self.listener = lambda event: None
            self.drain("nobody reads the output any more")

    def utilisation(self) -> float:
        """Share of the slots' time that measurements took since the start."""
        elapsed = (time.time() - self.started_at) * len(self.executor.slots)
        running = sum(time.time() - m.started_at for m in self.running.values())
        return (self.busy_seconds + running) / elapsed if elapsed else 0.0


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

"""What becomes of launched jobs: watched together, ended where nobody waits for them, and what each has cost."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from autolab.errors import LabError
from autolab.execution.executor import Unstarted
from autolab.execution.job_launch import JobSettings
from autolab.execution.patience import Patience, first_of
from autolab.hub.connection import Missing, connect, explained
from autolab.hub.jobs.flavors import Flavor
from autolab.hub.jobs.launching import launched
from autolab.hub.jobs.listing import LAUNCH_LABEL, TERMINAL, UNFINISHED, billed_seconds, end, label, stage_of
from autolab.hub.untrusted import one_line
from autolab.ledger import jobs as rows
from autolab.ledger.jobs import CloudJob
from autolab.ledger.store import Ledger

if TYPE_CHECKING:
    from huggingface_hub import JobInfo

CANCEL_SECONDS = 10.0  # for a job to be cancelled when the campaign is
ENDING_SECONDS = 60.0  # for a cancelled job to end when the campaign winds down


class JobWatch:
    """The jobs of a campaign from their launch to their end, in the ledger as on the Hub.

    `followed` are the tickets of jobs that somebody waits for, `unsure` those with which more than one job may have
    been launched; `freed` is set when a job has ended.
    """

    def __init__(
        self, ledger: Ledger, campaign: str, settings: JobSettings, flavor: Flavor, hub: Patience
    ) -> None:
        self.ledger, self.campaign, self.settings, self.flavor = ledger, campaign, settings, flavor
        self.followed: set[str] = set()
        self.unsure: set[str] = set()
        self.freed = asyncio.Event()
        self._hub = hub
        self._living: asyncio.Task[dict[str, JobInfo]] | None = None
        self._tidying: asyncio.Task[None] | None = None
        self._twins: dict[str, asyncio.Task[None]] = {}  # the ends of second jobs of a launch, by their id

    def begin(self) -> None:
        """End what an earlier process launched and nobody waits for any more; goes on by itself."""
        if self._tidying is None:
            self._tidying = self._beside(self._tidy(), "jobs of an earlier run may still cost")

    def _beside(self, work: Coroutine[Any, Any, None], otherwise: str) -> asyncio.Task[None]:
        """Work that nobody waits for: what goes wrong with it is said."""

        def heed(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (problem := task.exception()) is not None:
                said = str(problem) if isinstance(problem, LabError) else repr(problem)
                self._hub.notice(f"{otherwise}: {one_line(said, 300)}")

        task = asyncio.create_task(work)
        task.add_done_callback(heed)
        return task

    def still_running(self) -> int:
        """How many launched jobs of the campaign have not ended as far as the ledger knows, nor were told to."""
        rows_left = rows.campaign_jobs(self.ledger, self.campaign, unfinished=True)
        return sum(row.id is not None and row.stage != "CANCELED" for row in rows_left)

    async def follow(self, job: CloudJob) -> str:
        """Wait for a launched job to end, and write down what it cost; why it gave no result, or "" if it COMPLETED.

        A job that gets no machine in time is cancelled: its own time limit does not count while it waits for one.
        Raises Unstarted.
        """
        assert job.id is not None
        since, cause = time.monotonic(), ""
        while True:
            info = (await self._look()).get(job.id)
            if info is None:  # it has ended, or the list does not know it yet
                info = await self._found(job.id)
            waited = time.monotonic() - since
            if info is not None and stage_of(info) == "SCHEDULING" and waited > self.settings.queue_seconds:
                cause = f"no machine within {self.settings.queue_seconds:g} s: the job stayed in SCHEDULING"
                info = await self._cancelled(job.id)
            if info is None:
                self.lost(job, job.id)
                return "the Hub knows the job no more"
            if stage_of(info) in TERMINAL:
                break
            rows.note_job(
                self.ledger, job.ticket, id=job.id, stage=stage_of(info), running_seconds=billed_seconds(info)
            )
        self.ended(job, info)
        if stage_of(info) == "COMPLETED":
            return ""
        return (
            cause or f"the job ended as {stage_of(info)}: {info.status.message or 'the Hub does not say why'}"
        )

    async def count_twins(self, job: CloudJob) -> None:
        """Find the jobs that a launch made besides the one that counts, end them, and count what they cost."""
        for info in await self._hub.see_through(self._launched, job.ticket):
            if str(info.id) != job.id:
                with contextlib.suppress(LabError):  # it was said
                    await asyncio.shield(self._ending(job, info))

    async def room(self) -> None:
        """Wait for a job of the campaign to end, so that there may be money again, or for the campaign to wind down.

        Jobs that an earlier process launched have nobody yet who follows them: they are looked after here.
        """
        self.freed.clear()
        await first_of(self.freed, self._hub.winding_down, seconds=max(self.settings.poll_seconds, 1.0))
        for row in rows.campaign_jobs(self.ledger, self.campaign, unfinished=True):
            if row.ticket not in self.followed and not self._hub.winding_down.is_set():
                await self._look_after(row)

    async def _look_after(self, row: CloudJob) -> None:
        id = row.id or await self._hub.insist(self.find, row.ticket)
        info = await self._found(id) if id else None
        too_long = time.time() > row.launched_at + self.settings.queue_seconds
        if info is not None and stage_of(info) == "SCHEDULING" and too_long:
            info = await self._cancelled(str(info.id))
        if row.ticket in self.followed:  # meanwhile
            return
        if id is None:
            self.unsure.add(row.ticket)  # for when it is reserved again
            rows.drop_job(self.ledger, row.ticket)
        elif info is None:
            self.lost(row, id)
        elif stage_of(info) in TERMINAL:
            self.ended(row, info)

    async def give_up(self, ticket: str) -> None:
        """Cancel the job of a campaign that is cancelled; what cannot be cancelled is found at the next start."""
        row = rows.find_job(self.ledger, ticket)
        if row is None or row.ended:
            return
        try:
            id = row.id or await self._hub.call(self.find, ticket, CANCEL_SECONDS)
            if id is None:
                return  # the next start looks for it once more
            info = await self._hub.call(self._end_now, id)
        except LabError as problem:
            named = row.id or row.measurement
            self._hub.notice(f"job {named} may still run, and is found again at the next start: {problem}")
            return
        if stage_of(info) in TERMINAL:
            self.ended(row, info)
        else:  # on its way out; the next start writes down what it cost
            rows.note_job(self.ledger, ticket, id=id, stage="CANCELED", running_seconds=billed_seconds(info))

    # the ledger ------------------------------------------------------------------------------------

    def ended(self, job: CloudJob, info: JobInfo) -> None:
        """Write down a job's end and its cost."""
        seconds = billed_seconds(info)
        rows.note_job(
            self.ledger, job.ticket, id=str(info.id), stage=stage_of(info), running_seconds=seconds,
            cost_usd=self._cost(seconds),
        )  # fmt: skip
        self.freed.set()

    def lost(self, job: CloudJob, id: str) -> None:
        """A job that the Hub knows no more: what it was seen to run for is its cost."""
        seen = rows.find_job(self.ledger, job.ticket)
        assert seen is not None
        rows.note_job(
            self.ledger, job.ticket, id=id, stage="DELETED", running_seconds=seen.running_seconds,
            cost_usd=self._cost(seen.running_seconds),
        )  # fmt: skip
        self.freed.set()

    def _cost(self, seconds: float) -> float:
        return self.flavor.cost(seconds) if seconds > 0 else 0.0

    # looking at all jobs at once -------------------------------------------------------------------

    async def _look(self) -> dict[str, JobInfo]:
        """The campaign's jobs that have not ended: one request for all who wait, every few seconds."""
        self.begin()
        if self._living is None or self._living.done():
            self._living = asyncio.create_task(self._look_once())
        return await asyncio.shield(self._living)

    async def _look_once(self) -> dict[str, JobInfo]:
        await asyncio.sleep(self.settings.poll_seconds)
        living = await self._hub.see_through(self._list)
        for id, info in living.items():
            row = rows.find_job(self.ledger, str((info.labels or {}).get(LAUNCH_LABEL, "")))
            if row is not None and row.id not in (None, id):  # None: its launch is not answered yet
                self.unsure.add(row.ticket)  # who follows it waits for the end of the twin
                self._ending(row, info)
        return living

    def _ending(self, row: CloudJob, info: JobInfo) -> asyncio.Task[None]:
        """The end of a second job, begun once: others who look at the list do not wait for it."""
        id = str(info.id)
        if id not in self._twins:
            otherwise = f"job {id} was launched twice and may still cost"
            self._twins[id] = self._beside(self._end_twin(row, info), otherwise)
        return self._twins[id]

    async def _end_twin(self, row: CloudJob, info: JobInfo) -> None:
        last = info if stage_of(info) in TERMINAL else await self._cancelled(str(info.id))
        if last is None:
            return
        seconds = billed_seconds(last)
        rows.note_duplicate(
            self.ledger, row.ticket, id=str(last.id), stage=stage_of(last), running_seconds=seconds,
            cost_usd=self._cost(seconds),
        )  # fmt: skip
        self._hub.notice(f"job {last.id} was launched twice, for {row.measurement}: it counts only as a cost")

    async def _tidy(self) -> None:
        for row in rows.campaign_jobs(self.ledger, self.campaign, unfinished=True):
            cancelled = row.stage == "CANCELED"  # by an earlier process, which did not see its end
            if row.ticket in self.followed or (rows.is_wanted(self.ledger, row) and not cancelled):
                continue
            try:
                id = row.id or await self._hub.insist(self.find, row.ticket)
                info = await self._cancelled(id) if id else None
            except Unstarted:
                return
            except LabError as problem:
                self._hub.notice(
                    f"job {row.id or row.measurement} of an earlier run may still cost: {problem}"
                )
                continue
            if id is None:
                rows.drop_job(self.ledger, row.ticket)
            elif info is None:
                self.lost(row, id)
            else:
                self.ended(row, info)
                if not cancelled:
                    self._hub.notice(f"job {id} was nobody's any more: it is ended")

    # the Hub ---------------------------------------------------------------------------------------

    def find(self, ticket: str, seconds: float = math.inf) -> str | None:
        """The id of the job that carries a ticket, or None."""
        found = launched(connect(seconds=seconds), self.settings.namespace, ticket)
        return str(found[0].id) if found else None

    async def _found(self, id: str) -> JobInfo | None:
        """What the Hub says of a job, or None if it knows it no more."""
        try:
            return await self._hub.see_through(self._inspect, id)
        except Missing:
            return None

    async def _cancelled(self, id: str) -> JobInfo | None:
        """End a job and wait until it has ended, for a job can complete meanwhile; None if there is none any more."""
        given_up_at = math.inf
        while True:
            try:
                await self._hub.see_through(self._end, id)
                info = await self._hub.see_through(self._inspect, id)
            except Missing:
                return None
            if stage_of(info) in TERMINAL:
                return info
            if self._hub.winding_down.is_set():
                given_up_at = min(given_up_at, time.monotonic() + ENDING_SECONDS)
            if time.monotonic() >= given_up_at:
                raise Unstarted(f"job {id} takes its time to end")
            await asyncio.sleep(self.settings.poll_seconds)

    def _end_now(self, id: str) -> JobInfo:
        """End a job, and wait for a moment for it to have ended."""
        self._end(id, CANCEL_SECONDS)
        for pause in (0.2, 1.0, 3.0, 0.0):
            info = self._inspect(id, CANCEL_SECONDS)
            if stage_of(info) in TERMINAL:
                break
            time.sleep(pause)
        return info

    def _launched(self, ticket: str) -> list[JobInfo]:
        return launched(connect(seconds=math.inf), self.settings.namespace, ticket)

    def _inspect(self, id: str, seconds: float = math.inf) -> JobInfo:
        with explained(f"job {id}"):
            return connect(seconds=seconds).inspect_job(job_id=id, namespace=self.settings.namespace)

    def _end(self, id: str, seconds: float = math.inf) -> None:
        end(connect(seconds=seconds), self.settings.namespace, id)

    def _list(self) -> dict[str, JobInfo]:
        with explained(f"the jobs of {self.settings.namespace}"):
            found = connect(seconds=math.inf).list_jobs(
                namespace=self.settings.namespace,
                status=list(UNFINISHED),
                labels={"campaign": label(self.campaign)},
            )
            return {str(info.id): info for info in found}

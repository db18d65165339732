"""Measure as HF Jobs: one job for each measurement, with the same bundle and the same runner as on this machine.

What is sure whatever happens to the lab, the network or the Hub: a job is reserved in the ledger before it is
launched, so it is launched once, found again after a crash and never over the budget; a result counts only if the job
COMPLETED and its receipt agrees with what was sent; what the Hub refuses for now makes the campaign wait, not fail.
A job gets no token and no secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import math
import re
import shutil
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolab.errors import LabError
from autolab.execution import job_store
from autolab.execution.bundle import MeasurementResult, infra_error
from autolab.execution.data import MANIFEST, Data
from autolab.execution.executor import Unstarted, clear_bundle, finished, stage_bundle
from autolab.execution.job_launch import (
    MOUNT,
    JobSettings,
    Launch,
    labels_for,
    launch_or_find,
    most_usd,
    timeout_seconds,
)
from autolab.execution.job_store import Forged, NotYet, Packed
from autolab.execution.job_watch import JobWatch
from autolab.execution.patience import Patience, first_of
from autolab.hub.connection import Missing, connect
from autolab.hub.data.sharing import share
from autolab.hub.jobs.flavors import Flavor
from autolab.hub.jobs.listing import stage_of
from autolab.hub.untrusted import one_line
from autolab.ledger import jobs as rows
from autolab.ledger.jobs import CloudJob, OverBudget
from autolab.ledger.records import Campaign, Measurement
from autolab.ledger.store import Ledger
from autolab.program.hashing import Files
from autolab.task import Task

if TYPE_CHECKING:
    from huggingface_hub import JobInfo, Volume

LATE_SECONDS = 90.0  # within which the files of a completed job must have arrived
LATE_LOOK_SECONDS = 1.0
MISSING_TRIES, MISSING_SECONDS = 3, 2.0  # to make anew what was deleted from the Hub, and between two tries
REUSABLE = ("screen", "replicate", "confirm")  # stages that a repeated campaign need not pay for again
HOST = 80  # characters of a host's name
LAUNCH_SECONDS = 60.0  # for a launch to be answered or not, when the campaign is cancelled meanwhile
_FILLER = re.compile(r"\((?:R|TM|C)\)|\b(?:CPU|Processor)\b|@", re.IGNORECASE)


@dataclass(frozen=True)
class JobSlot:
    """Room for one job at a time."""

    index: int


class HfJobsExecutor:
    """HF Jobs: as many at once as there are slots. `limit_usd` is what the whole campaign may cost; with `reuse` a
    result of the same program under the same comparability key, of the same stage and with the same seeds is not
    paid for again, whether this lab has it or one that shares the bucket."""

    name = "hf-jobs"

    def __init__(
        self,
        ledger: Ledger,
        campaign: Campaign,
        runs: Path,
        task: Task,
        protected: Files,
        data: Data,
        settings: JobSettings,
        flavor: Flavor,
        *,
        slots: int,
        limit_usd: float | None,
        reuse: bool,
    ) -> None:
        self.ledger, self.campaign, self.runs, self.task = ledger, campaign, runs, task
        self.protected, self.data, self.settings, self.flavor = protected, data, settings, flavor
        self.slots = [JobSlot(index) for index in range(slots)]
        self.limit_usd, self.reuse = limit_usd, reuse
        self._hub = Patience(2 * slots + 2)
        self._watch = JobWatch(ledger, campaign.id, settings, flavor, self._hub)
        self._runs_now = 0
        self._sent: asyncio.Task[tuple[str, tuple[Volume, str] | None]] | None = None

    @property
    def notice(self) -> Callable[[str], None]:
        """Hears what a person should know: why nothing happens just now."""
        return self._hub.notice

    @notice.setter
    def notice(self, hear: Callable[[str], None]) -> None:
        self._hub.notice = hear

    def stage(self, measurement: Measurement, program: Files, pace: dict[str, Any] | None = None) -> Path:
        """Write the bundle under the measurement's name. Raises LabError (a full disk, say)."""
        # The lab's own secret names the launches, so it never leaves the lab.
        secret = hashlib.sha256(f"{self.ledger.meta('secret')}/jobs".encode()).hexdigest()
        bundle = stage_bundle(
            self.runs, self.task, self.protected, secret, measurement, program,
            sandbox="none", data=None, python="python",
        )  # fmt: skip
        if pace is not None:
            (bundle / "pace.json").write_text(json.dumps(pace), encoding="utf-8")
        return bundle

    async def run(self, bundle: Path, measurement: Measurement, slot: JobSlot) -> Measurement:
        """The bundle's measurement: known already, or from a job. Raises Unstarted when the campaign is winding
        down and the Hub or the budget does not let it go on; nothing is lost then."""
        self._runs_now += 1
        try:
            done = await self._run(bundle, measurement)
            return done.replace(slot=slot.index, cost_usd=rows.paid_usd(self.ledger, measurement.id))
        finally:
            self._runs_now -= 1
            if self._hub.winding_down.is_set():
                self._say_what_runs()

    async def _run(self, bundle: Path, measurement: Measurement) -> Measurement:
        started = time.time()
        packed: Packed | None = None
        job = self._left_behind(measurement)  # what is launched is paid for: whether it is known is not asked
        if job is not None:
            self._watch.unsure.add(job.ticket)
        elif (known := await self._known(measurement)) is not None:
            return known.replace(started_at=started, finished_at=time.time())
        else:
            packed = await self._hub.call(job_store.pack, bundle)
            job = await self._reserve(measurement, packed)
        # Before anything is awaited: what nobody follows, the other slots look after.
        self._watch.followed.add(job.ticket)
        try:
            if job.id is None:
                if packed is None:
                    packed = await self._hub.call(job_store.pack, bundle)
                job = await self._uninterrupted(self._launch(job, measurement, packed))
            return await self._measured(job, measurement)
        except asyncio.CancelledError:
            await self._watch.give_up(job.ticket)
            raise
        finally:
            self._watch.followed.discard(job.ticket)
            self._watch.freed.set()

    def clear(self, measurement: Measurement) -> None:
        """Delete a bundle whose result is in the ledger."""
        clear_bundle(self.runs, measurement)

    def adopt(self, waiting: Sequence[Measurement]) -> list[Measurement]:
        """Nothing yet: `run` finds the job that an earlier process launched for a measurement. Jobs that nobody
        waits for any more are ended from now on, beside everything else; bundles that nobody needs go at once."""
        self._watch.begin()
        needed = {measurement.id for measurement in waiting}
        for left in self.runs.iterdir() if self.runs.is_dir() else ():
            if left.is_dir() and left.name not in needed:
                shutil.rmtree(left, ignore_errors=True)
        return []

    def wind_down(self) -> None:
        """Wait for nothing any more that has not begun."""
        if not self._hub.winding_down.is_set():
            self._hub.winding_down.set()
            self._say_what_runs()

    def _say_what_runs(self) -> None:
        """With the last measurement under way: say that the campaign ends before its jobs do."""
        count = 0 if self._runs_now else self._watch.still_running()
        if count:
            jobs, them = ("1 job still runs", "it") if count == 1 else (f"{count} jobs still run", "them")
            self.notice(f"{jobs}; the next start goes on with {them}")

    # what is known already -------------------------------------------------------------------------

    def _key(self, measurement: Measurement) -> str:
        program = self.ledger.trial(measurement.trial).program or ""
        return job_store.measurement_key(program, self.campaign.key, measurement)

    async def _known(self, measurement: Measurement) -> Measurement | None:
        """The result of the same program, seeds and stage under the same key, ours or a colleague's."""
        if not self.reuse or not _is_reusable(measurement):
            return None
        program = self.ledger.trial(measurement.trial).program or ""
        same = rows.measured_before(self.ledger, self.campaign.key, program, measurement)
        if same is not None:
            own = {name: getattr(measurement, name) for name in ("id", "trial", "stage", "attempt")}
            return same.replace(**own, score=None, cached_from=same.id, job="")
        bucket, key = self.settings.bucket, self._key(measurement)
        try:
            found = await self._hub.insist(
                lambda: job_store.shared_result(connect(seconds=math.inf), bucket, key)
            )
        except Unstarted:
            raise
        except LabError:
            return None  # it only saves money; a bucket that was deleted is made anew by the launch
        if found is None:
            return None
        host = host_name(self.settings.flavor, found[1].machine)
        return finished(measurement, found[1], 0).replace(cached_from=found[0], host=host)

    # launching -------------------------------------------------------------------------------------

    def _left_behind(self, measurement: Measurement) -> CloudJob | None:
        """The launch of an earlier process, running or ended; one that was cancelled on purpose is launched anew."""
        launches = rows.jobs_of(self.ledger, measurement.id)
        return launches[-1] if launches and launches[-1].stage != "CANCELED" else None

    async def _reserve(self, measurement: Measurement, packed: Packed) -> CloudJob:
        most = most_usd(self.flavor, self._timeout(measurement))
        while True:
            try:
                return rows.reserve(
                    self.ledger, self.campaign.id, measurement, bundle=packed.sha256, flavor=self.flavor.name,
                    most_usd=most, limit=self.limit_usd,
                )  # fmt: skip
            except OverBudget as problem:
                if not problem.committed or self._hub.winding_down.is_set():
                    raise Unstarted(f"the budget is used up: {problem}") from None
            await self._watch.room()  # what runs may turn out to cost less than it could

    def _timeout(self, measurement: Measurement) -> int:
        return timeout_seconds(self.task.budget, measurement.stage, self.settings.packages)

    async def _launch(self, job: CloudJob, measurement: Measurement, packed: Packed) -> CloudJob:
        """Launch a reserved job once. Where a launch may have been heard before, a job with its ticket is looked for
        first."""
        trial = self.ledger.trial(measurement.trial)
        labels = labels_for(trial, measurement, self.ledger.meta("lab") or "", self.campaign.key)
        if job.bundle != packed.sha256 and await self._hub.insist(self._watch.find, job.ticket) is None:
            # Another version of the lab stages other bundles; a receipt has the hash of the one that was launched.
            rows.note_bundle(self.ledger, job.ticket, packed.sha256)
            job = self._row(job)
        timeout, unsure, tries = self._timeout(measurement), job.ticket in self._watch.unsure, 0

        def launch_it(runner: str, data: tuple[Volume, str] | None) -> JobInfo:
            nonlocal tries
            tries += 1
            launch = Launch(job, packed, runner, data, timeout, labels)
            return launch_or_find(self.settings, launch, fresh=tries == 1 and not unsure)

        try:
            info = await self._with_what_it_mounts(packed, launch_it)
        except LabError:
            if not tries and not unsure:
                rows.drop_job(self.ledger, job.ticket)
            raise
        if tries > 1:
            self._watch.unsure.add(job.ticket)
        rows.note_job(self.ledger, job.ticket, id=str(info.id), stage=stage_of(info))
        return self._row(job)

    async def _with_what_it_mounts(
        self, packed: Packed, launch_it: Callable[[str, tuple[Volume, str] | None], JobInfo]
    ) -> JobInfo:
        """Launch a job when everything that it mounts is on the Hub; what was deleted there is sent again."""
        missed = 0
        while True:
            try:
                sent = await self._send_shared()
                await self._hub.insist(
                    lambda: job_store.put_bundle(connect(seconds=math.inf), self.settings.bucket, packed)
                )
                return await self._hub.insist(launch_it, *sent)
            except Missing as problem:
                self._sent, missed = None, missed + 1
                if self._hub.winding_down.is_set():
                    raise Unstarted(str(problem)) from None
                if missed > MISSING_TRIES:
                    raise
                self.notice(f"what jobs mount is sent again: {problem}")
                await first_of(self._hub.winding_down, seconds=MISSING_SECONDS)

    async def _uninterrupted(self, launching: Coroutine[Any, Any, CloudJob]) -> CloudJob:
        """A launch that is cancelled is waited for all the same: else nobody would know whether there is a job."""
        task = asyncio.create_task(launching)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.wind_down()
            await asyncio.wait([task], timeout=LAUNCH_SECONDS)
            raise

    async def _send_shared(self) -> tuple[str, tuple[Volume, str] | None]:
        """The runner's folder in the bucket, and the volume of the data; sent once for all jobs."""
        if self._sent is None or (self._sent.done() and self._sent.exception() is not None):
            self._sent = asyncio.create_task(self._hub.insist(self._send))
        return await asyncio.shield(self._sent)

    def _send(self) -> tuple[str, tuple[Volume, str] | None]:
        from huggingface_hub import Volume

        api, settings = connect(seconds=math.inf), self.settings
        job_store.ensure_bucket(api, settings.bucket)
        runner = job_store.put_runner(api, settings.bucket)
        folder = self.data.directory
        if folder is None or all(path.name == MANIFEST for path in folder.iterdir()):
            return runner, None
        shared = share(api, folder.parent, folder, settings.data_repo)
        volume = Volume(
            type="dataset", source=shared.repo, revision=shared.revision, path=shared.path,
            mount_path=f"{MOUNT}/data", read_only=True,
        )  # fmt: skip
        return runner, (volume, hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest())

    # collecting ------------------------------------------------------------------------------------

    async def _measured(self, job: CloudJob, measurement: Measurement) -> Measurement:
        """What a launched job measured, or what went wrong with it."""
        cause = await self._watch.follow(job)
        if job.ticket in self._watch.unsure:
            await self._watch.count_twins(job)
        if not cause:
            return await self._collected(job, measurement)
        if cause.startswith("the job ended"):
            with contextlib.suppress(LabError, Forged):
                said = await self._hub.call(
                    lambda: job_store.last_words(connect(), self.settings.bucket, job.ticket)
                )
                cause += f": {said}" if said else ""
        return self._failed(job, measurement, cause)

    async def _collected(self, job: CloudJob, measurement: Measurement) -> Measurement:
        """What a completed job left in the bucket, if everything agrees."""
        bucket, deadline = self.settings.bucket, time.monotonic() + LATE_SECONDS

        def take() -> Any:
            api = connect(seconds=math.inf)
            return job_store.take_result(api, bucket, job.ticket, job.bundle, measurement.id)

        while True:
            try:
                result = await self._hub.see_through(take)
                break
            except (NotYet, Missing):
                if time.monotonic() > deadline:
                    return self._failed(job, measurement, "the job completed and left no result")
                await asyncio.sleep(LATE_LOOK_SECONDS)
            except Forged as problem:
                return self._failed(job, measurement, f"not a result: {problem}")
        if _is_reusable(measurement) and job_store.is_shareable(result):
            key = self._key(measurement)
            with contextlib.suppress(LabError, Forged):  # it only saves others money
                await self._hub.call(
                    lambda: job_store.share_result(connect(), bucket, key, job.ticket, measurement.id)
                )
        return self._paid(job, measurement, result)

    def _failed(self, job: CloudJob, measurement: Measurement, cause: str) -> Measurement:
        """The job, not the program, came to nothing; the lab tries again with another attempt."""
        result = infra_error(measurement.id, f"{cause[:300]} (job {job.id})")
        return self._paid(job, measurement, result)

    def _paid(self, job: CloudJob, measurement: Measurement, result: MeasurementResult) -> Measurement:
        now, measured = time.time(), finished(measurement, result, 0)
        # Its clock may be ahead of ours.
        return measured.replace(
            job=job.id or "", host=host_name(self.settings.flavor, result.machine),
            started_at=min(measured.started_at, now), finished_at=min(measured.finished_at, now),
        )  # fmt: skip

    def _row(self, job: CloudJob) -> CloudJob:
        found = rows.find_job(self.ledger, job.ticket)
        assert found is not None
        return found


def host_name(flavor: str, machine: str) -> str:
    """Where a job ran, in at most HOST characters. A container's own name says nothing, and a flavor can be of several
    kinds of machines, which are told apart here; `machine` is empty in results of older runners."""
    kind = " ".join(_FILLER.sub(" ", one_line(machine, 4 * HOST)).split())
    name = f"{flavor} ({kind})" if kind else flavor
    if len(name) <= HOST:
        return name
    return f"{name[: HOST - 6].rstrip()}…{hashlib.sha256(name.encode()).hexdigest()[:4]})"


def _is_reusable(measurement: Measurement) -> bool:
    """Whether a result may stand in for an equal one. What is wanted as fresh evidence is always measured: replays,
    controls, and each look at the sealed split."""
    return measurement.stage in REUSABLE

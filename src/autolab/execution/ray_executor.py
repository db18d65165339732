"""Measure on a Ray cluster: one task for each measurement, with the same bundle and the same runner as on this machine.

What is sure whatever happens to the cluster: Ray itself never tries again, so a measurement runs once and its attempts
are the lab's; a lost node, a killed worker or a task that Ray ends is an `infra_error`, never a score; a result counts
only if its receipt agrees with what was sent. Tasks belong to this process: when it dies, Ray ends them, and the runner
ends everything when its worker does. A task gets no token and no secret of the lab.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import shutil
import tarfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolab.execution import ray_node
from autolab.execution.bundle import MeasurementResult, infra_error
from autolab.execution.data import MANIFEST, Data
from autolab.execution.executor import Unstarted, clear_bundle, finished, stage_bundle
from autolab.execution.hf_jobs import host_name
from autolab.execution.job_launch import timeout_seconds
from autolab.execution.job_store import Forged, Packed, agreed_result, pack, runner_files
from autolab.execution.ray_cluster import Need, digest_of, explained, node_task
from autolab.ledger.records import Measurement
from autolab.program.hashing import Files
from autolab.task import Task

LOOK_SECONDS = 10.0  # between two questions whether a task has begun
ANSWER_SECONDS = 60.0  # for a node to say when a task began; a cut connection may never tell
CROWDED_SECONDS = 60.0  # without room in the cluster, after which a person is told so
HANDOVER_SECONDS = 600.0  # for a node to fetch what it lacks and hand back, beside the runner's own limit
END_SECONDS = 30.0  # for a cancelled task to end everything before its worker is killed


@dataclass(frozen=True)
class RaySlot:
    """Room for one task at a time."""

    index: int


@dataclass(frozen=True)
class _Shipped:
    """What all tasks share, in Ray's object store: the runner's files, and how a node comes by the data."""

    files: list[Any]
    digest: str
    data: dict[str, Any] | None
    starts: Any


class RayExecutor:
    """A Ray cluster that `ray` is connected to: as many tasks at once as there are slots; who waits for room in the
    cluster for long says so, and goes on waiting."""

    name = "ray"

    def __init__(
        self,
        ray: Any,
        runs: Path,
        task: Task,
        protected: Files,
        data: Data,
        secret: str,
        need: Need,
        *,
        slots: int,
    ) -> None:
        self.ray, self.runs, self.task, self.protected, self.data = ray, runs, task, protected, data
        # The lab's own secret never leaves the lab.
        self.secret = hashlib.sha256(f"{secret}/ray".encode()).hexdigest()
        self.need = need
        self.slots = [RaySlot(index) for index in range(slots)]
        self.notice: Callable[[str], None] = lambda text: None
        self._winding_down = asyncio.Event()
        self._shipping: asyncio.Task[_Shipped] | None = None
        self._told = False

    def stage(self, measurement: Measurement, program: Files, pace: dict[str, Any] | None = None) -> Path:
        """Write the bundle under the measurement's name. Raises LabError (a full disk, say)."""
        bundle = stage_bundle(
            self.runs, self.task, self.protected, self.secret, measurement, program,
            sandbox="none", data=None, python="python",
        )  # fmt: skip
        if pace is not None:
            (bundle / "pace.json").write_text(json.dumps(pace), encoding="utf-8")
        return bundle

    async def run(self, bundle: Path, measurement: Measurement, slot: RaySlot) -> Measurement:
        """The bundle's measurement, from a task. Raises Unstarted when the campaign is winding down and the cluster
        has no room, or when the cluster is gone; nothing is lost then."""
        started = time.time()
        try:
            result = await self._measured(pack(bundle), measurement)
        except ConnectionError as problem:
            raise Unstarted(f"the Ray cluster is gone: {problem}") from None
        now, done = time.time(), finished(measurement, result, slot.index)
        # The node's clock may be ahead of ours. Nodes of one kind are one host: pods come and go under new names.
        return done.replace(
            host=host_name(self.name, result.machine),
            started_at=min(max(done.started_at, started), now),
            finished_at=min(done.finished_at, now),
        )

    def clear(self, measurement: Measurement) -> None:
        """Delete a bundle whose result is in the ledger."""
        clear_bundle(self.runs, measurement)

    def adopt(self, waiting: Sequence[Measurement]) -> list[Measurement]:
        """Nothing: tasks end with the process that started them, and bundles are staged anew."""
        for left in self.runs.iterdir() if self.runs.is_dir() else ():
            shutil.rmtree(left, ignore_errors=True)
        return []

    def wind_down(self) -> None:
        """Wait for room in the cluster no more."""
        self._winding_down.set()

    # one task -------------------------------------------------------------------------------------

    async def _measured(self, packed: Packed, measurement: Measurement) -> MeasurementResult:
        launch, seconds = uuid.uuid4().hex, timeout_seconds(self.task.budget, measurement.stage, ())
        shipped = await self._ship()
        task = node_task(self.ray, ray_node.measure).options(
            num_cpus=self.need.cpus, num_gpus=self.need.gpus, memory=self.need.memory, name=measurement.id
        )
        reference = task.remote(
            launch, (packed.content, packed.sha256), shipped.files, shipped.digest, shipped.data, shipped.starts,
            gpu=self.need.gpus > 0, seconds=seconds,
        )  # fmt: skip
        answer = asyncio.wrap_future(reference.future())
        errors = self.ray.exceptions
        try:
            late = await self._wait(answer, launch, shipped.starts, seconds + HANDOVER_SECONDS)
            if late:
                await self._end(reference, answer, force=True)
                return infra_error(measurement.id, late)
            left = answer.result()
            return agreed_result(left["receipt"], left["result"], launch, packed.sha256, measurement.id)
        except (asyncio.CancelledError, Unstarted):
            await self._end(reference, answer, force=False)
            raise
        except Forged as problem:
            return infra_error(measurement.id, f"not a result: {problem}")
        except errors.RayError as error:
            if isinstance(error, errors.ObjectLostError):
                self._shipping = None  # lost with its node; the next attempt ships it again
            return infra_error(measurement.id, f"the task came to nothing: {explained(error)}")
        finally:
            with contextlib.suppress(Exception):
                shipped.starts.forget.remote(launch)

    async def _wait(self, answer: asyncio.Future[Any], launch: str, starts: Any, seconds: float) -> str:
        """Wait until a task has ended; why it has to be ended if it ran for longer than `seconds`. Raises Unstarted
        if it has not begun while the campaign winds down."""
        began, asked_at = None, time.monotonic()
        ending = asyncio.ensure_future(self._winding_down.wait())
        try:
            while not answer.done():
                left = LOOK_SECONDS if began is None else began + seconds - time.monotonic()
                if left <= 0:
                    return f"the task hung: still there after {seconds:g} s"
                both = {answer} if began is not None or ending.done() else {answer, ending}
                await asyncio.wait(both, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if began is None and not answer.done():
                    began = await self._begun(launch, starts, asked_at)
                    if began is None and ending.done():
                        raise Unstarted("the Ray cluster has no room for the next measurement")
                    self._say_if_crowded(began is None and time.monotonic() - asked_at > CROWDED_SECONDS)
        finally:
            ending.cancel()
        return ""

    async def _begun(self, launch: str, starts: Any, asked_at: float) -> float | None:
        """When a task began, by our monotonic clock; None if it waits for room."""
        try:
            answer = asyncio.wrap_future(starts.seconds_ago.remote(launch).future())
            ago = await asyncio.wait_for(answer, ANSWER_SECONDS)
        except (self.ray.exceptions.RayActorError, TimeoutError):
            self._shipping = None  # who knew it is lost with its node; tasks to come get another
            return asked_at
        return None if ago is None else time.monotonic() - ago

    def _say_if_crowded(self, crowded: bool) -> None:
        if crowded and not self._told:
            self._told = True
            self.notice(f"waiting for the Ray cluster: no room for a measurement of {self.need}")

    async def _end(self, reference: Any, answer: asyncio.Future[Any], *, force: bool) -> None:
        """Cancel a task and wait until its processes have ended; a worker that does not obey is killed."""
        for forced in (True,) if force else (False, True):
            with contextlib.suppress(Exception):
                self.ray.cancel(reference, force=forced)
            deadline = time.monotonic() + END_SECONDS
            while not answer.done() and time.monotonic() < deadline:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([answer], timeout=deadline - time.monotonic())
            if answer.done():
                break
        if answer.done() and not answer.cancelled():
            answer.exception()  # it is known how it ended

    # what all tasks share ---------------------------------------------------------------------------

    async def _ship(self) -> _Shipped:
        """Put into the cluster what all tasks share, once."""
        if self._shipping is None or (self._shipping.done() and self._shipping.exception() is not None):
            self._shipping = asyncio.create_task(asyncio.to_thread(self._put))
        return await asyncio.shield(self._shipping)

    def _put(self) -> _Shipped:
        ray = self.ray
        runner, content = runner_files()
        ray.cloudpickle.register_pickle_by_value(ray_node)
        starts = ray.remote(num_cpus=0)(ray_node.Starts).remote()
        folder, data = self.data.directory, None
        if folder is not None and any(path.name != MANIFEST for path in folder.iterdir()):
            manifest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
            data = {"path": str(folder), "manifest": manifest, "tar": [ray.put(_tar(folder))]}
        return _Shipped([ray.put(content)], digest_of(runner), data, starts)


def _tar(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder, arcname=".")
    return buffer.getvalue()

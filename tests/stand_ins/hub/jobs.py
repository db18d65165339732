"""Jobs: prices, queue, logs; a job is really run, as a local process with a clean environment."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from stand_ins.hub.routing import HttpError, Routes

routes = Routes()
TERMINAL = {"COMPLETED", "CANCELED", "ERROR", "DELETED"}
HARDWARE = [
    ("cpu-basic", "CPU Basic", "2 vCPU", "16 GB", None, 167),
    ("t4-small", "Nvidia T4 - small", "4 vCPU", "15 GB", ("T4", "1", "16 GB"), 6667),
    ("a100-large", "Nvidia A100 - large", "12 vCPU", "142 GB", ("A100", "1", "80 GB"), 41667),
    ("h200", "Nvidia H200", "23 vCPU", "256 GB", ("H200", "1", "141 GB"), 83333),
]  # name, title, cpu, memory, accelerator (model, how many, memory), micro-dollars a minute


def now() -> str:
    """The time as the Hub writes it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


@dataclass
class Job:
    """One job and the process behind it."""

    owner: str
    spec: dict[str, Any]
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:24])
    stage: str = "SCHEDULING"
    message: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    log: list[dict[str, str]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    process: subprocess.Popen[str] | None = None
    created_at: str = field(default_factory=now)
    times: list[float] = field(default_factory=lambda: [time.time()])  # made, started, ended

    def facts(self) -> dict[str, Any]:
        """What the Hub's API says of it. There is no exit code, and secrets are names only."""
        end = self.times[2] if len(self.times) > 2 else time.time()
        durations = {"totalSecs": int(end - self.times[0])}
        if len(self.times) > 1:
            durations["runningSecs"] = int(end - self.times[1])
        return {
            "id": self.id, "createdAt": self.created_at, "dockerImage": self.spec.get("dockerImage"),
            "command": self.spec["command"], "arguments": self.spec.get("arguments", []),
            "environment": self.spec.get("environment", {}), "secrets": sorted(self.spec.get("secrets", {})),
            "flavor": self.spec["flavor"], "labels": self.labels, "durations": durations,
            "status": {"stage": self.stage, "message": self.message},
            "owner": {"id": f"u-{self.owner}", "name": self.owner, "type": "user"},
        }  # fmt: skip

    def say(self, line: str) -> None:
        """One more line of the log."""
        with self.changed:
            self.log.append({"data": line, "timestamp": now()})
            self.changed.notify_all()

    def finish(self, stage: str, message: str | None = None) -> None:
        """The end; a later one does not count."""
        with self.changed:
            if self.stage in TERMINAL:
                return
            self.stage, self.message = stage, message
            self.times = [*self.times[:1], *(self.times[1:2] or [time.time()]), time.time()]
            self.changed.notify_all()

    def kill(self) -> None:
        """End the process and everything it started."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def run(self, scheduling_seconds: float) -> None:
        """Wait for a machine, then run the command until it ends or its time is over."""
        with self.changed:
            self.changed.wait_for(lambda: self.stage in TERMINAL, scheduling_seconds)
            if self.stage in TERMINAL:
                return
            self.stage = "RUNNING"
            self.times.append(time.time())
        self.say("===== Job started =====")
        secrets, plain = self.spec.get("secrets", {}), self.spec.get("environment", {})
        with tempfile.TemporaryDirectory(prefix="hub-job-") as work:
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": work,
                "JOB_ID": self.id,
                "PYTHONUNBUFFERED": "1",
            }
            try:
                self.process = subprocess.Popen(
                    [*self.spec["command"], *self.spec.get("arguments", [])],
                    cwd=work, env={**environment, **plain, **secrets}, stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                self.finish("ERROR", f"cannot start: {error}")
                return
            if self.stage in TERMINAL:  # cancelled while it started
                self.kill()
            over = threading.Event()
            timer = threading.Timer(self.spec.get("timeoutSeconds", 1800), lambda: (over.set(), self.kill()))
            timer.daemon = True
            timer.start()
            assert self.process.stdout is not None
            for line in self.process.stdout:
                self.say(line.rstrip("\n"))
            code = self.process.wait()
            timer.cancel()
            if over.is_set():
                self.finish("ERROR", "Job timeout")
            else:
                self.finish(
                    *(("COMPLETED",) if code == 0 else ("ERROR", f"Job failed with exit code: {code}"))
                )


def _find(hub: Any, owner: str, job: str) -> Job:
    found: Job | None = hub.jobs.get(job)
    if found is None or found.owner != owner:
        raise HttpError(404, "Job not found")
    return found


@routes.add("GET", "/api/jobs/hardware")
def _hardware(call: Any, hub: Any) -> None:
    call.json([
        {"name": name, "prettyName": title, "cpu": cpu, "ram": memory, "ephemeralStorage": "50 GB",
         "unitCostMicroUSD": price, "unitCostUSD": price / 1e6, "unitLabel": "minute",
         "accelerator": gpu and {"type": "gpu", "model": gpu[0], "quantity": gpu[1], "vram": gpu[2],
                                 "manufacturer": "Nvidia"}}
        for name, title, cpu, memory, gpu, price in HARDWARE
    ])  # fmt: skip


@routes.add("POST", "/api/jobs/{owner}")
def _launch(call: Any, hub: Any, owner: str) -> None:
    call.writer(owner)
    spec = json.loads(call.body)
    if spec.get("flavor") not in {row[0] for row in HARDWARE}:
        raise HttpError(400, f"Invalid flavor {spec.get('flavor')!r}")
    job = Job(owner, spec, labels=spec.get("labels", {}))
    hub.jobs[job.id] = job
    threading.Thread(target=job.run, args=(hub.scheduling_seconds,), daemon=True).start()
    call.json(job.facts())


@routes.add("GET", "/api/jobs/{owner}")
def _list(call: Any, hub: Any, owner: str) -> None:
    call.writer(owner)
    stages = call.query.get("stage", [])
    labels = [label.split("=", 1) for label in call.query.get("label", [])]
    call.json([
        job.facts() for job in reversed(list(hub.jobs.values()))
        if job.owner == owner and (not stages or job.stage in stages)
        and all(job.labels.get(name) == value for name, value in labels)
    ])  # fmt: skip


@routes.add("GET", "/api/jobs/{owner}/{job}")
def _inspect(call: Any, hub: Any, owner: str, job: str) -> None:
    call.writer(owner)
    call.json(_find(hub, owner, job).facts())


@routes.add("GET", "/api/jobs/{owner}/{job}/logs")
def _logs(call: Any, hub: Any, owner: str, job: str) -> None:
    call.writer(owner)
    found = _find(hub, owner, job)
    tail = int(call.query.get("tail", ["0"])[0])

    def lines() -> Iterator[Any]:
        at = max(len(found.log) - tail, 0) if tail else 0
        while True:
            with found.changed:
                if at >= len(found.log):
                    if found.stage in TERMINAL:
                        return
                    found.changed.wait(30)
                batch, at = found.log[at:], len(found.log)
            yield from batch or [None]

    call.events(lines())


@routes.add("POST", "/api/jobs/{owner}/{job}/cancel")
def _cancel(call: Any, hub: Any, owner: str, job: str) -> None:
    call.writer(owner)
    found = _find(hub, owner, job)
    found.finish("CANCELED")
    found.kill()
    call.json(found.facts())

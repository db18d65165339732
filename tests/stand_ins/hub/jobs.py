"""Jobs: launching, looking, logs, cancelling. A job is really run, by `machines`."""

from __future__ import annotations

import json
import subprocess
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from stand_ins.hub import hardware, machines, volumes
from stand_ins.hub.clock import now, stamp
from stand_ins.hub.routing import HttpError, Routes

routes = Routes()
TERMINAL = {"COMPLETED", "CANCELED", "ERROR", "DELETED"}


@dataclass
class Job:
    """One job; `number` counts the launches from 1. Times in seconds."""

    owner: str
    spec: dict[str, Any]
    number: int
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:24])
    stage: str = "SCHEDULING"
    message: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    log: list[dict[str, str]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    cancelled: bool = False
    process: subprocess.Popen[str] | None = None
    created: float = field(default_factory=now)
    started: float | None = None
    finished: float | None = None

    def facts(self) -> dict[str, Any]:
        """What the Hub's API says of it. There is no exit code, and secrets are names only."""
        with self.changed:
            end = self.finished or now()
            durations = {"totalSecs": int(end - self.created)}
            if self.started is not None:
                durations["schedulingSecs"] = int(self.started - self.created)
                durations["runningSecs"] = int(end - self.started)
            who = {"id": f"u-{self.owner}", "name": self.owner, "type": "user"}
            return {
                "id": self.id, "createdAt": stamp(self.created),
                "startedAt": None if self.started is None else stamp(self.started),
                "finishedAt": None if self.finished is None else stamp(self.finished),
                "dockerImage": self.spec.get("dockerImage"), "spaceId": self.spec.get("spaceId"),
                "command": self.spec["command"], "arguments": self.spec.get("arguments", []),
                "environment": self.spec.get("environment", {}), "secrets": sorted(self.spec.get("secrets", {})),
                "flavor": self.spec["flavor"], "labels": self.labels, "volumes": self.spec.get("volumes") or [],
                "durations": durations, "owner": who, "initiator": who, "retry": 0,
                "status": {"stage": self.stage, "message": self.message, "exposeUrls": None, "sshUrl": None},
            }  # fmt: skip

    def cost(self) -> float:
        """USD up to now: nothing while it waits, then a begun minute is a minute."""
        with self.changed:
            if self.started is None:
                return 0.0
            return hardware.price(self.spec["flavor"], (self.finished or now()) - self.started)

    def say(self, line: str) -> None:
        """One more line of the log."""
        with self.changed:
            self.log.append({"data": line, "timestamp": stamp(now())})
            self.changed.notify_all()

    def start(self) -> None:
        """It has a machine, and costs from now on."""
        with self.changed:
            self.stage, self.started = "RUNNING", now()
            self.changed.notify_all()

    def finish(self, stage: str, message: str | None = None) -> None:
        """The end."""
        with self.changed:
            self.stage, self.message, self.finished = stage, message, now()
            self.changed.notify_all()

    def cancel(self) -> None:
        """Ask for the end; whoever runs it brings it about."""
        with self.changed:
            self.cancelled = True
            self.changed.notify_all()
        if self.process is not None and self.process.returncode is None:
            machines.kill(self.process)


def _find(hub: Any, owner: str, job: str) -> Job:
    found: Job | None = hub.jobs.get(job)
    if found is None or found.owner != owner:
        raise HttpError(404, "Job not found")
    return found


@routes.add("POST", "/api/jobs/{owner}")
def _launch(call: Any, hub: Any, owner: str) -> None:
    call.writer(owner)
    spec = json.loads(call.body)
    if not hardware.known(spec.get("flavor")):
        raise HttpError(400, f"Invalid flavor {spec.get('flavor')!r}")
    volumes.check(call, hub, spec.get("volumes") or [])
    with hub.lock:
        if hub.credit is not None and hub.spent(owner) >= hub.credit:
            raise HttpError(402, "You need a positive credit balance to run jobs")
        job = Job(owner, spec, len(hub.jobs) + 1, labels=spec.get("labels") or {})
        hub.jobs[job.id] = job
    threading.Thread(target=machines.run, args=(hub, job), name=f"job-{job.id}", daemon=True).start()
    call.json(job.facts())


@routes.add("GET", "/api/jobs/{owner}")
def _list(call: Any, hub: Any, owner: str) -> None:
    call.writer(owner)
    stages = call.query.get("stage", [])
    labels = [label.split("=", 1) for label in call.query.get("label", [])]
    older_than = int(call.query.get("cursor", [str(len(hub.jobs) + 1)])[0])
    found = [
        job for job in reversed(list(hub.jobs.values()))
        if job.owner == owner and job.number < older_than and (not stages or job.stage in stages)
        and all(job.labels.get(name) == value for name, value in labels)
    ]  # fmt: skip
    page = found[: hub.page_size]
    call.page([job.facts() for job in page], page[-1].number if len(found) > len(page) else None)


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
            yield from batch
            if not batch:
                yield None

    call.events(lines())


@routes.add("POST", "/api/jobs/{owner}/{job}/cancel")
def _cancel(call: Any, hub: Any, owner: str, job: str) -> None:
    call.writer(owner)
    found = _find(hub, owner, job)
    found.cancel()
    with found.changed:
        found.changed.wait_for(lambda: found.stage in TERMINAL, 30)
    call.json(found.facts())

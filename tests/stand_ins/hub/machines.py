"""The life of a job on its machine: a wait, volumes, a process in a clean environment, an end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stand_ins.hub import hardware, volumes

if TYPE_CHECKING:
    from stand_ins.hub.jobs import Job

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(hub: Any, job: Job) -> None:
    """Everything that happens to a job, from its launch to its last written file."""
    patience = None if hub.stuck(job) else hub.scheduling_seconds
    with job.changed:
        job.changed.wait_for(lambda: job.cancelled, patience)
        if job.cancelled:
            job.finish("CANCELED")
            return
        job.start()
    job.say("===== Job started =====")
    with tempfile.TemporaryDirectory(
        prefix=f"job-{job.id}-", dir=hub.root, ignore_cleanup_errors=True
    ) as name:
        work, mounts = Path(name), []
        try:
            for number, volume in enumerate(job.spec.get("volumes") or []):
                mounts.append(volumes.lay_out(hub, volume, work / f"volume-{number}"))
            end = _execute(job, work, mounts)
        except Exception as error:  # whatever it was: a job has an end
            end = ("ERROR", f"cannot start: {error}")
        lag = hub.flush_seconds
        try:
            if not lag:
                _flush(hub, mounts)
        finally:
            job.finish(*(("CANCELED", None) if job.cancelled else end))
        if lag:
            hub.closed.wait(lag)
            _flush(hub, mounts)


def _flush(hub: Any, mounts: list[volumes.Mount]) -> None:
    for mount in mounts:
        if mount.writable:
            volumes.write_back(hub, mount)


def _execute(job: Job, work: Path, mounts: list[volumes.Mount]) -> tuple[str, str | None]:
    """Run the command until it ends or its time is over; the stage that it ends in, and why."""
    command = [*job.spec["command"], *job.spec.get("arguments", [])]
    home = str(work / "tmp" / "home")
    if mounts:
        command, home = [*volumes.root(mounts, work / "tmp"), *command], volumes.HOME
    else:
        os.makedirs(home)
    environment = {
        "PATH": f"{os.path.dirname(sys.executable)}:{_SYSTEM_PATH}", "HOME": home, "JOB_ID": job.id,
        "PYTHONUNBUFFERED": "1", **hardware.variables(job.spec["flavor"]),
    }  # fmt: skip
    process = job.process = subprocess.Popen(
        command, cwd=work / "tmp" / "home",
        env={**environment, **job.spec.get("environment", {}), **job.spec.get("secrets", {})},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
        errors="replace", start_new_session=True,
    )  # fmt: skip
    if job.cancelled:
        kill(process)
    over = threading.Event()

    def time_is_over() -> None:
        over.set()
        kill(process)

    timer = threading.Timer(job.spec.get("timeoutSeconds", 1800), time_is_over)
    timer.daemon = True
    timer.start()
    reader = threading.Thread(target=_read, args=(job, process), daemon=True)
    reader.start()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # not reaped: its number is still its own
    timer.cancel()
    kill(process)  # a container ends with its first process
    code = process.wait()
    reader.join(timeout=5)  # what got away may hold the log open
    if over.is_set():
        return "ERROR", "Job timeout"
    if code:
        return "ERROR", f"Job failed with exit code: {code if code > 0 else 128 - code}"
    return "COMPLETED", None


def _read(job: Job, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            job.say(line.rstrip("\n"))


def kill(process: subprocess.Popen[str]) -> None:
    """End a process that is not reaped yet, and everything that it started."""
    family = [process.pid]
    parents = _parents()
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    for member in family:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _parents() -> dict[int, int]:
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            fields = Path("/proc", name, "stat").read_text(errors="replace").rpartition(")")[2].split()
            parents[int(name)] = int(fields[1])
    return parents

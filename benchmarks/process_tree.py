"""What a command and all its children take: wall and CPU seconds, and the most memory at one moment."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_SECONDS = 1.0  # a look at a hundred processes takes tens of milliseconds of the machine


@dataclass(frozen=True)
class Usage:
    """`pss_mb`: pages that several processes share count once; `cpu_seconds`: of the whole tree, also of processes that
    nobody waited for; `text`: what the command printed."""

    code: int
    wall_seconds: float
    cpu_seconds: float
    pss_mb: float
    processes: int
    text: str


def run_measured(command: Sequence[str], cwd: Path, log: Path) -> Usage:
    """Run a command to its end, and look at its process tree once a second."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=cwd, stdout=out, stderr=subprocess.STDOUT)
        most = {"pss": 0.0, "processes": 0.0, "cpu": 0.0}
        over = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, most, over), daemon=True)
        watcher.start()
        code = process.wait()
    wall = time.monotonic() - begin
    over.set()
    watcher.join()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    waited = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    text = log.read_text(encoding="utf-8", errors="replace")
    return Usage(code, wall, max(waited, most["cpu"]), most["pss"] / 2**20, int(most["processes"]), text)


def _watch(pid: int, most: dict[str, float], over: threading.Event) -> None:
    while not over.wait(SAMPLE_SECONDS):
        try:
            root = psutil.Process(pid)
            tree = [root, *root.children(recursive=True)]
        except psutil.Error:
            return
        most["processes"] = max(most["processes"], len(tree))
        most["pss"] = max(most["pss"], sum(_pss(one.pid) for one in tree))
        most["cpu"] = max(most["cpu"], sum(_cpu(one) for one in tree))


def _cpu(process: psutil.Process) -> float:
    """Seconds of a process and of those of its children that it has waited for."""
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.Error:
        return 0.0


def _pss(pid: int) -> int:
    """Bytes; read from smaps_rollup, which costs a tenth of what psutil's own way does."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            line = next(line for line in file if line.startswith("Pss:"))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return 0


def busy() -> float:
    """The machine's load average of the last minute."""
    return os.getloadavg()[0]

"""What a measurement of a millisecond costs: forked from warm processes, and with every process started anew.

    python benchmarks/warm.py [--seconds 10] [--slots 64]

The candidate makes an array with numpy and writes a number, the evaluator reads it. For each executor: measurements a
second with one and with many in flight, CPU of all processes for each, the lab's own share of it, and memory
(proportional set sizes, above the lab's own process). Prints a table; exit code 1 if warm misses a bar: more than
BAR_MS of CPU, or BAR_LAB_MS of the lab's, for a measurement with one in flight. A busy machine makes all of it worse.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from autolab.execution.data import Data
from autolab.execution.executor import Executor, LocalExecutor
from autolab.execution.warm.executor import WarmExecutor
from autolab.ledger.records import Measurement, Status
from autolab.task import check_task

TASK = """\
name: tiny
metric: {name: score, direction: minimize, bounds: [0, 1000]}
editable: [train.py]
protected: [evaluate.py]
commands: {train: [python, train.py], evaluate: [python, evaluate.py]}
budget: {cpu_seconds: 5, wall_seconds: 20, eval_seconds: 20, memory_gb: 1, artifact_kb: 64}
warm: [numpy]
"""
TRAIN = """\
import json, os
import numpy as np

radii = np.linspace(0.0, 1.0, 26)
with open(os.path.join(os.environ["AUTOLAB_ARTIFACT"], "radii.json"), "w") as file:
    json.dump(radii.tolist(), file)
"""
EVALUATE = """\
import json, os

with open(os.path.join(os.environ["AUTOLAB_ARTIFACT"], "radii.json")) as file:
    radii = json.load(file)
with open(os.environ["AUTOLAB_RESULT"], "w") as file:
    json.dump({"status": "ok", "cause": "", "metrics": {"score": sum(radii)}}, file)
"""
BAR_MS, BAR_LAB_MS = 6.0, 1.0


@dataclass(frozen=True)
class Row:
    """One line of the table: rates in 1/s, times in ms a measurement, memory in MB."""

    executor: str
    in_flight: int
    rate: float
    cpu: float
    lab: float
    memory: float


def build(kind: type[LocalExecutor] | type[WarmExecutor], folder: Path, slots: int | None) -> Executor:
    """An executor of the tiny task."""
    folder.mkdir()
    for name, text in (("train.py", TRAIN), ("evaluate.py", EVALUATE)):
        (folder / name).write_text(text)
    task = check_task(TASK, folder)
    return kind(folder / "runs", task, {"evaluate.py": EVALUATE}, Data(None, ""), "5ec7e7", slots)


async def drive(executor: Executor, in_flight: int, seconds: float, name: str) -> Row:
    """Keep so many measurements in flight for so long."""
    for number in range(4):
        await one(executor, -1 - number)
    count, highest = 0, 0.0
    before, began, own = cpu_of_family(), time.perf_counter(), time.process_time()

    async def worker() -> None:
        nonlocal count, highest
        while time.perf_counter() - began < seconds:
            count += 1
            await one(executor, count)
            if count % 100 == 0:
                highest = max(highest, memory_of_family())

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    wall, lab = time.perf_counter() - began, time.process_time() - own
    cpu = cpu_of_family() - before
    return Row(
        name, in_flight, count / wall, 1000 * cpu / count, 1000 * lab / count, highest or memory_of_family()
    )


async def one(executor: Executor, number: int) -> None:
    """Measure the candidate once."""
    wanted = Measurement(f"m{number}", 1, "screen", 1, 1)
    slot = executor.slots[number % len(executor.slots)]
    result = await executor.run(executor.stage(wanted, {"train.py": TRAIN}), wanted, slot)
    executor.clear(wanted)
    assert result.status is Status.OK, (result.cause, result.log_excerpt)


def family() -> list[int]:
    """This process and its living descendants."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found, size = {os.getpid()}, 0
    while len(found) > size:
        size = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return sorted(found)


def cpu_of_family() -> float:
    """CPU seconds of this process and its descendants, of the dead ones, too."""
    total = 0
    for pid in family():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def memory_of_family() -> float:
    """Proportional set size of the descendants of this process, in MB."""
    total = 0
    for pid in family():
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text() if pid != os.getpid() else ""
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


def main() -> int:
    """Print the table; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--slots", type=int, default=64, help="measurements in flight")
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        cores = len(os.sched_getaffinity(0))
        for kind, name, many in (
            (WarmExecutor, "warm", options.slots),
            (LocalExecutor, "ordinary", cores),
        ):
            executor = build(kind, Path(folder, name), many)
            for in_flight in (1, many):
                rows.append(asyncio.run(drive(executor, in_flight, options.seconds, name)))
    print(f"{'executor':<10}{'in flight':>10}{'a second':>10}{'CPU ms':>9}{'lab ms':>9}{'MB':>7}")
    for row in rows:
        print(
            f"{row.executor:<10}{row.in_flight:>10}{row.rate:>10.1f}{row.cpu:>9.1f}{row.lab:>9.2f}{row.memory:>7.0f}"
        )
    met = rows[0].cpu <= BAR_MS and rows[0].lab <= BAR_LAB_MS
    print(f"{'met' if met else 'MISSED'} (bars: {BAR_MS:g} ms of CPU, {BAR_LAB_MS:g} ms of the lab's)")
    return not met


if __name__ == "__main__":
    raise SystemExit(main())

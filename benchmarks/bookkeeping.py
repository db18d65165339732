"""CPU and memory of the lab itself, for each trial, with a small and with a large ledger.

The task is instant, so what the lab's own process spends (open, propose, preflight, stage, start,
record, judge, promote, export) is all there is. Bars: at most 5 ms CPU a trial for bookkeeping at 10
and at 100,000 trials in the ledger; `status` under 500 ms there; under 200 MB of memory.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import subprocess
import sys
import time
from pathlib import Path

from toy import Instant, fill, start, toy_lab

from autolab.campaign.loop import CampaignRun, Limits
from autolab.cli.executors import local_executor
from autolab.execution.executor import Executor
from autolab.lab import Lab
from autolab.ledger.records import Measurement, Status
from autolab.ledger.views import write_views


class NoProcess:
    """An executor that answers at once, so that only bookkeeping is left."""

    name = "local"

    def __init__(self, real: Executor) -> None:
        self.real, self.slots = real, real.slots
        self.stage, self.clear, self.adopt = real.stage, real.clear, real.adopt
        self.notice, self.wind_down = real.notice, real.wind_down

    async def run(self, bundle: Path, measurement: Measurement, slot: object) -> Measurement:
        """A score that depends on the program, and a little on the seed."""
        text = (bundle / "workspace" / "train.py").read_text(encoding="utf-8")
        rate = float(next(line for line in text.splitlines() if line.startswith("RATE")).split("=")[1])
        await asyncio.sleep(0)
        now, noise = time.time(), 1e-9 * (measurement.seed * 2654435761 % 2**32 / 2**32 - 0.5)
        loss = 2.0 - rate + noise
        return measurement.replace(
            status=Status.OK, metrics={"loss": loss}, started_at=now, finished_at=now, sandbox="none"
        )


def campaign_cpu(lab: Lab, executor: Executor, trials: int) -> tuple[float, CampaignRun]:
    """(CPU milliseconds of this process a trial, the run) for `trials` more trials."""
    known = sum(lab.ledger.count().values())
    work = CampaignRun(lab, Instant(), executor, Limits(trials=known + trials))
    begin = time.process_time()
    asyncio.run(work.run())
    return 1000 * (time.process_time() - begin) / trials, work


def main() -> int:
    """Print the table; exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--large", type=int, default=100_000)
    parser.add_argument("--trials", type=int, default=300)
    options = parser.parse_args()
    rows, misses = [], []
    for size in (10, options.large):
        with toy_lab() as directory:
            lab = start(directory, window=7)
            fill(lab, size)
            begin = time.process_time()
            write_views(lab.ledger, lab.root, rebuild=True)
            rebuild = time.process_time() - begin
            # the campaign re-tells the whole ledger and rebuilds the views once, at its start
            once, _ = campaign_cpu(lab, NoProcess(local_executor(lab)), 1)
            many, _ = campaign_cpu(lab, NoProcess(local_executor(lab)), options.trials + 1)
            cpu = (many * (options.trials + 1) - once) / options.trials
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-m", "autolab.cli.main", "status", "-C", directory], check=True,
                           stdout=subprocess.DEVNULL)  # fmt: skip
            status = 1000 * (time.perf_counter() - begin)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            rows.append((size, cpu, status, rebuild, memory))
            misses += ["bookkeeping"] * (cpu > 5) + ["status"] * (status > 500) + ["memory"] * (memory > 200)
    print(f"{'trials in ledger':>16}{'CPU ms a trial':>16}{'status ms':>11}{'rebuild s':>11}{'peak MB':>9}")
    for size, cpu, status, rebuild, memory in rows:
        print(f"{size:>16}{cpu:>16.2f}{status:>11.0f}{rebuild:>11.2f}{memory:>9.0f}")
    print(f"ratio large/small: {rows[1][1] / rows[0][1]:.2f} (bar: 5 ms, 500 ms, 200 MB) "
          + ("MISSED: " + ", ".join(misses) if misses else "met"))  # fmt: skip
    return bool(misses)


if __name__ == "__main__":
    sys.exit(main())

"""Eight processes submit 50 trials each to one lab at once.

Bar: 400 rows, each program measured once, one consistent master (the best of all), no lock error.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bookkeeping import NoProcess
from toy import Instant, start, toy_lab

from autolab.campaign.single import settle
from autolab.cli.executors import local_executor
from autolab.ledger.views import TABLE, read_table, write_views


def submit(directory: Path, count: int, real: bool) -> int:
    """Open, propose, measure and judge `count` trials; how many were judged."""
    lab = start(directory)
    local = local_executor(lab, 1)
    executor = local if real else NoProcess(local)
    judged = 0
    for _ in range(count):
        ticket = lab.open_trial(role="worker", agent="bench")
        proposal = asyncio.run(Instant().propose(ticket))
        done = asyncio.run(settle(lab, executor, lab.submit(ticket, proposal)))
        judged += done.status is not None
        write_views(lab.ledger, lab.root)
    return judged


def main() -> int:
    """Print the result; exit code 1 if the bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--each", type=int, default=50)
    parser.add_argument("--real", action="store_true", help="with real runner processes")
    options = parser.parse_args()
    with toy_lab() as directory:
        lab = start(directory)
        first = next(lab.ledger.sequence(lab.campaign.id))
        local = local_executor(lab)
        asyncio.run(settle(lab, local if options.real else NoProcess(local), first))
        begin = time.perf_counter()
        with ProcessPoolExecutor(options.processes) as pool:
            jobs = [
                pool.submit(submit, directory, options.each, options.real) for _ in range(options.processes)
            ]
            judged = sum(job.result() for job in jobs)
        seconds = time.perf_counter() - begin
        write_views(lab.ledger, lab.root)
        table = read_table(directory / TABLE)[1:]
        best = min(t.score for t in lab.ledger.trials() if t.verdict == "confirmed" and t.score is not None)
        master = lab.ledger.master(lab.campaign.id)
        chain = [step.score for step in lab.ledger.promotions(lab.campaign.id)]
        expected = options.processes * options.each
        met = (
            judged == len(table) == len({row["trial_id"] for row in table}) == expected
            and master.score == best
            and chain == sorted(chain, reverse=True)
        )
        print(f"{options.processes} processes x {options.each} trials in {seconds:.1f} s: {len(table)} rows,"
              f" {len(chain) - 1} promotions, master {master.score:.6g} (best confirmed {best:.6g}):"
              f" {'met' if met else 'MISSED'}")  # fmt: skip
    return not met


if __name__ == "__main__":
    sys.exit(main())

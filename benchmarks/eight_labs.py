"""Eight labs publish five finished trials each to one repo at the same moment; then each pulls what is there.

The Hub is the stand-in of the tests, on this machine; the client is the real one. Bars: 40 of 40 rows in the repo's
table, and after the pulls the table of every lab is the same bytes as the repo's.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path

from bookkeeping import NoProcess
from toy import Instant, start, write_toy

from autolab.campaign.loop import CampaignRun, Limits
from autolab.cli.executors import local_executor
from autolab.hub.connection import connect
from autolab.hub.results.publish import push
from autolab.hub.results.pull import pull
from autolab.ledger.views import TABLE

REPO = "alice/results"
_together: Barrier


@dataclass(frozen=True)
class Outcome:
    """What one lab saw."""

    lab: str
    push_seconds: float
    pull_seconds: float
    new: int
    labs: int
    known: int
    digest: str


def meet(barrier: Barrier) -> None:
    """Give a process of the pool what all of them wait at."""
    global _together
    _together = barrier


def one_lab(root: Path, trials: int) -> Outcome:
    """Search, wait for the others, publish, wait for the others, pull."""
    lab = start(write_toy(root))
    asyncio.run(
        CampaignRun(lab, Instant(), NoProcess(local_executor(lab, 1)), Limits(trials=trials - 1)).run()
    )
    done = sum(lab.ledger.count().values())
    assert done == trials, f"{done} trials instead of {trials}"
    _together.wait(300)
    begin = time.perf_counter()
    push(connect(seconds=300), lab.ledger, root, REPO)
    pushed = time.perf_counter() - begin
    _together.wait(300)
    begin = time.perf_counter()
    came = pull(connect(seconds=300), lab.ledger, root, REPO)
    pulled = time.perf_counter() - begin
    name = lab.ledger.meta("lab") or ""
    return Outcome(name, pushed, pulled, came.new, came.labs, came.known, digest((root / TABLE).read_bytes()))


def digest(content: bytes) -> str:
    """A short name for a content."""
    return hashlib.sha256(content).hexdigest()[:12]


def main() -> int:
    """Print the table; exit code 1 if a bar is missed."""
    from stand_ins.hub import ALICE, HubServer
    from stand_ins.hub.repos import read_file

    parser = argparse.ArgumentParser()
    parser.add_argument("--labs", type=int, default=8)
    parser.add_argument("--trials", type=int, default=5)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="autolab-bench-") as directory,
        HubServer(Path(directory) / "hub") as hub,
    ):
        home = Path(directory) / "home"
        os.environ |= {"HF_ENDPOINT": hub.base, "HF_TOKEN": ALICE, "HF_HOME": str(home),
                       "HF_XET_CACHE": str(home / "xet"), "HF_TOKEN_PATH": str(home / "token")}  # fmt: skip
        fresh = multiprocessing.get_context(
            "spawn"
        )  # each with a client of its own, which reads these when imported
        with ProcessPoolExecutor(options.labs, fresh, meet, (fresh.Barrier(options.labs),)) as pool:
            jobs = [
                pool.submit(one_lab, Path(directory) / f"lab{number}", options.trials)
                for number in range(options.labs)
            ]
            outcomes = [job.result() for job in jobs]
        table = read_file(hub, "datasets", REPO, TABLE)
        commits = len(hub.repos["datasets", REPO].commits) - 1
        refused = len(hub.asked("POST .*/commit/")) - commits
    print(f"{'lab':<8}{'push s':>8}{'pull s':>8}{'new':>5}{'labs':>6}{'known':>7}  table")
    for seen in outcomes:
        print(f"{seen.lab:<8}{seen.push_seconds:>8.2f}{seen.pull_seconds:>8.2f}{seen.new:>5}{seen.labs:>6}"
              f"{seen.known:>7}  {seen.digest}")  # fmt: skip
    expected = options.labs * options.trials
    rows = {line.split(b"\t")[0] for line in table.splitlines()[1:]}
    same = {seen.digest for seen in outcomes} == {digest(table)}
    met = len(rows) == table.count(b"\n") - 1 == expected and same
    verdict = "met" if met else "MISSED"
    print(f"{len(rows)} of {expected} rows in the repo after {commits} commits ({refused} refused and repeated); "
          f"tables {'identical' if same else 'DIFFER'} to the repo's {digest(table)}: {verdict}")  # fmt: skip
    return not met


if __name__ == "__main__":
    sys.exit(main())

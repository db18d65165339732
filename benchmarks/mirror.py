"""The mirror in Trackio: how fast it is, that it comes out the same however it is interrupted, and what it costs a
campaign while the Hub accepts and never answers.

Bars: 300 trials with 50 points each are written and taken in by Trackio in 5 s; writing them again adds no row; a
mirror that is killed by SIGKILL at any of many moments misses nothing afterwards and has nothing twice; a campaign's
trials per minute drop by less than 2 %. The last is missed if the pace shows a larger drop, or if the mirror, which a
campaign never waits for, takes 2 % of a core; on an unquiet machine only the second can tell.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import os
import random
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from toy import Instant, fill, start, toy_lab

from autolab.campaign.lock import only_one
from autolab.campaign.loop import CampaignRun, Limits
from autolab.cli.executors import local_executor
from autolab.judge.evidence import student
from autolab.lab import Lab
from autolab.ledger.records import Measurement
from autolab.ledger.store import Ledger
from autolab.report.trackio import Mirror

SECONDS, DROP = 5.0, 0.02
TAKE_IN = """
import time
import trackio
from autolab.report.trackio.child import take_in
begin = time.perf_counter()
take_in()
print(time.perf_counter() - begin)
"""
WRITE = """
import sys
from pathlib import Path
from autolab.ledger.store import Ledger
from autolab.report.trackio import Mirror, mirror

mirror.BATCH = 500
with Ledger(Path(sys.argv[1]), create=False) as ledger:
    print("ready", flush=True)
    Mirror(ledger, Path(sys.argv[2])).write(alive=False)
"""


def filled(lab: Lab, trials: int, points: int) -> None:
    """Finished trials, each with a learning curve."""
    finish = lab.ledger.finish_measurement

    def with_curve(measurement: Measurement) -> bool:
        now = time.time()
        curve = tuple(((n + 1) / points, 2.0 + 1.0 / (n + 1)) for n in range(points))
        return finish(measurement.replace(curve=curve, started_at=now - 10, finished_at=now))

    lab.ledger.finish_measurement = with_curve  # type: ignore[method-assign]
    fill(lab, trials)
    lab.ledger.set_campaign(lab.campaign.id, state="finished")


def environment(directory: Path) -> dict[str, str]:
    """As `autolab dashboard` gives it to Trackio."""
    return {
        **os.environ,
        "TRACKIO_DIR": str(directory),
        "TRACKIO_SQLITE_SYNCHRONOUS": "OFF",
        "HF_HUB_OFFLINE": "1",
    }


def write(ledger: Path, directory: Path, *, rebuild: bool = False) -> float:
    """Seconds that a pass of the mirror takes."""
    with Ledger(ledger, create=False) as own:
        begin = time.perf_counter()
        Mirror(own, directory).write(alive=False, rebuild=rebuild)
        return time.perf_counter() - begin


def take_in(directory: Path) -> float:
    """Seconds that Trackio takes to take in what waits."""
    done = subprocess.run([sys.executable, "-c", TAKE_IN], env=environment(directory), check=True,
                          capture_output=True, text=True)  # fmt: skip
    return float(done.stdout.split()[-1])


def kept(directory: Path) -> dict[str, list[str]]:
    """The ids of everything that Trackio keeps; twice in a list is twice in Trackio."""
    found: dict[str, list[str]] = {"metrics": [], "configs": [], "alerts": []}
    names = {"metrics": "log_id", "configs": "run_id", "alerts": "alert_id"}
    for path in sorted(directory.glob("*.db")):
        with sqlite3.connect(path) as db:
            for table, name in names.items():
                found[table] += [row[0] for row in db.execute(f"SELECT {name} FROM {table} ORDER BY {name}")]
    return found


def speed(ledger: Path, directory: Path, trials: int, points: int) -> bool:
    """Write and take in a campaign, twice; whether the bars are met."""
    wrote, took = write(ledger, directory), take_in(directory)
    first = kept(directory)
    again = write(ledger, directory, rebuild=True), take_in(directory)
    more = sum(len(ids) for ids in kept(directory).values()) - sum(len(ids) for ids in first.values())
    print(f"{trials} trials x {points} points: written in {wrote:.2f} s, taken in by Trackio in {took:.2f} s (bar:"
          f" {SECONDS:g} s together); {len(first['metrics'])} rows")  # fmt: skip
    print(f"written again: {more} rows more (bar: 0), in {again[0]:.2f} + {again[1]:.2f} s")
    return wrote + took < SECONDS and more == 0 and len(first["metrics"]) >= trials * points


def killed(ledger: Path, directory: Path, whole: Path, times: int, within: float) -> bool:
    """Kill the mirror at many moments, take in what it left now and then; whether all is there in the end, once."""
    chance, shot = random.Random(0), 0
    for number in range(times):
        with subprocess.Popen(
            [sys.executable, "-c", WRITE, str(ledger), str(directory)], stdout=subprocess.PIPE
        ) as one:
            assert one.stdout is not None
            one.stdout.readline()
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.wait(chance.uniform(0, within))
            one.kill()
        shot += one.returncode == -signal.SIGKILL
        if number % 4 == 3:
            take_in(directory)
    write(ledger, directory)
    take_in(directory)
    found, expected = kept(directory), kept(whole)
    missing = sum(len(set(expected[table]) - set(found[table])) for table in expected)
    twice = sum(len(ids) - len(set(ids)) for ids in found.values())
    print(f"kill -9: {shot} of {times} mirrors were hit; then {missing} missing, {twice} twice (bar: 0, 0)")
    return missing == 0 and twice == 0 and found == expected and shot > 0


@contextlib.contextmanager
def hanging_hub() -> Iterator[dict[str, str]]:
    """The settings of somebody whose Hub accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.getsockname()[1]}", "HF_TOKEN": "hf_" + "x" * 34}


def pace(lab: Lab, trials: int) -> float:
    """Trials per minute of the campaign going on for so many trials."""
    known = sum(lab.ledger.count().values())
    work = CampaignRun(lab, Instant(), local_executor(lab), Limits(trials=known + trials))
    begin = time.perf_counter()
    asyncio.run(work.run())
    return 60 * trials / (time.perf_counter() - begin)


def cost(pairs: int, trials: int) -> bool:
    """A campaign's pace with the mirror at work and with it held, in turn; whether the bar is met."""
    with toy_lab() as root, hanging_hub() as settings, only_one(root):
        lab = start(root, window=7)
        pace(lab, trials)
        lab.ledger.set_campaign(lab.campaign.id, state="running")
        command = [sys.executable, "-m", "autolab.cli.main", "mirror", "-C", str(root), "--watch"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **settings}) as mirror:
            assert mirror.stdout is not None
            mirror.stdout.readline()  # it has begun
            used, wall, ratios, paces = 0.0, 0.0, [], []
            for number in range(pairs):
                both = {}
                for held in (number % 2 == 0, number % 2 == 1):
                    mirror.send_signal(signal.SIGSTOP if held else signal.SIGCONT)
                    before, begin = processor_seconds(mirror.pid), time.perf_counter()
                    both[held] = pace(lab, trials)
                    if not held:
                        used += processor_seconds(mirror.pid) - before
                        wall += time.perf_counter() - begin
                ratios.append(both[False] / both[True])
                paces.append(both[True])
            mirror.send_signal(signal.SIGCONT)
            mirror.kill()
    logs, share = [math.log(ratio) for ratio in ratios], used / wall
    half = student(0.975, pairs - 1) * statistics.stdev(logs) / math.sqrt(pairs)
    drop, low, high = (1 - math.exp(statistics.mean(logs) + by) for by in (0.0, half, -half))
    print(f"a Hub that hangs: {statistics.mean(paces):.0f} trials/min without the mirror, {100 * drop:+.2f} % less with"
          f" it [{100 * low:+.2f}, {100 * high:+.2f}] in {pairs} pairs of {trials} trials; the mirror used"
          f" {100 * share:.2f} % of a core (bar: 2 %)")  # fmt: skip
    if high >= DROP:
        print("  the machine is too unquiet for the pace to show less than 2 %: the processor time bounds it")
    return low < DROP and share < DROP


def processor_seconds(process: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Print the results; exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--pairs", type=int, default=8, help="of a campaign with the mirror and without; 0: none"
    )
    parser.add_argument("--each", type=int, default=40, help="trials of one of a pair")
    options = parser.parse_args()
    with toy_lab() as root:
        lab = start(root, window=7)
        filled(lab, options.trials, options.points)
        ledger, whole, hurt = lab.ledger.path, root / "whole", root / "hurt"
        met = [speed(ledger, whole, options.trials, options.points)]
        met.append(killed(ledger, hurt, whole, options.kills, 0.8 * write(ledger, root / "timed")))
    if options.pairs:
        met.append(cost(options.pairs, options.each))
    print("met" if all(met) else "MISSED")
    return not all(met)


if __name__ == "__main__":
    sys.exit(main())

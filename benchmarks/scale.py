"""Many agents, one process: trials a second, memory and CPU beside OpenEvolve's, in the same run on the same work.

Both systems ask the same model server (search/replace answers, no latency or 2 s), start from the same program (0.14, 6
and 26 kB) and score the same function. OpenEvolve scores a candidate by a regular expression inside its own process;
the lab runs every candidate in a sandboxed process of its own, checks it against everything that was tried, and judges
it.

    python benchmarks/scale.py            # everything, some 15 minutes
    python benchmarks/scale.py --quick    # fewer trials; the bars of rates are still told

Bars: at 64 workers without latency at least twice OpenEvolve's rate; with 2 s latency at least 97 % of what is
possible, in less than an eighth of its memory; a submission (scale_submission.py says what is in it) takes at most 5 ms
of CPU, with 100,000 programs as with 100; 1,000 agents in one process at 20 s latency at 95 % or more of the possible
rate, in less than 600 MB.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import archives_peer as peer
from process_tree import Usage, run_measured
from scale_submission import submissions
from scale_task import write_lab, write_openevolve

HERE = Path(__file__).resolve().parent
SIZES = (0.14, 6.0, 26.0)  # kB
WORKERS = 64


@dataclass(frozen=True)
class Run:
    """One system at work: trials a second, CPU milliseconds a trial (the whole process tree's), MB at most, and when
    the trials ended, in seconds after the first one began."""

    rate: float
    cpu_ms: float
    memory_mb: float
    processes: int
    ends: list[float]

    def steady(self, first: float, last: float) -> float:
        """Trials a second between two moments."""
        return sum(first < end <= last for end in self.ends) / (last - first)


@contextlib.contextmanager
def model(latency: float) -> Iterator[int]:
    """The model server; its port."""
    command = [sys.executable, str(HERE / "scale_model.py"), "--latency", str(latency)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield int(server.stdout.readline())
    finally:
        server.kill()
        server.wait()


def lab(kilobytes: float, agents: int, trials: int, latency: float) -> Run:
    """The lab with so many agents, by its own command line."""
    with TemporaryDirectory(prefix="autolab-scale-") as folder, model(latency) as port:
        root = write_lab(Path(folder) / "lab", kilobytes, port)
        command = [
            sys.executable, "-m", "autolab.cli.main", "run", "-C", str(root), "--harness", "chat", "--model",
            "bench/mutator", "--collaboration", "single", "--agents", str(agents), "--trials", str(trials), "--json",
        ]  # fmt: skip
        used = run_measured(command, root, Path(folder) / "log")
        _must_have_run(used)
        times = _times(root)
    ends = sorted(end - times[0][0] for _, end in times)
    return Run(len(ends) / ends[-1], 1000 * used.cpu_seconds / len(ends), used.pss_mb, used.processes, ends)


def _times(root: Path) -> list[tuple[float, float]]:
    """(opened, ended) of every trial but the baseline, in order."""
    with contextlib.closing(sqlite3.connect(root / ".autolab" / "ledger.sqlite")) as db:
        rows = db.execute(
            "SELECT created_at, finished_at FROM trial WHERE ordinal > 0 AND state = 'done' ORDER BY ordinal"
        )
        return [(float(opened), float(ended)) for opened, ended in rows]


def openevolve(kilobytes: float, workers: int, trials: int, latency: float) -> Run:
    """OpenEvolve with its defaults and so many parallel evaluations. It keeps times of the programs that it took in,
    some five of six iterations here, so `ends` are those."""
    with TemporaryDirectory(prefix="openevolve-scale-") as folder, model(latency) as port:
        task = write_openevolve(Path(folder) / "task", kilobytes)
        command = [
            str(peer.python()), str(HERE / "peers" / "openevolve_run.py"), str(task), "--workers", str(workers),
            "--iterations", str(trials), "--port", str(port),
        ]  # fmt: skip
        used = run_measured(command, task, Path(folder) / "log")
        _must_have_run(used)
    line = next(line for line in used.text.splitlines() if line.startswith("RESULT "))
    found = json.loads(line.removeprefix("RESULT "))
    return Run(
        found["trials"] / found["seconds"],
        1000 * used.cpu_seconds / found["trials"],
        used.pss_mb,
        used.processes,
        [end - found["ends"][0] + latency for end in found["ends"]],
    )


def _must_have_run(used: Usage) -> None:
    if used.code:
        raise SystemExit(f"exit code {used.code}:\n{used.text[-3000:]}")


def reference_ms() -> float:
    """CPU milliseconds of a fixed loop: tells a quiet machine from a busy one."""
    begin, total = time.process_time(), 0
    for i in range(1_000_000):
        total += i * i
    return 1000 * (time.process_time() - begin)


def show(name: str, kilobytes: float, run: Run, steady: float | None = None) -> None:
    """One line of the table: with the whole run's rate, and if it was asked for with that of its middle."""
    middle = "" if steady is None else f"{steady:9.1f}/s"
    print(
        f"{name:<12}{kilobytes:>7g} kB{run.rate:>9.1f}/s{middle:>12}{run.cpu_ms:>9.1f} ms{run.memory_mb:>8.0f} MB"
        f"{run.processes:>6}",
        flush=True,
    )


def main() -> int:
    """Exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--quick", action="store_true", help="Half of the trials, 100 rather than 1,000 agents."
    )
    parser.add_argument("--only", choices=["rate", "latency", "submission", "thousand"])
    options = parser.parse_args()
    missed: list[str] = []

    def bar(met: bool, text: str) -> None:
        print(f"  {'met   ' if met else 'MISSED'} {text}", flush=True)
        if not met:
            missed.append(text)

    def wanted(part: str) -> bool:
        return options.only in (None, part)

    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, reference loop {reference_ms():.0f} ms")
    if wanted("rate"):
        trials = 500 if options.quick else 1000
        print(f"\n{WORKERS} workers, no latency, {trials} trials: rate, CPU a trial, memory, processes")
        for size in SIZES:
            theirs, ours = openevolve(size, WORKERS, trials, 0), lab(size, WORKERS, trials, 0)
            show("OpenEvolve", size, theirs)
            show("autolab", size, ours)
            bar(
                ours.rate >= 2 * theirs.rate,
                f"{ours.rate / theirs.rate:.2f} times its rate at {size:g} kB (2)",
            )
    if wanted("latency"):
        rounds = 8 if options.quick else 15
        possible, middle = WORKERS / 2, (4.0, 2.0 * rounds - 2)
        print(
            f"\n{WORKERS} workers, 2 s latency, {rounds} rounds; {possible:g}/s are possible:"
            f" rate of the whole run, and from second {middle[0]:g} to {middle[1]:g}, between start and end"
        )
        for size in SIZES:
            theirs = openevolve(size, WORKERS, rounds * WORKERS, 2)
            ours = lab(size, WORKERS, rounds * WORKERS, 2)
            show("OpenEvolve", size, theirs, theirs.steady(*middle))
            show("autolab", size, ours, rate := ours.steady(*middle))
            bar(rate >= 0.97 * possible, f"{100 * rate / possible:.1f} % of the possible (97 %)")
            share = theirs.memory_mb / ours.memory_mb
            bar(share > 8, f"1/{share:.1f} of its memory (1/8)")
    if wanted("submission"):
        print("\nCPU of a submission: parent, lineage and prompt, ticket; edits, checks, claim, queue")
        peers = {size: _openevolve_submission(size) for size in (100, 10_000)}
        for size, theirs_ms in peers.items():
            print(
                f"OpenEvolve {size:>7} programs {theirs_ms:8.2f} ms to choose a parent and hand out its state"
            )
        found = {size: submissions(size, 60 if options.quick else 200) for size in (100, 100_000)}
        for size, (cost, trial) in found.items():
            print(
                f"autolab   {size:>8} programs {cost:8.2f} ms; {trial:.2f} ms with record, judge and archive"
            )
            bar(cost <= 5, f"{cost:.2f} ms at {size} programs (5)")
        print(f"  ratio {found[100_000][0] / found[100][0]:.2f}")
    if wanted("thousand"):
        agents = 100 if options.quick else 1000
        possible = agents / 20
        ours = lab(0.14, agents, 5 * agents, 20)
        print(
            f"\n{agents} agents in one process, 20 s latency; {possible:g}/s are possible:"
            " rate of the whole run, and from second 25 to 85"
        )
        show("autolab", 0.14, ours, rate := ours.steady(25.0, 85.0))
        bar(rate >= 0.95 * possible, f"{100 * rate / possible:.1f} % of the possible (95 %)")
        bar(ours.memory_mb < 600, f"{ours.memory_mb:.0f} MB (600)")
    print(f"\nreference loop {reference_ms():.0f} ms, load {os.getloadavg()[0]:.1f}")
    print("missed: " + "; ".join(missed) if missed else "every bar is met")
    return bool(missed)


def _openevolve_submission(programs: int) -> float:
    """CPU milliseconds that OpenEvolve spends in its controller to sample, snapshot and pickle for one submission."""
    script = HERE / "peers" / "openevolve_submission.py"
    done = subprocess.run(
        [str(peer.python()), str(script), str(programs)], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    sys.exit(main())

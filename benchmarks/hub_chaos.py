"""A campaign of jobs while the Hub misbehaves and the lab is killed: nothing lost, nothing paid for twice.

The Hub is the tests' own, in this process, and really runs jobs; the lab is a child that runs the real command. The Hub
answers 5 % of all requests with 503 and 5 % with 429, drops streams of logs, loses the answer to one launch, lets
launches, uploads and looks fall into black holes (carried out or not), and leaves two jobs in SCHEDULING. Its store of
contents answers 5 % with 503 and refuses three transfers for good. The lab is killed with SIGKILL at sampled moments,
and started again with the same command.

Bars: every trial recorded once and measured; no launch paid twice; the same trials, verdicts and scores as the same
campaign on this machine without any of this; every job of the Hub in the ledger and none left running; the ledger's
cost within 1 % of the Hub's bill; no process left over.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import toy  # first: it finds the tests' folder
from local_and_jobs import AUTOLAB, JOBS, Found, differences, folder, found_in, pointed_at, write_lab
from stand_ins.hub import Chance, Fault, HubServer
from stand_ins.hub.jobs import TERMINAL, Job
from strays import left_over

from autolab.campaign.loop import CampaignRun, Limits
from autolab.cli.executors import local_executor
from autolab.harness.offline import OfflineHarness
from autolab.ledger.jobs import campaign_jobs
from autolab.ledger.records import Measurement, Status, Trial, TrialState
from autolab.ledger.store import Ledger

SLOTS = 4
WINDOW = 2 * SLOTS + 1  # what `autolab run` chooses for so many slots
PATIENCE = 20 * 60.0  # seconds for the whole campaign
LAUNCH, LIST, LOOK = "POST /api/jobs/alice$", "GET /api/jobs/alice[?]", "GET /api/jobs/alice/[0-9a-f]{24}$"
INFO, BATCH = "POST /api/buckets/alice/autolab/paths-info", "POST /api/buckets/alice/autolab/batch"


@dataclass
class Once(Fault):
    """Strikes the n-th request that matches, and no other."""

    name: str = ""
    nth: int = 1
    struck: int = 0

    def strikes(self, asked: str) -> bool:
        """Whether it strikes this request."""
        if self.nth <= 0 or not re.search(self.match, asked):
            return False
        self.nth -= 1
        self.struck += self.nth == 0
        return self.nth == 0


@dataclass
class Often(Chance):
    """A chance that counts what it strikes."""

    name: str = ""
    struck: int = 0

    def strikes(self, asked: str) -> bool:
        """Whether it strikes this request."""
        hit = super().strikes(asked)
        self.struck += hit
        return hit


def troubles(draw: random.Random, trials: int) -> list[Once | Often]:
    """Everything that the Hub does wrong, at sampled moments. What strikes once comes first: it is to strike."""
    lost, dark, deaf = draw.sample(range(2, max(trials, 6)), 3)
    return [
        Once(LAUNCH, name="launch answer lost", lost=True, nth=lost),
        Once(LAUNCH, name="launch black-holed, carried out", hang=True, nth=dark),
        Once(LAUNCH, name="launch black-holed, not heard", hang_before=True, nth=deaf),
        *(Once(LIST, name="list of jobs black-holed", hang_before=True, nth=draw.randint(3, 40)) for _ in "12"),
        Once(LOOK, name="look at a job black-holed", hang_before=True, nth=draw.randint(2, trials)),
        Once(INFO, name="look at the bucket black-holed", hang_before=True, nth=draw.randint(2, trials)),
        Once(BATCH, name="upload black-holed, carried out", hang=True, nth=draw.randint(2, trials)),
        Once(BATCH, name="upload black-holed, not heard", hang_before=True, nth=draw.randint(2, trials)),
        Often("/logs", name="log stream dropped", share=1.0, cut_after=1),
        Often(" /api/", name="503", status=503, share=0.05, seed=draw.randrange(1000)),
        Often(" /api/", name="429, wait 0 s", status=429, headers={"Retry-After": "0"}, share=0.025,
              seed=draw.randrange(1000)),
        Often(" /api/", name="429, wait 1 s", status=429, headers={"Retry-After": "1"}, share=0.025,
              seed=draw.randrange(1000)),
    ]  # fmt: skip


def transfer_troubles(draw: random.Random, trials: int) -> list[Once | Often]:
    """What the store of contents does wrong, apart from the Hub: its client repeats what was a 503, and gives the rest
    up."""
    return [
        *(Once("/v1/", name="transfer refused", status=400, nth=draw.randint(2, 2 * trials)) for _ in "123"),
        Often("/v1/|/xorbs/", name="transfer 503", status=503, share=0.05, seed=draw.randrange(1000)),
    ]


@dataclass
class Story:
    """What happened to the lab: kills that hit it, and what it said when it ended by itself with an error."""

    kills: int = 0
    refusals: list[str] = field(default_factory=list)
    ended: bool = False
    seconds: float = 0.0


def live(hub: HubServer, command: list[str], environment: dict[str, str], kill_at: list[float],
         wait: list[float], log: Path) -> Story:  # fmt: skip
    """Run the lab until its campaign is done; kill it so many seconds after so many jobs were launched."""
    story, began = Story(), time.monotonic()
    while not story.ended and time.monotonic() < began + PATIENCE:
        with log.open("a", encoding="utf-8") as said:
            lab = subprocess.Popen(
                command,
                env=environment,
                stdout=said,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        with lab:
            while lab.poll() is None:
                due = story.kills < len(kill_at) and len(hub.jobs) >= kill_at[story.kills]
                if due or time.monotonic() > began + PATIENCE:
                    time.sleep(wait[story.kills] if due else 0.0)
                    if lab.poll() is None:
                        os.killpg(lab.pid, signal.SIGKILL)
                        story.kills += 1
                    break
                time.sleep(0.02)
            _, errors = lab.communicate()
        story.ended = lab.returncode == 0
        if lab.returncode > 0:
            story.refusals.append(errors.strip())
            time.sleep(0.5)
    story.seconds = time.monotonic() - began
    return story


@contextmanager
def reader(hub: HubServer, command: list[str], environment: dict[str, str]) -> Iterator[list[str]]:
    """Somebody who reads the log of every tenth job meanwhile; yields what the command said when it failed."""
    said: list[str] = []
    over = threading.Event()

    def read() -> None:
        seen = 5
        while not over.wait(0.2):
            if len(hub.jobs) >= seen:
                job = list(hub.jobs)[seen - 1]
                done = subprocess.run([*command, job], env=environment, capture_output=True, text=True)
                said.extend([done.stderr.strip()] * (done.returncode != 0))
                seen += 10

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield said
    finally:
        over.set()
        thread.join()


def quiet(directory: Path, seed: int, trials: int) -> None:
    """The same campaign on this machine."""
    lab = toy.start(directory, seed, WINDOW)
    harness = OfflineHarness(lab.task, seed)
    asyncio.run(CampaignRun(lab, harness, local_executor(lab), Limits(trials=trials)).run())
    lab.ledger.close()


def stuck(hub: HubServer, numbers: set[int]) -> list[Job]:
    """Let the jobs of these numbers wait for ever for a machine; the list is filled as they are launched."""
    waiting: list[Job] = []

    def hold(job: Job) -> bool:
        if job.number in numbers:
            waiting.append(job)
        return job.number in numbers

    hub.stuck = hold
    return waiting


@dataclass(frozen=True)
class Evidence:
    """Everything that is known when it is over: of the lab, of its ledger, and of the Hub."""

    story: Story
    faults: list[Once | Often]
    waiting: list[Job]
    unread: list[str]
    strays: list[str]
    sequence: list[Trial]
    attempts: list[Measurement]
    rows: dict[str | None, float]  # USD by the Hub's name of a job, from the ledger
    here: Found
    there: Found
    jobs: list[Job]
    bill: float
    requests: int


def play(trials: int, kills: int, seed: int, said: Path | None) -> Evidence:
    """Run both campaigns; the order of all that is drawn is that of this function."""
    draw = random.Random(seed)
    faults, transfers = troubles(draw, trials), transfer_troubles(random.Random(seed), trials)
    kill_at = sorted(draw.uniform(3, trials) for _ in range(kills))
    wait = [draw.uniform(0, 2) for _ in kill_at]
    held_back = set(draw.sample(range(4, max(trials, 8)), 2))
    with folder() as root, HubServer(root / "hub", scheduling_seconds=0.3) as hub:
        hub.flush_seconds = 0.3  # so long after its end a job's files are not there
        hub.faults.extend(faults)
        hub.store.faults.extend(transfers)
        waiting = stuck(hub, held_back)
        there, here = (write_lab(root / name, seconds=0.5) for name in ("there", "here"))
        environment = pointed_at(hub, root / "home", AUTOLAB_HUB_SECONDS="2")
        command = [*AUTOLAB, "run", "-C", str(there), *JOBS, "--slots", str(SLOTS), "--trials", str(trials),
                   "--seed", str(seed), "--queue-minutes", "0.1", "--max-usd", "1"]  # fmt: skip
        logs = [*AUTOLAB, "jobs", "logs", "-C", str(there)]
        with reader(hub, logs, environment) as unread:
            story = live(hub, command, environment, kill_at, wait, said or root / "said.txt")
        strays = list(left_over(root).values())
        quiet(here, seed, trials)
        ledger = Ledger(there / ".autolab" / "ledger.sqlite")
        sequence = list(ledger.sequence(ledger.campaign().id))
        evidence = Evidence(
            story, [*faults, *transfers], waiting, unread, strays, sequence,
            attempts=[m for trial in sequence for m in ledger.measurements(trial.number)],
            rows={job.id: job.cost_usd or 0.0 for job in campaign_jobs(ledger, ledger.campaign().id)},
            here=found_in(here), there=found_in(there), jobs=list(hub.jobs.values()),
            bill=sum(hub.bill().values()), requests=len(hub.requests),
        )  # fmt: skip
        ledger.close()
    return evidence


def tell(found: Evidence) -> None:
    """What happened, without a judgement."""
    story, jobs = found.story, found.jobs
    print(f"{len(found.sequence) - 1} trials, {len(jobs)} jobs, {found.requests} requests, {story.kills} kills in"
          f" {story.seconds:.0f} s")  # fmt: skip
    struck = Counter[str]()
    for fault in found.faults:
        struck[fault.name] += fault.struck
    print(f"{'faults played':<16}" + ", ".join(f"{n} {name}" for name, n in struck.items()))
    print(f"{'':<16}{len(found.waiting)} jobs stuck in SCHEDULING, {len(story.refusals)} starts refused,"
          f" {len(found.unread)} logs not read")  # fmt: skip
    for text, times in Counter([*story.refusals, *found.unread]).items():
        print(f"   {times} x {text[-300:]}")
    stages = Counter(job.stage for job in jobs)
    print(f"{'jobs':<16}" + ", ".join(f"{n} {stage}" for stage, n in stages.items()))
    again = [m for m in found.attempts if m.status is Status.INFRA_ERROR]
    print(f"{'attempts':<16}{len(found.attempts)}, of which {len(again)} came to nothing and were made again")
    for m in again:
        print(f"   {m.id} {m.cause}")
    for one, other in zip(found.here.trials, found.there.trials, strict=False):
        if one != other:
            print(f"   in quiet {one}\n   here     {other}")


def repeated(names: Iterable[str]) -> int:
    """How many names occur more than once."""
    return sum(count > 1 for count in Counter(names).values())


def bars(found: Evidence, trials: int, kills: int) -> list[tuple[str, str, object, bool]]:
    """(what, bar, measured, whether it is met)."""
    jobs, differ = found.jobs, differences(found.here, found.there)
    once = Counter(trial.ordinal for trial in found.sequence if trial.state is TrialState.DONE)
    scored = sum(row[1] == Status.OK and row[3] is not None for row in found.there.trials)
    paid = [job.labels for job in jobs if job.cost() > 0]
    launches = repeated(labels["launch"] for labels in paid)
    # Without the number of the attempt: nothing that was injected makes a job worthless that ran.
    measurements = repeated(labels["measurement"].rpartition("-")[0] for labels in paid)
    ours = sum(found.rows.values())
    off = abs(ours - found.bill) / found.bill if found.bill else 1.0
    unknown = {job.id for job in jobs} ^ found.rows.keys()
    alive = sum(job.stage not in TERMINAL for job in jobs)
    long = sum(len(text.splitlines()) != 1 for text in [*found.story.refusals, *found.unread])
    missing = [fault.name for fault in found.faults if not fault.struck]
    missing += ["a job stuck"] * (2 - len(found.waiting)) + ["a kill"] * (kills - found.story.kills)
    every = f"{trials} + 1"
    return [
        ("trials recorded once, and the baseline", every, f"{len(once) - 1} + 1",
         once == Counter(range(trials + 1)) and found.story.ended),
        ("of them measured", every, f"{scored - 1} + 1", scored == trials + 1),
        ("launches paid twice", "0", launches, not launches),
        ("measurements paid twice", "0", measurements, not measurements),
        ("wrong scores, of all measurements", "0", differ["measurements"], not differ["measurements"]),
        ("other trials than in quiet", "0", differ["trials"], not any(differ.values())),
        ("jobs that only one side knows", "0", len(unknown), not unknown),
        ("jobs still under way", "0", alive, not alive),
        ("cost: the ledger's, the Hub's", "1 %", f"${ours:.6f}, ${found.bill:.6f}: {100 * off:.2f} %", off <= 0.01),
        ("processes left over", "0", len(found.strays), not found.strays),
        ("errors of more than one line", "0", long, not long),
        ("troubles that never came", "0", ", ".join(missing) or 0, not missing),
    ]  # fmt: skip


def main() -> int:
    """Print the tables; exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--said", type=Path, help="where to keep what the lab printed")
    options = parser.parse_args()
    found = play(options.trials, options.kills, options.seed, options.said)
    tell(found)
    print(f"\n{'':<40}{'bar':>8}  measured")
    missed = 0
    for name, bar, value, met in bars(found, options.trials, options.kills):
        print(f"{name:<40}{bar:>8}  {value}{'' if met else '   MISSED'}")
        missed += not met
    print(f"bars: {f'{missed} MISSED' if missed else 'met'}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())

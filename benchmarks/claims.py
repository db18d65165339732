"""Two hundred agents ask for work at once and want overlapping things; some of their processes are killed.

Bars: no claim twice (words, edits, programs); kill -9 loses no lease: what a killed agent had claimed stays its own
until the lease ends and is free afterwards; and what the gate costs does not grow with the ledger: 0.5 ms a submission
typically, 2 ms at 100,000 claims.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from toy import write_toy

from autolab.campaign.agent_trial import abandon_expired
from autolab.lab import Lab
from autolab.ledger.agents import renew_lease
from autolab.ledger.claims import Claim, keep_claim, renew_claim
from autolab.ledger.records import Proposal, Status
from autolab.program.change import Change
from autolab.search.novelty import described, refusal, sketch

# beside the tests, whose folder `toy` makes importable
from claiming import agents_at_once, collisions, gated_lab, is_free, left_open, wait_until, wishes  # isort: skip

WORDS = (
    "rate",
    "warm",
    "decay",
    "layer",
    "norm",
    "head",
    "loss",
    "clip",
    "batch",
    "depth",
    "width",
    "mix",
    "gate",
    "bias",
)


def storm(directory: Path, agents: int, processes: int, hanging: int, shot: int) -> bool:
    """All at once: some processes hang and are killed, others are killed meanwhile; whether the bar is met."""
    lab = gated_lab(write_toy(directory))
    begin = time.perf_counter()
    started = agents_at_once(lab.root, wishes(agents, agents // 4), processes, hanging=hanging)
    wait_until(lambda: len(left_open(lab)) > agents // 10, started)
    chance = random.Random(0)
    for process in started[hanging : hanging + shot]:
        process.join(chance.uniform(0, 0.3))
        process.kill()
    for process in started[hanging:]:
        process.join()
    for process in started:
        process.kill()
        process.join()
    seconds = time.perf_counter() - begin
    gone = left_open(lab)
    held = sum(not is_free(lab, trial.hypothesis) for trial in gone)
    twice = collisions(lab)
    every = list(lab.ledger.sequence(lab.campaign.id))
    ended = [trial for trial in every if trial.status is not None and trial.ordinal > 0]
    named = sum(t.status is Status.DUPLICATE and lab.ledger.trial_id(t.repeats or 0) in t.note for t in ended)
    print(f"{agents} agents in {processes} processes, {hanging} hung and {shot} shot, in {seconds:.1f} s:"
          f" {len(every) - 1} trials, {sum(t.state == 'queued' for t in every)} accepted, {named} of {len(ended)}"
          f" refused with the trial that they repeat, {len(gone)} left open")  # fmt: skip
    print(f"  claimed twice: {twice or 'nothing'}; {held} of {len(gone)} leases hold", end="")
    for trial in gone:  # nobody has the time to wait for the lease that agents get
        renew_lease(lab.ledger, trial.number, time.time() + 1)
        renew_claim(lab.ledger, trial.number, time.time() + 1)
    time.sleep(1.1)
    free = sum(is_free(lab, trial.hypothesis) for trial in gone)
    given_up = len(abandon_expired(lab))
    print(f"; after the lease {free} of {len(gone)} are free, {given_up} given up")
    return not twice and named == len(ended) and held == free == given_up == len(gone) > 0


def cost(directory: Path, counts: tuple[int, ...]) -> bool:
    """The gate's time at so many claims; whether the bar is met."""
    lab = gated_lab(write_toy(directory))
    chance, made, met = random.Random(1), 0, True
    parent = {"train.py": "".join(f"NAME_{n} = {n}\n" for n in range(700))}
    for count in counts:
        with lab.ledger.transaction():
            while made < count:
                made += 1
                _claimed(lab, chance, made)
        ticket = lab.open_trial(role="worker", agent="a")
        took: dict[str, list[float]] = {"describe": [], "look": [], "keep": []}
        for n in range(200):
            files = {"train.py": parent["train.py"].replace("NAME_350 = 350", f"NAME_350 = {n}.5")}
            words = Proposal(" ".join(chance.choices(WORDS, k=20)), ())
            times = [time.perf_counter()]
            claim = described(parent, files, words, gate=True)
            times.append(time.perf_counter())
            refusal(lab.ledger, ticket.number, claim)
            times.append(time.perf_counter())
            keep_claim(lab.ledger, ticket.number, claim)
            times.append(time.perf_counter())
            for name, before, after in zip(took, times, times[1:], strict=False):
                took[name].append(1000 * (after - before))
        parts = {name: statistics.median(some) for name, some in took.items()}
        met &= sum(parts.values()) <= 2.0
        told = ", ".join(f"{name} {value:.2f}" for name, value in parts.items())
        print(f"{count:7} claims: {sum(parts.values()):.2f} ms a submission ({told})")
    return met


def _claimed(lab: Lab, chance: random.Random, number: int) -> None:
    opened = lab.ledger.open_trial(
        lab.campaign.id, role="worker", agent="a", surface="", parent_program=None, parent_trial=None
    )
    words = " ".join(chance.choices(WORDS, k=20))
    lab.ledger.note_hypothesis(opened.number, Proposal(words, ()))
    edit = Change(f"{number:016x}", (("RATE", "0.5", str(number)),), frozenset({"RATE"}))
    keep_claim(lab.ledger, opened.number, Claim(words, edit, sketch(words)))


def main() -> int:
    """Print the results; exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=int, default=200)
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--hanging", type=int, default=3)
    parser.add_argument("--shot", type=int, default=3)
    parser.add_argument("--claims", type=int, nargs="+", default=[1000, 10_000, 100_000])
    options = parser.parse_args()
    with TemporaryDirectory(prefix="autolab-bench-") as directory:
        met = [
            storm(Path(directory) / "storm", options.agents, options.processes, options.hanging, options.shot),
            cost(Path(directory) / "cost", tuple(options.claims)),
        ]  # fmt: skip
    print("met" if all(met) else "MISSED")
    return not all(met)


if __name__ == "__main__":
    sys.exit(main())

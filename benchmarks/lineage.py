"""A lineage slice of a ledger with 100,000 trials, and one of 900 trials on one screen.

Bars: 10 ms for a slice from 100,000 trials, whether it is asked for once or again and again while trials come in; never
more bytes than asked for; a ledger of 900 trials renders on one screen (60 lines of 110 characters) and names its ten
best findings.

The ledger of 900 trials has the shape of the published one (arXiv 2605.05724, ten specialists on parameter golf: 900
trials, 47 % valid, 34 promotions from 1.0810 to 1.0722 bits per byte, 297 over the size limit, 53 that evaluated too
long, 36 crashes, 41 lost to infrastructure), and is made up otherwise: the rows themselves are not shipped here.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from toy import start, write_toy

from autolab.lab import Lab
from autolab.ledger.agents import add_idea
from autolab.ledger.lineage import Lineage, lineage_slice
from autolab.ledger.records import Proposal, Status, Verdict
from autolab.task import Edit

MILLISECONDS = 10.0
SCREEN = (60, 110)  # lines, characters
SCREEN_BYTES = 3600  # what `scripts/lineage.py slice` asks for
SURFACES = (
    "architecture", "optimizer", "embedding", "quantization", "test-time", "curriculum", "loss", "regularization",
    "evaluation", "analysis",
)  # fmt: skip
CHANGES = (
    "longer warm-down of the learning rate", "weight decay on the embeddings only", "a second value residual",
    "rotary base of 50,000", "logit soft-cap at 20", "z-loss with a small weight", "clip gradients at 0.5",
    "average the weights of the last tenth of the run", "wider feed-forward layers, one block less",
    "quantize the output layer to six bits", "order documents by length", "sliding window over the evaluation",
)  # fmt: skip
CAUSES = {
    Status.OVER_SIZE: "the artifact has 16,412,880 bytes, 16,000,000 are allowed",
    Status.EVAL_TIMEOUT: "the evaluation took longer than 600 s",
    Status.CRASH: "RuntimeError: shape '[4, 8]' is invalid for input of size 48",
    Status.OOM: "memory: used 81 GB",
    Status.INFRA_ERROR: "the machine was lost",
}


def fill(lab: Lab, count: int, gains: int, seed: int, edit_bytes: int) -> list[str]:
    """A campaign of `count` trials with `gains` promotions; returns the ids of the promoted trials, oldest first."""
    chance = random.Random(seed)
    ledger, campaign = lab.ledger, lab.campaign.id
    score, promoted = 1.0810, []
    climbs = set(chance.sample(range(1, count), gains))
    with ledger.transaction():
        first = next(ledger.sequence(campaign))
        master = ledger.finish_trial(
            first.number,
            Status.OK,
            verdict=Verdict.CONFIRMED,
            score=score,
            interval=(score - 3e-4, score + 3e-4),
        )
        ledger.promote(
            master, score=score, interval=(score - 3e-4, score + 3e-4), gain=0.0, reason="baseline"
        )
        ledger.set_campaign(campaign, noise_sd=0.0004)
        for number in range(count):
            surface = chance.choice(SURFACES)
            opened = ledger.open_trial(
                campaign, role=f"specialists/{surface}", agent="a", surface=surface, parent_program=master.program,
                parent_trial=master.number,
            )  # fmt: skip
            change = chance.choice(CHANGES)
            edit = Edit.model_construct(path="train.py", search="RATE = 0.5", replace="#" * edit_bytes)
            proposal = Proposal(f"{change}, step {number}", (edit,), surface=surface)
            ledger.queue_trial(opened.number, {"train.py": f"RATE = {number}\n"}, proposal)
            if number in climbs:
                gain = 0.0088 / gains * chance.uniform(0.3, 1.7)
                score -= gain
                interval = (score - 3e-4, score + 3e-4)
                master = ledger.finish_trial(
                    opened.number,
                    Status.OK,
                    verdict=Verdict.CONFIRMED,
                    score=score,
                    interval=interval,
                    delta=gain,
                )
                ledger.promote(master, score=score, interval=interval, gain=gain, reason="better")
                promoted.append(master.id)
                continue
            _end(lab, opened.number, chance, score)
    for n, change in enumerate(CHANGES):
        source = f"24{n:02d}.0{n:04d}" if n % 2 else ""
        add_idea(ledger, campaign, change=f"try {change}", surface=SURFACES[n % 10], source=source)
    ledger.steer(campaign, "the tokenizer stays as it is")
    return promoted


def _end(lab: Lab, number: int, chance: random.Random, master: float) -> None:
    """How a trial that was not promoted ended, at the published rates."""
    ends = [Status.OK, Status.OVER_SIZE, Status.EVAL_TIMEOUT, Status.CRASH, Status.OOM, Status.INFRA_ERROR]
    (status,) = chance.choices(ends, [393, 297, 53, 30, 6, 41])
    if status is not Status.OK:
        lab.ledger.finish_trial(number, status, note=CAUSES[status])
        return
    delta = chance.gauss(-0.0012, 0.0012)
    delta = min(delta, 0.0004)
    verdict = Verdict.WORSE if delta < -0.0008 else Verdict.NO_DIFFERENCE
    verdict = Verdict.PROVISIONAL if delta > 0.0003 else verdict
    score = master - delta
    lab.ledger.finish_trial(
        number, Status.OK, verdict=verdict, score=score, interval=(score - 8e-4, score + 8e-4), delta=delta
    )


def once_more(lab: Lab, chance: random.Random) -> None:
    """One more trial, and one more under way."""
    for ends in (True, False):
        surface = chance.choice(SURFACES)
        ticket = lab.open_trial(role=f"specialists/{surface}", agent="a", surface=surface)
        lab.ledger.note_hypothesis(ticket.number, Proposal(chance.choice(CHANGES), (), surface=surface))
        if ends:
            _end(lab, ticket.number, chance, 1.0722)


def timed(
    ask: Callable[[], str], count: int, between: Callable[[], None] | None = None
) -> tuple[float, float]:
    """(median, worst) milliseconds of a slice."""
    took = []
    for _ in range(count):
        if between is not None:
            between()
        begin = time.perf_counter()
        ask()
        took.append(1000 * (time.perf_counter() - begin))
    return statistics.median(took), max(took)


def screen_lines(text: str) -> int:
    """Lines of a screen that a text takes."""
    return sum(max(1, math.ceil(len(line) / SCREEN[1])) for line in text.splitlines())


def large(directory: Path, trials: int, open_trials: int, edit_bytes: int) -> bool:
    """Time slices of a large ledger; whether the bar is met."""
    lab = start(write_toy(directory))
    begin = time.perf_counter()
    fill(lab, trials, 60, 1, edit_bytes)
    chance = random.Random(2)
    for _ in range(open_trials):
        once_more(lab, chance)
    print(f"{trials} trials, {open_trials} more under way, in {time.perf_counter() - begin:.0f} s")
    asked = [(surface, f"specialists/{surface}") for surface in SURFACES] + [("", "")]

    def once() -> str:
        surface, role = chance.choice(asked)
        return lineage_slice(lab.ledger, lab.campaign.id, surface=surface, role=role)

    kept = Lineage(lab.ledger, lab.campaign.id)

    def again() -> str:
        surface, role = chance.choice(asked)
        return kept.slice(surface=surface, role=role)

    once()
    met = True
    for name, ask, between in (
        ("asked once", once, None),
        ("after each trial", again, lambda: once_more(lab, chance)),
        ("nothing new", again, None),
    ):
        median, worst = timed(ask, 200, between)
        met &= median <= MILLISECONDS
        print(f"  {name:18} {median:6.2f} ms a slice (worst of 200: {worst:.2f})")
    same = all(
        kept.slice(surface=s, role=r, limit=n) == lineage_slice(lab.ledger, lab.campaign.id, surface=s, role=r, limit=n)
        for s, r in asked for n in (500, 3000, 6000)
    )  # fmt: skip
    over = [n for n in range(0, 20_000, 97) if len(kept.slice(surface="loss", limit=n).encode()) > n]
    print(f"  the same bytes from both: {same}; over the budget: {len(over)} of 207 budgets")
    return met and same and not over


def screen(directory: Path, shown: bool) -> bool:
    """A ledger of the published shape on one screen; whether the bar is met."""
    lab = start(write_toy(directory))
    best = fill(lab, 900, 34, 3, 400)[-10:]
    text = lineage_slice(lab.ledger, lab.campaign.id, limit=SCREEN_BYTES)
    named = sum(f"- {name} " in text for name in best)
    lines = screen_lines(text)
    if shown:
        print(text)
    print(
        f"900 trials: {len(text.encode())} bytes, {lines} lines of {SCREEN[1]}, {named} of its ten best findings"
    )
    return lines <= SCREEN[0] and named == 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the results; exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--open", type=int, default=1000, help="trials under way")
    parser.add_argument("--edit-bytes", type=int, default=1000)
    parser.add_argument("--show", action="store_true", help="print the slice of the 900 trials")
    options = parser.parse_args(arguments)
    with TemporaryDirectory(prefix="autolab-bench-") as directory:
        met = [screen(Path(directory) / "small", options.show)]
        met.append(large(Path(directory) / "large", options.trials, options.open, options.edit_bytes))
    print("met" if all(met) else "MISSED")
    return not all(met)


if __name__ == "__main__":
    sys.exit(main())

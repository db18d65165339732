"""Is the no-model harness better than chance? Offline against uniform random search, at equal trials.

Both search the same changes (the same knobs and moves), never the same program twice, four in flight, under
the lab's own promotion rule (docs/statistics.md): a trial that may be better is measured again with fresh
seeds, in turn with the master, until the test is sure. Nothing is trained: a recipe's true score is a function
of its constants, and noise is drawn on top. Each seed draws a new landscape (which constants matter, how much,
where their best values lie), so that nothing can be tuned to one. Two kinds:

  smooth    a small-GPT-like loss: a few strong constants, a weak tail, inert ones, overlapping moves,
            regions that diverge, crash or run out of time
  plateaus  an accuracy that is maximised: a product of narrow peaks with nothing to follow between them,
            and more choices and switches than numbers

    python benchmarks/offline_vs_random.py [--trials 60] [--seeds 10]

Prints a table; exits with 1 if offline is not clearly better on either kind.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autolab.harness import Harness, Ticket
from autolab.harness.offline import OfflineHarness
from autolab.harness.options import applied, child_identity, edits_of, prepare
from autolab.judge.noise import learn
from autolab.judge.promotion import BASELINE_REPLICATES, ESTIMATES, Criterion, decide
from autolab.ledger.records import PROMOTED, Observation, Proposal, Status, Trial, TrialState
from autolab.task import Commands, Edit, Metric, Move, Task

FILE = "train.py"
SURFACES = {"architecture": "", "optimizer": "", "schedule": "", "data": "", "regularisation": ""}

SMOOTH_RECIPE = '''"""A small language model."""
DEPTH = 2
DIM = 64
HEADS = 4
MLP_RATIO = 4
ACTIVATION = "relu2"  # one of: "relu2", "gelu", "silu"
QK_NORM = True
TIE_EMBEDDINGS = False
SOFTCAP = 15.0
ROPE_BASE = 10_000
INIT_STD = 0.02
MATRIX_LR = 0.02  # range: 0.0001 .. 1
EMBED_LR = 0.01
HEAD_LR = 0.005
SCALAR_LR = 0.02
ADAM_BETAS = (0.9, 0.95)
MOMENTUM = 0.95
WEIGHT_DECAY = 0.0
GRAD_CLIP = 1.0
BATCH_SIZE = 8
WARMUP_FRAC = 0.02
WARMDOWN_FRAC = 0.4
FINAL_LR_FRAC = 0.05
DROPOUT = 0.0
CONTEXT = 256  # fixed: the evaluator's context
SEED = 1
'''

PLATEAU_RECIPE = '''"""A small image classifier."""
WIDTH = 12
BLOCKS = 3
KERNEL = 3  # one of: 1, 3, 5, 7
POOLING = "max"  # one of: "max", "mean", "blur"
ACTIVATION = "relu"  # one of: "relu", "gelu", "silu", "celu"
OPTIMIZER = "sgd"  # one of: "sgd", "adam", "lion"
NESTEROV = False
WHITEN = False
FLIP = True
CUTOUT = False
LR = 0.1
MOMENTUM = 0.9
LABEL_SMOOTHING = 0.1
WEIGHT_DECAY = 0.0005
BATCH_SIZE = 256
EPOCHS = 4
WARMUP_FRAC = 0.1
'''


@dataclass(frozen=True)
class Landscape:
    """A task, its first program, the noise of one measurement, and the true score (or a failure)."""

    task: Task
    files: Mapping[str, str]
    noise: float
    truth: Callable[[Mapping[str, str]], float | Status]


@dataclass(frozen=True)
class Run:
    """One campaign: the master's true gain after each trial, and CPU milliseconds per proposal."""

    gains: list[float]
    propose_ms: float


def smooth(seed: int) -> Landscape:
    """A loss around 2.4 with noise SD 0.02; the sizes of its effects are those of a real tiny GPT."""
    rng = np.random.default_rng((1, seed))
    numbers = [name for name, value in constants(SMOOTH_RECIPE).items() if type(value) in (int, float)]
    numbers = [name for name in numbers if name not in ("CONTEXT", "SEED")]
    strong = [0.28, 0.2, 0.18, 0.16, 0.12, 0.08, 0.06, 0.04, 0.03, 0.02]
    weights = dict(zip(numbers, rng.permutation(strong + [0.0] * (len(numbers) - len(strong))), strict=True))
    best = {name: rng.normal(0, 1.3) for name in numbers}
    crossed = [tuple(rng.choice(numbers, 2, replace=False)) for _ in range(4)]
    switches = {name: rng.normal(0, 0.03) for name in ("QK_NORM", "TIE_EMBEDDINGS")}
    activations = dict(zip(("relu2", "gelu", "silu"), rng.normal(0, 0.025, 3), strict=True))
    effects = rng.permutation([-0.22, -0.17, -0.08, -0.05, 0.0, 0.3]) * rng.uniform(0.6, 1.3, 6)
    steps = ["bigram", "smear", "x0_skip", "value_embedding", "ema", "learned_positions"]
    start = constants(SMOOTH_RECIPE)
    diverges = rng.uniform(1.5, 3.5)

    def truth(files: Mapping[str, str]) -> float | Status:
        now = constants(files[FILE])
        distance = {name: position(now[name]) - position(start[name]) for name in numbers}
        if distance["MATRIX_LR"] > diverges or distance["INIT_STD"] > 3:
            return Status.NAN
        if now["DIM"] % now["HEADS"]:
            return Status.CRASH
        if now["DIM"] * now["DEPTH"] * (1 + now["MLP_RATIO"]) > 64 * 2 * 5 * 2.6 or now["BATCH_SIZE"] > 32:
            return Status.TIMEOUT
        loss = 2.445
        for name in numbers:
            loss += weights[name] * (math.hypot(1, distance[name] - best[name]) - math.hypot(1, best[name]))
        for a, b in crossed:
            loss += 0.02 * math.tanh(distance[a]) * math.tanh(distance[b])
        for name, effect in switches.items():
            loss += effect * (now[name] != start[name])
        loss += activations[now["ACTIVATION"]] - activations["relu2"]
        present = [step for step in steps if f"x = {step}(x)" in files[FILE]]
        loss += sum(effects[steps.index(step)] for step in present)
        # What helps in the same way helps less together.
        return float(loss + 0.03 * max(0, len(present) - 1))

    return Landscape(*_task(SMOOTH_RECIPE, steps, "minimize"), 0.02, truth)


def plateaus(seed: int) -> Landscape:
    """An accuracy around 0.7 with noise SD 0.008: a product of one narrow peak per constant."""
    rng = np.random.default_rng((2, seed))
    start = constants(PLATEAU_RECIPE)
    numbers = [name for name, value in start.items() if type(value) in (int, float)]
    named = [name for name in start if name not in numbers]
    weights = {name: float(rng.choice([0.0, 0.02, 0.05, 0.12])) for name in start}
    best = {name: float(rng.choice([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0])) for name in numbers}
    levels: dict[tuple[str, Any], float] = {}
    for name in named:
        for level in (
            True,
            False,
            "max",
            "mean",
            "blur",
            "relu",
            "gelu",
            "silu",
            "celu",
            "sgd",
            "adam",
            "lion",
        ):
            levels[name, level] = float(rng.uniform())
    effects = rng.permutation([0.06, 0.03, 0.0, -0.1])
    steps = ["dirac_init", "lookahead", "bias_lr", "progressive"]
    explodes = rng.uniform(1.5, 4)

    def truth(files: Mapping[str, str]) -> float | Status:
        now = constants(files[FILE])
        if position(now["LR"]) - position(start["LR"]) > explodes:
            return Status.NAN
        if now["WIDTH"] * now["BLOCKS"] * now["EPOCHS"] > 12 * 3 * 4 * 3:
            return Status.TIMEOUT
        accuracy = 0.95
        for name in numbers:
            away = position(now[name]) - position(start[name]) - best[name]
            accuracy *= 1 - weights[name] * (1 - math.exp(-0.5 * (away / 0.8) ** 2))
        for name in named:
            accuracy *= 1 - weights[name] * levels[name, now[name]]
        present = [step for step in steps if f"x = {step}(x)" in files[FILE]]
        return float(accuracy * (1 + sum(effects[steps.index(step)] for step in present)))

    return Landscape(*_task(PLATEAU_RECIPE, steps, "maximize"), 0.008, truth)


def constants(text: str) -> dict[str, Any]:
    """The constants that a recipe ends up with; a pair of numbers as its second."""
    scope: dict[str, Any] = {}
    exec(text, scope)
    found = {name: value for name, value in scope.items() if name.isupper()}
    return {name: value[1] if isinstance(value, tuple) else value for name, value in found.items()}


def position(value: float) -> float:
    """log2, or log2-odds above one half, with a floor so that zero is somewhere."""
    if 0.5 < value < 1:
        return -math.log2(1 - value + 1e-3)
    return math.log2(abs(value) + 2e-3)


def _task(recipe: str, steps: Sequence[str], direction: Any) -> tuple[Task, dict[str, str]]:
    lines = "".join(f"    # place for {step}\n" for step in steps)
    text = f"{recipe}\n\ndef forward(x):\n{lines}    return x\n"
    moves = tuple(
        Move(
            name=step,
            surface="architecture",
            hypothesis=f"Adding {step} helps",
            edits=(Edit(path=FILE, search=f"    # place for {step}\n", replace=f"    x = {step}(x)\n"),),
        )
        for step in steps
    )
    task = Task(
        name="synthetic",
        metric=Metric(name="score", direction=direction),
        editable=(FILE,),
        commands=Commands(train=("python", FILE)),
        surfaces=SURFACES,
        moves=moves,
    )
    return task, {FILE: text}


class RandomSearch:
    """The same changes, drawn uniformly: first the knob or move, then the step."""

    name = "random"
    ahead: int | None = None

    def __init__(self, task: Task, seed: int) -> None:
        self._task = task
        self._rng = np.random.default_rng((seed, 99))
        self._seen: set[int] = set()

    async def consult(self, ticket: Ticket) -> str:
        """Nothing: there is no model."""
        return ""

    async def propose(self, ticket: Ticket) -> Proposal:
        """A random change whose program was not proposed before."""
        parent = prepare(self._task, ticket.parent_files)
        self._seen.add(parent.identity)
        while True:
            group = parent.groups[int(self._rng.integers(len(parent.groups)))]
            option = group[int(self._rng.integers(len(group)))]
            if child_identity(parent, option) not in self._seen:
                self._seen.add(child_identity(parent, option))
                return Proposal(option.label, edits_of(parent, option))

    def tell_proposed(self, ticket_number: int, proposal: Proposal, parent_program: str) -> None:
        """It learns nothing."""

    def tell(self, trial: Trial, noise_sd: float) -> None:
        """It learns nothing."""


async def campaign(land: Landscape, harness: Harness, trials: int, seed: int, in_flight: int = 4) -> Run:
    """Run one search, four in flight, and follow the master's true gain."""
    rng = np.random.default_rng((3, seed))
    gain = land.task.gain
    criterion = Criterion(land.task.sign, land.task.metric.min_effect, deterministic=land.noise == 0)

    def measure(files: Mapping[str, str]) -> float | Status:
        true = land.truth(files)
        return true if isinstance(true, Status) else true + land.noise * float(rng.standard_normal())

    first = land.truth(land.files)
    assert not isinstance(first, Status)
    master, name = dict(land.files), "baseline"
    seen: list[Observation] = []

    def observe(program: str, files: Mapping[str, str], at: int, stage: str) -> float | Status:
        score = measure(files)
        if not isinstance(score, Status):
            seen.append(Observation(program, "here", score, at, stage))
        return score

    def of(program: str) -> list[Observation]:
        return [one for one in seen if one.program == program]

    for _ in range(BASELINE_REPLICATES):
        observe(name, master, 0, "screen")
    master_score = statistics.fmean(one.score for one in seen)
    queue: list[tuple[int, Proposal, dict[str, str]]] = []
    gains: list[float] = []
    spent, opened = 0.0, 0
    while len(gains) < trials:
        while len(queue) < in_flight and opened < trials:
            ticket = Ticket(opened, opened, f"program-{opened}", master, master_score, None)
            began = time.process_time()
            proposal = await harness.propose(ticket)
            spent += time.process_time() - began
            harness.tell_proposed(opened, proposal, ticket.parent_program)
            child = applied(master, proposal.edits)
            assert child is not None
            queue.append((opened, proposal, child))
            opened += 1
        number, proposal, files = queue.pop(0)
        program = f"program {number}"
        screened = observe(program, files, number + 1, "screen")
        score, verdict, status = None, None, Status.OK
        if isinstance(screened, Status):
            status = screened
        else:
            finding = decide(criterion, learn(seen[-400:]), of(program), of(name), number + 1)
            while finding.want:
                for want in finding.want:
                    own = want == "candidate"
                    observe(program if own else name, files if own else master, number + 1, "replicate")
                finding = decide(criterion, learn(seen[-400:]), of(program), of(name), number + 1)
            verdict = finding.verdict
            score = statistics.fmean([one.score for one in of(program)[1:]] or [screened])
            if verdict in PROMOTED:
                estimates = [observe(program, files, number + 1, "confirm") for _ in range(ESTIMATES)]
                score = statistics.fmean(one for one in estimates if not isinstance(one, Status))
                seen = [one for one in seen if one.program != program or one.stage != "screen"]
                master, master_score, name = files, score, program
        trial = Trial(
            number=number,
            id=str(number),
            ordinal=number,
            campaign="benchmark",
            state=TrialState.DONE,
            status=status,
            verdict=verdict,
            score=score,
            proposal=proposal,
        )
        harness.tell(trial, land.noise)
        true = land.truth(master)
        assert not isinstance(true, Status)
        gains.append(gain(true, first))
    return Run(gains, 1000 * spent / trials)


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> float:
    """One-sided exact p that `a` tends to exceed `b`: all ways to deal the midranks, ties included.

    Mann & Whitney, Annals of Mathematical Statistics 18, 1947.
    """
    pooled = sorted([*a, *b])
    # Twice the midrank is a whole number.
    rank = {x: 2 * pooled.index(x) + pooled.count(x) + 1 for x in pooled}
    ways: dict[tuple[int, int], int] = {(0, 0): 1}
    for x in pooled:
        for (taken, total), count in list(ways.items()):
            key = (taken + 1, total + rank[x])
            ways[key] = ways.get(key, 0) + count
    observed = sum(rank[x] for x in a)
    deals = {total: count for (taken, total), count in ways.items() if taken == len(a)}
    return sum(count for total, count in deals.items() if total >= observed) / sum(deals.values())


def trials_to(gains: Sequence[float], target: float) -> int:
    """After how many trials the true gain first reached `target`; one more than all if never."""
    return next((i for i, gain in enumerate(gains, 1) if gain >= target), len(gains) + 1)


def compare(name: str, make: Callable[[int], Landscape], trials: int, seeds: int) -> bool:
    """Run both arms on every seed, print their rows, and say whether offline is clearly better."""
    offline: list[Run] = []
    chance: list[Run] = []
    for seed in range(seeds):
        land = make(seed)
        offline.append(asyncio.run(campaign(land, OfflineHarness(land.task, seed), trials, seed)))
        chance.append(asyncio.run(campaign(land, RandomSearch(land.task, seed), trials, seed)))
    print(
        f"\n{name}: gain of the final master, noise-free, in noise SDs; {trials} trials, {seeds} landscapes"
    )
    print(f"{'arm':<10}{'median':>8}{'IQR':>16}{'ratio':>8}{'wins':>8}{'p':>9}{'to 90 %':>9}{'CPU ms':>8}")
    noise = make(0).noise
    finals = {
        "random": [run.gains[-1] / noise for run in chance],
        "offline": [run.gains[-1] / noise for run in offline],
    }
    reached = [
        (trials_to(a.gains, 0.9 * b.gains[-1]), trials_to(b.gains, 0.9 * b.gains[-1]))
        for a, b in zip(offline, chance, strict=True)
    ]
    ratio = statistics.median(finals["offline"]) / max(statistics.median(finals["random"]), 1e-9)
    wins = sum(a > b for a, b in zip(finals["offline"], finals["random"], strict=True))
    p = mann_whitney(finals["offline"], finals["random"])
    for arm, runs in (("random", chance), ("offline", offline)):
        low, middle, high = np.percentile(finals[arm], [25, 50, 75])
        needed = statistics.median(pair[arm == "random"] for pair in reached)
        cost = statistics.fmean(run.propose_ms for run in runs)
        extra = f"{ratio:>7.2f}x{wins:>5}/{seeds}{p:>9.2g}" if arm == "offline" else " " * 25
        print(f"{arm:<10}{middle:>8.1f}{f'{low:.1f} … {high:.1f}':>16}{extra}{needed:>9.0f}{cost:>8.2f}")
    faster = statistics.median(pair[0] for pair in reached) <= 0.5 * statistics.median(
        pair[1] for pair in reached
    )
    return ratio > 1 and (ratio >= 1.3 or faster) and wins > seeds / 2


def main() -> int:
    """Compare on both kinds of landscape; 0 if offline is clearly better on both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    better = [compare(make.__name__, make, options.trials, options.seeds) for make in (smooth, plateaus)]
    print("\noffline is clearly better" if all(better) else "\noffline is NOT clearly better")
    return 0 if all(better) else 1


if __name__ == "__main__":
    sys.exit(main())

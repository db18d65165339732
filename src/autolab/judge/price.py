"""What a change costs besides the score: code, memory, time and the size of the result."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autolab.ledger.records import Measurement, Status
from autolab.program.complexity import LEAST_TOKENS, code_size
from autolab.program.hashing import Files

NOISE = 0.02  # relative; changes of memory, time and size below it are not spoken of
MOST = 1e9  # times; what claims to be more is no figure


@dataclass(frozen=True)
class Price:
    """What the candidate takes more than the master; negative is less.

    `lines` and `tokens` are counts, the others relative changes of means (0.03 is 3 % more); None is unknown.
    """

    lines: int
    tokens: int
    memory: float | None
    seconds: float | None
    artifact: float | None

    def text(self) -> str:
        """In words: "costs +14 lines, +3 % memory; saves 12 % seconds", or "costs nothing".

        Tokens are named only where lines do not tell the same: code that was squeezed, or that grew within its lines.
        """
        changes = [(self.lines, "line" if abs(self.lines) == 1 else "lines")] if self.lines else []
        if self.lines * self.tokens <= 0 and abs(self.tokens) >= LEAST_TOKENS:
            changes.append((self.tokens, "tokens"))
        for name in ("memory", "seconds", "artifact"):
            change = getattr(self, name)
            if change is not None and abs(change) >= NOISE:
                changes.append((round(100 * change), f"% {name}"))
        costs = ", ".join(f"{change:+d} {what}" for change, what in changes if change > 0)
        saves = ", ".join(f"{-change} {what}" for change, what in changes if change < 0)
        said = [f"costs {costs}"] * bool(costs) + [f"saves {saves}"] * bool(saves)
        return "; ".join(said) or "costs nothing"


def price(
    master_files: Files,
    candidate_files: Files,
    master_runs: Sequence[Measurement],
    candidate_runs: Sequence[Measurement],
) -> Price:
    """What the candidate takes more than the master, from their files and their runs.

    Runs that did not end `ok` are ignored, and so are figures of 0, which means unknown. Memory and time are compared
    only between runs on the same host; without one that ran both, they are None. Time is CPU seconds of training where
    both have them, else wall seconds.
    """
    old, new = code_size(master_files), code_size(candidate_files)

    def change(figure: Callable[[Measurement], float], *, any_host: bool = False) -> float | None:
        return _change(_by_host(master_runs, figure, any_host), _by_host(candidate_runs, figure, any_host))

    seconds = change(lambda run: run.train_cpu_seconds)
    return Price(
        lines=new.lines - old.lines,
        tokens=new.tokens - old.tokens,
        memory=change(lambda run: run.peak_memory_mb),
        seconds=change(lambda run: run.train_seconds) if seconds is None else seconds,
        artifact=change(lambda run: run.artifact_bytes, any_host=True),
    )


Figures = dict[str, list[float]]


def _by_host(runs: Sequence[Measurement], figure: Callable[[Measurement], float], any_host: bool) -> Figures:
    figures: Figures = defaultdict(list)
    for run in runs:
        value = float(figure(run))
        if run.status is Status.OK and 0 < value < math.inf:
            figures["" if any_host else run.host].append(value)
    return figures


def _change(master: Figures, candidate: Figures) -> float | None:
    """The mean of the candidate's figures over the mean that the master has on the same hosts, less 1."""
    hosts = master.keys() & candidate.keys()
    used = sum(_mean(candidate[host]) * len(candidate[host]) for host in hosts)
    before = sum(_mean(master[host]) * len(candidate[host]) for host in hosts)
    ratio = used / before if before else math.inf
    return ratio - 1 if ratio < MOST else None


def _mean(values: list[float]) -> float:
    return sum(value / len(values) for value in values)

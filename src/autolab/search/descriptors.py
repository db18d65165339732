"""What tells programs apart that score alike: the measures that archives go by.

First what the task declares (`descriptors` in task.yaml: metrics that its evaluator reports), then what holds for any
program: code size, edit distance from the seed program, surfaces touched on the way from it, training seconds. None of
it can be forged into an error: what is missing or no number is NaN, which archives put in the middle.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from autolab.ledger.records import Measurement, Status
from autolab.program.hashing import Files
from autolab.search.archives.history import Bounds
from autolab.task import Task

_TOKEN = re.compile(r"\w+|[^\w\s]")
Lines = Mapping[str, Counter[str]]


def bounds_of(task: Task, *, timed: bool) -> list[Bounds]:
    """One entry for each measure in the order of `measures`; None: as seen so far. `timed`: with training seconds."""
    declared: list[Bounds] = [descriptor.bounds for descriptor in task.descriptors]
    return declared + [None] * (4 if timed else 3)


def measures(
    task: Task,
    seed: Lines,
    files: Files,
    surfaces: Iterable[str],
    measured: Measurement | None,
    *,
    timed: bool,
) -> list[float]:
    """The measures of a trial's program. `seed` are the lines of the baseline, `surfaces` those that were touched from
    it to this program, `measured` is a measurement of it. Cost: linear in the size of the program."""
    metrics: Mapping[str, object] = {} if measured is None else measured.metrics
    found = [_number(metrics.get(descriptor.metric)) for descriptor in task.descriptors]
    found += [
        math.log2(1 + sum(map(len, files.values()))),
        math.log2(1 + edit_distance(seed, lines_of(files))),
        float(len(set(surfaces) - {""})),
    ]
    if timed:
        seconds = _number(measured.train_seconds if measured is not None else None)
        found.append(math.log2(1 + seconds) if seconds >= 0 else math.nan)
    return found


def representative(measurements: Iterable[Measurement]) -> Measurement | None:
    """The first measurement that went well, which every trial with a score has."""
    return next((one for one in measurements if one.status is Status.OK), None)


def lines_of(files: Files) -> Lines:
    """How often each line occurs in each file."""
    return {path: Counter(text.split("\n")) for path, text in files.items()}


def edit_distance(one: Lines, other: Lines) -> int:
    """How many tokens (words, numbers, signs) differ, wherever they stand: those that one program has and the other has
    not, counted on the lines that differ, or the other way round if that is more. Linear in the size of both; lines
    that only moved are no distance."""
    gone, come = _tokens_beyond(one, other), _tokens_beyond(other, one)
    return max((gone - come).total(), (come - gone).total())


def _tokens_beyond(one: Lines, other: Lines) -> Counter[str]:
    """The tokens of the lines that occur more often in one program than in the other."""
    found: Counter[str] = Counter()
    nothing: Counter[str] = Counter()
    for path, lines in one.items():
        known = other.get(path, nothing)
        for line, count in lines.items() - known.items():
            more = count - known[line]
            if more == 1:
                found.update(_TOKEN.findall(line))
            elif more > 1:
                found.update({token: more * n for token, n in Counter(_TOKEN.findall(line)).items()})
    return found


def _number(value: object) -> float:
    """A number, or NaN for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan

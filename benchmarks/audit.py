"""Does `autolab audit` name the promotions that stand? Synthetic tables of each format, with known truth.

    python benchmarks/audit.py [--seeds 20] [--trials 200]

A loop that keeps whatever is lower runs 200 trials, of which two each are really better by 4, 8 and 12 SD of a run;
every program that it promotes is run three more times, afterwards. Bars, for each format over all worlds: at least
95 % of the promotions of 12 SD stand (the master has four runs, made long before, and levels may wander); at most 5 %
of those that stand are of a program that is no better than the master it is judged against; and where the same table
has no repeats, nothing stands.

Seeds are fixed. Prints a table; exits with 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from noise_worlds import LEVEL, SD, WORLDS, Bench, Program

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import foreign_ledgers as foreign

from autolab.judge.audit import Audit, audit
from autolab.judge.audit_sources import from_table
from autolab.ledger.imports.reading import group_repeats, read_results
from autolab.ledger.views import TABLE

EFFECTS = (4.0, 8.0, 12.0)  # SD
LARGE = EFFECTS[-1]
OF_EACH = 2
REPEATS = 3
IN_WORLDS = ("gaussian", "two_hosts_unlabelled", "heavy_tails")
REAL, FALSE = 0.95, 0.05
SAME_CODE = r"(?P<code>idea \d+)(, run \d+)?"


@dataclass(frozen=True)
class Run:
    """A row of a table: `parent` is the name of the program on which this one was tried."""

    program: Program
    score: float
    promoted: bool
    parent: str
    text: str


@dataclass
class Tally:
    """What became of the promotions of some campaigns."""

    real: Counter[float] = field(default_factory=Counter)  # by effect
    real_stand: Counter[float] = field(default_factory=Counter)
    lucky: int = 0  # promotions that were not planted
    stand: int = 0
    false: int = 0
    unproven: int = 0  # stand without a repeat in the table


def campaign(world: str, seed: int, trials: int) -> tuple[list[Run], dict[str, float]]:
    """(the rows, the effects of the programs that are really better) of a loop that keeps what is lower."""
    bench = Bench(WORLDS[world], (list(WORLDS).index(world), 5, seed), trials * (1 + REPEATS))
    places = np.random.default_rng((77, seed)).permutation(np.arange(10, trials))
    planted = {f"idea {place}": effect for place, effect in zip(places, EFFECTS * OF_EACH, strict=False)}
    master = Program("idea 0", LEVEL)
    rows: list[Run] = []
    lowest = np.inf

    def add(program: Program, parent: str, promoted: bool, score: float, text: str) -> None:
        rows.append(Run(program, round(score, 6), promoted, parent, text))

    for number in range(trials):
        name, parent = f"idea {number}", master.name if number else ""
        candidate = bench.program(name, master.truth - SD * planted.get(name, 0.0))
        score = bench.measure(candidate, number).score
        promoted = score < lowest
        add(candidate, parent, promoted, score, name)
        if promoted:
            master, lowest = candidate, score
            for again in range(2, REPEATS + 2):
                text = f"{name}, run {again}"
                add(candidate, parent, False, bench.measure(candidate, number).score, text)
    return rows, planted


def karpathy(directory: Path, rows: Sequence[Run]) -> Path:
    """Repeats have the commit and the description of what they repeat."""
    return foreign.karpathy(
        directory / "results.tsv",
        [(foreign.code(row.program.name)[:7], row.score, "keep" if row.promoted else "discard", row.program.name)
         for row in rows],
    )  # fmt: skip


def hashed(rows: Sequence[Run]) -> list[dict[str, object]]:
    """As multiautoresearch names code."""
    return [
        {"candidate_hash": foreign.code(row.program.name),
         "parent_hash": foreign.code(row.parent) if row.parent else "",
         "val_bpb": row.score, "promoted": row.promoted, "hypothesis": row.text}
        for row in rows
    ]  # fmt: skip


def multiautoresearch(directory: Path, rows: Sequence[Run]) -> Path:
    """Repeats have the hash of what they repeat."""
    return foreign.multiautoresearch(directory, hashed(rows))


def seed(directory: Path, rows: Sequence[Run]) -> Path:
    """Their seed, in which every run has a hash of its own, and only the message tells repeats."""
    last = max(place for place, row in enumerate(rows) if row.promoted)
    entries = [
        foreign.dag_entry(
            {**row, "candidate_hash": row["candidate_hash"] if run.text == run.program.name else foreign.code(run.text),
             "created_at": foreign.clock(place)},
            is_master=place == last, live=False,
        )
        for place, (row, run) in enumerate(zip(hashed(rows), rows, strict=True))
    ]  # fmt: skip
    return foreign.dag(directory / "dag.seed.json", entries)


def exps(rows: Sequence[Run]) -> list[dict[str, object]]:
    """As the specialist-agents release names trials; only the hypothesis tells repeats."""
    names = {row.text: f"exp_{number:04d}" for number, row in enumerate(rows, 1)}
    return [
        {"exp_id": names[row.text], "parent_exp": names.get(row.parent, ""), "score": row.score,
         "status": "keep" if row.promoted else "discard", "hypothesis": row.text}
        for row in rows
    ]  # fmt: skip


def specialists(directory: Path, rows: Sequence[Run]) -> Path:
    """One row a trial."""
    return foreign.specialists(directory / "results.tsv", exps(rows))


def tree(directory: Path, rows: Sequence[Run]) -> Path:
    """The same, by places in the tree."""
    return foreign.tree(directory / "tree.tsv", exps(rows))


def own(directory: Path, rows: Sequence[Run]) -> Path:
    """Our own table, with repeats under the id of their program."""
    return foreign.own(
        directory / TABLE,
        [{"trial_id": f"t-{place:04d}", "program_id": foreign.code(row.program.name), "score": row.score,
          "verdict": "confirmed" if row.promoted else "worse", "hypothesis": row.text}
         for place, row in enumerate(rows)],
    )  # fmt: skip


FORMATS: dict[str, Callable[[Path, Sequence[Run]], Path]] = {
    "karpathy": karpathy,
    "multiautoresearch": multiautoresearch,
    "dag": seed,
    "specialists": specialists,
    "tree": tree,
    "autolab": own,
}


def audited(format: str, rows: Sequence[Run]) -> Audit:
    """The table is written, read and judged."""
    with TemporaryDirectory(prefix="autolab-bench-") as directory:
        table = read_results(FORMATS[format](Path(directory), rows))
    if format in ("dag", "specialists", "tree"):
        table = group_repeats(table, SAME_CODE)
    source = from_table(table)
    return audit(source.entries, source.criterion)


def tally(format: str, rows: Sequence[Run], planted: Mapping[str, float], into: Tally) -> None:
    """Count one campaign, with its repeats and without."""
    found = audited(format, rows)
    claims = [row.program for row in rows if row.promoted]  # in order, whatever a format calls them
    judged = dict(zip([found.baseline, *(verdict.id for verdict in found.verdicts)], claims, strict=True))
    for verdict in found.verdicts:
        program, stands = judged[verdict.id], verdict.outcome == "stands"
        if effect := planted.get(program.name):
            into.real[effect] += 1
            into.real_stand[effect] += stands
        else:
            into.lucky += 1
        into.stand += stands
        into.false += stands and program.truth >= judged[verdict.against].truth
    into.unproven += audited(format, [row for row in rows if row.text == row.program.name]).count("stands")


def main() -> int:
    """Exit code 1 if a bar is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=200)
    options = parser.parse_args()
    print(f"{options.seeds} campaigns of {options.trials} trials in each of: {', '.join(IN_WORLDS)}")
    tallies = {format: Tally() for format in FORMATS}
    for world in IN_WORLDS:
        for number in range(options.seeds):
            rows, planted = campaign(world, number, options.trials)
            for format, counts in tallies.items():
                tally(format, rows, planted, counts)
    effects = "".join(f"{f'{effect:g} SD':>9}" for effect in EFFECTS)
    print(
        f"{'share that stands of':<21}{effects}{'lucky':>8}{'stand':>7}{'false':>7}{'false, no repeats':>19}"
    )
    missed = []
    for format, counts in tallies.items():
        shares = {effect: counts.real_stand[effect] / max(1, counts.real[effect]) for effect in EFFECTS}
        print(
            f"{format:<21}"
            + "".join(f"{share:>9.1%}" for share in shares.values())
            + f"{counts.lucky:>9}{counts.stand:>7}{counts.false:>7}{counts.unproven:>19}"
        )
        enough = shares[LARGE] >= REAL and counts.false <= FALSE * counts.stand and not counts.unproven
        missed += [] if enough else [format]
    print(f"bars: {REAL:.0%} of {LARGE:g} SD; {FALSE:.0%} false among those that stand; none without repeats: "
          + ("MISSED: " + ", ".join(missed) if missed else "met"))  # fmt: skip
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())

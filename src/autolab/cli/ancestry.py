"""How a trial came to be, drawn as a chain: its ancestors, what else branched from each, and what branched from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import click

from autolab.cli.fitting import cut, padded, width
from autolab.cli.told import gain_text, score_text, shortened, standing_text
from autolab.ledger.masters import BASELINE, DEMOTED, Step, master_now, outcome, way_back
from autolab.ledger.records import PROMOTED, Trial
from autolab.ledger.store import Ledger
from autolab.report.overview.words import counted

SHOWN = 40  # trials of a longer chain, a few of its beginning and the rest of its end
FIRST = 8
MASTER, STEP, PASSED, BACK = "★", "●", "○", "✗"


def draw(
    ledger: Ledger,
    chain: Sequence[Trial],
    children: Sequence[Trial],
    changes: Sequence[Step],
    known: Mapping[int, str],
) -> list[str]:
    """A chain of trials, oldest first, as lines that fit. ★ is the master, ● was promoted, ○ was not, ✗ was taken
    back. `children`: of the last; `changes`: of the campaign's master, with `known`, the state of each trial."""
    lines: list[str] = []
    left_out = max(0, len(chain) - SHOWN)
    for place, trial in enumerate(chain):
        if left_out and FIRST <= place < FIRST + left_out:
            if place == FIRST:
                lines += [f"⋮  {left_out} trials in between: `autolab lineage --json` has them all", "│"]
            continue
        more = place < len(chain) - 1 or bool(children)
        lines += _trial(ledger, trial, changes, known, "│" if more else " ")
        if place < len(chain) - 1:
            others = len(ledger.children(trial.number)) - 1
            lines.append(f"├─ {counted(others, 'other trial')} branched here" if others > 0 else "│")
    if children:
        kinds = Counter(outcome(child, known) for child in children)
        told = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        lines.append(cut(f"└─ {_children(len(children))}: {told}", width()))
    backs = [change for change in changes if change.kind == "demotion"]
    if backs:
        lines += ["", "taken back"]
        lines += [f"{BACK}  {shortened(way_back(ledger, back), width() - 3)}" for back in backs]
    return lines


def _children(number: int) -> str:
    return "1 child" if number == 1 else f"{number} children"


def _trial(
    ledger: Ledger, trial: Trial, changes: Sequence[Step], known: Mapping[int, str], stem: str
) -> list[str]:
    """A trial in two lines: what it came to, and what it set out to test; `stem` leads on to the next one."""
    word = BASELINE if trial.ordinal == 0 else outcome(trial, known)
    in_force = bool(changes) and changes[-1].trial.number == trial.number
    mark, color = PASSED, None
    if in_force:
        mark, color = MASTER, "green"
    elif word == DEMOTED:
        mark, color = BACK, "yellow"
    elif word in PROMOTED or word == BASELINE:
        mark, color = STEP, "green"
    if in_force:
        told = f"master  {standing_text(master_now(ledger, trial.campaign, changes))}"
    else:
        told = f"{padded(word, 14)}  {score_text(trial.score, trial.score_low, trial.score_high)}"
        told += f"  {gain_text(trial.delta, None, None)}" if trial.delta else ""
    head = f"{mark}  {trial.id}  "
    lines = [click.style(mark, fg=color) + cut(f"{head}{told}", width())[1:]]
    where = f"{trial.surface}: " if trial.surface else ""
    if trial.hypothesis:
        lines.append(f"{stem}  " + shortened(where + trial.hypothesis, width() - 3))
    return lines

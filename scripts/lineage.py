#!/usr/bin/env python3
"""What earlier trials teach: a bounded slice, look-alikes of an idea, the ancestors of a trial."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import _bridge

_bridge.forward_if_confined()

import _lab
from _lab import Answer

from autolab.campaign.agent_trial import check_surface
from autolab.cli.told import score_text
from autolab.errors import LabError
from autolab.lab import Lab
from autolab.ledger.lineage import alike, ancestors, lineage_slice
from autolab.ledger.masters import outcome, states, steps, way_back
from autolab.ledger.records import Trial
from autolab.ledger.views import cell

SLICE_BYTES = 3600
MOST_LISTED = 20


def parser() -> _lab.Parser:
    """The verbs and their arguments."""
    whole, verb = _lab.parser("lineage.py", __doc__)
    a = verb("slice", "the master, near misses, dead ends, what failed and why, open ideas")
    a.add_argument("--surface", default="", metavar="S", help="what was tried on this surface comes first")
    a.add_argument(
        "--parent", default="master", metavar="TRIAL", help="whose children to tell of (default: master)"
    )
    a.add_argument("--bytes", type=_lab.within(500, 50_000), default=SLICE_BYTES, metavar="N",
                   help=f"how much (default {SLICE_BYTES})")  # fmt: skip
    a = verb("tried", "earlier trials whose hypothesis looks like some words")
    a.add_argument("words", nargs="+", metavar="WORDS")
    a = verb("show", "how a trial came to be, and what came of it")
    a.add_argument("trial", metavar="TRIAL", help="its id or number, or `master`")
    return whole


def run(arguments: argparse.Namespace) -> Answer:
    """Do what the verb says."""
    with _lab.open_lab(arguments) as lab:
        return VERBS[arguments.verb](lab, arguments)


def slice_of(lab: Lab, arguments: argparse.Namespace) -> Answer:
    """The lineage slice."""
    check_surface(lab, arguments.surface)
    parent = None if arguments.parent == "master" else _lab.named_trial(lab, arguments.parent).number
    role, _ = _lab.role()
    text = lineage_slice(
        lab.ledger, lab.campaign.id, surface=arguments.surface, parent=parent, limit=arguments.bytes,
        role="" if role == "person" else role,
    )  # fmt: skip
    arguments.chars = max(arguments.chars, arguments.bytes + 400)
    finished = sum(lab.ledger.count(lab.campaign.id).values())
    return Answer(
        f"{finished} finished trials, in {len(text.encode())} bytes",
        text,
        {"slice": text, "trials": finished},
    )


def tried(lab: Lab, arguments: argparse.Namespace) -> Answer:
    """Look-alikes of a hypothesis."""
    words = " ".join(arguments.words)
    if not words.strip():
        raise LabError("there are no words", mend='scripts/lineage.py tried "cosine schedule"')
    found = alike(lab.ledger, lab.campaign.id, words)
    known = states(steps(lab.ledger, lab.campaign.id))
    lines = [f"{100 * like:3.0f} %  {_line(trial, known)}" for like, trial in found]
    data = {"alike": [{"likeness": round(like, 3), **_record(trial, known)} for like, trial in found]}
    said = "nothing like that was tried"
    if found:
        likest = f"{100 * found[0][0]:.0f} %"
        said = f"{len(found)} share words with it, the likest {likest}; read them before you repeat one"
    return Answer(said, "\n".join(lines), data)


def show(lab: Lab, arguments: argparse.Namespace) -> Answer:
    """The chain of parents, and the children."""
    trial = _lab.named_trial(lab, arguments.trial)
    chain = ancestors(lab.ledger, trial)
    children = [lab.ledger.trial(number) for number in lab.ledger.children(trial.number)[:MOST_LISTED]]
    more = len(lab.ledger.children(trial.number)) - len(children)
    shown = chain[-MOST_LISTED:]
    changes = steps(lab.ledger, trial.campaign)
    known = states(changes)
    lines = [f"{len(chain) - len(shown)} earlier ancestors"] if len(chain) > len(shown) else []
    lines += [f"{'  ' * min(depth, 8)}{_line(step, known)}" for depth, step in enumerate(shown)]
    lines += ["children"] if children else []
    lines += [f"  {_line(child, known)}" for child in children]
    lines += [f"  and {more} more"] if more > 0 else []
    names = {step.number for step in shown}
    back = [way_back(lab.ledger, step) for step in changes
            if step.kind == "demotion" and step.before is not None and step.before.trial in names]  # fmt: skip
    lines += [f"demoted: {cell(text)}" for text in back]
    data = {"chain": [_record(step, known) for step in shown], "demotions": back,
            "children": [_record(child, known) for child in children]}  # fmt: skip
    return Answer(f"{trial.id}: {len(chain) - 1} ancestors, {len(children) + max(more, 0)} children",
                  "\n".join(lines), data)  # fmt: skip


def _line(trial: Trial, known: Mapping[int, str]) -> str:
    score = "" if trial.score is None else f" {score_text(trial.score, trial.score_low, trial.score_high)}"
    delta = "" if not trial.delta else f" ({trial.delta:+.3g})"
    hypothesis = cell(trial.hypothesis)[:140]
    surface = f" [{cell(trial.surface)[:30]}]" if trial.surface else ""
    return f"{trial.id} {outcome(trial, known)}{score}{delta}{surface} {hypothesis}"


def _record(trial: Trial, known: Mapping[int, str]) -> dict[str, object]:
    return {
        "trial": trial.id, "outcome": outcome(trial, known), "score": trial.score, "low": trial.score_low,
        "high": trial.score_high, "delta": trial.delta, "surface": trial.surface,
        "hypothesis": cell(trial.hypothesis)[:300], "note": cell(trial.note)[:200],
    }  # fmt: skip


VERBS = {"slice": slice_of, "tried": tried, "show": show}

if __name__ == "__main__":
    _lab.main(parser(), run)

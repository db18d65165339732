#!/usr/bin/env python3
"""The queue of changes worth trying: list, add, rank, drop."""

from __future__ import annotations

import argparse
from typing import Any

import _bridge

_bridge.forward_if_confined()

import _lab
from _lab import Answer

from autolab.campaign.agent_trial import check_surface
from autolab.lab import Lab
from autolab.ledger import agents
from autolab.ledger.records import Idea, IdeaState
from autolab.report.ideas import idea_line, idea_record

MOST_LISTED = 50


def parser() -> _lab.Parser:
    """The verbs and their arguments."""
    whole, verb = _lab.parser("ideas.py", __doc__)
    a = verb("list", "ideas, the next one first")
    a.add_argument("--open", action="store_true", help="only those that nobody has taken")
    a.add_argument("--surface", default="", metavar="S", help="only those on this surface, or on any")
    a = verb("add", "note a single change that is worth trying")
    a.add_argument("--change", required=True, metavar="C", help="what exactly to change")
    a.add_argument("--surface", default="", metavar="S", help="the part of the recipe that it changes")
    a.add_argument("--claim", default="", metavar="C", help="what its source says of it")
    a.add_argument("--source", default="", metavar="ID", help="arXiv id or address")
    a.add_argument("--effect", default="", metavar="E", help="the effect to expect here")
    a = verb("rank", "put an open idea at a place in the queue; 1 is next")
    a.add_argument("number", type=_lab.within(1, 10**9), metavar="N")
    a.add_argument("--at", type=_lab.within(1, 10**9), required=True, metavar="R")
    a = verb("drop", "take an open idea out of the queue")
    a.add_argument("number", type=_lab.within(1, 10**9), metavar="N")
    a.add_argument("--why", required=True, metavar="W")
    return whole


def run(arguments: argparse.Namespace) -> Answer:
    """Do what the verb says."""
    with _lab.open_lab(arguments) as lab:
        return VERBS[arguments.verb](lab, arguments)


def list_ideas(lab: Lab, arguments: argparse.Namespace) -> Answer:
    """The queue: open ideas first, in their order; then what became of the others."""
    every = agents.ideas(lab.ledger, lab.campaign.id, IdeaState.OPEN if arguments.open else None)
    if arguments.surface:
        check_surface(lab, arguments.surface)
        every = [idea for idea in every if idea.surface in ("", arguments.surface)]
    every.sort(key=lambda idea: idea.state is not IdeaState.OPEN)  # stable: by rank within each
    waiting = sum(idea.state is IdeaState.OPEN for idea in every)
    shown = every[:MOST_LISTED]
    trials = agents.idea_trials(lab.ledger, lab.campaign.id)
    lines = [idea_line(idea, trials.get(idea.number, [])) for idea in shown]
    if len(every) > len(shown):
        lines.append(f"and {len(every) - len(shown)} more")
    said = f"{waiting} open" + ("" if arguments.open else f" of {len(every)}")
    if waiting:
        said += f"; `scripts/trial.py open --idea {every[0].number} --hypothesis …` takes the first"
    listed = [idea_record(idea, trials.get(idea.number, [])) for idea in shown]
    data = {"open": waiting, "of": len(every), "ideas": listed}
    return Answer(said, "\n".join(lines), data)


def add(lab: Lab, arguments: argparse.Namespace) -> Answer:
    """Note an idea."""
    check_surface(lab, arguments.surface)
    made = agents.add_idea(
        lab.ledger, lab.campaign.id, change=arguments.change, surface=arguments.surface, claim=arguments.claim,
        source=arguments.source, effect=arguments.effect, author=_lab.role()[1],
    )  # fmt: skip
    return Answer(f"idea {made.number} is noted, at the end of the queue", data=_record(lab, made))


def rank(lab: Lab, arguments: argparse.Namespace) -> Answer:
    """Move an open idea in the queue."""
    moved = agents.rank_idea(lab.ledger, arguments.number, arguments.at)
    queue = agents.ideas(lab.ledger, lab.campaign.id, IdeaState.OPEN)
    place = [idea.number for idea in queue].index(moved.number) + 1
    return Answer(
        f"idea {moved.number} is number {place} of {len(queue)}", data=_record(lab, moved) | {"place": place}
    )


def drop(lab: Lab, arguments: argparse.Namespace) -> Answer:
    """Take an open idea out of the queue."""
    dropped = agents.drop_idea(lab.ledger, arguments.number, arguments.why)
    return Answer(f"idea {dropped.number} is dropped", data=_record(lab, dropped))


def _record(lab: Lab, idea: Idea) -> dict[str, Any]:
    trials = agents.idea_trials(lab.ledger, lab.campaign.id)
    return idea_record(idea, trials.get(idea.number, []))


VERBS = {"list": list_ideas, "add": add, "rank": rank, "drop": drop}

if __name__ == "__main__":
    _lab.main(parser(), run)

#!/usr/bin/env python3
"""One trial from open to its outcome: open, check, submit, status, show, abandon, repair."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _bridge

_bridge.forward_if_confined()

import _lab
from _lab import Answer

from autolab.campaign import agent_trial
from autolab.campaign.agent_trial import Check
from autolab.campaign.lock import holder
from autolab.cli.told import control_lines, score_text, standing_text
from autolab.lab import Lab
from autolab.ledger.agents import workspace
from autolab.ledger.masters import DEMOTED, is_control, is_sealed, master_now, outcome, states, steps
from autolab.ledger.records import PROMOTED, Measurement, Status, Trial, TrialState
from autolab.ledger.views import cell, timestamp
from autolab.program.difference import unified_diff

MOST_WAIT = 100
LOOK_SECONDS = 0.1
LOG_LINES = 12
START = "`scripts/lab.py start`"


def parser() -> _lab.Parser:
    """The verbs and their arguments."""
    whole, verb = _lab.parser("trial.py", __doc__)
    named = "its id or number (default: your own)"
    a = verb("open", "open a trial with a workspace that holds the parent program")
    a.add_argument("--hypothesis", required=True, metavar="H", help="what the change should do, and why")
    a.add_argument("--surface", default="", metavar="S", help="the part of the recipe that it changes")
    a.add_argument("--idea", type=_lab.within(1, 10**9), metavar="N", help="the idea that it tries")
    a = verb("check", "what submit would say; spends nothing")
    a.add_argument("trial", nargs="?", metavar="TRIAL", help=named)
    a = verb("submit", "hand the workspace in to be measured")
    a.add_argument("trial", nargs="?", metavar="TRIAL", help=named)
    a.add_argument("--hypothesis", default="", metavar="H", help="a better wording than when it was opened")
    a.add_argument("--expected", default="", metavar="E", help="the effect that you expect")
    a.add_argument("--why", default="", metavar="W", help="why you expect it")
    a.add_argument(
        "--source", nargs="+", action="extend", default=[], metavar="ID", help="papers it comes from"
    )
    a = verb("status", "where trials stand")
    a.add_argument("trial", nargs="*", metavar="TRIAL", help="ids or numbers (default: your own)")
    a.add_argument("--wait", type=_lab.within(0, MOST_WAIT), default=0, metavar="SECONDS",
                   help=f"wait until one of them is done, {MOST_WAIT} at most")  # fmt: skip
    a = verb("show", "everything about one trial, with its diff")
    a.add_argument("trial", metavar="TRIAL", help="its id or number, or `master`")
    a = verb("abandon", "give your open trial up")
    a.add_argument("trial", nargs="?", metavar="TRIAL", help=named)
    a.add_argument("--why", required=True, metavar="W")
    a = verb("repair", "open a trial that starts from a failed one, to mend it")
    a.add_argument("trial", metavar="TRIAL", help="the trial that failed")
    return whole


def run(arguments: argparse.Namespace) -> Answer:
    """Do what the verb says."""
    with _lab.open_lab(arguments) as lab:
        return VERBS[arguments.verb](lab, arguments)


def open_trial(lab: Lab, arguments: argparse.Namespace) -> Answer:
    """Open a trial; a specialist's surface is its own if it names none."""
    role, agent = _lab.role()
    surface = arguments.surface
    if not surface and role == "specialist" and arguments.idea is None:
        own = agent.rpartition("/")[2]
        surface = own if own in lab.task.surfaces else ""
    trial, path = agent_trial.open_for_agent(
        lab, role=role, agent=agent, hypothesis=arguments.hypothesis, surface=surface, session=_lab.session(),
        idea=arguments.idea,
    )  # fmt: skip
    return _opened(lab, trial, path)


def repair(lab: Lab, arguments: argparse.Namespace) -> Answer:
    """Open a trial whose workspace holds a failed trial's program."""
    role, agent = _lab.role()
    broken = _lab.named_trial(lab, arguments.trial)
    trial, path = agent_trial.open_for_agent(
        lab, role=role, agent=agent, hypothesis=f"Repair of {broken.id}: {broken.hypothesis}", surface=broken.surface,
        session=_lab.session(), start_from=broken,
    )  # fmt: skip
    failed = [f"failed      {broken.id} {broken.status}: {cell(broken.note)}", *_log(lab, broken)]
    return _opened(lab, trial, path, failed)


def _opened(lab: Lab, trial: Trial, path: Path, more: Sequence[str] = ()) -> Answer:
    place = path.relative_to(lab.root)
    edit = [str(place / name) for name in lab.task.editable]
    parent = lab.ledger.trial(trial.parent_trial) if trial.parent_trial else None
    score = parent.score if parent else None
    known = "not measured yet" if score is None else f"{lab.task.metric.name} {score:.5g}"
    in_force = lab.ledger.newest_promotion(lab.campaign.id)
    if parent and in_force is not None and in_force.trial == parent.number:
        seen = master_now(lab.ledger, lab.campaign.id)
        score, known = seen.score, f"{lab.task.metric.name} {standing_text(seen)}"
    lines = [f"trial       {trial.id}", f"workspace   {place}", *(f"edit        {name}" for name in edit)]
    if lab.protected:
        lines.append(f"read only   {', '.join(sorted(lab.protected))}")
    lines.append(f"parent      {parent.id if parent else '-'}, {known} ({lab.task.metric.direction} it)")
    if trial.surface:
        lines.append(
            f"surface     {trial.surface}: {cell(lab.task.surfaces.get(trial.surface, ''))}".rstrip(": ")
        )
    lines += [f"guidance    {cell(text)[:300]}" for _, text in lab.ledger.guidance(lab.campaign.id, last=3)]
    lines += [*more, f"next        edit in the workspace only, then `scripts/trial.py check {trial.id}`,"
              f" then `scripts/trial.py submit {trial.id}`"]  # fmt: skip
    data = {"trial": trial.id, "workspace": str(place), "edit": edit, "protected": sorted(lab.protected),
            "parent": parent.id if parent else None, "parent_score": score, "surface": trial.surface,
            "left": agent_trial.trials_left(lab)}  # fmt: skip
    return Answer(f"opened trial {trial.id}; edit {', '.join(edit)}", "\n".join(lines), data)


def check(lab: Lab, arguments: argparse.Namespace) -> Answer:
    """What the workspace would be as a proposal."""
    trial = _lab.trial_of(lab, arguments.trial)
    found = agent_trial.check(lab, trial)
    place = workspace(lab.ledger, trial.number)
    if place is not None and place.session == _lab.session():
        agent_trial.heard_from(lab, trial)
    diff = _diff(lab, trial, found)
    added = sum(line.startswith("+") and not line.startswith("+++") for line in diff.splitlines())
    removed = sum(line.startswith("-") and not line.startswith("---") for line in diff.splitlines())
    data = {"trial": trial.id, "added": added, "removed": removed, "diff": diff[: arguments.chars]}
    if found.refusal is not None:
        status, reason = found.refusal
        data |= {"refusal": str(status), "reason": reason}
        mend = "make another change" if status is Status.DUPLICATE else "edit the workspace, then check again"
        return Answer(f"{trial.id} would be {status}: {reason}", diff, data, refused=True, mend=mend)
    said = f"{trial.id} may be submitted: {added} lines added, {removed} removed; `scripts/trial.py submit {trial.id}`"
    return Answer(said, diff, data)


def _diff(lab: Lab, trial: Trial, found: Check) -> str:
    if found.files is None or trial.parent_program is None:
        return ""
    return unified_diff(lab.ledger.program(trial.parent_program), dict(found.files))


def submit(lab: Lab, arguments: argparse.Namespace) -> Answer:
    """Hand the workspace in."""
    trial = _lab.trial_of(lab, arguments.trial)
    sources = tuple(part for given in arguments.source for part in given.replace(",", " ").split())
    done = agent_trial.submit(
        lab, trial, session=_lab.session(), hypothesis=arguments.hypothesis, expected_effect=arguments.expected,
        rationale=arguments.why, sources=sources,
    )  # fmt: skip
    if done.state is TrialState.DONE:
        return Answer(f"{done.id} is {done.status}: {done.note}", data=_record(lab, done), refused=True,
                      mend="it is over; open a trial with another change")  # fmt: skip
    said = f"{done.id} is queued{_before(lab, done)}{_unserved(lab)}"
    text = f"next        `scripts/trial.py status {done.id} --wait {MOST_WAIT}`"
    return Answer(said, text, _record(lab, done))


def status(lab: Lab, arguments: argparse.Namespace) -> Answer:
    """Where trials stand, at once or as soon as one of them is done."""
    trials = _meant(lab, arguments.trial)
    numbers = [trial.number for trial in trials]
    waiting = {trial.number for trial in trials if trial.state is not TrialState.DONE}
    deadline = time.monotonic() + arguments.wait
    seen = lab.ledger.changes()
    while waiting and holder(lab.root) is not None and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
        changed = seen != (seen := lab.ledger.changes())
        if changed and any(lab.ledger.trial(number).state is TrialState.DONE for number in waiting):
            break
    trials = [lab.ledger.trial(number) for number in numbers]
    data = {"trials": [_record(lab, trial) for trial in trials], "measuring": holder(lab.root) is not None}
    if not trials:
        return Answer("no trial is under way" + _unserved(lab), data=data)
    lines = [f"{trial.id}  {_standing(lab, trial)}" for trial in trials]
    open_or_queued = sum(trial.state is not TrialState.DONE for trial in trials)
    if len(trials) == 1:
        (trial,) = trials
        extra = [f"hypothesis  {cell(trial.hypothesis)}"]
        extra += [f"note        {cell(trial.note)}"] if trial.note and trial.state is TrialState.DONE else []
        extra += _log(lab, trial) if trial.state is TrialState.DONE and trial.score is None else []
        again = "" if trial.state is TrialState.DONE else _again(lab, trial)
        return Answer(lines[0].replace("  ", " is ", 1) + again, "\n".join(extra), data)
    said = f"{len(trials) - open_or_queued} of {len(trials)} are done" + (
        _unserved(lab) if open_or_queued else ""
    )
    return Answer(said, "\n".join(lines), data)


def _meant(lab: Lab, names: Sequence[str]) -> list[Trial]:
    """The trials that are named; else one's own; else what is under way and what ended last."""
    if names:
        return [_lab.named_trial(lab, name) for name in dict.fromkeys(names)]
    bound = _lab.bound_trial(lab)
    if bound is not None:
        return [bound]
    own = agent_trial.trials_of_session(lab, _lab.session()) if _lab.session() else []
    return own or [*lab.ledger.trials(lab.campaign.id, last=5), *lab.ledger.undone(lab.campaign.id)[:20]]


def _again(lab: Lab, trial: Trial) -> str:
    if trial.state is TrialState.OPEN:
        return f"; `scripts/trial.py submit {trial.id}` hands it in"
    return _unserved(lab) or f"; `scripts/trial.py status {trial.id} --wait {MOST_WAIT}` waits for it"


def _unserved(lab: Lab) -> str:
    return "" if holder(lab.root) is not None else f"; nothing measures now: {START}"


def _before(lab: Lab, trial: Trial) -> str:
    ahead = [
        t
        for t in lab.ledger.undone(lab.campaign.id)
        if t.state is TrialState.QUEUED and t.number < trial.number
    ]
    return f", {len(ahead)} before it" if ahead else ""


def _standing(lab: Lab, trial: Trial) -> str:
    """`queued, 2 before it`, `being measured`, `confirmed, loss 1.0003 [0.99, 1.01] (gain +0.1 over the
    master then), the master; now 1.0005 [1, 1.001] confirmed, of 12 runs`."""
    if trial.state is TrialState.OPEN:
        return "open"
    if trial.state is TrialState.QUEUED:
        running = [m.stage for m in lab.ledger.measurements(trial.number) if m.status is None]
        return f"being measured ({running[-1]})" if running else "queued" + _before(lab, trial)
    if trial.score is None:
        return f"{trial.status}: {cell(trial.note)[:160]}"
    gain = (
        ""
        if trial.delta is None or trial.ordinal == 0
        else f" (gain {trial.delta:+.4g} over the master then)"
    )
    chain = steps(lab.ledger, trial.campaign)
    known = states(chain)
    score = score_text(trial.score, trial.score_low, trial.score_high)
    text = f"{outcome(trial, known)}, {lab.task.metric.name} {score}{gain}"
    if chain and chain[-1].trial.number == trial.number:
        seen = master_now(lab.ledger, trial.campaign, chain)
        return f"{text}, the master; now {standing_text(seen)}"
    if trial.number not in known and trial.verdict not in PROMOTED:
        return text
    return text if known.get(trial.number) == DEMOTED else text + ", a master since replaced"


def _log(lab: Lab, trial: Trial) -> list[str]:
    """The end of a failed trial's log."""
    failed = [
        m
        for m in lab.ledger.measurements(trial.number)
        if m.status not in (None, Status.OK) and m.log_excerpt and not is_sealed(m)
    ]
    return (
        [f"log         | {line[:200]}" for line in failed[-1].log_excerpt.splitlines()[-LOG_LINES:]]
        if failed
        else []
    )


def show(lab: Lab, arguments: argparse.Namespace) -> Answer:
    """Everything about one trial."""
    trial = _lab.named_trial(lab, arguments.trial)
    measured = [m for m in lab.ledger.measurements(trial.number) if not is_sealed(m)]
    controls = [m for m in measured if is_control(m)]
    measured = [m for m in measured if not is_control(m)]
    parent = lab.ledger.trial_id(trial.parent_trial) if trial.parent_trial else "-"
    known = trial.proposal
    lines = [
        f"trial       {trial.id}, opened {timestamp(trial.created_at)} by {trial.role} {trial.agent}".rstrip()
        + (f" on {trial.surface}" if trial.surface else ""),
        f"parent      {parent}",
        f"hypothesis  {cell(trial.hypothesis)}",
    ]
    if known is not None:
        told = (
            ("expected", known.expected_effect),
            ("why", known.rationale),
            ("sources", ", ".join(known.sources)),
        )
        lines += [f"{name:<12}{cell(text)}" for name, text in told if text]
    lines += [f"note        {cell(trial.note)}"] if trial.note else []
    lines += [_measured(lab, m) for m in measured] + control_lines(controls)
    lines += _log(lab, trial) if trial.score is None else []
    diff = ""
    if trial.program and trial.parent_program:
        diff = unified_diff(lab.ledger.program(trial.parent_program), dict(lab.program(trial)))
    data = _record(lab, trial) | {
        "parent": parent, "expected": known.expected_effect if known else "", "why": known.rationale if known else "",
        "sources": list(known.sources) if known else [], "diff": diff[: arguments.chars],
        "measurements": [{"stage": m.stage, "status": m.status, "score": m.score, "cause": m.cause} for m in measured],
        "controls": len(controls),
    }  # fmt: skip
    return Answer(f"{trial.id} is {_standing(lab, trial)}", "\n".join([*lines, diff]), data)


def _measured(lab: Lab, m: Measurement) -> str:
    outcome = f"{lab.task.metric.name} {m.score:.6g}" if m.score is not None else str(m.status or "running")
    weak = ", without a sandbox" if m.sandbox == "none" else ""
    weak += ", self-reported" if m.evidence == "self_reported" else ""
    used = f", {m.train_seconds:.1f} s, {m.peak_memory_mb:.0f} MB" if m.status is not None else ""
    return f"measured    {m.stage}: {outcome}{used}{weak}" + (f": {cell(m.cause)[:200]}" if m.cause else "")


def abandon(lab: Lab, arguments: argparse.Namespace) -> Answer:
    """Give an open trial up."""
    trial = _lab.trial_of(lab, arguments.trial)
    done = agent_trial.abandon(lab, trial, arguments.why, session=_lab.session())
    return Answer(f"{done.id} is given up; its workspace is gone", data=_record(lab, done))


def _record(lab: Lab, trial: Trial) -> dict[str, Any]:
    place = workspace(lab.ledger, trial.number) if trial.state is TrialState.OPEN else None
    known = states(steps(lab.ledger, trial.campaign))
    return {
        "trial": trial.id, "number": trial.number, "state": trial.state, "status": trial.status,
        "verdict": trial.verdict, "outcome": outcome(trial, known),
        "score": trial.score, "low": trial.score_low, "high": trial.score_high,
        "delta": trial.delta, "note": cell(trial.note), "surface": trial.surface, "role": trial.role,
        "agent": trial.agent, "hypothesis": cell(trial.hypothesis),
        "repeats": lab.ledger.trial_id(trial.repeats) if trial.repeats else None,
        "workspace": os.path.relpath(place.path, lab.root) if place else None,
    }  # fmt: skip


VERBS = {
    "open": open_trial, "check": check, "submit": submit, "status": status, "show": show, "abandon": abandon,
    "repair": repair,
}  # fmt: skip

if __name__ == "__main__":
    _lab.main(parser(), run)

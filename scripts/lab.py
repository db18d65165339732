#!/usr/bin/env python3
"""The lab as a whole: status, task, doctor; start, stop, pause and resume measuring; steer the agents."""

from __future__ import annotations

import argparse
import json
from typing import Any

import _bridge

_bridge.forward_if_confined()

import _lab
from _lab import Answer

from autolab.campaign import agent_trial
from autolab.campaign.detached import serving, start_serving
from autolab.campaign.lock import at_work
from autolab.cli.summary import moves, summarise
from autolab.cli.told import master_lines, standing_text
from autolab.errors import LabError
from autolab.lab import Lab, attach, open_lab
from autolab.ledger.agents import ideas
from autolab.ledger.masters import master_now, steps
from autolab.ledger.records import IdeaState, TrialState
from autolab.ledger.views import cell
from autolab.task import Task, load_task

MOST_LISTED = 12
GUIDANCE_LISTED = 5


def parser() -> _lab.Parser:
    """The verbs and their arguments."""
    whole, verb = _lab.parser("lab.py", __doc__)
    verb("status", "the master, what is under way, what is left")
    a = verb("start", "measure what agents submit, in the background; begins a campaign if there is none")
    a.add_argument("--slots", type=_lab.within(1, 4096), metavar="N", help="measurements at once")
    a.add_argument("--trials", type=_lab.within(1, 10**9), metavar="N", help="take this many trials in all")
    a.add_argument("--hours", type=_hours, metavar="H", help="stop after this long")
    verb("stop", "let what is running end, then stop")
    verb("pause", "start no new measurement until resume")
    verb("resume", "go on after a pause")
    a = verb("steer", "tell the agents something; they all see it from now on")
    a.add_argument("text", metavar="TEXT")
    verb("task", "metric, files, surfaces and budget")
    verb("doctor", "what this machine can and cannot do")
    return whole


def _hours(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of hours")
    return found


def run(arguments: argparse.Namespace) -> Answer:
    """Do what the verb says."""
    return VERBS[arguments.verb](arguments)


def status(arguments: argparse.Namespace) -> Answer:
    """Where the campaign stands."""
    with _lab.open_lab(arguments) as lab:
        summary = summarise(lab.ledger, lab.campaign, lab.root)
        return _status(lab, summary)


def _status(lab: Lab, summary: dict[str, Any]) -> Answer:
    ledger, campaign = lab.ledger, lab.campaign.id
    at = at_work(lab.root)
    state = ledger.campaign(campaign).state
    measuring = f"process {at[0]} measures (autolab {at[1]})" if at else "nothing measures now"
    undone = ledger.undone(campaign)
    count = {
        kind: sum(trial.state is kind for trial in undone) for kind in (TrialState.OPEN, TrialState.QUEUED)
    }
    left = agent_trial.trials_left(lab)
    waiting = len(ideas(ledger, campaign, IdeaState.OPEN))
    master = summary["master"]
    lines = [
        f"campaign    {campaign}, {state if at else 'not running'}; {measuring}",
        f"baseline    {summary['baseline']}"
        + (
            f": {summary['metric']} {summary['baseline_score']:.5g}"
            if summary["baseline_score"] is not None
            else ""
        ),
    ]
    if master:
        chain = steps(ledger, campaign)
        seen = master_now(ledger, campaign, chain)
        said = f"{summary['metric']} {standing_text(seen)}, trial {seen.trial.id}, {moves(master)}"
        lines.append(f"master      {said}")
        lines += master_lines(ledger, seen, chain)
    outcomes = ", ".join(f"{number} {name}" for name, number in summary["outcomes"].items()) or "none yet"
    lines.append(f"finished    {summary['trials']} with the baseline: {outcomes}")
    lines.append(f"under way   {count[TrialState.OPEN]} open, {count[TrialState.QUEUED]} submitted"
                 + ("" if left is None else f"; {left} more may be opened"))  # fmt: skip
    for trial in undone[:MOST_LISTED]:
        lines.append(f"            {trial.id} {trial.state} {trial.agent}: {cell(trial.hypothesis)[:80]}")
    if len(undone) > MOST_LISTED:
        lines.append(f"            and {len(undone) - MOST_LISTED} more")
    lines.append(f"ideas       {waiting} open")
    lines += [f"guidance    {cell(text)[:200]}" for text in summary["guidance"][-GUIDANCE_LISTED:]]
    weak = []
    if summary["evidence"] == "self_reported":
        weak.append("scores are self-reported by the recipe")
    if summary["sandbox"] == "none":
        weak.append("measured without a sandbox")
    lines += [f"WEAK        {text}" for text in weak]
    data = {**summary, "state": state, "measuring": at is not None, "left": left, "ideas_open": waiting,
            "running": summary["running"][:MOST_LISTED], "under_way": len(undone),
            "guidance": [cell(text) for text in summary["guidance"][-GUIDANCE_LISTED:]]}  # fmt: skip
    said = f"{campaign}: {measuring}" + ("" if at else "; `scripts/lab.py start` begins")
    return Answer(said, "\n".join(lines), data)


def start(arguments: argparse.Namespace) -> Answer:
    """Start the service; it goes on when the agent's session has ended."""
    root = _lab.lab_root(arguments)
    load_task(root)
    words = []
    for name in ("slots", "trials", "hours"):
        value = getattr(arguments, name)
        if value is not None:
            words += [f"--{name}", str(value)]
    running = serving(root)
    if running is not None:
        return Answer(f"the service runs already (process {running}); new limits need `scripts/lab.py stop` first",
                      data={"process": running, "started": False})  # fmt: skip
    process, ready = start_serving(root, words)
    data = {"process": process, "started": True, "ready": ready}
    if not ready:
        said = f"process {process} prepares the data still; `scripts/lab.py status` shows when it measures"
        return Answer(said, data=data)
    with open_lab(root) as ledger:
        lab = attach(root, ledger, ledger.campaign())
        left = agent_trial.trials_left(lab)
        data |= {"campaign": lab.campaign.id, "left": left}
        rest = "" if left is None else f"; {left} trials may be opened"
        first = "" if ledger.newest_promotion(lab.campaign.id) else "; the baseline goes first"
        return Answer(
            f"{lab.campaign.id}: process {process} measures what is submitted{rest}{first}", data=data
        )


def order(arguments: argparse.Namespace) -> Answer:
    """Stop, pause or resume what is at work."""
    root = _lab.lab_root(arguments)
    said = _lab.command(arguments.verb, "-C", str(root)).strip()
    said = said.replace("`autolab run`", "`scripts/lab.py start`").replace("`autolab ", "`scripts/lab.py ")
    if "is not running" in said or "is stopping already" in said:
        raise LabError(
            said, mend="`scripts/lab.py start`" if "not running" in said else "wait until it has ended"
        )
    return Answer(said, data={"said": said})


def steer(arguments: argparse.Namespace) -> Answer:
    """Record a person's guidance."""
    text = " ".join(arguments.text.split())
    if not text:
        raise LabError("the guidance is empty", mend='scripts/lab.py steer "try smaller batches"')
    with _lab.open_lab(arguments) as lab:
        lab.ledger.steer(lab.campaign.id, text[:4000])
    return Answer("noted; every agent sees it from now on", data={"guidance": text[:4000]})


def task(arguments: argparse.Namespace) -> Answer:
    """What is to be improved, and within which limits; of the campaign if there is one."""
    root = _lab.lab_root(arguments)
    try:
        with _lab.open_lab(arguments) as lab:
            found = lab.task
    except LabError:
        found = load_task(root)
    return Answer(f"{found.metric.direction} {found.metric.name} by editing {', '.join(found.editable)}",
                  "\n".join(_task_lines(found)), _task_data(found))  # fmt: skip


def _task_lines(found: Task) -> list[str]:
    budget = found.budget.model_dump(exclude_none=True)
    lines = [
        f"task        {found.name} ({found.profile})",
        f"metric      {found.metric.name}, {found.metric.direction}"
        + (f"; a gain up to {found.metric.min_effect:g} counts as none" if found.metric.min_effect else ""),
        f"editable    {', '.join(found.editable)}",
        f"protected   {', '.join(found.protected) or 'none'}",
        "budget      " + ", ".join(f"{name} {value:g}" for name, value in budget.items()),
    ]
    lines += [f"gate        {gate.metric}" + "".join(
                f" {name.replace('_', ' ')} {value:g}" for name, value in
                (("at_least", gate.at_least), ("at_most", gate.at_most)) if value is not None)
              for gate in found.gates]  # fmt: skip
    if found.objective == "wallclock":
        lines.append(
            "objective   the training time, measured by the lab; the gates are the quality it must keep"
        )
    lines += [f"surface     {name}: {cell(text)[:160]}" for name, text in found.surfaces.items()]
    return lines


def _task_data(found: Task) -> dict[str, Any]:
    wanted = {
        "name",
        "profile",
        "metric",
        "editable",
        "protected",
        "budget",
        "gates",
        "objective",
        "surfaces",
    }
    return found.model_dump(mode="json", include=wanted, exclude_none=True)


def doctor(arguments: argparse.Namespace) -> Answer:
    """What this machine can and cannot do."""
    root = _lab.lab_root(arguments)
    checks = json.loads(_lab.command("doctor", "-C", str(root), "--json"))
    missing = [one["check"] for one in checks if one["state"] == "no"]
    weak = [one["check"] for one in checks if one["state"] == "weak"]
    text = "\n".join(f"{one['state']:<5}{one['check']:<10} {cell(one['text'])}" for one in checks)
    if missing:
        return Answer(f"cannot search here: {', '.join(missing)}", text, {"checks": checks}, refused=True,
                      mend="see the lines that begin with `no`")  # fmt: skip
    return Answer("ready" + (f"; weak: {', '.join(weak)}" if weak else ""), text, {"checks": checks})


VERBS = {
    "status": status, "start": start, "stop": order, "pause": order, "resume": order, "steer": steer, "task": task,
    "doctor": doctor,
}  # fmt: skip

if __name__ == "__main__":
    _lab.main(parser(), run)

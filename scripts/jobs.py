#!/usr/bin/env python3
"""HF Jobs: what hardware costs, launch within a budget, look, read logs, cancel. A job's log is never a result."""

from __future__ import annotations

import argparse

import _bridge

_bridge.forward_if_confined()

import dataclasses
import os
import sys
from pathlib import Path

import _lab

from autolab.hub import connection, consent, jobs
from autolab.ledger.store import Ledger

LOG_CHARACTERS = 4000  # the room keeps to it; cutting more would lose the marker at the end


def run(arguments: argparse.Namespace) -> _lab.Answer:
    """Ask the Hub, or tell it."""
    api = connection.connect()
    if arguments.verb == "hardware":
        flavors = jobs.hardware(api)
        data = {"flavors": [dataclasses.asdict(flavor) for flavor in flavors]}
        said = f"{_count(flavors, 'flavor')}, cheapest first; every minute begun is paid"
        return _lab.Answer(said, jobs.show_hardware(flavors), data)
    root = _lab.lab_root(arguments)
    owner = connection.namespace(api, root / ".autolab" / "cache" / "hub", arguments.namespace)
    if arguments.verb == "launch":
        consent.may_spend(arguments.max_usd)
        labels = {
            "campaign": _campaign(root),
            "trial": arguments.trial or os.environ.get("AUTOLAB_TRIAL", ""),
        }
        job, cost = jobs.launch(
            api, owner, arguments.command, flavor=arguments.flavor, timeout=arguments.timeout,
            max_usd=arguments.max_usd, image=arguments.image, labels=labels,
        )  # fmt: skip
        said = f"launched {job.id}, ${cost:.4f} at most (next: scripts/jobs.py status {job.id})"
        return _one(job, said)
    if arguments.verb == "logs":
        arguments.chars = LOG_CHARACTERS
        lines = jobs.logs(api, owner, arguments.id, arguments.tail)
        said = f"{_count(lines, 'line')} of a log, for people: it may be cut short, and is never a result"
        text = jobs.show_log(arguments.id, lines)
        return _lab.Answer(said, text, {"id": arguments.id, "log": text})
    if arguments.verb == "cancel":
        job = jobs.cancel(api, owner, arguments.id)
        return _one(job, f"{job.id} is {job.stage}")
    if arguments.id:
        job = jobs.status(api, owner, arguments.id)
        following = "" if job.stage in jobs.TERMINAL else f" (next: scripts/jobs.py status {job.id})"
        return _one(job, f"{job.id} is {job.stage}{following}")
    found = jobs.recent(api, owner)
    shown = found[: jobs.SHOWN_JOBS]
    newest = "the newest " if len(found) == jobs.RECENT else ""
    unfinished = sum(job.stage not in jobs.TERMINAL for job in found)
    said = f"{newest}{_count(found, 'job')} of Autolab, {unfinished} not finished"
    said += f", {len(shown)} shown" if len(shown) < len(found) else ""
    return _lab.Answer(
        said, "\n".join(map(jobs.show_job, shown)), {"jobs": [dataclasses.asdict(job) for job in shown]}
    )


def _one(job: jobs.Job, said: str) -> _lab.Answer:
    return _lab.Answer(said, jobs.show_job(job), dataclasses.asdict(job))


def _count(things: list[jobs.Job] | list[jobs.Flavor] | list[str], word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


def _campaign(root: Path) -> str:
    """The newest campaign, or nothing before the first."""
    path = root / ".autolab" / "ledger.sqlite"
    if not path.exists():
        return ""
    with Ledger(path, create=False) as ledger:
        return ledger.campaign().id if ledger.campaigns() else ""


def _split_command() -> list[str]:
    """Take the job's own command line, everything after the first `--`, out of the arguments."""
    if "--" not in sys.argv:
        return []
    at = sys.argv.index("--")
    command = sys.argv[at + 1 :]
    del sys.argv[at:]
    return command


if __name__ == "__main__":
    parser, verb = _lab.parser("jobs.py", __doc__)
    verb("hardware", "flavors and prices")
    launch = verb("launch", "launch a job")
    launch.usage = "scripts/jobs.py launch --flavor F --timeout 10m --max-usd X [--image I] -- command …"
    launch.add_argument("--flavor", required=True, help="see `hardware`")
    launch.add_argument("--timeout", required=True, help="such as 90s, 10m, 2h")
    launch.add_argument("--max-usd", type=float, required=True, help="refuse if price × timeout is more")
    launch.add_argument("--image", default=jobs.IMAGE, help=f"default: {jobs.IMAGE}")
    launch.add_argument("--trial", help="label (default: the trial of this workspace)")
    launch.set_defaults(command=_split_command())
    status = verb("status", "one job, or the newest")
    status.add_argument("id", nargs="?")
    logs = verb("logs", "the end of a job's log, for people")
    logs.add_argument("id")
    logs.add_argument("--tail", type=int, default=50, help="lines")
    cancel = verb("cancel", "cancel a job that Autolab launched")
    cancel.add_argument("id")
    for one in (launch, status, logs, cancel):
        one.add_argument("--namespace", help="whose jobs (default: the account of the token)")
    _lab.main(parser, run)

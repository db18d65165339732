#!/usr/bin/env python3
"""HF Jobs: prices, launch within a budget, look, read logs, cancel, add up costs. A job's log is never a result."""

from __future__ import annotations

import argparse

import _bridge

_bridge.forward_if_confined()

import dataclasses
import os
import sys
import time

import _lab

from autolab.errors import LabError
from autolab.hub import connection, consent
from autolab.hub.jobs import flavors, launching, spending
from autolab.hub.jobs import listing as jobs
from autolab.hub.jobs import of_lab as lab_jobs

LOG_CHARACTERS = 4000  # the room keeps to it; cutting more would lose the marker at the end
SHOWN = 15


def run(arguments: argparse.Namespace) -> _lab.Answer:
    """Ask the Hub, or tell it."""
    api = connection.connect()
    if arguments.verb == "hardware":
        found = flavors.hardware(api)
        data = {"flavors": [dataclasses.asdict(flavor) for flavor in found]}
        said = f"{_count(found, 'flavor')}, cheapest first; every minute begun is paid"
        return _lab.Answer(said, flavors.show_hardware(found), data)
    state = _lab.lab_root(arguments) / ".autolab"
    cache, ledger = state / "cache" / "hub", state / "ledger.sqlite"
    owner = connection.namespace(api, cache, arguments.namespace)
    if arguments.verb == "launch":
        consent.may_spend(arguments.max_usd)
        trial = arguments.trial or os.environ.get("AUTOLAB_TRIAL", "")
        job, cost = launching.launch(
            api, owner, arguments.command, flavor=arguments.flavor, timeout=arguments.timeout,
            max_usd=arguments.max_usd, budget_usd=arguments.budget_usd, lock=cache / "launch.lock",
            image=arguments.image, labels={**lab_jobs.lab_labels(ledger), "trial": trial},
        )  # fmt: skip
        return _one(job, f"launched {job.id}, ${cost:.4f} at most (next: scripts/jobs.py status {job.id})")
    if arguments.verb == "logs":
        if os.environ.get("AUTOLAB_ROLE") and lab_jobs.is_sealed(ledger, arguments.id):
            raise LabError("measured the sealed split, which agents may not see", where=arguments.id,
                           mend="`scripts/trial.py show` says what came of it")  # fmt: skip
        arguments.chars = LOG_CHARACTERS
        lines = jobs.logs(api, owner, arguments.id, arguments.tail)
        said = f"{_count(lines, 'line')} of a log, for people: it may be cut short, and is never a result"
        text = jobs.show_log(arguments.id, lines)
        return _lab.Answer(said, text, {"id": arguments.id, "log": text})
    if arguments.verb == "cancel":
        lab = lab_jobs.lab_labels(ledger).get("lab", "")
        agent = bool(os.environ.get("AUTOLAB_ROLE"))
        return _one(jobs.cancel(api, owner, arguments.id, lab=lab, spare_measurements=agent))
    if arguments.verb == "cost":
        since = time.time() - flavors.parse_since(arguments.since) if arguments.since else 0.0
        listing = jobs.listed(api, owner, since=since)
        rows, whole = spending.by_campaign(listing.jobs), spending.add_up(listing.jobs, "all")
        data = spending.as_data(rows, whole, listing.more)
        return _lab.Answer(
            spending.say_spending(whole, listing.more), spending.show_spending(rows, whole), data
        )
    if arguments.id:
        return _one(jobs.status(api, owner, arguments.id))
    listing = jobs.listed(api, owner)
    shown = listing.jobs[:SHOWN]
    said = jobs.show_listing(listing) + (f", {len(shown)} shown" if len(shown) < len(listing.jobs) else "")
    data = {
        "jobs": [dataclasses.asdict(job) for job in shown],
        "all": len(listing.jobs),
        "more": listing.more,
    }
    return _lab.Answer(said, "\n".join(map(jobs.show_job, shown)), data)


def _one(job: jobs.Job, said: str = "") -> _lab.Answer:
    following = "" if job.ended else f" (next: scripts/jobs.py status {job.id})"
    return _lab.Answer(
        said or f"{job.id} is {job.stage}{following}", jobs.show_job(job), dataclasses.asdict(job)
    )


def _count(things: list[flavors.Flavor] | list[str], word: str) -> str:
    return f"{len(things)} {word}{'' if len(things) == 1 else 's'}"


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
    launch.usage = (
        "scripts/jobs.py launch --flavor F --timeout 10m --max-usd X "
        "[--budget-usd Y] [--image I] -- command …"
    )
    launch.add_argument("--flavor", required=True, help="see `hardware`")
    launch.add_argument("--timeout", required=True, help="such as 90s, 10m, 2h")
    launch.add_argument("--max-usd", type=float, required=True,
                        help="for this job: refuse if price × timeout is more")  # fmt: skip
    launch.add_argument("--budget-usd", type=float,
                        help="for all: refuse if this job, those that Autolab launched in the last 24 hours, and those "
                        "not finished at their most are more")  # fmt: skip
    launch.add_argument("--image", default=launching.IMAGE, help=f"default: {launching.IMAGE}")
    launch.add_argument("--trial", help="label (default: the trial of this workspace)")
    launch.set_defaults(command=_split_command())
    status = verb("status", "one job, or the newest")
    status.add_argument("id", nargs="?")
    logs = verb("logs", "the end of a job's log, for people")
    logs.add_argument("id")
    logs.add_argument("--tail", type=int, default=50, help="lines")
    cancel = verb("cancel", "cancel a job that this lab launched")
    cancel.add_argument("id")
    cost = verb("cost", "what Autolab's jobs cost, by campaign")
    cost.add_argument("--since", help="only jobs launched in this time, such as 24h or 7d")
    for one in (launch, status, logs, cancel, cost):
        one.add_argument("--namespace", help="whose jobs (default: the account of the token)")
    _lab.main(parser, run)

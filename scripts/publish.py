#!/usr/bin/env python3
"""Publish results as a dataset: preview shows what would be pushed and looks for secrets; only push pushes."""

from __future__ import annotations

import argparse

import _bridge

_bridge.forward_if_confined()

import dataclasses

import _lab

from autolab.hub import connection, consent, publish
from autolab.ledger.store import Ledger
from autolab.ledger.views import TABLE


def run(arguments: argparse.Namespace) -> _lab.Answer:
    """Collect, and push if asked to."""
    root = _lab.lab_root(arguments)
    with Ledger(root / ".autolab" / "ledger.sqlite", create=False) as ledger:
        if arguments.verb == "push":
            consent.may_push(arguments.repo)
            done = publish.push(connection.connect(), ledger, root, arguments.repo, public=arguments.public)
            seen = "only its owner sees it" if done.private else "everybody sees it"
            what = "pushed" if done.changed else "nothing new"
            said = f"{what}: {_count(done.rows)} in {arguments.repo} at {done.commit[:10]}; {seen}"
            return _lab.Answer(said, data=dataclasses.asdict(done))
        files = publish.collect(ledger, root)
    publish.refuse_secrets(files)
    rows = files[TABLE].count(b"\n") - 1
    sizes = {name: len(content) for name, content in sorted(files.items())}
    said = f"{_count(rows)}, no secret found, nothing was pushed (next: scripts/publish.py push --repo OWNER/NAME)"
    text = "\n".join(f"{size:>9} bytes  {name}" for name, size in sizes.items())
    return _lab.Answer(said, text, {"trials": rows, "files": sizes})


def _count(trials: int) -> str:
    return f"{trials} trial{'' if trials == 1 else 's'}"


if __name__ == "__main__":
    parser, verb = _lab.parser("publish.py", __doc__)
    verb("preview", "what would be pushed; pushes nothing")
    push = verb("push", "push table, live master and card in one commit")
    push.add_argument("--repo", required=True, help="OWNER/NAME of a dataset repo; made if missing, private")
    push.add_argument("--public", action="store_true", help="everybody may read it")
    _lab.main(parser, run)

#!/usr/bin/env python3
"""Publish results as a dataset: preview shows what would be pushed and looks for secrets; only push pushes."""

from __future__ import annotations

import argparse

import _bridge

_bridge.forward_if_confined()

import dataclasses

import _lab

from autolab.cli.publish import describe, draw
from autolab.hub import connection, consent
from autolab.hub.results import publish
from autolab.ledger.store import Ledger


def run(arguments: argparse.Namespace) -> _lab.Answer:
    """Collect, and push if asked to."""
    root = _lab.lab_root(arguments)
    with Ledger(root / ".autolab" / "ledger.sqlite", create=False) as ledger:
        if arguments.verb == "push":
            consent.may_push(arguments.repo)
            done = publish.push(connection.connect(), ledger, root, arguments.repo, public=arguments.public,
                                figures=draw(ledger))  # fmt: skip
            return _lab.Answer(describe(arguments.repo, done), data=dataclasses.asdict(done))
        files = publish.collect(ledger, root, figures=draw(ledger))
        trials = sum(ledger.count().values())
    sizes = {name: len(content) for name, content in sorted(files.items())}
    said = (
        f"{trials} trial{'' if trials == 1 else 's'}, no secret found, nothing was pushed"
        " (next: scripts/publish.py push --repo OWNER/NAME)"
    )
    text = "\n".join(f"{size:>9} bytes  {name}" for name, size in sizes.items())
    return _lab.Answer(said, text, {"trials": trials, "files": sizes})


if __name__ == "__main__":
    parser, verb = _lab.parser("publish.py", __doc__)
    verb("preview", "what would be pushed; pushes nothing")
    push = verb("push", "push what is new in one commit")
    push.add_argument("--repo", required=True, help="OWNER/NAME of a dataset repo; made if missing, private")
    push.add_argument("--public", action="store_true", help="everybody may read it")
    _lab.main(parser, run)

#!/usr/bin/env python3
"""The morning report: what changed, what to look at, what was learned, what it cost."""

from __future__ import annotations

import argparse
import time

import _bridge

_bridge.forward_if_confined()

import _lab
from _lab import Answer

from autolab.campaign.lock import works_on
from autolab.report.morning import LIMIT, morning, write_morning


def parser() -> _lab.Parser:
    """Its arguments; there are no verbs."""
    whole = _lab.plain_parser("report.py", __doc__)
    whole.add_argument(
        "--write", action="store_true", help="write it to results/<campaign>/report.md as well"
    )
    return whole


def run(arguments: argparse.Namespace) -> Answer:
    """Print the report, and write it if asked to."""
    with _lab.open_lab(arguments) as lab:
        now, alive = time.time(), works_on(lab.root, lab.ledger, lab.campaign.id)
        path = None
        if arguments.write:
            path = write_morning(lab.ledger, lab.campaign.id, lab.root, now=now, alive=alive)
            text = path.read_text(encoding="utf-8")  # what was written, not what is there by now
        else:
            text = morning(lab.ledger, lab.campaign.id, now=now, alive=alive)
        data = {"campaign": lab.campaign.id, "report": text}
        arguments.chars = max(arguments.chars, LIMIT + 500)
        if path is None:
            return Answer(f"{lab.campaign.id}, {len(text.encode())} bytes; --write keeps it", text, data)
        name = str(path.relative_to(lab.root))
        return Answer(f"wrote {name}", text, data | {"path": name})


if __name__ == "__main__":
    _lab.main(parser(), run)

#!/usr/bin/env python3
"""The morning report: what changed, what to look at, what was learned, what it cost."""

from __future__ import annotations

import argparse

import _bridge

_bridge.forward_if_confined()

import _lab
from _lab import Answer

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
        text = morning(lab.ledger, lab.campaign.id)
        data = {"campaign": lab.campaign.id, "report": text}
        arguments.chars = max(arguments.chars, LIMIT + 500)
        if not arguments.write:
            return Answer(f"{lab.campaign.id}, {len(text.encode())} bytes; --write keeps it", text, data)
        path = str(write_morning(lab.ledger, lab.campaign.id, lab.root).relative_to(lab.root))
        return Answer(f"wrote {path}", text, data | {"path": path})


if __name__ == "__main__":
    _lab.main(parser(), run)

#!/usr/bin/env python3
"""Look papers up on the Hugging Face Hub: search, outline, section. What was read stays on disk, for offline too."""

from __future__ import annotations

import argparse

import _bridge

_bridge.forward_if_confined()

import _lab

from autolab.hub import papers

MOST = 8000  # a longer answer would lose the marker at its end; the room below keeps to it


def run(arguments: argparse.Namespace) -> _lab.Answer:
    """Search, or read a paper and show a part of it."""
    arguments.chars = MOST
    shelf = _lab.lab_root(arguments) / ".autolab" / "cache" / "papers"
    if arguments.verb == "search":
        found = papers.search(shelf, " ".join(arguments.query))
        text, said = papers.show_search(found)
        data = {"offline": found.offline, "papers": [papers.as_json(paper) for paper in found.papers]}
        return _lab.Answer(said, text, data)
    paper = papers.read(shelf, arguments.id)
    if arguments.verb == "outline":
        text, said = papers.show_outline(paper)
    else:
        section = papers.find_section(paper, " ".join(arguments.section))
        text, said = papers.show_section(paper, section, arguments.offset)
    return _lab.Answer(said, text, {**papers.as_json(paper), "text": text})


if __name__ == "__main__":
    parser, verb = _lab.parser("papers.py", __doc__)
    search = verb("search", "the 8 papers that fit some words best")
    search.add_argument("query", nargs="+")
    outline = verb("outline", "title and sections of a paper")
    outline.add_argument("id", help="arXiv id, such as 2407.21783")
    section = verb("section", "the text of one section, 7,500 characters at most")
    section.add_argument("id", help="arXiv id, such as 2407.21783")
    section.add_argument("section", nargs="+", help="its number in the outline, or a part of its title")
    section.add_argument("--offset", type=_lab.within(0, 10**7), default=0, help="go on from this character")
    _lab.main(parser, run)

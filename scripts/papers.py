#!/usr/bin/env python3
"""Look papers up on the Hugging Face Hub: search, outline, section, links. What was read stays on disk, for offline."""

from __future__ import annotations

import argparse

import _bridge

_bridge.forward_if_confined()

import _lab

from autolab.hub.papers import links
from autolab.hub.papers import reading as papers
from autolab.hub.papers import text as paper_text

MOST = 8000  # a longer answer would lose the marker at its end; the room below keeps to it
COMMAND = "scripts/papers.py"


def run(arguments: argparse.Namespace) -> _lab.Answer:
    """Search, or read a paper and show a part of it."""
    arguments.chars = MOST
    shelf = _lab.lab_root(arguments) / ".autolab" / "cache" / "papers"
    if arguments.verb == "search":
        shown = paper_text.show_search(papers.search(shelf, " ".join(arguments.query)), COMMAND)
    elif arguments.verb == "links":
        shown = paper_text.show_links(links.links(shelf, arguments.id))
    elif arguments.verb == "outline":
        shown = paper_text.show_outline(papers.read(shelf, arguments.id), COMMAND)
    else:
        paper = papers.read(shelf, arguments.id)
        section = paper_text.find_section(paper, " ".join(arguments.section))
        shown = paper_text.show_section(paper, section, COMMAND, arguments.offset)
    return _lab.Answer(shown.said, shown.text, shown.data)


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
    linked = verb("links", "code, models, datasets and Spaces that belong to a paper")
    linked.add_argument("id", help="arXiv id, such as 2407.21783")
    _lab.main(parser, run)

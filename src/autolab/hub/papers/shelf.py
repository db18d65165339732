"""Papers kept on disk by their arXiv id, for later and for offline."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from autolab.ledger.views import replacing

# Where the text of a paper comes from, best first.
MARKDOWN, ARXIV, AR5IV, ABSTRACT = "hf_markdown", "arxiv_html", "ar5iv", "abstract_only"
WHOLE = (MARKDOWN, ARXIV, AR5IV)


@dataclass(frozen=True)
class Paper:
    """What is known of a paper; strangers wrote all of it. `text` is empty until it was read; `source` says what it
    is then, and `problem` why it is no more than the abstract, if that may change."""

    id: str
    title: str
    published: str  # date, or empty
    abstract: str
    fetched_at: str
    source: str = ""
    text: str = ""
    problem: str = ""
    ai_summary: str = ""
    keywords: tuple[str, ...] = ()
    upvotes: int | None = None
    code: str = ""  # address of a repository
    stars: int | None = None
    project: str = ""  # address of a web page


def take(shelf: Path, name: str) -> Paper | None:
    """The paper with this id, or None."""
    found = take_record(_path(shelf, name))
    try:
        return Paper(**{**found, "keywords": tuple(found.get("keywords", ()))}) if found else None
    except TypeError:
        return None  # of another version: it is fetched anew


def keep(shelf: Path, paper: Paper) -> None:
    """Put a paper on the shelf, in place of what was there."""
    keep_record(_path(shelf, paper.id), dataclasses.asdict(paper))


def look_for(shelf: Path, query: str) -> list[Paper]:
    """The papers whose title or abstract holds all words, newest first."""
    words = query.casefold().split()
    papers = [take(shelf, path.stem.replace("_", "/")) for path in sorted(shelf.glob("*.json"), reverse=True)]
    return [
        paper
        for paper in papers
        if paper is not None and all(word in f"{paper.title} {paper.abstract}".casefold() for word in words)
    ]


def take_record(path: Path) -> dict[str, Any]:
    """What was kept in a file; nothing if it is not there, or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def keep_record(path: Path, record: dict[str, Any]) -> None:
    """Keep something in a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        json.dump(record, file)


def age(fetched_at: str) -> float:
    """Seconds since then; infinite if that is no time."""
    try:
        return time.time() - datetime.fromisoformat(fetched_at).timestamp()
    except ValueError:
        return float("inf")


def file_name(name: str) -> str:
    """The name of the file about a paper: ids from before 2007 hold a slash."""
    return name.replace("/", "_") + ".json"


def _path(shelf: Path, name: str) -> Path:
    return shelf / file_name(name)

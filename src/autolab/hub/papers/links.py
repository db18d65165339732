"""What belongs to a paper: models, datasets and Spaces of the Hub that name it, its code, its web page."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolab.hub.connection import Unavailable, connect, explained
from autolab.hub.papers.reading import facts, paper_id
from autolab.hub.papers.shelf import age, file_name, keep_record, take_record
from autolab.ledger.views import timestamp

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LINKED = 5  # of each kind, the best liked
ASK_AGAIN = 24 * 3600.0  # seconds until what the Hub said is asked for once more


@dataclass(frozen=True)
class Repo:
    """A model, dataset or Space that names the paper; whoever made it chose its id."""

    kind: str
    id: str
    date: str  # of its creation, or empty
    likes: int | None
    downloads: int | None  # in the last 30 days


@dataclass(frozen=True)
class Links:
    """What the Hub knows of a paper's surroundings. `offline` says why it may be old."""

    id: str
    title: str
    published: str
    code: str
    stars: int | None
    project: str
    repos: tuple[Repo, ...]
    fetched_at: str
    offline: str = ""


def links(shelf: Path, name: str) -> Links:
    """What belongs to a paper; asked for once a day, and from the shelf if the Hub does not answer.

    Raises LabError if there is no such paper, and Unavailable if the shelf has nothing either.
    """
    wanted = paper_id(name)
    path = shelf / "links" / file_name(wanted)
    known = _take(path)
    if known is not None and age(known.fetched_at) < ASK_AGAIN:
        return known
    try:
        found = _fetch(connect(), wanted)
    except Unavailable as problem:
        if known is None:
            raise
        return dataclasses.replace(known, offline=f"{problem.where}: {problem.what}")
    keep_record(path, dataclasses.asdict(found))
    return found


def _fetch(api: HfApi, wanted: str) -> Links:
    paper = facts(api, wanted)
    repos = []
    with explained(f"paper {wanted}"):
        kinds = (("model", api.list_models), ("dataset", api.list_datasets), ("space", api.list_spaces))
        for kind, list_them in kinds:
            try:
                # Without a token: what only its owner may see is nobody's reference.
                listed: list[Any] = list(
                    list_them(filter=f"arxiv:{wanted}", sort="likes", limit=LINKED, token=False)
                )
            except (KeyError, TypeError, AttributeError, ValueError):
                raise Unavailable(
                    "the Hub's answer is not a list of repos", where=f"paper {wanted}", mend="try again later"
                ) from None
            for info in listed[:LINKED]:
                made = getattr(info, "created_at", None)
                repos.append(
                    Repo(
                        kind=kind,
                        id=str(info.id),
                        date=made.date().isoformat() if isinstance(made, datetime) else "",
                        likes=getattr(info, "likes", None),
                        downloads=getattr(info, "downloads", None),
                    )
                )
    return Links(
        id=wanted,
        title=paper.title,
        published=paper.published,
        code=paper.code,
        stars=paper.stars,
        project=paper.project,
        repos=tuple(repos),
        fetched_at=timestamp(time.time()),
    )


def _take(path: Path) -> Links | None:
    found = take_record(path)
    try:
        repos = tuple(Repo(**repo) for repo in found.pop("repos", ()))
        return Links(**found, repos=repos) if found else None
    except TypeError:
        return None  # of another version: it is fetched anew

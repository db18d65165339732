"""Papers: search and read, each with its source and date, kept on disk for later and offline.

The Hub renders a paper as Markdown from arXiv's HTML. Where there is none it answers with its own web page
and status 200, which must not be taken for the paper. What is left then are the pages of arXiv and ar5iv, and
after those the abstract.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolab.errors import LabError
from autolab.hub.connection import ANSWER_SECONDS, Unavailable, connect, explained, status_of
from autolab.hub.papers import arxiv
from autolab.hub.papers.html import TEXT_LIMIT
from autolab.hub.papers.shelf import ABSTRACT, MARKDOWN, WHOLE, Paper, age, keep, look_for, take
from autolab.ledger.views import timestamp

if TYPE_CHECKING:
    from huggingface_hub import HfApi

FOUND = 8
ASK_AGAIN = 24 * 3600.0  # seconds until a paper without a text is asked for once more,
TRY_AGAIN = 600.0  # or one whose text could not be asked for
KEYWORDS = 20
_NEW, _OLD = r"\d{4}\.\d{4,5}", r"[a-z-]+(?:\.[A-Z]{2})?/\d{7}"
_ID = re.compile(
    rf"(?:https?://[\w.]+/(?:abs|pdf|html|papers)/|arxiv:)?({_NEW}|{_OLD})(?:v\d+)?(?:\.pdf|\.md)?",
    re.I | re.A,
)


@dataclass(frozen=True)
class Found:
    """What a search gave. `offline` says that only papers from the disk were looked at, and why."""

    query: str
    papers: tuple[Paper, ...]
    offline: str = ""


def paper_id(text: str) -> str:
    """The arXiv id in an id or address, without its version. Raises LabError if there is none."""
    match = _ID.fullmatch(text.strip())
    if match is None:
        raise LabError(f"{text[:60]!r} is not an arXiv id", mend="such as 2407.21783; a search prints them")
    return match[1].lower() if "/" not in match[1] else match[1]


def search(shelf: Path, query: str, limit: int = FOUND) -> Found:
    """The papers that the Hub finds for some words, best first; offline those on the shelf that hold them all."""
    words = " ".join(query.split())[:250]
    if not words:
        raise LabError("there is nothing to search for", mend="name it in a few words: learning rate warmup")
    try:
        items = _ask(connect(), "/api/papers/search", "the search", q=words, limit=limit)
        if not isinstance(items, list):
            raise _no_paper("the search")
    except Unavailable as problem:
        return Found(words, tuple(look_for(shelf, words)[:limit]), f"{problem.where}: {problem.what}")
    now = timestamp(time.time())
    papers = []
    for item in items[:limit]:
        paper = _from_hub(item, now)
        if paper is not None:
            if take(shelf, paper.id) is None:
                keep(shelf, paper)
            papers.append(paper)
    return Found(words, tuple(papers))


def read(shelf: Path, name: str) -> Paper:
    """A paper with its text: from the shelf if it was read before, else from the Hub, arXiv or ar5iv.

    Raises LabError if there is no such paper, and Unavailable if the Hub does not answer and the shelf
    has nothing.
    """
    wanted, until = paper_id(name), time.monotonic() + ANSWER_SECONDS
    known = take(shelf, wanted)
    if known is not None and known.source:
        patience = TRY_AGAIN if known.problem else ASK_AGAIN
        if known.source in WHOLE or age(known.fetched_at) < patience:
            return known
    try:
        api = connect()
        paper = facts(api, wanted)
        text = _markdown(api, wanted)
    except Unavailable as problem:
        if known is None or not known.abstract:
            raise
        why = f"{problem.where}: {problem.what}"
        return dataclasses.replace(known, source=ABSTRACT, text=known.abstract, problem=why)
    source, why = MARKDOWN, ""
    if not text:
        try:
            source, text = arxiv.read(shelf, wanted, until=until)
        except Unavailable as problem:
            why = f"{problem.where}: {problem.what}"
    if not text:
        source, text = ABSTRACT, paper.abstract
    paper = dataclasses.replace(paper, source=source, text=text[:TEXT_LIMIT], problem=why)
    keep(shelf, paper)
    return paper


def facts(api: HfApi, wanted: str) -> Paper:
    """What the Hub says of a paper, without its text. Raises LabError if it has none, and Unavailable."""
    subject = f"paper {wanted}"
    item = _ask(api, f"/api/papers/{wanted}", subject)
    if item is None:
        raise LabError("the Hub has no such paper", where=subject, mend="a search finds those it has")
    paper = _from_hub(item, timestamp(time.time()))
    if paper is None:
        raise _no_paper(subject)
    return dataclasses.replace(paper, id=wanted)


def _ask(api: HfApi, path: str, subject: str, **parameters: str | int) -> Any:
    """What a route of the Hub answers, as it is, for the client's own classes lose half of what is said of a paper;
    None if there is no such thing. Raises LabError and Unavailable."""
    from huggingface_hub.utils._headers import build_hf_headers
    from huggingface_hub.utils._http import get_session, hf_raise_for_status

    def answer() -> Any:
        response = get_session().get(f"{api.endpoint}{path}", params=parameters, headers=build_hf_headers())
        hf_raise_for_status(response)
        try:
            return response.json()
        except ValueError:
            raise _no_paper(subject) from None

    with explained(subject):
        return _or_nothing(answer)


def _markdown(api: HfApi, wanted: str) -> str:
    """The Hub's Markdown of a paper; empty if it has none."""
    with explained(f"paper {wanted}"):
        text = _or_nothing(lambda: api.read_paper(wanted)) or ""
    return text if _is_markdown(text) else ""


def _is_markdown(text: str) -> bool:
    """Whether an answer is a paper's Markdown, and not the web page that stands in for it."""
    start = text.lstrip("\ufeff \t\r\n")[:2000].lower()
    return (
        bool(start)
        and not start.startswith(("<!doctype", "<html", "<head", "<?xml"))
        and "<html" not in start
    )


def _or_nothing(call: Callable[[], Any]) -> Any:
    """What a call of the client gives, or None where the Hub has no such thing."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return call()
    except HfHubHTTPError as error:
        if status_of(error) != 404:
            raise
        return None


def _no_paper(subject: str) -> Unavailable:
    return Unavailable("the Hub's answer is not about papers", where=subject, mend="try again later")


def _from_hub(item: Any, now: str) -> Paper | None:
    """A paper from what the Hub says of it, whose shape is nobody's promise; None if it has no arXiv id.

    A search says it under `paper`, with the title beside it.
    """
    item = item if isinstance(item, dict) else {}
    inner = item.get("paper")
    said = {**item, **inner} if isinstance(inner, dict) else item
    match = _ID.fullmatch(str(said.get("id", "")))
    if match is None:
        return None
    keywords = said.get("ai_keywords")
    return Paper(
        id=match[1],
        title=_text(said.get("title") or item.get("title")),
        published=_date(said.get("publishedAt")),
        abstract=_text(said.get("summary")),
        fetched_at=now,
        ai_summary=_text(said.get("ai_summary")),
        keywords=tuple(_text(word) for word in keywords[:KEYWORDS]) if isinstance(keywords, list) else (),
        upvotes=_count(said.get("upvotes")),
        code=_text(said.get("githubRepo")),
        stars=_count(said.get("githubStars")),
        project=_text(said.get("projectPage")),
    )


def _text(value: Any) -> str:
    return value[:20_000] if isinstance(value, str) else ""


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _date(value: Any) -> str:
    try:
        return datetime.fromisoformat(str(value)).astimezone(UTC).date().isoformat()
    except (ValueError, OverflowError):
        return ""

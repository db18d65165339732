"""Papers from the Hub: search, outline, section; each with its source and date, kept on disk for later and offline.

The Hub renders a paper as Markdown from arXiv's HTML. Where there is none it answers with its own web page
and status 200, which must not be taken for the paper. What is left then is the abstract.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autolab.errors import LabError
from autolab.hub.connection import Unavailable, connect, explained, status_of
from autolab.hub.untrusted import clean, marked, one_line
from autolab.ledger.views import replacing, timestamp

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MARKDOWN, ABSTRACT = "hf_markdown", "abstract_only"
FOUND, ABSTRACT_LIMIT = 8, 300
SECTION_LIMIT = 7_500  # characters of text; with markers and status line an answer stays under 8,000
OUTLINE_LIMIT = 3_300
TEXT_LIMIT = 4_000_000
ASK_AGAIN = 24 * 3600.0  # seconds until a paper without Markdown is asked for once more
_NEW, _OLD = r"\d{4}\.\d{4,5}", r"[a-z-]+(?:\.[A-Z]{2})?/\d{7}"
_ID = re.compile(
    rf"(?:https?://[\w.]+/(?:abs|pdf|html|papers)/|arxiv:)?({_NEW}|{_OLD})(?:v\d+)?(?:\.pdf|\.md)?", re.I
)
_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"\s*(```|~~~)")


@dataclass(frozen=True)
class Paper:
    """What the Hub says of a paper. `text` is empty until it was read; `source` says what it is then."""

    id: str
    title: str
    published: str  # date, or empty
    abstract: str
    fetched_at: str
    source: str = ""
    text: str = ""


@dataclass(frozen=True)
class Section:
    """One section with everything below it."""

    number: int
    level: int
    title: str
    text: str


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
        raise LabError(
            f"{text[:60]!r} is not an arXiv id",
            mend="such as 2407.21783; `scripts/papers.py search` prints them",
        )
    return match[1].lower() if "/" not in match[1] else match[1]


def search(shelf: Path, query: str, limit: int = FOUND) -> Found:
    """The papers that the Hub finds for some words, best first; offline those on the shelf that hold them all."""
    words = " ".join(query.split())[:250]
    if not words:
        raise LabError(
            "there is nothing to search for", mend='scripts/papers.py search "learning rate warmup"'
        )
    try:
        api = connect()
        with explained("the search"):
            items = list(api.list_papers(query=words, limit=limit))
    except Unavailable as problem:
        return Found(words, tuple(_on_shelf(shelf, words)[:limit]), f"{problem.where}: {problem.what}")
    now = timestamp(time.time())
    papers = []
    for item in items[:limit]:
        if _ID.fullmatch(str(item.id)):
            paper = _from_hub(item, now)
            if _take(shelf, paper.id) is None:
                _keep(shelf, paper)
            papers.append(paper)
    return Found(words, tuple(papers))


def read(shelf: Path, name: str) -> Paper:
    """A paper with its text: from the shelf if it was read before, else from the Hub.

    Raises LabError if there is no such paper, and Unavailable if the Hub does not answer and the shelf
    has nothing.
    """
    wanted = paper_id(name)
    known = _take(shelf, wanted)
    if known is not None and (known.source == MARKDOWN or (known.source and _age(known) < ASK_AGAIN)):
        return known
    try:
        paper = _fetch(connect(), wanted)
    except Unavailable:
        if known is None or not known.abstract:
            raise
        return known if known.source else dataclasses.replace(known, source=ABSTRACT, text=known.abstract)
    _keep(shelf, paper)
    return paper


def sections(paper: Paper) -> list[Section]:
    """The sections in order, numbered from 1; a text without headings is one section."""
    if paper.source != MARKDOWN:
        return [Section(1, 1, "Abstract", paper.text)]
    lines = paper.text.split("\n")
    heads: list[tuple[int, int, str]] = []
    fenced = False
    for at, line in enumerate(lines):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and (match := _HEADING.match(line)):
            heads.append((at, len(match[1]), match[2]))
    first = heads[0][0] if heads else len(lines)
    parts = [(1, "(start)", 0, first)] if "".join(lines[:first]).strip() or not heads else []
    for i, (at, level, title) in enumerate(heads):
        end = next((other for other, above, _ in heads[i + 1 :] if above <= level), len(lines))
        parts.append((level, title, at, end))
    return [
        Section(number, level, title, "\n".join(lines[at:end]).strip())
        for number, (level, title, at, end) in enumerate(parts, start=1)
    ]


def find_section(paper: Paper, wanted: str) -> Section:
    """A section by its number in the outline, or by its title or a part of it. Raises LabError."""
    every = sections(paper)
    if wanted.isdigit():
        if 1 <= int(wanted) <= len(every):
            return every[int(wanted) - 1]
    else:
        word = wanted.casefold().strip()
        titles = [(section, clean(section.title).casefold()) for section in every]
        for fits in (str.__eq__, str.startswith, str.__contains__):
            for section, title in titles:
                if word and fits(title, word):
                    return section
    raise LabError(
        f"there is no section {wanted[:60]!r}",
        where=f"paper {paper.id}",
        mend=f"a number from 1 to {len(every)}; see `scripts/papers.py outline {paper.id}`",
    )


# what a model gets to see ---------------------------------------------------------------------------


def show_search(found: Found) -> tuple[str, str]:
    """The papers found, marked as untrusted, and one line that says what to do next."""
    entries = []
    for paper in found.papers:
        entries.append(f"{paper.id}  {paper.published or 'no date'}  {one_line(paper.title, 110)}")
        entries.append(f"  {one_line(paper.abstract, ABSTRACT_LIMIT)}")
    body = marked(f"papers ({ABSTRACT})", "\n".join(entries)) if entries else ""
    count = f"{len(found.papers)} paper{'' if len(found.papers) == 1 else 's'}"
    if found.offline:
        return body, f"{count}, from the disk only: {found.offline}"
    if not entries:
        return body, "0 papers (next: fewer or other words)"
    return body, f"{count} (next: scripts/papers.py outline ID)"


def show_outline(paper: Paper) -> tuple[str, str]:
    """Title and sections, marked as untrusted, and one line that says what to do next."""
    every = sections(paper)
    top = min(section.level for section in every)
    for title_limit, preview_limit in ((60, 50), (60, 20), (50, 0), (25, 0)):
        lines = [
            f"{section.number:>3}  {'  ' * (section.level - top)}{one_line(section.title, title_limit)}"
            f"  [{len(clean(section.text))}]  {one_line(_body(section), preview_limit)}".rstrip()
            for section in every
        ]
        if sum(map(len, lines)) + len(lines) <= OUTLINE_LIMIT:
            break
    while sum(map(len, lines)) + len(lines) > OUTLINE_LIMIT:
        lines.pop()
    hidden = len(every) - len(lines)
    more = f" ({hidden} more exist)" if hidden else ""
    said = f"{_label(paper)}: {len(every)} section{'' if len(every) == 1 else 's'}{more}, length in brackets"
    body = "\n".join([one_line(paper.title, 150), "", *lines])
    return marked(_label(paper), body), f"{said} (next: scripts/papers.py section {paper.id} N)"


def show_section(paper: Paper, section: Section, offset: int = 0) -> tuple[str, str]:
    """At most 7,500 characters of a section, marked as untrusted, and one line with the offset of the rest."""
    text = clean(section.text)
    if not 0 <= offset <= len(text):
        raise LabError(f"offset {offset} is outside", where=f"section {section.number}",
                       mend=f"0 to {len(text)}")  # fmt: skip
    end = min(offset + SECTION_LIMIT, len(text))
    said = f"{_label(paper)}: section {section.number}, characters {offset} to {end} of {len(text)}"
    if end < len(text):
        said += f" (next: scripts/papers.py section {paper.id} {section.number} --offset {end})"
    return marked(_label(paper), text[offset:end]), said


def as_json(paper: Paper) -> dict[str, Any]:
    """A paper for a machine, without its text; title and abstract are cleaned and capped."""
    return {
        "id": paper.id,
        "published": paper.published,
        "source": paper.source or ABSTRACT,
        "fetched_at": paper.fetched_at,
        "untrusted": {
            "title": one_line(paper.title, 200),
            "abstract": one_line(paper.abstract, ABSTRACT_LIMIT),
        },
    }


def _label(paper: Paper) -> str:
    return f"paper {paper.id} ({paper.source}, {paper.published or 'no date'})"


def _body(section: Section) -> str:
    first, _, rest = section.text.partition("\n")
    return rest.lstrip("#\n ") if _HEADING.match(first) else section.text


# the Hub --------------------------------------------------------------------------------------------


def _fetch(api: HfApi, wanted: str) -> Paper:
    from huggingface_hub.errors import HfHubHTTPError

    try:
        with explained(f"paper {wanted}"):
            try:
                info = api.paper_info(wanted)
            except HfHubHTTPError as error:
                if status_of(error) != 404:
                    raise
                raise LabError(
                    "the Hub has no such paper",
                    where=f"paper {wanted}",
                    mend="`scripts/papers.py search` finds those it has",
                ) from None
            try:
                text = api.read_paper(wanted)
            except HfHubHTTPError as error:
                if status_of(error) != 404:
                    raise
                text = ""
    except TypeError:  # an answer without the keys that the client expects
        raise Unavailable("the Hub's answer is not about a paper", where=f"paper {wanted}") from None
    paper = _from_hub(info, timestamp(time.time()))
    paper = dataclasses.replace(paper, id=wanted)
    if _is_markdown(text):
        return dataclasses.replace(paper, source=MARKDOWN, text=text[:TEXT_LIMIT])
    return dataclasses.replace(paper, source=ABSTRACT, text=paper.abstract)


def _is_markdown(text: str) -> bool:
    """Whether an answer is a paper's Markdown, and not the web page that stands in for it."""
    start = text.lstrip("\ufeff \t\r\n")[:2000].lower()
    return (
        bool(start)
        and not start.startswith(("<!doctype", "<html", "<head", "<?xml"))
        and "<html" not in start
    )


def _from_hub(item: Any, now: str) -> Paper:
    published = item.published_at
    return Paper(
        id=str(item.id),
        title=str(item.title or ""),
        published=published.astimezone(UTC).date().isoformat() if isinstance(published, datetime) else "",
        abstract=str(item.summary or ""),
        fetched_at=now,
    )


# the shelf ------------------------------------------------------------------------------------------


def _path(shelf: Path, name: str) -> Path:
    return shelf / (name.replace("/", "_") + ".json")


def _take(shelf: Path, name: str) -> Paper | None:
    try:
        return Paper(**json.loads(_path(shelf, name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # not there, or not of this version: it is fetched anew


def _keep(shelf: Path, paper: Paper) -> None:
    shelf.mkdir(parents=True, exist_ok=True)
    with replacing(_path(shelf, paper.id)) as file:
        json.dump(dataclasses.asdict(paper), file)


def _on_shelf(shelf: Path, query: str) -> list[Paper]:
    words = query.casefold().split()
    papers = [
        _take(shelf, path.stem.replace("_", "/")) for path in sorted(shelf.glob("*.json"), reverse=True)
    ]
    return [
        paper
        for paper in papers
        if paper is not None and all(word in f"{paper.title} {paper.abstract}".casefold() for word in words)
    ]


def _age(paper: Paper) -> float:
    try:
        return time.time() - datetime.fromisoformat(paper.fetched_at).timestamp()
    except ValueError:
        return ASK_AGAIN

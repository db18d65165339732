"""Papers as a model or a person gets to see them: small pieces, marked as a stranger's, each with source and date."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from autolab.errors import LabError
from autolab.hub.papers.links import Links
from autolab.hub.papers.reading import Found
from autolab.hub.papers.shelf import ABSTRACT, WHOLE, Paper
from autolab.hub.untrusted import clean, marked, one_line

SUMMARY_LIMIT = 300
SECTION_LIMIT = 7_500  # characters of text; with markers and status line an answer stays under 8,000
OUTLINE_LIMIT = 3_300
MOST_SECTIONS = 1_000  # what comes after is part of the last
HUB = "hf_api"  # the source of what the Hub says of a paper, beside its text
_HEADING = re.compile(r"(#{1,6})\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"\s*(```|~~~)")


@dataclass(frozen=True)
class Section:
    """One section with everything below it."""

    number: int
    level: int
    title: str
    text: str


@dataclass(frozen=True)
class Shown:
    """An answer: `text` is marked as untrusted, `said` is one line about it, `data` is both for a machine."""

    text: str
    said: str
    data: dict[str, Any] = field(default_factory=dict)


def sections(paper: Paper) -> list[Section]:
    """The sections in order, numbered from 1; a text without headings is one section."""
    if paper.source not in WHOLE:
        return [Section(1, 1, "Abstract", paper.text)]
    lines = paper.text.split("\n")
    heads: list[tuple[int, int, str]] = []
    fenced = False
    for at, line in enumerate(lines):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and len(heads) < MOST_SECTIONS and (match := _HEADING.match(line[:500])):
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
    if wanted.isdecimal():
        if len(wanted) < 9 and 1 <= int(wanted) <= len(every):
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
        mend=f"a number from 1 to {len(every)}, or a part of a title; `outline {paper.id}` shows them",
    )


def show_search(found: Found, command: str) -> Shown:
    """The papers found; `command` is what the caller ran, for the line that says what to do next."""
    entries = []
    for paper in found.papers:
        entries.append(f"{paper.id}  {paper.published or 'no date'}  {one_line(paper.title, 110)}")
        summary = paper.ai_summary and "AI summary: " + paper.ai_summary
        entries.append(f"  {one_line(summary or paper.abstract, SUMMARY_LIMIT)}")
        more = [_count(paper.upvotes, "upvote")] if paper.upvotes else []
        more += [one_line(", ".join(paper.keywords), 100)] if paper.keywords else []
        more += [_code(paper.code, paper.stars)] if paper.code else []
        entries += [f"  {'; '.join(more)}"] if more else []
    text = marked(f"papers ({ABSTRACT})", "\n".join(entries)) if entries else ""
    said = _count(len(found.papers), "paper")
    if found.offline:
        said += f", from the disk only: {found.offline}"
    else:
        said += f" (next: {command} outline ID)" if entries else " (next: fewer or other words)"
    # One summary of each is enough: eight papers must fit into the answer of a script.
    brief = [
        replace(paper, source=ABSTRACT, problem="", abstract="" if paper.ai_summary else paper.abstract)
        for paper in found.papers
    ]
    return Shown(text, said, {"offline": found.offline, "papers": [_record(paper) for paper in brief]})


def show_outline(paper: Paper, command: str) -> Shown:
    """Title and sections, as many as fit."""
    every = sections(paper)
    top = min(section.level for section in every)
    sizes = [len(clean(section.text)) for section in every]
    for title_limit, preview_limit in ((60, 50), (60, 20), (50, 0), (25, 0)):
        lines = [
            f"{section.number:>3}  {'  ' * (section.level - top)}{one_line(section.title, title_limit)}"
            f"  [{size}]  {one_line(_body(section), preview_limit)}".rstrip()
            for section, size in zip(every, sizes, strict=True)
        ]
        if sum(map(len, lines)) + len(lines) <= OUTLINE_LIMIT:
            break
    while sum(map(len, lines)) + len(lines) > OUTLINE_LIMIT:
        lines.pop()
    hidden = len(every) - len(lines)
    more = f" ({hidden} more exist)" if hidden else ""
    said = f"{_label(paper)}: {_count(len(every), 'section')}{more}, length in brackets{_problem(paper)}"
    listed = [
        {
            "number": section.number,
            "level": section.level - top + 1,
            "characters": size,
            "untrusted": one_line(section.title, 60),
        }
        for section, size in zip(every, sizes, strict=True)
    ]
    return Shown(
        marked(_label(paper), "\n".join([one_line(paper.title, 150), "", *lines])),
        f"{said} (next: {command} section {paper.id} N)",
        {**_record(paper), "sections": listed},
    )


def show_section(paper: Paper, section: Section, command: str, offset: int = 0) -> Shown:
    """At most 7,500 characters of a section, and the offset of the rest. Raises LabError if the offset is outside."""
    text = clean(section.text)
    if not 0 <= offset <= len(text):
        raise LabError(f"offset {offset} is outside", where=f"section {section.number}",
                       mend=f"0 to {len(text)}")  # fmt: skip
    end = min(offset + SECTION_LIMIT, len(text))
    said = f"{_label(paper)}: section {section.number}, characters {offset} to {end} of {len(text)}"
    said += _problem(paper)
    if end < len(text):
        said += f" (next: {command} section {paper.id} {section.number} --offset {end})"
    shown = marked(_label(paper), text[offset:end])
    place = {"section": section.number, "offset": offset, "end": end, "of": len(text)}
    return Shown(shown, said, {**_record(paper), **place, "text": shown})


def show_links(found: Links) -> Shown:
    """Repos, code and web page of a paper, with dates."""
    label = f"links of paper {found.id} ({HUB}, {found.published or 'no date'})"
    lines = [one_line(found.title, 150), ""]
    lines += [f"code     {_code(found.code, found.stars)}"] if found.code else []
    lines += [f"page     {one_line(found.project, 150)}"] if found.project else []
    for repo in found.repos:
        figures = [f"{repo.likes} likes"] if repo.likes is not None else []
        figures += [f"{repo.downloads} downloads"] if repo.downloads is not None else []
        lines.append(
            f"{repo.kind:<7}  {one_line(repo.id, 120)}  {repo.date or 'no date'}  {', '.join(figures)}"
        )
    lines = [line.rstrip() for line in lines]
    counts = [_count(sum(repo.kind == kind for repo in found.repos), kind)
              for kind in ("model", "dataset", "space")]  # fmt: skip
    said = f"{label}: {', '.join(counts)}, {'code' if found.code else 'no code'}; fetched {found.fetched_at[:10]}"
    if found.offline:
        said += f", from the disk only: {found.offline}"
    data = {
        "id": found.id,
        "published": found.published,
        "source": HUB,
        "fetched_at": found.fetched_at,
        "offline": found.offline,
        "stars": found.stars,
        "untrusted": {
            "title": one_line(found.title, 200),
            "code": one_line(found.code, 150),
            "project": one_line(found.project, 150),
        },
        "repos": [
            {
                "kind": repo.kind,
                "date": repo.date,
                "likes": repo.likes,
                "downloads": repo.downloads,
                "untrusted": one_line(repo.id, 120),
            }
            for repo in found.repos
        ],
    }
    return Shown(marked(label, "\n".join(lines)), said, data)


def _record(paper: Paper) -> dict[str, Any]:
    """A paper for a machine, without its text; what strangers wrote is cleaned and capped."""
    return {
        "id": paper.id,
        "published": paper.published,
        "source": paper.source or ABSTRACT,
        "fetched_at": paper.fetched_at,
        "problem": paper.problem,
        "upvotes": paper.upvotes,
        "stars": paper.stars,
        "untrusted": {
            "title": one_line(paper.title, 200),
            "abstract": one_line(paper.abstract, SUMMARY_LIMIT),
            "ai_summary": one_line(paper.ai_summary, SUMMARY_LIMIT),
            "keywords": [one_line(word, 40) for word in paper.keywords[:8]],
            "code": one_line(paper.code, 150),
            "project": one_line(paper.project, 150),
        },
    }


def _label(paper: Paper) -> str:
    return f"paper {paper.id} ({paper.source}, {paper.published or 'no date'})"


def _problem(paper: Paper) -> str:
    return f"; only the abstract: {paper.problem}" if paper.problem else ""


def _code(address: str, stars: int | None) -> str:
    return one_line(address, 120) + (f" ({_count(stars, 'star')})" if stars is not None else "")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _body(section: Section) -> str:
    """The first words below a section's own heading."""
    start = section.text[:1000]
    first, _, rest = start.partition("\n")
    return rest.lstrip("#\n ") if _HEADING.match(first) else start

"""Papers: search, facts, Markdown, linked repos; for some papers there is only the Hub's web page, with status 200."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stand_ins.hub.routing import HttpError, Routes

routes = Routes()
PAGE = "<!doctype html>\n<html><head><title>{title}</title></head><body>{title}</body></html>"


@dataclass
class APaper:
    """A paper as the Hub has it; without `markdown` its address answers with a web page, with None by 404.

    `linked` are the models, datasets and spaces that name it; `more` is what else the Hub says of it.
    """

    title: str
    summary: str
    markdown: str | None = ""
    published: str = "2024-07-31T17:54:27.000Z"
    more: dict[str, Any] = field(default_factory=dict)
    linked: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def facts(self, name: str) -> dict[str, Any]:
        """What the Hub's API says of it."""
        return {"id": name, "title": self.title, "summary": self.summary, "publishedAt": self.published,
                "upvotes": 1, "authors": [{"name": "A. Author"}], **self.more}  # fmt: skip


def _find(hub: Any, paper: str) -> APaper:
    found: APaper | None = hub.papers.get(paper)
    if found is None:
        raise HttpError(404, "Paper not found")
    return found


@routes.add("GET", "/api/papers/search")
def _search(call: Any, hub: Any) -> None:
    words = call.query.get("q", [""])[0].lower().split()
    found = [(name, paper) for name, paper in hub.papers.items()
             if all(word in f"{paper.title} {paper.summary}".lower() for word in words)]  # fmt: skip
    limit = int(call.query.get("limit", ["20"])[0])
    call.json([{"paper": paper.facts(name), "title": paper.title, "summary": paper.summary, "numComments": 0}
               for name, paper in found[:limit]])  # fmt: skip


@routes.add("GET", "/api/papers/{paper}")
def _facts(call: Any, hub: Any, paper: str) -> None:
    call.json(_find(hub, paper).facts(paper))


@routes.add("GET", r"/papers/{paper}\.md")
def _markdown(call: Any, hub: Any, paper: str) -> None:
    found = _find(hub, paper)
    if found.markdown is None:
        raise HttpError(404, "Paper not found")
    if found.markdown:
        call.send(200, found.markdown.encode(), "text/markdown; charset=utf-8")
    else:
        call.send(200, PAGE.format(title=found.title).encode(), "text/html; charset=utf-8")


@routes.add("GET", "/api/{type}")
def _linked(call: Any, hub: Any, type: str) -> None:
    """The repos that name a paper, the best liked first."""
    name = call.query.get("filter", [""])[0].removeprefix("arxiv:")
    paper = hub.papers.get(name)
    repos = sorted(paper.linked.get(type, []) if paper else [], key=lambda repo: -repo["likes"])
    call.json(repos[: int(call.query.get("limit", ["20"])[0])])

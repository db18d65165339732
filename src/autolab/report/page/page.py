"""A campaign as one HTML file: what is to be read first stands in it as text and tables, charts are drawn from its data
by ECharts, and nothing in it, nor anything that agents wrote, can load or run something else.

The policy in the page's head names every script by its hash: markup that got past the escaping would be shown broken,
not run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from autolab.ledger.store import Ledger
from autolab.ledger.views import replacing
from autolab.report.figures.colors import palette, shown_as
from autolab.report.overview.records import Detail, Mark, Overview, Span
from autolab.report.page import shown
from autolab.report.page.details import PER_PIECE, pieces
from autolab.report.page.encoding import columns, encoded

HERE = Path(__file__).resolve().parent
LARGEST = 5_600_000  # bytes of the page, with everything in it
# In the order in which they run. The first ones, and the columns that they need, draw the staircase; the browser has
# not even read the rest of the page then.
FIRST = (
    "vendor/echarts.min", "js/dom", "js/format", "js/data", "js/seen", "js/view", "js/theme", "js/charts",
    "js/staircase", "js/first",
)  # fmt: skip
THEN = (
    "vendor/prism-core.min", "vendor/prism-clike.min", "vendor/prism-python.min", "vendor/prism-diff.min",
    "vendor/prism-diff-highlight.min", "js/lineage", "js/slots", "js/row", "js/ledger", "js/tables", "js/filters",
    "js/live", "js/main",
)  # fmt: skip
NEEDED_FIRST = ("ordinal", "outcome", "score", "low", "high", "place")  # columns of marks


@dataclass(frozen=True)
class Live:
    """A page that is served while its campaign runs. `nonce` allows its two actions; other pages do not know it."""

    nonce: str


def write_page(ledger: Ledger, view: Overview, root: Path) -> Path:
    """Write the page of an overview to results/<campaign>/report.html below `root`, all of it or nothing; returns the
    path. Details are read from the ledger."""
    from autolab.report.overview import details

    path = root / "results" / view.campaign / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = page(view, details(ledger, view.campaign))
    with replacing(path) as file:
        file.write(text)
    return path


def page(view: Overview, details: Iterable[tuple[int, Detail]], *, live: Live | None = None) -> str:
    """The page of a campaign. `details` come by ordinal; a live page asks for them when a row is opened instead."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    names = ("said", "number", "signed", "rounded", "money", "span", "moment", "words")
    environment.filters.update({name: getattr(shown, name) for name in names})
    environment.filters["exact"] = repr
    environment.globals["share"] = shown.share
    first, then = ([_script(HERE / f"{name}.js") for name in names] for names in (FIRST, THEN))
    digits = shown.decimals(view.noise)
    head = environment.get_template("page.html.j2").render(
        view=view, digits=digits, live=live, policy=_policy([*first, *then], live), palette=palette(),
        shown_as=shown_as, style=(HERE / "page.css").read_text(encoding="utf-8"),
    )  # fmt: skip
    body = [head]
    for name, data, scripts in zip(("data", "rest"), _data(view, digits, live), (first, then), strict=True):
        body.append(f'<script type="application/json" id="{name}">{encoded(data)}</script>\n')
        body += [f"<script>{text}</script>\n" for text in scripts]
    if live is None:
        room = LARGEST - sum(len(part.encode("utf-8", "replace")) for part in body)
        body += [
            f'<script type="text/plain" id="details-{number}">{text}</script>\n'
            for number, text in pieces(details, len(view.marks), max(0, room))
        ]
    return "".join([*body, "</body>\n</html>\n"])


def _data(view: Overview, digits: int, live: Live | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The overview as the page's scripts read it: what the staircase needs, and what is added to it later."""
    known = {field.name: getattr(view, field.name) for field in fields(view)}
    slots = {field.name: getattr(view.slots, field.name) for field in fields(view.slots)}
    marks = columns(Mark, view.marks)
    spans = columns(Span, view.slots.spans)
    first = {
        **known,
        "marks": {name: marks.pop(name) for name in NEEDED_FIRST},
        "slots": {**slots, "spans": {name: [] for name in spans}},
        "digits": digits,
        "palette": palette(),
        "per_piece": PER_PIECE,
        "nonce": live.nonce if live else None,
    }
    return first, {"marks": marks, "spans": spans}


def _script(path: Path) -> str:
    """A script as it can stand in a page: in JavaScript, both signs mean the same with a backslash."""
    text = path.read_text(encoding="utf-8")
    return text.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _policy(scripts: Iterable[str], live: Live | None) -> str:
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in scripts
    ]
    asks = "'self'" if live else "'none'"
    return (
        f"default-src 'none'; script-src {' '.join(hashes)}; style-src 'unsafe-inline'; img-src data:;"
        f" connect-src {asks}; base-uri 'none'; form-action 'none'"
    )

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
LIBRARIES = ("echarts", "prism-core", "prism-clike", "prism-python", "prism-diff", "prism-diff-highlight")
SCRIPTS = (
    "dom", "format", "data", "seen", "view", "charts", "staircase", "lineage", "slots", "row", "ledger", "tables",
    "filters", "live", "main",
)  # fmt: skip


@dataclass(frozen=True)
class Live:
    """A page that is served while its campaign runs. `nonce` allows its two actions; other pages do not know it."""

    nonce: str


def write_page(ledger: Ledger, campaign: str, root: Path, *, now: float, alive: bool) -> Path:
    """Write the page to results/<campaign>/report.html below `root`, all of it or nothing; returns the path."""
    from autolab.report.overview import details, overview

    path = root / "results" / campaign / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = page(overview(ledger, campaign, now=now, alive=alive), details(ledger, campaign))
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
    scripts = [_script(HERE / "vendor" / f"{name}.min.js") for name in LIBRARIES]
    scripts += [_script(HERE / "js" / f"{name}.js") for name in SCRIPTS]
    digits = shown.decimals(view.noise)
    head = environment.get_template("page.html.j2").render(
        view=view, digits=digits, live=live, policy=_policy(scripts, live), palette=palette(),
        shown_as=shown_as, style=(HERE / "page.css").read_text(encoding="utf-8"),
    )  # fmt: skip
    body = [
        head,
        f'<script type="application/json" id="data">{encoded(_data(view, digits, live))}</script>\n',
    ]
    body += [f"<script>{text}</script>\n" for text in scripts]
    if live is None:
        room = LARGEST - sum(len(part.encode("utf-8", "replace")) for part in body)
        body += [
            f'<script type="text/plain" id="details-{number}">{text}</script>\n'
            for number, text in pieces(details, len(view.marks), max(0, room))
        ]
    return "".join([*body, "</body>\n</html>\n"])


def _data(view: Overview, digits: int, live: Live | None) -> dict[str, Any]:
    """The overview as the page's scripts read it."""
    known = {field.name: getattr(view, field.name) for field in fields(view)}
    slots = {field.name: getattr(view.slots, field.name) for field in fields(view.slots)}
    return {
        **known,
        "marks": columns(Mark, view.marks),
        "slots": {**slots, "spans": columns(Span, view.slots.spans)},
        "digits": digits,
        "palette": palette(),
        "per_piece": PER_PIECE,
        "nonce": live.nonce if live else None,
    }


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

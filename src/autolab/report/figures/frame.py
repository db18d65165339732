"""What all pictures share: their look, and names that stay plain text."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from autolab.ledger.views import cell

FORMATS = ("png", "svg")
INCHES = (8.0, 4.5)
DPI = 200
MANY = 400  # marks from which on they are small, and pixels in an SVG too
LONGEST = 24  # characters of a name
LINE = 116  # characters of a line of the legend, and
MARK = 10  # of one mark in it, with the room around
STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib, so a picture looks the same everywhere
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.handletextpad": 0.4,
    "legend.columnspacing": 1.4,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "svg.fonttype": "none",  # text, not outlines
    "svg.hashsalt": "autolab",  # the same picture, the same bytes
}


def rendered(draw: Callable[[Any], None], formats: Sequence[str] = FORMATS) -> dict[str, bytes]:
    """A picture in each of the formats. Whatever somebody set for matplotlib on this machine has no part in it."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "constrained_layout not applied")  # names too long for any place
        matplotlib.rcdefaults()
        settings: Any = matplotlib.rcParams
        settings.update(STYLE)
        figure = Figure(figsize=INCHES, layout="constrained")
        draw(figure)
        found = {}
        for name in formats:
            file = io.BytesIO()
            figure.savefig(file, format=name, dpi=DPI, metadata={"Date": None} if name == "svg" else None)
            found[name] = file.getvalue()
            figure.set_layout_engine("none")  # everything has its place, in every format the same
    return found


def plain(text: str, room: int = LONGEST) -> str:
    """A name as it can be drawn: one line without control characters, only letters that the font has."""
    known = _letters()
    shown = "".join(letter if ord(letter) in known else "\N{REPLACEMENT CHARACTER}" for letter in cell(text))
    shown = shown if len(shown) <= room else f"{shown[: room - 1]}…"
    return f" {shown}" if shown.startswith("_") else shown  # matplotlib leaves such names out of a legend


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont(STYLE["font.family"][0])).get_charmap())


def legend(figure: Any, axes: Any, larger: float = 1.0) -> None:
    """The legend, below the picture: it never covers data. Its marks are so much larger than the picture's."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = next((n for n in range(min(6, len(labels)), 1, -1) if _width(labels, n) <= LINE), 1)
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, markerscale=larger)


def _width(labels: Sequence[str], columns: int) -> int:
    """Characters that a legend of so many columns is wide: the first ones hold one more if it does not come out."""
    rows, more = divmod(len(labels), columns)
    ends = [rows * (n + 1) + min(n + 1, more) for n in range(columns)]
    return sum(max(map(len, labels[begin:end])) + MARK for begin, end in zip([0, *ends], ends, strict=False))


def nothing_yet(axes: Any, said: str) -> None:
    """Say in the middle of an empty picture why it is empty."""
    axes.text(0.5, 0.5, said, ha="center", va="center", transform=axes.transAxes, color="#555555")
    axes.set_xticks([])
    axes.set_yticks([])

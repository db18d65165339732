"""The lineage: which trial branched from which, and the path to the master."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from autolab.report.figures.colors import BLACK, GROUPS, REST
from autolab.report.figures.frame import MANY, legend, nothing_yet, plain
from autolab.report.overview.records import Mark, Overview
from autolab.report.overview.words import counted

BAND = 0.62  # of the room between two generations
GOLDEN = 0.618034  # its multiples spread evenly between whole numbers, whatever is left out


def draw_lineage(figure: Any, view: Overview) -> None:
    """Draw a campaign's lineage: in the order in which trials were opened, each above the one that it branched from,
    coloured by surface; those without a score are hollow. The path to the master is bold."""
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    axes.grid(visible=True)
    axes.set_xlabel("trial, in the order in which they were opened")
    axes.set_ylabel("generation")
    path = _path(view)
    axes.set_title(_title(view, path))
    if not view.marks:
        nothing_yet(axes, "no trial was opened yet")
        return
    for way in (axes.xaxis, axes.yaxis):
        way.set_major_locator(MaxNLocator(integer=True))
    few = len(view.marks) <= MANY
    places = {mark.ordinal: _place(mark, few or mark in path) for mark in view.marks}
    _branches(axes, view, places, few)
    colors = _colors(view)
    for name, color in {"": REST, **colors}.items():
        some = [mark for mark in view.marks if (mark.surface if mark.surface in colors else "") == name]
        _dots(axes, some, places, color, few, plain(name) if name else "other or none")
    axes.scatter(
        [], [], s=30 if few else 7, facecolors="white", edgecolors=BLACK, linewidths=0.7, label="no score"
    )
    if path:
        _way(axes, path, places, few)
    axes.margins(x=0.02, y=0.08)
    legend(figure, axes, 1.0 if few else 2.0)


def _place(mark: Mark, alone: bool) -> tuple[float, float]:
    """Where a trial lies; many of one generation lie in a band, not on one another."""
    return mark.ordinal, mark.generation + (0.0 if alone else BAND * (mark.ordinal * GOLDEN % 1 - 0.5))


def _dots(
    axes: Any, some: list[Mark], places: Mapping[int, tuple[float, float]], color: str, few: bool, label: str
) -> None:
    """Trials of one surface: filled with a score, hollow without."""
    if some:
        axes.scatter(
            *zip(*(places[mark.ordinal] for mark in some), strict=True), s=30 if few else 7, marker="o",
            facecolors=[color if mark.score is not None else "white" for mark in some], edgecolors=color,
            linewidths=0.9 if few else 0.5, zorder=3, rasterized=not few,
        )  # fmt: skip
        axes.scatter([], [], s=30 if few else 7, marker="o", color=color, label=label)


def _way(axes: Any, path: list[Mark], places: Mapping[int, tuple[float, float]], few: bool) -> None:
    """The path to the master, with the master's name at its end."""
    x, y = zip(*(places[mark.ordinal] for mark in path), strict=True)
    axes.plot(x, y, color=BLACK, lw=2.2, zorder=2, label="path to the master")
    axes.scatter(x, y, s=44 if few else 16, facecolors="none", edgecolors=BLACK, linewidths=1.4, zorder=4)
    axes.annotate(
        plain(path[-1].id), (x[-1], y[-1]), textcoords="offset points", xytext=(0, 9), ha="right", fontsize=10,
        fontweight="bold", zorder=5, bbox={"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 1},
    )  # fmt: skip


def _branches(axes: Any, view: Overview, places: Mapping[int, tuple[float, float]], few: bool) -> None:
    """A thin line from each trial to its parent."""
    from matplotlib.collections import LineCollection

    lines = [
        (places[mark.parent], places[mark.ordinal])
        for mark in view.marks if mark.parent is not None and mark.parent in places
    ]  # fmt: skip
    axes.add_collection(
        LineCollection(lines, colors="#888888", linewidths=0.7 if few else 0.3, alpha=0.6 if few else 0.15,
                       zorder=1, rasterized=not few)
    )  # fmt: skip


def _colors(view: Overview) -> dict[str, str]:
    """The surfaces with the most trials, each with a colour."""
    most = Counter(mark.surface for mark in view.marks if mark.surface).most_common()
    names = [name for name, _ in sorted(most, key=lambda item: (-item[1], item[0]))]
    return dict(zip(names, GROUPS, strict=False))


def _path(view: Overview) -> list[Mark]:
    """The master and its ancestors, oldest first."""
    known = {mark.ordinal: mark for mark in view.marks}
    mark = known.get(view.climbs[-1].trial) if view.climbs else None
    path: list[Mark] = []
    while mark is not None and len(path) <= len(known):  # a ring of parents would be a damaged ledger
        path.append(mark)
        mark = known.get(mark.parent) if mark.parent is not None else None
    return path[::-1]


def _title(view: Overview, path: list[Mark]) -> str:
    generations = 1 + max((mark.generation for mark in view.marks), default=0)
    title = f"lineage of {counted(len(view.marks), 'trial')}, {counted(generations, 'generation')}"
    return f"{title}; the master is {len(path) - 1} away from the baseline" if len(path) > 1 else title

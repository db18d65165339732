"""Pictures of a campaign for papers: PNG, and SVG whose text stays text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from autolab.report.figures.axis import AXES
from autolab.report.figures.frame import FORMATS, rendered
from autolab.report.figures.gantt import draw_slots
from autolab.report.figures.lineage import draw_lineage
from autolab.report.figures.staircase import draw_staircase
from autolab.report.overview.records import Overview

__all__ = ["AXES", "pictures", "staircase"]


def staircase(view: Overview, x: str = "trials", formats: Sequence[str] = FORMATS) -> dict[str, bytes]:
    """The staircase of a campaign by file name; `x` is one of AXES."""
    drawn = rendered(partial(draw_staircase, view=view, x=x), formats)
    return {f"staircase.{suffix}": content for suffix, content in drawn.items()}


def pictures(view: Overview, x: str = "trials", formats: Sequence[str] = FORMATS) -> dict[str, bytes]:
    """Every picture of a campaign by file name: staircase, lineage and slots. The same overview, the same bytes.

    Needs matplotlib; raises ImportError without it.
    """
    found = staircase(view, x, formats)
    for name, draw in (("lineage", draw_lineage), ("slots", draw_slots)):
        drawn = rendered(partial(draw, view=view), formats)
        found |= {f"{name}.{suffix}": content for suffix, content in drawn.items()}
    return found

"""A campaign as people are shown it: one view of the ledger, for the page, the figures, the report and the terminal."""

from __future__ import annotations

from autolab.ledger.runs import last_event
from autolab.report.overview.details import detail, details
from autolab.report.overview.reader import Reader, overview
from autolab.report.overview.records import (
    Climb,
    Concern,
    DeadEnd,
    Detail,
    Group,
    Headline,
    Learned,
    Level,
    Mark,
    Noise,
    Overview,
    Run,
    Slots,
    Span,
    UnderWay,
)
from autolab.report.overview.words import quote, requote

__all__ = [
    "Climb",
    "Concern",
    "DeadEnd",
    "Detail",
    "Group",
    "Headline",
    "Learned",
    "Level",
    "Mark",
    "Noise",
    "Overview",
    "Reader",
    "Run",
    "Slots",
    "Span",
    "UnderWay",
    "detail",
    "details",
    "last_event",
    "overview",
    "quote",
    "requote",
]

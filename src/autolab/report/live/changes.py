"""What changed between two overviews of one campaign: what a page must be told to be like a new one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from autolab.report.overview.records import Mark, Overview, Span
from autolab.report.page.shown import decimals


def delta(before: Overview | None, after: Overview) -> dict[str, Any]:
    """The change from `before` (None: a page that holds nothing) to `after`, with records as they are.

    Marks are those that are new or different, each in place of the one of the same ordinal; `spans` replace all from
    index `from` on; everything else is short, and comes whole.
    """
    first = _agree(before.slots.spans, after.slots.spans) if before else 0
    return {
        "marks": _changed(before.marks if before else (), after.marks),
        "spans": {"from": first, "items": list(after.slots.spans[first:])},
        "climbs": list(after.climbs),
        "headline": after.headline,
        "concerns": list(after.concerns),
        "noise": after.noise,
        "digits": decimals(after.noise),
        "learned": after.learned,
        "under_way": list(after.under_way),
        "slots": {
            "lanes": list(after.slots.lanes),
            "queue": [list(point) for point in after.slots.queue],
            "utilisation": after.slots.utilisation,
            "queue_seconds": after.slots.queue_seconds,
        },
        "state": after.state,
        "alive": after.alive,
        "now": after.now,
    }


def sharing(before: Overview, after: Overview) -> Overview:
    """The same as `after`; what did not change since `before` is held once in memory, and found at once."""
    known = {mark.ordinal: mark for mark in before.marks}
    marks = tuple(old if (old := known.get(mark.ordinal)) == mark else mark for mark in after.marks)
    first = _agree(before.slots.spans, after.slots.spans)
    spans = before.slots.spans[:first] + after.slots.spans[first:]
    return replace(after, marks=marks, slots=replace(after.slots, spans=spans))


def _changed(before: Sequence[Mark], after: Sequence[Mark]) -> list[Mark]:
    known = {mark.ordinal: mark for mark in before}
    return [mark for mark in after if (old := known.get(mark.ordinal)) is not mark and old != mark]


def _agree(before: Sequence[Span], after: Sequence[Span]) -> int:
    """How many spans both begin with."""
    for place, (old, new) in enumerate(zip(before, after, strict=False)):
        if old is not new and old != new:
            return place
    return min(len(before), len(after))

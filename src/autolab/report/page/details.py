"""What opened rows show, packed into the page: pieces of some hundred trials, unpacked when one of them is opened."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import groupby
from typing import Any

from autolab.report.overview.records import Detail, Run
from autolab.report.page.encoding import encoded

PER_PIECE = 100  # trials
ROOMS = (40_000, 12_000, 6_000, 3_000, 1_500, 700, 300, 100)  # characters that a text may have, tried in turn
POINTS = (60, 60, 40, 30, 24, 16, 12, 8)  # points of a learning curve, likewise
DRAWN = 5  # digits of a curve's points: they are drawn, and shown as numbers nowhere


def pieces(details: Iterable[tuple[int, Detail]], trials: int, room: int) -> Iterator[tuple[int, str]]:
    """(number, base64 of compressed JSON) of every piece; piece k holds the ordinals from k × `PER_PIECE` on.

    All of them together have about `room` bytes, of `trials` trials: where a piece would be larger than its share of
    what is left, texts are cut, and say so. What is not used by one piece is there for those after it.
    """
    left, waiting = room, -(-trials // PER_PIECE)
    for number, some in groupby(details, key=lambda one: one[0] // PER_PIECE):
        text = _piece(list(some), left // max(1, waiting))
        left, waiting = left - len(text), waiting - 1
        yield number, text


def _piece(some: list[tuple[int, Detail]], room: int) -> str:
    text = ""
    for characters, points in zip(ROOMS, POINTS, strict=True):
        found = {ordinal: _shortened(detail, characters, points) for ordinal, detail in some}
        packed = gzip.compress(encoded(found).encode("ascii"), compresslevel=6, mtime=0)
        text = base64.b64encode(packed).decode("ascii")
        if len(text) <= room:
            break
    return text


def _shortened(detail: Detail, room: int, points: int) -> dict[str, Any]:
    """A detail as the page reads it; `cut` names the texts that are not whole. A log keeps its end."""
    cut = []
    shown = asdict(detail)
    for name in ("patch", "rationale", "note", "expected"):
        if len(shown[name]) > room:
            shown[name] = shown[name][:room]
            cut.append(name)
    shown["sources"] = [source[:500] for source in detail.sources[:50]]
    shown["runs"] = [_run(run, room // 2, points) for run in detail.runs]
    cut += ["log"] * any(len(run.log) > room // 2 for run in detail.runs)
    return {**shown, "cut": cut}


def _run(run: Run, room: int, points: int) -> dict[str, Any]:
    stride = max(1, -(-len(run.curve) // points))
    kept = [*run.curve[::stride], *run.curve[-1:]] if stride > 1 else run.curve
    curve = [(_drawn(progress), _drawn(value)) for progress, value in kept]
    return {**asdict(run), "log": run.log[-room:] if room else "", "curve": curve}


def _drawn(value: float) -> float:
    return float(f"{value:.{DRAWN}g}")

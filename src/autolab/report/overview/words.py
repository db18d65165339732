"""Numbers and quotes in one line of plain text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from autolab.ledger.views import cell

HOUR = 3600.0  # seconds
QUOTE = re.compile("“([^“”]*)”")


def counted(number: int, what: str) -> str:
    """`1 trial`, `1,234 trials`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def quote(text: str, room: int = 100) -> str:
    """Somebody else's words: one line without control characters, between quotation marks that stand nowhere else."""
    plain = cell(text).replace("“", '"').replace("”", '"')
    return f"“{plain if len(plain) <= room else plain[: room - 1] + '…'}”"


def requote(text: str, how: Callable[[str], str]) -> str:
    """A text with each of its quotes shown in another way."""
    return QUOTE.sub(lambda found: how(found[1]), text)


def duration(seconds: float) -> str:
    """`45 s`, `38 min`, `2.4 h`, `3.1 days`."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if seconds < 59.5 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 47.95 * HOUR:
        return f"{seconds / HOUR:.1f} h"
    return f"{seconds / (24 * HOUR):.1f} days"


def percent(share: float) -> str:
    """`95 %`, `99.9 %`: as exact as it is meant."""
    return f"{round(100 * share, 9):g} %"


def decimals(*sizes: float | None) -> int | None:
    """After which decimal place numbers may end so that differences of these sizes are still seen; None if there is no
    size to go by."""
    seen = [abs(size) for size in sizes if size and math.isfinite(size)]
    return max(0, -math.floor(math.log10(min(seen)))) if seen else None


def number(value: float, places: int | None) -> str:
    """A number with so many decimal places; with five significant digits if nobody knows how many are worth it."""
    return f"{value:.5g}" if places is None or places > 12 else f"{value:.{places}f}"

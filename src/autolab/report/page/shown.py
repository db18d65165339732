"""How numbers and other people's texts are written; `js/format.js` writes them the same way."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from autolab.report.overview.records import Noise

# Signs that are not seen but change what is: control characters, and those that turn the direction of writing.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def said(text: object) -> str:
    """Somebody else's words with every sign visible: ESC is ␛, a sign that turns the writing around its number."""
    return _HIDDEN.sub(_visible, str(text))


def decimals(noise: Noise | None) -> int:
    """Digits after the point that a score deserves: two of its noise."""
    if noise is None or not noise.sd > 0:
        return 5
    return min(9, max(1, 1 + math.ceil(-math.log10(noise.sd))))


def number(value: float | None, digits: int) -> str:
    """A score; empty if there is none."""
    return "" if value is None else f"{value:.{digits}f}"


def signed(value: float | None, digits: int) -> str:
    """A difference of scores."""
    return "" if value is None else f"{value:+.{digits}f}"


def rounded(value: float | None) -> str:
    """Three digits, for rates: 0.0123, 4.56, 789."""
    if value is None or value == 0:
        return "" if value is None else "0"
    return f"{value:.{min(9, max(0, 2 - math.floor(math.log10(abs(value)))))}f}"


def money(value: float) -> str:
    """US dollars, in cents; below one cent in hundredths of cents."""
    return f"${value:.4f}" if 0 < abs(value) < 0.01 else f"${value:,.2f}"


def share(part: int, whole: int) -> str:
    """What stands behind a count: ` · 47 %`."""
    return f" · {math.floor(100 * part / whole + 0.5)} %" if whole else ""


def span(seconds: float) -> str:
    """A duration in its own unit."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def moment(at: float) -> str:
    """A time of day, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def words(name: object) -> str:
    """An outcome as it is written: no difference."""
    return str(name).replace("_", " ")


def _visible(found: re.Match[str]) -> str:
    code = ord(found.group())
    return chr(0x2400 + code) if code < 0x20 else f"⟨U+{code:04X}⟩"

"""Times as the Hub keeps them: whole milliseconds, so that a bill and a client's sum agree."""

from __future__ import annotations

import datetime
import time


def now() -> float:
    """Seconds since 1970, in whole milliseconds."""
    return time.time_ns() // 1_000_000 / 1000


def stamp(seconds: float) -> str:
    """A time as the Hub writes it."""
    moment = datetime.datetime.fromtimestamp(round(seconds, 3), datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"

"""What the Hub does wrong on purpose."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Fault:
    """Answers the next `times` requests whose "METHOD /path" matches with an error.

    `lost` carries the request out and then drops the connection instead of answering; `cut_after` drops
    an event stream after so many events.
    """

    match: str
    times: int = 1
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False
    cut_after: int | None = None

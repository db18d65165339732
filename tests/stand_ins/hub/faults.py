"""What the Hub does wrong on purpose."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field


@dataclass
class Fault:
    """Strikes the next `times` requests whose "METHOD /path?query" matches; by itself it answers an error.

    `lost` carries the request out and then drops the connection instead of answering; `cut_after` drops
    an event stream after so many events. `hang` carries the request out and never answers, until the
    client goes away; `hang_before` never answers either, and does nothing.
    """

    match: str
    times: int = 1
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False
    cut_after: int | None = None
    hang: bool = False
    hang_before: bool = False

    def strikes(self, asked: str) -> bool:
        """Whether it strikes this request, which then counts."""
        if self.times <= 0 or not re.search(self.match, asked):
            return False
        self.times -= 1
        return True

    @property
    def refuses(self) -> bool:
        """Whether the answer is the error, and the request is not carried out."""
        return not (self.lost or self.hang or self.hang_before or self.cut_after is not None)


@dataclass
class Chance(Fault):
    """Strikes a share of all the requests that match, for ever; the same ones for the same seed and order."""

    share: float = 0.05
    seed: int = 0
    _dice: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)

    def strikes(self, asked: str) -> bool:
        """Whether it strikes this request."""
        return bool(re.search(self.match, asked)) and self._dice.random() < self.share

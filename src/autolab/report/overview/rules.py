"""When a master has stood for too long, and when a budget is nearly used up: asked by concerns, of now, and by alerts,
of every moment since a campaign began."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autolab.ledger.records import Campaign
from autolab.report.overview.records import Climb

NEARLY = 0.8  # share of a budget, from which it is worth telling
LEAST_WAIT = 50  # trials without a promotion that mean nothing yet,
LONGER = 2.0  # and times the longest wait before


@dataclass(frozen=True)
class Reign:
    """How long a master stood. `waited`: trials that ended since and changed nothing; `longest`: what it took for any
    earlier master to be beaten, in trials; 0 if none was."""

    climb: Climb
    waited: int
    longest: int

    @property
    def patience(self) -> int:
        """Trials after which it stands for longer than is this campaign's pace. Gains become rarer as a search goes on,
        and the longest wait grows with them."""
        return max(LEAST_WAIT, int(LONGER * self.longest) + 1)

    @property
    def stale(self) -> bool:
        """Whether it stood, or stands, for longer than that."""
        return self.waited >= self.patience


def reigns(climbs: Sequence[Climb], finished: int) -> Iterator[Reign]:
    """Every master, oldest first, in a campaign with so many finished trials. A master that was taken back counts until
    the next promotion."""
    up = [climb for climb in climbs if climb.kind != "demotion"]
    longest = 0
    for climb, following in zip(up, [*up[1:], None], strict=False):  # there may be no master yet
        until = finished if following is None else following.place
        yield Reign(climb, until - climb.place - 1, longest)
        longest = max(longest, until - climb.place)


@dataclass(frozen=True)
class Budgets:
    """What a campaign may use; None where nobody set a limit."""

    trials: int | None
    dollars: float | None


def budgets(campaign: Campaign) -> Budgets:
    """The limits that a campaign was given."""
    config = campaign.config
    return Budgets((config.get("serving") or {}).get("trials") or None, config.get("max_usd") or None)


def reached(used: float, allowed: float, share: float = 1.0) -> bool:
    """Whether so large a share of a budget is used."""
    return used >= share * allowed

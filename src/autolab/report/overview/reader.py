"""An overview of a campaign, and of the same campaign again after it went on."""

from __future__ import annotations

from autolab.ledger.store import Ledger
from autolab.report.overview.attention import concerns
from autolab.report.overview.gathered import Gathered, Gathering
from autolab.report.overview.headline import headline
from autolab.report.overview.learned import learned
from autolab.report.overview.marks import climbs, marks, noise
from autolab.report.overview.records import Overview
from autolab.report.overview.slots import occupation, slots, under_way
from autolab.report.overview.spending import Spending


def overview(ledger: Ledger, campaign: str, *, now: float, alive: bool) -> Overview:
    """A campaign at `now` (Unix time); `alive` says whether somebody works on it. Raises LabError if there is none of
    this name."""
    return Reader(ledger, campaign).read(now, alive)


class Reader:
    """Overviews of one campaign while it goes on: finished trials and measurements are read from the ledger once. Each
    overview is the same as one from the beginning."""

    def __init__(self, ledger: Ledger, campaign: str) -> None:
        self._gathering = Gathering(ledger, campaign)

    def changed(self) -> bool:
        """Whether anything was written to the ledger since the last overview; costs microseconds."""
        return self._gathering.changed()

    def read(self, now: float, alive: bool) -> Overview:
        """The campaign at `now` (Unix time); `alive` says whether somebody works on it. Raises LabError if there is
        none of this name."""
        return drawn(self._gathering.gather(now, alive))


def drawn(found: Gathered) -> Overview:
    """The overview of what was gathered."""
    used = occupation(found)
    shown = slots(found, used)
    at_work = under_way(found, used)
    spent = Spending(found)
    running = frozenset(
        trial.number for trial, one in zip(found.undone, at_work, strict=True) if one.state == "running"
    )
    every = marks(found, spent, running)
    climbed = climbs(found, every)
    return Overview(
        campaign=found.campaign.id,
        task=found.campaign.task,
        key=found.campaign.key,
        state=found.state,
        alive=found.alive,
        metric=found.metric,
        direction=found.direction,
        now=found.now,
        began=found.campaign.created_at,
        headline=headline(found, len(at_work)),
        concerns=concerns(found, used, shown, climbed),
        marks=every,
        climbs=climbed,
        noise=noise(found),
        slots=shown,
        learned=learned(found, every),
        under_way=at_work,
    )

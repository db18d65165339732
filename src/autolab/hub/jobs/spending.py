"""What Autolab's jobs cost, from what the Hub says of them: for each campaign, and against a budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autolab.errors import LabError
from autolab.hub.jobs.flavors import Flavor
from autolab.hub.jobs.listing import UNFINISHED, Job, listed

if TYPE_CHECKING:
    from huggingface_hub import HfApi

DAY = 86400.0


@dataclass(frozen=True)
class Spent:
    """The jobs of one campaign, or of all: dollars paid for those that ended, and for those that did not, dollars up
    to now and at their most. `unpriced` jobs are of hardware without a price, and in none of the sums."""

    campaign: str
    ended: int
    ended_usd: float
    unfinished: int
    so_far_usd: float
    most_usd: float
    unpriced: int

    @property
    def usd(self) -> float:
        """What all of it has cost up to now."""
        return self.ended_usd + self.so_far_usd


def add_up(jobs: Iterable[Job], campaign: str = "") -> Spent:
    """The sum over jobs."""
    jobs = list(jobs)
    priced = [job for job in jobs if job.cost_usd is not None]
    ended = [job for job in priced if job.ended]
    going = [job for job in priced if not job.ended]
    return Spent(
        campaign,
        len(ended),
        sum(job.cost_usd or 0.0 for job in ended),
        len(going),
        sum(job.cost_usd or 0.0 for job in going),
        sum(job.most_usd or 0.0 for job in going),
        len(jobs) - len(priced),
    )


def by_campaign(jobs: Iterable[Job]) -> list[Spent]:
    """The sum for each campaign label, the newest campaign first; "" stands for jobs without one."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.labels.get("campaign", ""), []).append(job)
    return [add_up(group, campaign) for campaign, group in groups.items()]


def committed(api: HfApi, owner: str, flavors: Sequence[Flavor], since: float) -> float:
    """USD that Autolab's jobs of `owner` come to: those made at or after `since`, and all that have not ended, at
    their most. Raises LabError where that cannot be known, for then a budget cannot be kept."""
    going = listed(api, owner, stages=UNFINISHED, flavors=flavors)
    lately = listed(api, owner, since=since, flavors=flavors)
    if going.more or lately.more:
        raise LabError(
            "are more than can be counted", where=f"the jobs of {owner}", mend="launch without --budget-usd"
        )
    jobs = {job.id: job for job in [*going.jobs, *lately.jobs]}.values()
    for job in jobs:
        if job.most_usd is None:
            raise LabError(
                f"nobody knows the price of {job.flavor!r}",
                where=f"job {job.id}",
                mend="launch without --budget-usd",
            )
    return sum(job.most_usd or 0.0 for job in jobs)


def as_data(rows: Sequence[Spent], whole: Spent, more: bool) -> dict[str, Any]:
    """The same for machines; `more` says that there are older jobs which were not counted."""
    return {
        "campaigns": [dataclasses.asdict(row) for row in rows],
        "all": dataclasses.asdict(whole),
        "more": more,
    }


def show_spending(rows: Sequence[Spent], whole: Spent) -> str:
    """One line for each campaign, and one for all."""
    lines = [f"{'campaign':<28} {'ended':>6} {'USD':>10} {'going':>6} {'USD so far':>11} {'at most':>10}"]
    for row in [*rows, whole]:
        name = "all" if row is whole else row.campaign or "(no campaign)"
        lines.append(
            f"{name:<28} {row.ended:>6} {row.ended_usd:>10.4f} {row.unfinished:>6} "
            f"{row.so_far_usd:>11.4f} {row.most_usd:>10.4f}"
            + (f"  {row.unpriced} of unknown price" if row.unpriced else "")
        )
    return "\n".join(lines)


def say_spending(whole: Spent, more: bool) -> str:
    """What it all comes to, in a line."""
    count = whole.ended + whole.unfinished + whole.unpriced
    said = f"{'the newest ' if more else ''}{count} job{'' if count == 1 else 's'} cost ${whole.usd:.4f}"
    if whole.unfinished:
        finally_usd = whole.ended_usd + whole.most_usd
        said += f" so far; {whole.unfinished} not finished, ${finally_usd:.4f} in the end at most"
    if whole.unpriced:
        said += f"; {whole.unpriced} of unknown price not counted"
    return said

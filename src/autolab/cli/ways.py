"""Ways of searching: who proposes, who works with whom, what is branched from, and what agents are told."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autolab.collaboration import Assignment, Collaboration, Setting
from autolab.collaboration.choosing import collaboration_class, collaborations
from autolab.errors import LabError
from autolab.harness import Harness
from autolab.harness.models import find_models
from autolab.harness.offline import OfflineHarness
from autolab.lab import Lab, open_lab
from autolab.ledger.records import Trial, TrialState
from autolab.search.archives import ARCHIVES
from autolab.task import Task

if TYPE_CHECKING:
    from autolab.search.population import Population

WITH_A_MODEL = ("chat", "opencode")


@dataclass(frozen=True)
class Ways:
    """What a person said of how to search; None is unsaid. Remembered in the campaign, under the same names."""

    harness: str | None = None
    collaboration: str | None = None
    archive: str | None = None
    lineage: str | None = None
    generic: bool | None = None
    model: str | None = None
    agents: int | None = None

    def check(self, config: dict[str, Any]) -> None:
        """Raise LabError for a model that nobody would ask."""
        if self.model and self.remembered(config)["harness"] not in WITH_A_MODEL:
            raise LabError(
                "is for agents, and this campaign proposes without a model",
                where="--model",
                mend="--harness chat",
            )

    def remembered(self, config: dict[str, Any]) -> dict[str, Any]:
        """What holds for a campaign with this configuration: what is said now, else what it ran with, else what its
        harness does by itself. With another harness than before, its own ways hold again."""
        before = config.get("harness")
        harness = self.harness or (before if before in WITH_A_MODEL else "offline")
        kept = config if harness == before else {}
        agents = harness in WITH_A_MODEL
        usual = {
            "harness": harness,
            # Without a model there is one proposer, which keeps its own memory of what was tried.
            "collaboration": "swarm" if agents else "single",
            "archive": "auto" if agents else "best",
            "lineage": "on",
            "generic": False,
            "model": None,
            "agents": None,
        }
        said = {one.name: getattr(self, one.name) for one in fields(self)}
        held = {
            name: kept.get(name, value) if said[name] is None else said[name] for name, value in usual.items()
        }
        return {**held, "novelty": agents}


def way_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that say how to search; the command gets them as one `ways`."""

    @click.option(
        "--harness",
        type=click.Choice(["offline", *WITH_A_MODEL]),
        help="Who proposes (default: as this campaign last ran; offline for a new one).",
    )
    @click.option(
        "--collaboration",
        type=click.Choice(collaborations()),
        help="Who works with whom (default: swarm for agents with a model; docs/collaboration.md).",
    )
    @click.option(
        "--archive",
        type=click.Choice(ARCHIVES),
        help="Which programs trials branch from (default: auto for agents with a model, else best).",
    )
    @click.option(
        "--lineage",
        type=click.Choice(["on", "off"]),
        help="Whether agents are told what earlier trials teach; off is a control.",
    )
    @click.option(
        "--generic/--specialists", default=None, help="A control: no agent is told a specialist's words."
    )
    @click.option(
        "--model", help="PROVIDER/MODEL[=WEIGHT][,…] for agents (default: AUTOLAB_MODEL, or your OpenCode's)."
    )
    @click.option(
        "--agents", type=click.IntRange(1, 10_000), help="Agents at work at once (default: two a slot)."
    )
    @functools.wraps(command)
    def chosen(*words: Any, **options: Any) -> Any:
        ways = Ways(**{one.name: options.pop(one.name) for one in fields(Ways)})
        return command(*words, ways=ways, **options)

    return chosen


def collaboration_of(lab: Lab, slots: int) -> Collaboration:
    """Who works with whom in a campaign. Raises LabError for a name that is not known."""
    config = lab.campaign.config
    models = (
        [one.name for one in find_models(config["model"], lab.root)] if config["harness"] == "chat" else []
    )
    setting = Setting(
        task=lab.task,
        ledger=lab.ledger,
        campaign=lab.campaign.id,
        seed=config["seed"],
        agents=config.get("agents") or 2 * slots,
        models=tuple(models),
        generic=bool(config.get("generic")),
    )
    made: Collaboration = collaboration_class(config["collaboration"])(setting)
    return made


def first_assignments(task: Task, ways: Ways, agents: int) -> list[Assignment]:
    """What the first trials of a new campaign would be asked to be, one for each agent."""
    name = ways.remembered({})["collaboration"]
    with tempfile.TemporaryDirectory() as folder, open_lab(Path(folder), create=True) as ledger:
        setting = Setting(task, ledger, "", seed=0, agents=agents, generic=bool(ways.generic))
        working = collaboration_class(name)(setting)
        found: list[Assignment] = []
        while len(found) < agents and (asked := working.assign()) is not None:
            number = len(found) + 1
            working.opened(Trial(number, f"{number}", "", number, TrialState.OPEN, parent_trial=0), asked)
            found.append(asked)
    return found


def population_of(lab: Lab) -> Population | None:
    """What the trials of a campaign branch from; None: always the master."""
    archive = lab.campaign.config["archive"]
    if archive == "best":
        return None
    from autolab.search.population import Population

    return Population(lab.ledger, lab.campaign, lab.task, archive, lab.campaign.config["seed"])


def harness_of(
    lab: Lab, slots: int, minutes: float, *, as_json: bool
) -> AbstractAsyncContextManager[Harness]:
    """Who proposes in a campaign. Raises LabError, one line, if a model or OpenCode is missing."""
    config = lab.campaign.config
    if config["harness"] not in WITH_A_MODEL:
        return contextlib.nullcontext(OfflineHarness(lab.task, config["seed"]))
    from autolab.cli.agents import chat_harness, check_agents, opencode_harness, show_agent

    workers = config.get("agents") or 2 * slots

    def heard(event: Any) -> None:
        show_agent(event, as_json=as_json)

    if config["harness"] == "chat":
        return chat_harness(
            lab, config.get("model"), agents=workers, slots=slots, minutes=minutes, heard=heard
        )
    if workers > MOST_SERVERS:
        raise LabError(
            f"{workers} OpenCode servers are more than one machine holds",
            where="--agents",
            mend=f"at most {MOST_SERVERS}, or --harness chat",
        )
    check_agents(workers)
    return opencode_harness(
        lab, config.get("model"), workers=workers, slots=slots, minutes=minutes, heard=heard
    )


MOST_SERVERS = 256

"""What `autolab run` needs around a campaign of agents: their models, what they are told, and what they show."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import click

from autolab.cli.told import standing_text
from autolab.collaboration import Assignment
from autolab.errors import LabError
from autolab.harness import Ticket
from autolab.harness.chat import ChatHarness, ChatLimits
from autolab.harness.desk import AgentEvent, Briefing, Desk
from autolab.harness.models import Model, find_models
from autolab.harness.opencode.binary import find_opencode
from autolab.harness.opencode.harness import OpenCodeHarness, SessionLimits
from autolab.harness.opencode.seat import Waiting
from autolab.lab import Lab, read_files
from autolab.ledger.agents import add_session, spent_by_model
from autolab.ledger.lineage import Lineage
from autolab.ledger.masters import master_now
from autolab.ledger.observations import standing
from autolab.ledger.records import Campaign
from autolab.ledger.store import Ledger
from autolab.ledger.views import cell
from autolab.program.hashing import program_id
from autolab.search.parent import choose_parent
from autolab.task import Task, load_task

LINEAGE_BYTES = 6000
# A slice is told to every agent that asks for the same one within so many seconds: a hundred agents a second would
# otherwise spend a quarter of the lab's time on lines that hardly differ. The gate looks at the ledger as it is.
LINEAGE_SECONDS = 1.0
LINEAGE_KEPT = 256


def _noise(ledger: Ledger, campaign: str) -> float | None:
    """The SD of one run as it is known now."""
    seen = standing(ledger, campaign)
    return seen.noise_sd if seen else ledger.campaign(campaign).noise_sd


def _standings(ledger: Ledger, campaign: str) -> Callable[[str], str]:
    """How the master stands, if it is the program that is asked about; else nothing."""
    told: dict[int, tuple[float, str]] = {}  # by promotion

    def standing_of(program: str) -> str:
        newest = ledger.newest_promotion(campaign)
        if newest is None or newest.program != program:
            return ""
        now = time.monotonic()
        at, text = told.get(newest.number, (-LINEAGE_SECONDS, ""))
        if now - at >= LINEAGE_SECONDS:
            text = standing_text(master_now(ledger, campaign))
            told.clear()
            told[newest.number] = now, text
        return text

    return standing_of


def chat_harness(
    lab: Lab,
    model: str | None,
    *,
    agents: int,
    slots: int,
    minutes: float,
    heard: Callable[[AgentEvent], None],
) -> ChatHarness:
    """Agents that answer in words. Raises LabError if a model is missing."""
    campaign = lab.campaign.id
    return ChatHarness(
        campaign,
        find_models(model, lab.root),
        briefing_of(lab, heard),
        agents=agents,
        slots=slots,
        spent=spent_by_model(lab.ledger, campaign),
        limits=ChatLimits(seconds=60 * minutes),
    )


def opencode_harness(
    lab: Lab,
    model: str | None,
    *,
    workers: int,
    slots: int,
    minutes: float,
    heard: Callable[[AgentEvent], None],
) -> OpenCodeHarness:
    """Agents in OpenCode. Raises LabError if OpenCode or a model is missing."""
    return OpenCodeHarness(
        lab.campaign.id,
        _only(find_models(model, lab.root)),
        find_opencode(),
        lab.state,
        lab.protected,
        briefing_of(lab, heard),
        workers=workers,
        slots=slots,
        limits=SessionLimits(waiting=Waiting(wall=60 * minutes)),
    )


def _only(models: Mapping[Model, float]) -> Model:
    first, *more = models
    if more:
        raise LabError(
            f"agents in OpenCode ask one model, not {1 + len(more)}",
            where="--model",
            mend="or --harness chat",
        )
    return first


def briefing_of(lab: Lab, heard: Callable[[AgentEvent], None]) -> Briefing:
    """What the agents of a campaign are told, and may ask."""
    ledger, campaign = lab.ledger, lab.campaign
    desk = Desk(
        objection=lab.objection,
        lineage=_lineage(ledger, campaign),
        noise_sd=lambda: _noise(ledger, campaign.id),
        standing=_standings(ledger, campaign.id),
        record=lambda session: add_session(ledger, session),
        heard=heard,
    )
    return Briefing(lab.task, desk, generic=bool(campaign.config.get("generic")))


def _lineage(ledger: Ledger, campaign: Campaign) -> Callable[[Ticket], str]:
    """What earlier trials teach about a ticket; nothing in a campaign without lineage."""
    if campaign.config.get("lineage") == "off":
        return lambda ticket: ""
    known = Lineage(ledger, campaign.id)
    recent: dict[tuple[str, int | None, str], tuple[float, str]] = {}

    def slice_for(ticket: Ticket) -> str:
        now, what = time.monotonic(), (ticket.surface or "", ticket.parent_trial, ticket.role)
        told = recent.get(what)
        if told is None or now - told[0] > LINEAGE_SECONDS:
            if len(recent) >= LINEAGE_KEPT:
                recent.clear()
            surface, parent, role = what
            text = known.slice(surface=surface, parent=parent, role=role, limit=LINEAGE_BYTES)
            told = recent[what] = now, text
        return told[1]

    return slice_for


def show_agent(event: AgentEvent, *, as_json: bool) -> None:
    """One line of what an agent did."""
    if as_json:
        click.echo(json.dumps({"at": time.time(), "event": "agent", **vars(event)}))
        return
    if event.kind == "tool" and "refused" not in event.text:
        return  # every read and edit is too much for a person; --json has them
    who = f"{event.trial} {event.role.removeprefix('specialists/')}".strip()
    click.secho(f"{time.strftime('%H:%M:%S')}  {who or 'model'}  {cell(event.text)[:110]}", dim=True)


def dry_run(
    root: Path,
    ledger: Ledger | None,
    profile: str,
    model: str | None,
    *,
    harness: str,
    assigned: Iterable[Assignment],
) -> Iterator[str]:
    """Every prompt that the agents of the first assignments would get, and where to; nothing is started, nothing
    written. Raises LabError if a model or OpenCode is missing, as the real run would."""
    task = load_task(root, profile)
    models = find_models(model, root)
    for chosen, share in models.items():
        part = f" for {100 * share:.0f} % of the trials" if len(models) > 1 else ""
        yield (
            f"model      {chosen.name} at {chosen.base_url}" + (" (with a key)" if chosen.key else "") + part
        )
    if harness == "opencode":
        _only(models)
        opencode = find_opencode()
        yield f"opencode   {opencode.path} ({opencode.version}), a sandbox for each agent under {root}/.autolab/seats"
    briefing = _imagined(ledger, task)
    for ordinal, assignment in enumerate(assigned, start=1):
        ticket = _ticket(root, ledger, task, assignment, ordinal)
        yield f"\n===== {ticket.role}: {ticket.surface or 'any surface'} ====="
        yield briefing.role(ticket).prompt.rstrip()
        yield "----- message -----"
        yield briefing.trial(ticket, can_edit=harness == "opencode").rstrip()


def _imagined(ledger: Ledger | None, task: Task) -> Briefing:
    """What agents would be told now."""
    campaign = ledger.campaigns()[-1] if ledger is not None and ledger.campaigns() else None
    desk = Desk(
        objection=lambda ticket, proposal: None,
        lineage=_lineage(ledger, campaign) if ledger and campaign else lambda ticket: "",
        noise_sd=lambda: _noise(ledger, campaign.id) if ledger and campaign else None,
        standing=_standings(ledger, campaign.id) if ledger and campaign else lambda program: "",
        record=lambda session: None,
    )
    return Briefing(task, desk, generic=bool(campaign and campaign.config.get("generic")))


def _ticket(root: Path, ledger: Ledger | None, task: Task, assignment: Assignment, ordinal: int) -> Ticket:
    files, score = read_files(root, task.editable), None
    guidance: tuple[str, ...] = ()
    if ledger is not None and ledger.campaigns():
        campaign = ledger.campaigns()[-1]
        program, trial = choose_parent(ledger, campaign.id)
        files, score = ledger.program(program), ledger.trial(trial).score
        guidance = tuple(text for _, text in ledger.guidance(campaign.id))
    return Ticket(
        number=0, ordinal=ordinal, parent_program=program_id(files), parent_files=files, parent_score=score,
        surface=assignment.surface or None, guidance=guidance, trial="(the next)", role=assignment.role,
        goal=assignment.goal,
    )  # fmt: skip


def check_agents(workers: int) -> None:
    """Raises LabError if this machine has no room for that many agents."""
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            free = {line.split(":")[0]: int(line.split()[1]) / 1e6 for line in file}["MemAvailable"]
    except (OSError, KeyError, ValueError):
        return
    needed = 0.45 * workers
    if needed > free:
        raise LabError(
            f"{workers} agents need some {needed:.0f} GB of memory, {free:.0f} GB are free",
            where="--agents",
            mend=f"--agents {max(1, int(free / 0.6))}",
        )

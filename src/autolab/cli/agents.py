"""What `autolab run --harness opencode` needs around the campaign: the model, the agents, and what they show."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from autolab.cli.told import standing_text
from autolab.errors import LabError
from autolab.harness import Ticket
from autolab.harness.opencode.binary import OpenCode, find_opencode
from autolab.harness.opencode.harness import AgentEvent, Desk, OpenCodeHarness, SessionLimits
from autolab.harness.opencode.models import Model, find_model
from autolab.harness.opencode.seat import Waiting
from autolab.lab import Lab, read_files
from autolab.ledger.agents import add_session
from autolab.ledger.lineage import lineage_slice
from autolab.ledger.masters import master_now
from autolab.ledger.observations import standing
from autolab.ledger.store import Ledger
from autolab.ledger.views import cell
from autolab.program.hashing import program_id
from autolab.search.parent import choose_parent
from autolab.task import Task, load_task

LINEAGE_BYTES = 6000


def _noise(ledger: Ledger, campaign: str) -> float | None:
    """The SD of one run as it is known now."""
    seen = standing(ledger, campaign)
    return seen.noise_sd if seen else ledger.campaign(campaign).noise_sd


def _standing(ledger: Ledger, campaign: str, program: str) -> str:
    """How the master stands, if that is the program; else nothing."""
    if not ledger.promotions(campaign):
        return ""
    seen = master_now(ledger, campaign)
    return standing_text(seen) if seen.promotion.program == program else ""


def opencode_harness(
    lab: Lab,
    model: str | None,
    *,
    workers: int,
    slots: int,
    minutes: float,
    heard: Callable[[AgentEvent], None],
) -> OpenCodeHarness:
    """The agents of a campaign. Raises LabError if OpenCode or a model is missing."""
    ledger, campaign = lab.ledger, lab.campaign.id
    desk = Desk(
        objection=lab.objection,
        lineage=lambda surface: lineage_slice(ledger, campaign, surface=surface, limit=LINEAGE_BYTES),
        noise_sd=lambda: _noise(ledger, campaign),
        standing=lambda program: _standing(ledger, campaign, program),
        record=lambda session: add_session(ledger, session),
        heard=heard,
    )
    return OpenCodeHarness(
        lab.task,
        campaign,
        find_model(model, lab.root),
        find_opencode(),
        lab.state,
        lab.protected,
        desk,
        workers=workers,
        slots=slots,
        limits=SessionLimits(waiting=Waiting(wall=60 * minutes)),
    )


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
    root: Path, ledger: Ledger | None, profile: str, model: str | None, workers: int
) -> Iterator[str]:
    """Every prompt and command that the first agents would get; nothing is started, nothing written.

    Raises LabError if OpenCode or a model is missing, as the real run would.
    """
    task = load_task(root, profile)
    chosen = find_model(model, root)
    opencode = find_opencode()
    yield f"model      {chosen.name} at {chosen.base_url}" + (" (with a key)" if chosen.key else "")
    yield f"opencode   {opencode.path} ({opencode.version})"
    yield f"agents     {workers} at a time, each `opencode serve` in a sandbox of its own under {root}/.autolab/seats"
    harness = _imagined(root, ledger, task, chosen, opencode, workers)
    for ordinal in range(1, workers + 1):
        ticket = _ticket(root, ledger, task, harness, ordinal)
        yield f"\n===== {ticket.role}: {ticket.surface or 'any surface'} ====="
        yield harness.system_prompt(ticket).rstrip()
        yield "----- message -----"
        yield harness.prompt(ticket).rstrip()


def _imagined(
    root: Path, ledger: Ledger | None, task: Task, model: Model, opencode: OpenCode, workers: int
) -> OpenCodeHarness:
    campaign = ledger.campaigns()[-1] if ledger is not None and ledger.campaigns() else None

    def lineage(surface: str) -> str:
        if ledger is None or campaign is None:
            return ""
        return lineage_slice(ledger, campaign.id, surface=surface, limit=LINEAGE_BYTES)

    desk = Desk(
        objection=lambda ticket, proposal: None,
        lineage=lineage,
        noise_sd=lambda: _noise(ledger, campaign.id) if ledger and campaign else None,
        standing=lambda program: _standing(ledger, campaign.id, program) if ledger and campaign else "",
        record=lambda session: None,
    )
    return OpenCodeHarness(
        task, campaign.id if campaign else "", model, opencode, root / ".autolab", {}, desk,
        workers=workers, slots=1, limits=SessionLimits(),
    )  # fmt: skip


def _ticket(root: Path, ledger: Ledger | None, task: Task, harness: OpenCodeHarness, ordinal: int) -> Ticket:
    role, surface = harness.assign(ordinal)
    files, score = read_files(root, task.editable), None
    guidance: tuple[str, ...] = ()
    if ledger is not None and ledger.campaigns():
        campaign = ledger.campaigns()[-1]
        program, trial = choose_parent(ledger, campaign.id)
        files, score = ledger.program(program), ledger.trial(trial).score
        guidance = tuple(text for _, text in ledger.guidance(campaign.id))
    return Ticket(
        number=0, ordinal=ordinal, parent_program=program_id(files), parent_files=files, parent_score=score,
        surface=surface or None, guidance=guidance, trial="(the next)", role=role,
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

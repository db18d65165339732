"""Commands that steer a campaign from another terminal, and that write what it found."""

from __future__ import annotations

from pathlib import Path

import click

from autolab.campaign.lock import holder
from autolab.cli import options
from autolab.errors import LabError
from autolab.ledger.views import MASTER, TABLE, replacing, write_views

PAUSED, RESUMED, STOPPING = (
    ("paused", "paused; `autolab resume` goes on"),
    ("running", "goes on"),
    ("stopping", "stops when what is running has ended"),
)


def steer_campaign(root: Path, state: str, said: str, *, only: str | None = None) -> str:
    """Ask the campaign that is at work in a lab to go into a state; returns what to tell, which is why not if nobody
    is at work. With `only`, no other campaign than this is asked: raises LabError."""
    from autolab.lab import open_lab
    from autolab.report.overview.gathered import AT_WORK

    with open_lab(root) as ledger:
        campaign = ledger.campaign()
        if only not in (None, campaign.id):
            raise LabError(f"{only} is over", mend=f"the newest campaign here is {campaign.id}")
        if campaign.state not in AT_WORK or holder(ledger.path.parent.parent) is None:
            how = (
                campaign.state
                if campaign.state in ("finished", "stopped")
                else "interrupted; `autolab run` goes on"
            )
            return f"{campaign.id} is not running ({how})"
        if campaign.state in ("stopping", "cancelling") and state in ("running", "paused"):
            return f"{campaign.id} is stopping already"
        ledger.set_campaign(campaign.id, state=state)
        return f"{campaign.id}: {said}"


def _set_state(directory: Path, state: str, said: str) -> None:
    click.echo(steer_campaign(options.find_root(directory), state, said))


@click.command()
@options.directory
@click.option(
    "--now", is_flag=True, help="Kill what is running; it is measured again when the campaign goes on."
)
def stop(directory: Path, now: bool) -> None:
    """Let what is running end, then stop. `autolab run` goes on from there."""
    _set_state(directory, *(("cancelling", "cancelling") if now else STOPPING))


@click.command()
@options.directory
def pause(directory: Path) -> None:
    """Start nothing new until `autolab resume`; what is running goes on."""
    _set_state(directory, *PAUSED)


@click.command()
@options.directory
def resume(directory: Path) -> None:
    """Go on after a pause."""
    _set_state(directory, *RESUMED)


@click.command()
@options.directory
@click.argument("text")
def steer(directory: Path, text: str) -> None:
    """Tell the agents something; it is recorded and shown to every proposer from now on."""
    from autolab.lab import open_lab

    if not text.strip():
        raise LabError("the guidance is empty", mend='autolab steer "try smaller batches"')
    with open_lab(options.find_root(directory)) as ledger:
        campaign = ledger.campaign()
        ledger.steer(campaign.id, text.strip()[:4000])
        click.echo(f"{campaign.id}: noted")


@click.command()
@options.directory
@options.campaign
@click.option("--force", is_flag=True, help="Overwrite files that are neither the baseline nor the master.")
def adopt(directory: Path, campaign: str | None, force: bool) -> None:
    """Write the master into the working tree.

    A file that you changed yourself since the campaign began is not overwritten without --force.
    """
    from autolab.lab import open_lab

    root = options.find_root(directory)
    with open_lab(root) as ledger:
        chosen = ledger.campaign(campaign)
        master = ledger.master(chosen.id)
        files = ledger.program(master.program)
        known = [ledger.program(step.program) for step in ledger.promotions(chosen.id)]
        for name in files:
            path = root / name
            ours = [old[name].encode() for old in known if name in old]
            if not force and path.exists() and path.read_bytes() not in ours:
                raise LabError(
                    "was changed by hand since the campaign began",
                    where=str(path),
                    mend="commit or move your version, or `autolab adopt --force`",
                )
        for name, text in files.items():
            with replacing(root / name) as file:
                file.write(text)
        click.echo(f"adopted trial {ledger.trial_id(master.trial)} ({master.score:.6g}): {', '.join(files)}")


@click.command()
@options.directory
def export(directory: Path) -> None:
    """Rebuild the TSV and the JSON from the ledger."""
    from autolab.lab import open_lab

    root = options.find_root(directory)
    with open_lab(root) as ledger:
        write_views(ledger, root, rebuild=True)
    click.echo(f"wrote {root / TABLE} and {root / MASTER}")

"""`autolab jobs …`: what runs on Hugging Face, what it costs, and how to end it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autolab.cli import options
from autolab.cli.smoke import smoke
from autolab.errors import LabError
from autolab.hub.connection import Unavailable, connect, namespace
from autolab.hub.jobs import flavors, launching, spending
from autolab.hub.jobs import listing as hub_jobs
from autolab.hub.jobs import of_lab as lab_jobs
from autolab.hub.jobs.listing import Job
from autolab.lab import STATE_DIRECTORY

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@click.group()
def jobs() -> None:
    """Jobs on Hugging Face: prices, launch, look, logs, cancel, costs."""


@dataclasses.dataclass(frozen=True)
class _Account:
    """A lab, and the account whose jobs it has."""

    api: HfApi
    owner: str
    state: Path

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.sqlite"


def _account(directory: Path, given: str | None) -> _Account:
    state = options.find_root(directory) / STATE_DIRECTORY
    api = connect()
    return _Account(api, namespace(api, state / "cache" / "hub", given), state)


def _on_the_hub(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that asks for an account's jobs."""
    whose = click.option(
        "--namespace", "given", metavar="NAME", help="Whose jobs (default: the account of the token)."
    )
    return options.directory(whose(command))


@jobs.command()
@options.as_json
def hardware(as_json: bool) -> None:
    """What a job can run on and what that costs, cheapest first. Every minute begun is paid."""
    found = flavors.hardware(connect())
    if as_json:
        options.emit([dataclasses.asdict(flavor) for flavor in found])
    else:
        click.echo(flavors.show_hardware(found))


@jobs.command()
@_on_the_hub
@click.option("--campaign", help="Only those of this campaign.")
@click.option("--unfinished", is_flag=True, help="Only those that still run or wait.")
@click.option("-n", "last", type=click.IntRange(min=0), default=20, show_default=True,
              help="How many; 0 for all that are read, 1000 at most.")  # fmt: skip
@options.as_json
def ls(
    directory: Path, given: str | None, campaign: str | None, unfinished: bool, last: int, as_json: bool
) -> None:
    """The jobs that Autolab launched, newest first."""
    account = _account(directory, given)
    stages = hub_jobs.UNFINISHED if unfinished else ()
    labels = {"campaign": campaign or ""}
    listing = hub_jobs.listed(account.api, account.owner, labels, stages=stages)
    shown = listing.jobs[: last or None]
    if as_json:
        options.emit([dataclasses.asdict(job) for job in shown])
        return
    _show(shown)
    click.echo(hub_jobs.show_listing(listing))


@jobs.command()
@_on_the_hub
@click.argument("job")
@options.as_json
def status(directory: Path, given: str | None, job: str, as_json: bool) -> None:
    """One job: its stage, its time, its cost."""
    account = _account(directory, given)
    found = hub_jobs.status(account.api, account.owner, job)
    if as_json:
        options.emit(dataclasses.asdict(found))
    else:
        _show([found])


@jobs.command()
@_on_the_hub
@click.argument("job")
@click.option("--tail", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Lines.")
def logs(directory: Path, given: str | None, job: str, tail: int) -> None:
    """The end of a job's log. It may be cut short, and is never a result."""
    account = _account(directory, given)
    lines = hub_jobs.logs(account.api, account.owner, job, tail)
    if lines:
        click.echo(hub_jobs.plain_log(lines))
    else:
        click.echo("no line yet", err=True)


@jobs.command()
@_on_the_hub
@click.argument("job", required=False)
@click.option("--all", "everything", is_flag=True, help="Every unfinished job that this lab launched.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def cancel(directory: Path, given: str | None, job: str | None, everything: bool, yes: bool) -> None:
    """End a job that this lab launched, or all of them.

    A campaign that runs here launches its measurements again; `autolab stop` ends the campaign.
    """
    if (job is None) != everything:
        raise LabError("name one job, or say --all", where="autolab jobs cancel", mend="`autolab jobs ls`")
    account = _account(directory, given)
    if job is not None:
        lab = lab_jobs.lab_labels(account.ledger).get("lab", "")
        found = hub_jobs.cancel(account.api, account.owner, job, lab=lab)
        click.echo(f"{found.id} is {found.stage if found.ended else 'being cancelled'}")
        return
    listing = lab_jobs.unfinished_of_lab(account.api, account.owner, account.ledger)
    if not listing.jobs:
        click.echo("no job of this lab is unfinished (`autolab jobs ls` names all that Autolab launched)")
        return
    _show(listing.jobs)
    if not yes:
        click.confirm(
            f"cancel {'it' if len(listing.jobs) == 1 else f'these {len(listing.jobs)}'}?", abort=True
        )
    ended, problems = _end_all(account, listing.jobs)
    click.echo(f"{ended} cancelled" + ("; there are more, say it again" if listing.more else ""))
    if problems:
        raise LabError(
            f"{len(problems)} not cancelled: {problems[0].what}",
            where=problems[0].where,
            mend="`autolab jobs cancel --all` again",
        )


def _end_all(account: _Account, running: Sequence[Job]) -> tuple[int, list[LabError]]:
    """How many were ended, and why the others were not. Goes on after a refusal, and not without a Hub."""
    problems: list[LabError] = []
    for at, job in enumerate(running):
        try:
            hub_jobs.end(account.api, account.owner, job.id)
        except Unavailable as problem:
            return at - len(problems), problems + [problem] * (len(running) - at)
        except LabError as problem:
            problems.append(problem)
    return len(running) - len(problems), problems


@jobs.command()
@_on_the_hub
@click.option("--since", metavar="TIME", help="Only jobs launched in this time, such as 24h or 7d.")
@options.as_json
def cost(directory: Path, given: str | None, since: str | None, as_json: bool) -> None:
    """What Autolab's jobs cost, for each campaign: paid, up to now, and at most."""
    seconds = flavors.parse_since(since) if since else None
    account = _account(directory, given)
    listing = hub_jobs.listed(
        account.api, account.owner, since=0.0 if seconds is None else time.time() - seconds
    )
    rows, whole = spending.by_campaign(listing.jobs), spending.add_up(listing.jobs, "all")
    if as_json:
        options.emit(spending.as_data(rows, whole, listing.more))
        return
    click.echo(spending.show_spending(rows, whole))
    click.echo(spending.say_spending(whole, listing.more))


@jobs.command(options_metavar="--flavor F --timeout T --max-usd X [OPTIONS] --")
@_on_the_hub
@click.option("--flavor", required=True, help="What it runs on; see `autolab jobs hardware`.")
@click.option("--timeout", required=True, metavar="TIME", help="When it is ended: 90s, 10m, 2h.")
@click.option("--max-usd", required=True, type=float, help="For this job: refuse if price × timeout is more.")
@click.option("--budget-usd", type=float,
              help="For all: refuse if this job, those that Autolab launched in the last 24 hours, and those that "
              "have not finished at their most, are more.")  # fmt: skip
@click.option("--image", default=launching.IMAGE, show_default=True, help="A container image.")
@click.option("--trial", help="A label.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@options.as_json
def launch(directory: Path, given: str | None, command: tuple[str, ...], trial: str | None, as_json: bool,
           **limits: Any) -> None:  # fmt: skip
    """Run a command as a job. It gets no token and none of this machine's environment."""
    account = _account(directory, given)
    job, most = launching.launch(
        account.api, account.owner, command, lock=account.state / "cache" / "hub" / "launch.lock",
        labels={**lab_jobs.lab_labels(account.ledger), "trial": trial or ""}, **limits,
    )  # fmt: skip
    if as_json:
        options.emit(dataclasses.asdict(job))
    else:
        click.echo(f"launched {job.id}, ${most:.4f} at most (`autolab jobs status {job.id}`)")


def _show(found: Sequence[Job]) -> None:
    for job in found:
        click.echo(hub_jobs.show_job(job))


jobs.add_command(smoke)

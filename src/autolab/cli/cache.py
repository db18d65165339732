"""`autolab cache`: prepared data here and in a private dataset repo, and what can go."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from autolab.cli import options
from autolab.cli.executors import check_names
from autolab.execution.data import folders_in_use
from autolab.execution.job_pruning import remove_files as remove_bucket_files
from autolab.execution.job_pruning import stale_files
from autolab.hub.connection import connect
from autolab.hub.data.pruning import remove_files, remove_folders, stale_folders, unneeded_files
from autolab.hub.data.sharing import TRANSFER_SECONDS, data_repo, is_transferring, megabytes, overview
from autolab.hub.data.sharing import verify as verify_all
from autolab.hub.data.sharing import warm as warm_task
from autolab.lab import STATE_DIRECTORY, open_lab
from autolab.ledger.jobs import CloudJob, uncollected
from autolab.task import load_task

repo = click.option(
    "--repo", help="OWNER/NAME of a private dataset repo (default: autolab-data of your account)."
)


@click.group()
def cache() -> None:
    """Prepared data: share it through a private repo of the Hub, check it, free the disk of it."""


@cache.command()
@options.directory
@options.as_json
@repo
def status(directory: Path, as_json: bool, repo: str | None) -> None:
    """List the data here and in the repo."""
    folder = _cache(options.find_root(directory))
    rows, said = overview(folder, repo)
    moving = is_transferring(folder)
    if as_json:
        options.emit({"folders": [asdict(row) for row in rows], "repo": said, "moving": moving})
        return
    for row in rows:
        click.echo(row)
    click.echo(f"{_count(len(rows))} of prepared data ({said})")
    if moving:
        click.echo("a transfer is under way")


@cache.command()
@options.directory
@options.as_json
@repo
def warm(directory: Path, as_json: bool, repo: str | None) -> None:
    """Send and fetch what is missing. Every file is hashed before and after."""
    root = options.find_root(directory)
    api = connect(seconds=TRANSFER_SECONDS)
    repo = data_repo(api, _cache(root), repo)
    sent, fetched = warm_task(api, _cache(root), load_task(root).name, repo)
    if as_json:
        options.emit({"repo": repo, "sent": sent, "fetched": fetched})
        return
    for verb, names in (("sent", sent), ("fetched", fetched)):
        for name in names:
            click.echo(f"{verb:<8} {name}")
    moved = f"{len(sent)} sent to {repo}, {len(fetched)} fetched"
    click.echo(
        moved
        if sent or fetched
        else f"nothing to move: {repo} and this lab have the same folders (`autolab cache verify` hashes them)"
    )


@cache.command()
@options.directory
@options.as_json
@repo
def verify(directory: Path, as_json: bool, repo: str | None) -> None:
    """Hash everything, here and in the repo. The first file that differs is named."""
    folder = _cache(options.find_root(directory))
    api = connect(seconds=TRANSFER_SECONDS)
    repo = data_repo(api, folder, repo)
    right = verify_all(api, folder, repo)
    if as_json:
        options.emit({"repo": repo, "verified": right})
        return
    for name in right:
        click.echo(name)
    click.echo(f"{_count(len(right))} as the manifests say, here and in {repo}")


@cache.command()
@options.directory
@options.as_json
@click.option(
    "--days", type=click.IntRange(0), default=14, show_default=True, help="Unused for so many days."
)
@click.option("--repo", help="OWNER/NAME: also what nobody needs any more in that repo.")
@click.option(
    "--bucket", help="OWNER/NAME: also what jobs left in that bucket (2 days at least; paid results stay)."
)
@click.option("--yes", is_flag=True, help="Delete it; otherwise it is only shown.")
def prune(directory: Path, as_json: bool, days: int, repo: str | None, bucket: str | None, yes: bool) -> None:
    """Delete what no campaign needs. `prepare` makes it anew, or the repo has it."""
    check_names(None, bucket)
    root = options.find_root(directory)
    folder = _cache(root)
    used: set[str] = set()
    jobs: list[CloudJob] = []
    if (root / STATE_DIRECTORY / "ledger.sqlite").exists():
        with open_lab(root) as ledger:
            used, jobs = folders_in_use(ledger), uncollected(ledger)
    stale = stale_folders(folder, used, days)
    found = None
    if repo:
        api = connect(seconds=TRANSFER_SECONDS)
        found = unneeded_files(api, repo, load_task(root).name, used, days)
        if yes and found.files:
            remove_files(api, found)
    files = {f"{repo}: {path}": size for path, size in found.files.items()} if found else {}
    if bucket:
        api = connect(seconds=TRANSFER_SECONDS)
        left = stale_files(api, bucket, days, jobs)
        if yes:
            remove_bucket_files(api, bucket, list(left))
        files |= {f"{bucket}: {path}": size for path, size in left.items()}
    if yes:
        stale = remove_folders(folder, stale)
    if as_json:
        folders = [asdict(item) for item in stale]
        options.emit({"deleted": yes, "folders": folders, "files": files})
        return
    for item in stale:
        click.echo(f"{item.name}  {megabytes(item.size)}  unused for {item.days:.0f} days")
    for path, size in files.items():
        click.echo(f"{path}  {megabytes(size)}")
    if not stale and not files:
        click.echo("nothing to prune")
        return
    total = megabytes(sum(item.size for item in stale))
    there = f", {_count(len(files), 'file')} on the Hub" if files else ""
    click.echo(
        f"deleted {total}{there}"
        if yes
        else f"{total}{there} can go; `autolab cache prune --yes` deletes that"
    )


def _cache(root: Path) -> Path:
    return root / STATE_DIRECTORY / "cache"


def _count(number: int, what: str = "folder") -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

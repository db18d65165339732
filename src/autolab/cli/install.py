"""The part of `autolab init` that installs the skill pack, and takes it out again."""

from __future__ import annotations

from pathlib import Path

import click


def change_pack(directory: Path, hosts: tuple[str, ...], *, globally: bool, take_out: bool) -> None:
    """Install for `hosts`, or remove from them (from all where none is named), and tell what happened."""
    from autolab.pack.install import Report, install, remove

    report: Report
    if take_out:
        report = remove(directory, globally=globally, hosts=hosts or None)
    else:
        report = install(directory, globally=globally, hosts=hosts or ("opencode",))
    changes = report.changes
    click.echo(report.headline)
    counts = [
        (len(names), what)
        for names, what in (
            (changes.written, "written"),
            (changes.replaced, "replaced"),
            (changes.removed, "removed"),
            (changes.kept, "kept"),
        )
        if names
    ]
    if counts:
        click.echo(", ".join(f"{number} {what}" for number, what in counts))
    for warning in report.warnings:
        click.secho(warning, fg="yellow")
    for note in report.notes:
        click.echo(note)

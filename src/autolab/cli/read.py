"""Commands that only read the ledger. Each has --json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from autolab.cli import ancestry, options
from autolab.cli.described import describe, promotion_of
from autolab.cli.differences import for_terminal
from autolab.cli.fitting import on_a_terminal, width
from autolab.cli.paging import tell
from autolab.cli.summary import master_summary, status_lines, summarise
from autolab.cli.told import master_lines, price_of, shortened, standing_text, step_line, wrapped
from autolab.errors import LabError
from autolab.lab import open_lab
from autolab.ledger.lineage import ancestors
from autolab.ledger.masters import DEMOTED, Step, is_sealed, master_now, outcome, states, steps, way_back
from autolab.ledger.observations import looks
from autolab.ledger.records import PROMOTED, Status, Trial, Verdict
from autolab.ledger.store import Ledger
from autolab.ledger.views import master_record
from autolab.program.difference import unified_diff
from autolab.report.overview.words import counted

MARKS = {"ok": "green", "duplicate": "bright_black", "infra_error": "bright_black"}


@click.command()
@options.directory
@options.campaign
@options.as_json
def status(directory: Path, campaign: str | None, as_json: bool) -> None:
    """Where the campaign stands."""
    root = options.find_root(directory)
    with open_lab(root) as ledger:
        summary = summarise(ledger, ledger.campaign(campaign), root)
        if as_json:
            options.emit(summary)
            return
        lines = status_lines(ledger, summary)
    tell(lines)


@click.command()
@options.directory
@options.campaign
@click.option(
    "-n", "last", type=click.IntRange(min=0), default=20, show_default=True, help="How many; 0 for all."
)
@click.option("--status", "wanted", help="Only those with this status, verdict or state.")
@options.as_json
def trials(directory: Path, campaign: str | None, last: int, wanted: str | None, as_json: bool) -> None:
    """The finished trials, newest last."""
    words = [*Status, *Verdict, DEMOTED]
    if wanted is not None and wanted not in words:
        raise LabError(f"there is no status {wanted!r}", mend=f"one of: {', '.join(words)}")
    with open_lab(options.find_root(directory)) as ledger:
        chosen = ledger.campaign(campaign).id
        known = states(steps(ledger, chosen))
        found = list(ledger.trials(chosen, last=None if wanted or last == 0 else last))
        if wanted:
            found = [t for t in found if wanted in (t.status, outcome(t, known))]
            found = found[-last:] if last else found
        if as_json:
            options.emit([_trial_json(ledger, trial, known) for trial in found])
            return
    tell(table(found, known))


def table(found: list[Trial], known: Mapping[int, str]) -> list[str]:
    """The trials as lines that fit. `known`: the states of those that were promoted."""
    room = width() - 53  # what the first four columns leave
    lines = [
        (f"{'trial':<13}{'outcome':<17}{'score':<12}" + f"{'delta':<11}hypothesis" * (room > 0)).rstrip()
    ]
    for trial in found:
        word = outcome(trial, known)
        score = "-" if trial.score is None else f"{trial.score:.5g}"
        delta = "-" if trial.delta is None else f"{trial.delta:+.3g}"
        color = "green" if word in PROMOTED else MARKS.get(trial.status or "", "yellow")
        more = f"{delta:<11}{shortened(trial.hypothesis or trial.note, room)}" if room > 0 else ""
        lines.append(f"{trial.id:<13}" + click.style(f"{word:<17}", fg=color) + f"{score:<12}{more}".rstrip())
    return lines


def _trial_json(ledger: Ledger, trial: Trial, known: Mapping[int, str]) -> dict[str, Any]:
    record = dataclasses.asdict(trial)
    record["outcome"] = outcome(trial, known)
    record["parent"] = ledger.trial_id(trial.parent_trial) if trial.parent_trial else None
    if trial.proposal:
        record["proposal"]["edits"] = [edit.model_dump() for edit in trial.proposal.edits]
    return record


@click.command()
@options.directory
@click.argument("trial")
@options.as_json
def show(directory: Path, trial: str, as_json: bool) -> None:
    """Everything about one trial: a number, an id, or `master`."""
    with open_lab(options.find_root(directory)) as ledger:
        found = ledger.find_trial(trial)
        chain = steps(ledger, found.campaign)
        measured = [m for m in ledger.measurements(found.number) if not is_sealed(m)]
        children = [ledger.trial_id(number) for number in ledger.children(found.number)]
        if as_json:
            record = _trial_json(ledger, found, states(chain))
            record["measurements"] = [dataclasses.asdict(m) for m in measured]
            record["sealed_looks"] = [
                dataclasses.asdict(look)
                for look in looks(ledger, found.campaign)
                if look.trial == found.number
            ]
            options.emit({**record, "children": children, **_promotion_json(ledger, found, chain)})
            return
        lines = describe(ledger, found, chain, measured, children)
    tell(lines)


def _promotion_json(ledger: Ledger, trial: Trial, chain: list[Step]) -> dict[str, Any]:
    """What was learned of a promoted trial since: what it costs, and as the master how it stands; else nothing."""
    step = promotion_of(trial, chain)
    cost = price_of(ledger, step) if step else None
    record: dict[str, Any] = {"price": dataclasses.asdict(cost) if cost else None}
    if chain and chain[-1].trial.number == trial.number:
        record["standing"] = master_summary(ledger, chain)
    return record


@click.command()
@options.directory
@click.argument("trial")
@click.option("--against", default="parent", show_default=True, help="Another trial, or `baseline`.")
@options.as_json
def diff(directory: Path, trial: str, against: str, as_json: bool) -> None:
    """What a trial changed, as a unified diff."""
    with open_lab(options.find_root(directory)) as ledger:
        found = ledger.find_trial(trial)
        if against == "parent":
            other = found.parent_program
        elif against == "baseline":
            other = ledger.campaign(found.campaign).baseline
        else:
            other = ledger.find_trial(against).program
        if found.program is None:
            raise LabError(f"trial {found.id} has no program: {found.note}", mend="`autolab show` tells more")
        text = unified_diff(ledger.program(other) if other else {}, ledger.program(found.program))
        if as_json:
            options.emit({"trial": found.id, "against": other, "diff": text})
            return
    tell(list(for_terminal(text, width())) if on_a_terminal() else text.splitlines())


@click.command()
@options.directory
@options.campaign
@click.argument("trial", required=False)
@options.as_json
def lineage(directory: Path, campaign: str | None, trial: str | None, as_json: bool) -> None:
    """How the master came to be; with TRIAL, its ancestors and children."""
    with open_lab(options.find_root(directory)) as ledger:
        if trial is not None:
            found = ledger.find_trial(trial)
        else:
            found = ledger.trial(ledger.master(ledger.campaign(campaign).id).trial)
        changes = steps(ledger, found.campaign)
        known = states(changes)
        chain = ancestors(ledger, found)
        children = [ledger.trial(number) for number in ledger.children(found.number)]
        if as_json:
            options.emit(
                {
                    "chain": [_trial_json(ledger, t, known) for t in chain],
                    "children": [_trial_json(ledger, t, known) for t in children],
                    "demotions": [way_back(ledger, step) for step in changes if step.kind == "demotion"],
                }
            )
            return
        lines = ancestry.draw(ledger, chain, children, changes, known)
    tell(lines)


@click.command()
@options.directory
@options.campaign
@options.as_json
def master(directory: Path, campaign: str | None, as_json: bool) -> None:
    """The best confirmed program and the evidence for it."""
    root = options.find_root(directory)
    with open_lab(root) as ledger:
        chosen = ledger.campaign(campaign).id
        record = master_record(ledger, chosen, sealed=True)
        chain = steps(ledger, chosen)
        cost = next((price_of(ledger, s) for s in chain if s.promotion.program == record["program"]), None)
        if as_json:
            options.emit({**record, "price": dataclasses.asdict(cost) if cost else None})
            return
        seen = master_now(ledger, chosen, chain)
        lines = wrapped(
            "", f"{record['metric']['name']} {standing_text(seen)}, trial {seen.trial.id} ({chosen})", 0
        )
        lines += master_lines(ledger, seen, chain, 10)
        lines += wrapped("price", cost.text(), 10) if cost else []
        if record["sealed_looks"]["count"]:
            lines.append(f"sealed    {counted(record['sealed_looks']['count'], 'look')} at the sealed split")
        lines.append("the way, each change as it was when it was made")
        lines += [step_line(ledger, step) for step in chain]
        lines += [f"check it: {record['reproduce']}", "use it:   autolab adopt"]
    tell(lines)

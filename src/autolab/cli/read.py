"""Commands that only read the ledger. Each has --json."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from autolab.cli import options
from autolab.cli.described import describe, promotion_of
from autolab.cli.told import (
    counted,
    master_lines,
    over_baseline,
    price_of,
    score_text,
    shortened,
    standing_text,
    step_line,
    wrapped,
)
from autolab.errors import LabError
from autolab.lab import open_lab
from autolab.ledger.jobs import costs, count_jobs
from autolab.ledger.lineage import ancestors
from autolab.ledger.masters import (
    DEMOTED,
    Step,
    is_control,
    is_sealed,
    master_now,
    outcome,
    states,
    steps,
    way_back,
)
from autolab.ledger.observations import looks
from autolab.ledger.records import PROMOTED, Campaign, Status, Trial, Verdict
from autolab.ledger.store import Ledger
from autolab.ledger.views import cell, master_record, timestamp

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
        about_master = [] if as_json else _master_lines(ledger, summary)
    if as_json:
        options.emit(summary)
        return
    waiting = "under way" if summary["alive"] else "waiting"
    click.echo(
        f"{summary['campaign']}  {summary['state']}  {summary['trials']} trials finished, "
        f"{len(summary['running'])} {waiting}"
    )
    outcomes = ", ".join(f"{count} {name}" for name, count in summary["outcomes"].items())
    click.echo(f"outcomes  {outcomes or 'none yet'}")
    click.echo("\n".join(about_master))
    for item in summary["running"]:
        click.echo(f"{waiting:<9} {item['trial']}  {item['state']}  {item['hypothesis'][:50]}")
    jobs = summary["jobs"]
    if summary["cost_usd"] or jobs["all"]:
        click.echo(
            f"cost      ${summary['cost_usd']:.4f}, {jobs['all']} jobs"
            + (f", {jobs['unfinished']} not ended: ${summary['committed_usd']:.4f} more at most"
               if jobs["unfinished"] else "")
        )  # fmt: skip
    if summary["evidence"] == "self_reported":
        click.secho("scores are self-reported by the recipe: anything it prints counts", fg="red")
    if summary["sandbox"] == "none":
        where = "in the container: see docs/hub.md" if jobs["all"] else "see `autolab doctor`"
        click.secho(f"measured without a sandbox: {where}", fg="red")
    if summary["guidance"]:
        click.echo(f"guidance  {cell(summary['guidance'][-1])[:66]}")


def _master_lines(ledger: Ledger, summary: dict[str, Any]) -> list[str]:
    if summary["master"] is None:
        return [f"master    none: the baseline {summary['baseline']}"]
    chain = steps(ledger, summary["campaign"])
    seen = master_now(ledger, summary["campaign"], chain)
    made = summary["master"]
    text = f"{summary['metric']} {standing_text(seen)}, trial {seen.trial.id}, {moves(made)}"
    lines = wrapped("master", text, 10) + master_lines(ledger, seen, chain, 10)
    if made["sealed_looks"]:
        lines.append(f"sealed    {counted(made['sealed_looks'], 'look')} at the sealed split")
    if promising := summary["outcomes"].get(Verdict.PROVISIONAL):
        lines.append(
            f"promising {promising} not shown to be better: `autolab trials --status provisional`,"
            " `autolab confirm ID`"
        )
    return lines


def summarise(ledger: Ledger, campaign: Campaign, root: Path) -> dict[str, Any]:
    """What `status --json` says."""
    from autolab.campaign.lock import holder

    outcomes: dict[str, int] = {}
    for (state, verdict), count in sorted(ledger.count(campaign.id).items(), key=lambda item: -item[1]):
        outcomes[verdict or state] = outcomes.get(verdict or state, 0) + count
    chain = steps(ledger, campaign.id)
    known = states(chain)
    for trial in {step.trial.number: step.trial for step in chain}.values():
        before, now = str(trial.verdict or trial.status), outcome(trial, known)
        outcomes[before] = outcomes.get(before, 0) - 1
        outcomes[now] = outcomes.get(now, 0) + 1
    outcomes = {name: count for name, count in outcomes.items() if count > 0}
    seen = master_summary(ledger, chain) if chain else None
    state = campaign.state
    alive = holder(root) is not None
    if state in ("running", "paused", "stopping", "cancelling") and not alive:
        state = "interrupted; `autolab run` goes on"
    last = ledger.last_measurement(campaign.id)
    jobs, unfinished = count_jobs(ledger, campaign.id)
    spent, committed = costs(ledger, campaign.id)
    return {
        "campaign": campaign.id,
        "task": campaign.task,
        "comparability_key": campaign.key,
        "state": state,
        "alive": alive,
        "baseline": _baseline_text(ledger, campaign),
        "metric": campaign.config["task"]["metric"]["name"],
        "trials": sum(outcomes.values()),
        "outcomes": outcomes,
        "noise_sd": seen["noise_sd"] if seen else campaign.noise_sd,
        "noise_df": seen["noise_df"] if seen else None,
        "baseline_score": chain[0].promotion.score if chain else None,
        "master": seen,
        "running": [
            {"trial": t.id, "state": str(t.state), "hypothesis": cell(t.hypothesis)}
            for t in ledger.undone(campaign.id)
        ],
        "cost_usd": spent,
        "committed_usd": committed,
        "jobs": {"all": jobs, "unfinished": unfinished},
        "evidence": last.evidence if last else None,
        "sandbox": last.sandbox if last else None,
        "guidance": [text for _, text in ledger.guidance(campaign.id)],
    }


def master_summary(ledger: Ledger, chain: list[Step]) -> dict[str, Any]:
    """The master in brief, as it is seen now. Gains are positive when it is better: `gain` over what it replaced,
    `gain_total` over the baseline; `controls` are its measurements in turn with candidates."""
    campaign = chain[0].promotion.campaign
    seen = master_now(ledger, campaign, chain)
    total, total_low, total_high = over_baseline(ledger, seen, chain)
    return {
        "trial": seen.trial.id, "program": seen.promotion.program, "state": seen.state, "score": seen.score,
        "score_low": seen.low, "score_high": seen.high, "estimated_from": seen.runs,
        "replaced": seen.over.id if seen.over else None, "gain": seen.gain, "gain_low": seen.gain_low,
        "gain_high": seen.gain_high, "noise_sd": seen.noise_sd, "noise_df": seen.noise_df,
        "controls": sum(is_control(m) for m in ledger.measurements(seen.trial.number)),
        "sealed_looks": len(looks(ledger, campaign)),
        "promotions": sum(step.kind not in ("baseline", "demotion") for step in chain),
        "demotions": sum(step.kind == "demotion" for step in chain),
        "gain_total": total, "gain_total_low": total_low, "gain_total_high": total_high,
        "promoted_at": timestamp(seen.promotion.at),
    }  # fmt: skip


def _baseline_text(ledger: Ledger, campaign: Campaign) -> str:
    """What became of the baseline, after the words `the baseline`."""
    first = next(ledger.sequence(campaign.id), None)
    if first is None or first.status is None:
        return "is not measured yet"
    return "was measured" if first.status == "ok" else f"failed ({first.status}: {cell(first.note)[:60]})"


def moves(master: dict[str, Any]) -> str:
    """How often the master changed, of its summary: `2 promotions, 1 demotion`."""
    taken_back = f", {counted(master['demotions'], 'demotion')}" if master["demotions"] else ""
    return counted(master["promotions"], "promotion") + taken_back


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
        click.echo(table(found, known))


def table(found: list[Trial], known: Mapping[int, str]) -> str:
    """The trials as lines that fit 80 columns. `known`: the states of those that were promoted."""
    lines = [f"{'trial':<13}{'outcome':<15}{'score':<9}{'delta':<10}hypothesis"]
    for trial in found:
        word = outcome(trial, known)
        score = "-" if trial.score is None else f"{trial.score:.5g}"
        delta = "-" if trial.delta is None else f"{trial.delta:+.3g}"
        color = "green" if word in PROMOTED else MARKS.get(trial.status or "", "yellow")
        text = cell(trial.hypothesis or trial.note)
        text = text if len(text) <= 32 else text[:31] + "…"
        lines.append(
            f"{trial.id:<13}" + click.style(f"{word:<15}", fg=color) + f"{score:<9}{delta:<10}{text}"
        )
    return "\n".join(lines)


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
    click.echo("\n".join(lines))


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
    for line in text.splitlines():
        color = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        click.secho(line, fg=color)


def unified_diff(old: dict[str, str], new: dict[str, str]) -> str:
    """All files as one unified diff; control characters other than tab and line end are dropped."""
    pieces: list[str] = []
    for name in sorted({*old, *new}):
        a, b = old.get(name, "").splitlines(), new.get(name, "").splitlines()
        pieces += difflib.unified_diff(a, b, f"a/{name}", f"b/{name}", lineterm="")
    return "".join("".join(c for c in line if c == "\t" or c.isprintable()) + "\n" for line in pieces)


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
        in_force = changes[-1].trial.number if changes else None
        for depth, step in enumerate(chain):
            delta = f"  {step.delta:+.4g}" if step.delta else ""
            told = f"{score_text(step.score, step.score_low, step.score_high)}{delta}  {outcome(step, known)}"
            if step.number == in_force:
                told = standing_text(master_now(ledger, found.campaign, changes))
            head = f"{'  ' * min(depth, 20)}{step.id}  {told}  "
            click.echo(head + shortened(step.hypothesis, 100 - len(head)))
        for change in changes:
            if change.kind == "demotion":
                click.echo(shortened(way_back(ledger, change), 100))
        kinds: dict[str, int] = {}
        for child in children:
            kind = outcome(child, known)
            kinds[kind] = kinds.get(kind, 0) + 1
        if kinds:
            click.echo(f"{len(children)} children: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items()))


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
        click.echo(f"{record['metric']['name']} {standing_text(seen)}, trial {seen.trial.id}  ({chosen})")
        for line in master_lines(ledger, seen, chain, 10):
            click.echo(line)
        if cost:
            click.echo("\n".join(wrapped("price", cost.text(), 10)))
        if record["sealed_looks"]["count"]:
            click.echo(f"sealed    {counted(record['sealed_looks']['count'], 'look')} at the sealed split")
        click.echo("the way, each change as it was when it was made")
        for step in chain:
            click.echo(step_line(ledger, step))
        click.echo(f"check it: {record['reproduce']}    use it: autolab adopt")

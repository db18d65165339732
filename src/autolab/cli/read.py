"""Commands that only read the ledger. Each has --json."""

from __future__ import annotations

import dataclasses
import difflib
from pathlib import Path
from typing import Any

import click

from autolab.cli import options
from autolab.errors import LabError
from autolab.lab import open_lab
from autolab.ledger.jobs import costs, count_jobs
from autolab.ledger.records import Campaign, Measurement, Promotion, Status, Trial, Verdict
from autolab.ledger.store import Ledger
from autolab.ledger.views import cell, timestamp

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
    waiting = "under way" if summary["alive"] else "waiting"
    click.echo(
        f"{summary['campaign']}  {summary['state']}  {summary['trials']} trials finished, "
        f"{len(summary['running'])} {waiting}"
    )
    outcomes = ", ".join(f"{count} {name}" for name, count in summary["outcomes"].items())
    click.echo(f"outcomes  {outcomes or 'none yet'}")
    master = summary["master"]
    if master is None:
        click.echo(f"master    none: the baseline {summary['baseline']}")
    else:
        score = score_text(master["score"], master["score_low"], master["score_high"])
        click.echo(
            f"master    {summary['metric']} {score}  trial {master['trial']}, {promoted(master['promotions'])}"
        )
        click.echo(
            f"gain      {master['gain_total']:+.4g} over the baseline ({summary['baseline_score']:.6g})"
            + (f", noise {summary['noise_sd']:.2g} a run" if summary["noise_sd"] is not None else "")
        )
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


def summarise(ledger: Ledger, campaign: Campaign, root: Path) -> dict[str, Any]:
    """What `status --json` says."""
    from autolab.campaign.lock import holder

    outcomes: dict[str, int] = {}
    for (state, verdict), count in sorted(ledger.count(campaign.id).items(), key=lambda item: -item[1]):
        outcomes[verdict or state] = outcomes.get(verdict or state, 0) + count
    promotions = ledger.promotions(campaign.id)
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
        "noise_sd": campaign.noise_sd,
        "baseline_score": promotions[0].score if promotions else None,
        "master": master_summary(ledger, promotions, campaign) if promotions else None,
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


def master_summary(ledger: Ledger, promotions: list[Promotion], campaign: Campaign) -> dict[str, Any]:
    """The master in brief; `gain_total` is positive when it is better than the baseline."""
    first, last = promotions[0], promotions[-1]
    sign = 1 if campaign.config["task"]["metric"]["direction"] == "minimize" else -1
    return {
        "trial": ledger.trial_id(last.trial), "program": last.program, "score": last.score,
        "score_low": last.score_low, "score_high": last.score_high, "promotions": len(promotions) - 1,
        "gain_total": sign * (first.score - last.score), "promoted_at": timestamp(last.at),
    }  # fmt: skip


def _baseline_text(ledger: Ledger, campaign: Campaign) -> str:
    """What became of the baseline, after the words `the baseline`."""
    first = next(ledger.sequence(campaign.id), None)
    if first is None or first.status is None:
        return "is not measured yet"
    return "was measured" if first.status == "ok" else f"failed ({first.status}: {cell(first.note)[:60]})"


def promoted(promotions: int) -> str:
    """`1 promotion`, `2 promotions`."""
    return f"{promotions} promotion{'' if promotions == 1 else 's'}"


def score_text(score: float | None, low: float | None, high: float | None) -> str:
    """`2.2214 [2.19, 2.25]`, or a dash: a failed trial has no score."""
    if score is None:
        return "-"
    text = f"{score:.5g}"
    return text if low is None or high is None or low == high else f"{text} [{low:.4g}, {high:.4g}]"


@click.command()
@options.directory
@options.campaign
@click.option(
    "-n", "last", type=click.IntRange(min=0), default=20, show_default=True, help="How many; 0 for all."
)
@click.option("--status", "wanted", help="Only those with this status or verdict.")
@options.as_json
def trials(directory: Path, campaign: str | None, last: int, wanted: str | None, as_json: bool) -> None:
    """The finished trials, newest last."""
    known = [*Status, *Verdict]
    if wanted is not None and wanted not in known:
        raise LabError(f"there is no status {wanted!r}", mend=f"one of: {', '.join(known)}")
    with open_lab(options.find_root(directory)) as ledger:
        chosen = ledger.campaign(campaign).id
        found = list(ledger.trials(chosen, last=None if wanted or last == 0 else last))
        if wanted:
            found = [t for t in found if wanted in (t.status, t.verdict)]
            found = found[-last:] if last else found
        if as_json:
            options.emit([_trial_json(ledger, trial) for trial in found])
            return
        click.echo(table(found))


def table(found: list[Trial]) -> str:
    """The trials as lines that fit 80 columns."""
    lines = [f"{'trial':<13}{'outcome':<15}{'score':<9}{'delta':<10}hypothesis"]
    for trial in found:
        outcome = trial.verdict or trial.status or ""
        score = "-" if trial.score is None else f"{trial.score:.5g}"
        delta = "-" if trial.delta is None else f"{trial.delta:+.3g}"
        color = (
            "green"
            if trial.verdict in ("confirmed", "certified")
            else MARKS.get(trial.status or "", "yellow")
        )
        text = cell(trial.hypothesis or trial.note)
        text = text if len(text) <= 32 else text[:31] + "…"
        lines.append(
            f"{trial.id:<13}" + click.style(f"{outcome:<15}", fg=color) + f"{score:<9}{delta:<10}{text}"
        )
    return "\n".join(lines)


def _trial_json(ledger: Ledger, trial: Trial) -> dict[str, Any]:
    record = dataclasses.asdict(trial)
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
        measured = ledger.measurements(found.number)
        children = [ledger.trial_id(number) for number in ledger.children(found.number)]
        if as_json:
            record = _trial_json(ledger, found)
            record["measurements"] = [dataclasses.asdict(m) for m in measured]
            options.emit({**record, "children": children})
            return
        for line in _describe(ledger, found, measured, children):
            click.echo(line)


def _describe(ledger: Ledger, trial: Trial, measured: list[Measurement], children: list[str]) -> list[str]:
    parent = ledger.trial_id(trial.parent_trial) if trial.parent_trial else "-"
    outcome = " ".join(str(part) for part in (trial.status or trial.state, trial.verdict) if part)
    lines = [
        f"trial       {trial.id}  ({trial.campaign}, {timestamp(trial.created_at)})",
        f"outcome     {outcome}",
        f"score       {score_text(trial.score, trial.score_low, trial.score_high)}"
        + (f"  delta {trial.delta:+.4g}" if trial.delta is not None else ""),
        f"by          {trial.role} {trial.agent}".rstrip()
        + (f" on {trial.surface}" if trial.surface else ""),
        f"program     {trial.program or '-'}  parent {parent}",
        f"hypothesis  {cell(trial.hypothesis)}",
    ]
    if trial.note:
        lines.append(f"note        {cell(trial.note)}")
    if children:
        lines.append(
            f"children    {len(children)}: {' '.join(children[:8])}{' …' if len(children) > 8 else ''}"
        )
    for m in measured:
        state = m.status or "running"
        score = "" if m.score is None else f" {m.score:.6g}"
        lines.append(
            f"measured    {m.stage}: {state}{score}, seed {m.seed}, {m.train_cpu_seconds:.1f} CPU-s of"
            f" {m.train_seconds:.1f} s, {m.tokens} tokens, {m.peak_memory_mb:.0f} MB"
        )
        others = {k: v for k, v in m.metrics.items() if v != m.score}
        if others:
            lines.append("            " + ", ".join(f"{k} {v:.5g}" for k, v in others.items()))
        if m.cause:
            lines.append(f"            {cell(m.cause)}")
        if m.evidence == "self_reported":
            lines.append(click.style("            self-reported by the recipe", fg="red"))
        if m.sandbox == "none":
            lines.append(click.style("            without a sandbox", fg="red"))
        if m.status != "ok" and m.log_excerpt:
            lines += ["            | " + line for line in m.log_excerpt.splitlines()[-12:]]
    return lines


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
        chain = [found]
        while chain[0].parent_trial is not None:
            chain.insert(0, ledger.trial(chain[0].parent_trial))
        children = [ledger.trial(number) for number in ledger.children(found.number)]
        if as_json:
            options.emit(
                {
                    "chain": [_trial_json(ledger, t) for t in chain],
                    "children": [_trial_json(ledger, t) for t in children],
                }
            )
            return
        for depth, step in enumerate(chain):
            outcome = step.verdict or step.status or step.state
            delta = "" if not step.delta else f" {step.delta:+.4g}"
            score = "-" if step.score is None else f"{step.score:.5g}"
            click.echo(f"{'  ' * depth}{step.id}  {score}{delta}  {outcome}  {cell(step.hypothesis)[:60]}")
        kinds: dict[str, int] = {}
        for child in children:
            kind = child.verdict or child.status or child.state
            kinds[kind] = kinds.get(kind, 0) + 1
        if kinds:
            click.echo(f"{len(children)} children: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items()))


@click.command()
@options.directory
@options.campaign
@options.as_json
def master(directory: Path, campaign: str | None, as_json: bool) -> None:
    """The best confirmed program and the evidence for it."""
    from autolab.ledger.views import master_record

    root = options.find_root(directory)
    with open_lab(root) as ledger:
        record = master_record(ledger, ledger.campaign(campaign).id)
        if as_json:
            options.emit(record)
            return
        low, high = record["score_ci"]
        click.echo(
            f"{record['metric']['name']} {score_text(record['score'], low, high)}  trial {record['trial']}"
            f"  ({record['campaign']})"
        )
        for step in record["chain"]:
            click.echo(
                f"  {step['trial']}  {step['score']:.5g}  {step['gain']:+.4g}  {cell(step['hypothesis'])[:54]}"
            )
        click.echo(f"check it: {record['reproduce']}    use it: autolab adopt")

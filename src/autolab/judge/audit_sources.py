"""What the audit judges: a table of somebody's loop, or a campaign of the ledger, as the same list of entries."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from autolab.judge.audit import Entry
from autolab.judge.error_budget import LEVEL
from autolab.judge.promotion import TARGET, Criterion
from autolab.ledger.imports.imported import ImportedCampaign, Problem
from autolab.ledger.masters import sign
from autolab.ledger.observations import AGAIN, CONTROL, UNSEEN
from autolab.ledger.records import Campaign, Measurement, Observation, Promotion, Trial
from autolab.ledger.store import Ledger

NO_HOSTS = "No hosts are named: if there were several, repeats on one of them tell too little."


@dataclass(frozen=True)
class Source:
    """A campaign to audit. `rows`: of the table that it was read from, None for the ledger. `notes`: what a reader must
    know of how it was read."""

    name: str
    format: str
    metric: str
    direction: str
    criterion: Criterion
    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...] = ()
    rows: int | None = None
    notes: tuple[str, ...] = ()


def from_table(campaign: ImportedCampaign, level: float | None = None) -> Source:
    """An imported campaign. Where a table names one host for some rows and none for others, it is taken to be that of
    all; where it names several, what was measured on an unnamed one is left out."""
    named = {trial.host for trial in campaign.trials if trial.host and trial.score is not None}
    only = next(iter(named)) if len(named) == 1 else ""
    left_out = 0
    entries: list[Entry] = []
    for trial in campaign.trials:
        host = trial.host or only
        counts = trial.score is not None and (bool(host) or not named)
        left_out += trial.score is not None and not counts
        seen = (Observation(trial.program, host, trial.score or 0.0, trial.order),) if counts else ()
        entries.append(
            Entry(trial.id, trial.order, trial.program, seen, trial.promoted, trial.description, trial.score)
        )
    notes = []
    if not named:
        notes.append(NO_HOSTS)
    if left_out:
        notes.append(f"{left_out} scores are of rows that name no host, where others do, and are left out.")
    if campaign.format == "autolab":
        notes.append(
            "These scores are a lab's own estimates; `autolab audit` in the lab has every measurement."
        )
    sign = 1.0 if campaign.direction == "maximize" else -1.0
    return Source(
        campaign.source,
        campaign.format,
        campaign.metric,
        campaign.direction,
        Criterion(sign, level=LEVEL if level is None else level),
        tuple(entries),
        campaign.problems,
        campaign.rows,
        tuple(notes),
    )


def from_ledger(ledger: Ledger, campaign: Campaign, level: float | None = None) -> Source:
    """A campaign of this lab, or one that was pulled: every measurement that was made to judge, and all promotions.
    What was published of a campaign may leave out hosts, and measurements of the master for its candidates."""
    task = campaign.config["task"]
    metric, rule = task["metric"], task.get("promotion") or {}
    promotions = ledger.promotions(campaign.id)
    promoted, withdrawn = _claims(promotions)
    trials = list(ledger.sequence(campaign.id))
    opened = [trial.created_at for trial in trials]
    measured = {trial.number: found for trial, found in ledger.outcomes([t.number for t in trials])}
    known = {one.id for found in measured.values() for one in found}
    entries = []
    for trial in trials:
        step = promoted.get(trial.number)
        seen = tuple(
            Observation(trial.program or "", one.host, one.score, _at(one, trial, opened), one.stage)
            for one in measured[trial.number]
            if one.score is not None and not one.stage.startswith(UNSEEN) and one.cached_from not in known
        )
        entries.append(
            Entry(
                trial.id,
                trial.ordinal,
                trial.program or "",
                seen,
                step is not None,
                trial.hypothesis,
                trial.score if step is None else step.score,
                simpler=step is not None and step.kind == "simplification",
                withdrawn=trial.number in withdrawn,
            )
        )
    criterion = Criterion(
        sign(campaign),
        metric.get("min_effect") or 0.0,
        metric.get("deterministic") or False,
        rule.get("level", LEVEL) if level is None else level,
        rule.get("target", TARGET),
    )
    nameless = not any(one.host for entry in entries for one in entry.observations)
    return Source(
        campaign.id,
        "ledger",
        metric["name"],
        "maximize" if criterion.sign > 0 else "minimize",
        criterion,
        tuple(entries),
        notes=(NO_HOSTS,) if nameless else (),
    )


def _claims(promotions: Sequence[Promotion]) -> tuple[dict[int, Promotion], set[int]]:
    """(the first promotion of each trial, the trials whose promotion was taken back): a program that becomes master
    again takes back those that came after it."""
    promoted: dict[int, Promotion] = {}
    withdrawn: set[int] = set()
    chain: list[Promotion] = []
    for step in promotions:
        before = next((place for place, one in enumerate(chain) if one.program == step.program), None)
        if before is None:
            promoted.setdefault(step.trial, step)
            withdrawn.discard(step.trial)
            chain.append(step)
        else:
            withdrawn.update(one.trial for one in chain[before + 1 :])
            del chain[before + 1 :]
    return promoted, withdrawn


def _at(measurement: Measurement, trial: Trial, opened: Sequence[float]) -> int:
    """For which trial's sake it was measured: its ordinal."""
    stage = measurement.stage
    if stage.startswith(CONTROL) and stage.removeprefix(CONTROL).isdecimal():
        return int(stage.removeprefix(CONTROL))
    if stage.startswith(AGAIN):
        return max(trial.ordinal, bisect.bisect_right(opened, measurement.started_at) - 1)
    return trial.ordinal

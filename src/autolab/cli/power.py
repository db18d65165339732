"""`autolab power`: how many runs an effect needs."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autolab.cli import options
from autolab.errors import LabError
from autolab.report.overview.words import counted

if TYPE_CHECKING:
    from autolab.judge.noise import Noise
    from autolab.judge.power import Cost, Outlook
    from autolab.judge.promotion import Criterion

MULTIPLES = (0.5, 1.0, 2.0, 4.0)  # SDs, if no effect is asked for
FEWER = 100  # simulated trials for each of them
STATED_DF = 30  # degrees of freedom of an SD that the user states

UNKNOWN = {
    "unknown": ("the noise is unknown: nothing was measured twice on one host",
                "wait for the baseline's replicates, or say --noise-sd"),
    "silent": ("every run of the same program gave the same digits, so there is no noise to reckon with",
               "`autolab noise` says what to check; or say --noise-sd"),
}  # fmt: skip


@dataclass(frozen=True)
class _Setting:
    """What is simulated: the rule, the noise, and the master's runs on one host by the trial they were made for."""

    criterion: Criterion
    noise: Noise
    master: list[int]
    ordinal: int
    metric: str


@click.command()
@options.directory
@options.campaign
@click.option("--effect", type=float, help="A gain in the metric's unit (default: a table of 0.5 to 4 SD).")
@click.option("--noise-sd", type=float, help="SD of one run, instead of the campaign's; needs no lab.")
@click.option(
    "--level", type=float, help="False promotions that a campaign may expect (default: the task's)."
)
@options.as_json
def power(
    directory: Path,
    campaign: str | None,
    effect: float | None,
    noise_sd: float | None,
    level: float | None,
    as_json: bool,
) -> None:
    """How many runs would I need? The promotion rule is played on simulated trials of known effect."""
    from autolab.judge.power import TRIALS, outlook, runs_per_arm

    _check("--effect", effect, math.inf)
    _check("--noise-sd", noise_sd, math.inf)
    _check("--level", level, 1)
    here = _of_campaign(directory, campaign) if noise_sd is None else _stated(noise_sd)
    if level is not None:
        here = dataclasses.replace(here, criterion=dataclasses.replace(here.criterion, level=level))
    sd = here.noise.sd
    effects = [effect] if effect is not None else [multiple * sd for multiple in MULTIPLES]
    trials = TRIALS if effect is not None else FEWER
    nothing, *found = [
        outlook(here.criterion, here.noise, here.master, here.ordinal, gain, trials)
        for gain in (0.0, *effects)
    ]
    groups = [runs_per_arm(gain, sd) for gain in effects]
    if as_json:
        options.emit(_record(here, nothing, found, groups, trials))
        return
    for line in _intro(here, trials):
        click.echo(line)
    if effect is None:
        click.echo(_table(here, nothing, found, groups))
    else:
        click.echo("\n".join(_one(here, nothing, found[0], groups[0])))


def _check(name: str, value: float | None, most: float) -> None:
    if value is not None and not (0 < value <= most and math.isfinite(value)):
        wanted = "a number above 0" if most == math.inf else f"a number above 0, up to {most:g}"
        raise LabError(f"{name} {value} makes no sense", mend=wanted)


def _stated(sd: float) -> _Setting:
    from autolab.judge.noise import Noise
    from autolab.judge.promotion import BASELINE_REPLICATES, Criterion

    return _Setting(
        Criterion(sign=-1.0), Noise("known", sd, STATED_DF), [0] * BASELINE_REPLICATES, 1, "the metric"
    )


def _of_campaign(directory: Path, campaign: str | None) -> _Setting:
    from collections import Counter

    from autolab.judging.course import criterion, noise_now
    from autolab.lab import attach, open_lab
    from autolab.ledger.masters import compared_by
    from autolab.ledger.observations import newest_ordinal

    root = options.find_root(directory)
    with open_lab(root) as ledger:
        lab = attach(root, ledger, ledger.campaign(campaign))
        name, rule = lab.campaign.id, criterion(lab)
        ordinal = newest_ordinal(ledger, name) + 1
        noise = noise_now(lab, ordinal)
        if noise.state == "known" and rule.deterministic:
            raise LabError(
                "the task says `metric.deterministic: true`, yet runs of one program differ: nothing is promoted",
                where=name, mend="remove it from task.yaml, and begin a new campaign",
            )  # fmt: skip
        if noise.state != "known":
            what, mend = UNKNOWN[noise.state]
            if rule.deterministic:
                what, mend = (
                    "the task says that it has no noise, so two runs decide",
                    "say --noise-sd if it has",
                )
            raise LabError(what, where=name, mend=mend)
        master = ledger.master(name)
        seen = compared_by(ledger, master)
        if not seen:
            raise LabError(
                "the master has no scored run", where=name, mend="`autolab show master` tells more"
            )
        busiest = Counter(one.host for one in seen).most_common(1)[0][0]
        runs = sorted(one.at for one in seen if one.host == busiest)
        return _Setting(rule, noise, runs, ordinal, lab.task.metric.name)


# in words ---------------------------------------------------------------------------------------------


def _intro(here: _Setting, trials: int) -> list[str]:
    from autolab.judge.power import sd_bounds

    low, high = sd_bounds(here.noise.sd, here.noise.df)
    known = f"95 %: {low:.2g} … {high:.2g}"
    lines = [
        f"noise     {here.metric} scatters by {here.noise.sd:.3g} from run to run (SD, {known})",
        f"trial     {trials} simulated ones, as the campaign's number {here.ordinal},"
        f" level {here.criterion.level:g}; the master has {counted(len(here.master), 'run')}",
    ]
    if here.noise.df < 8:
        lines.append("          rough: the SD is known from few runs, and every figure below follows from it")
    return lines


def _one(here: _Setting, nothing: Outlook, found: Outlook, groups: int) -> list[str]:
    lines = [
        f"effect    {found.effect:.4g}, which is {found.effect / here.noise.sd:.2g} SD of one run",
        f"found     {found.found:.0%} of such trials are promoted",
        f"runs      {_told(found.runs, 'of the candidate')}; those for the report included",
        f"master    {_told(found.controls, 'of the master')}",
        f"nothing   a change that does nothing takes {nothing.runs.mean:.1f} of its own,"
        f" {nothing.controls.mean:.1f} of the master",
        f"groups    a single t-test needs {groups} runs of each on one host (80 % power, 5 % one-sided)",
    ]
    if found.effect <= here.criterion.min_effect:
        lines.insert(
            2, f"          no difference by the task's own word: min_effect is {here.criterion.min_effect:g}"
        )
    return lines


def _told(cost: Cost, whose: str) -> str:
    return f"{cost.mean:.1f} {whose} on average, nine times in ten {cost.most} or fewer"


def _table(here: _Setting, nothing: Outlook, found: list[Outlook], groups: list[int]) -> str:
    lines = [
        f"{'':<18}{'':>7}   {'candidate':>14}   {'master':>14}   {'groups':>6}",
        f"{'effect':>10}{'SD':>8}{'found':>7}   {'mean':>6}{'9 in 10':>8}   {'mean':>6}{'9 in 10':>8}   {'each':>6}",
    ]
    for row, each in zip((nothing, *found), ("-", *map(str, groups)), strict=True):
        lines.append(
            f"{row.effect:>10.3g}{row.effect / here.noise.sd:>8.2g}{row.found:>7.0%}"
            f"   {row.runs.mean:>6.1f}{row.runs.most:>8}   {row.controls.mean:>6.1f}{row.controls.most:>8}   {each:>6}"
        )
    lines.append(
        "candidate, master: runs a trial. groups: runs of each for one t-test (80 % power, 5 % one-sided)."
    )
    return "\n".join(lines)


def _record(
    here: _Setting, nothing: Outlook, found: list[Outlook], groups: list[int], trials: int
) -> dict[str, Any]:
    return {
        "noise_sd": here.noise.sd, "noise_df": here.noise.df, "level": here.criterion.level,
        "min_effect": here.criterion.min_effect, "ordinal": here.ordinal, "master_runs": len(here.master),
        "simulated": trials, "no_effect": dataclasses.asdict(nothing),
        "effects": [
            {**dataclasses.asdict(row), "in_sd": row.effect / here.noise.sd, "runs_per_arm": each}
            for row, each in zip(found, groups, strict=True)
        ],
    }  # fmt: skip

"""`autolab noise`: how much scores scatter, in words and a picture."""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autolab.cli import options
from autolab.ledger.views import cell

if TYPE_CHECKING:
    from autolab.judge.noise import Noise
    from autolab.judge.promotion import Criterion
    from autolab.ledger.records import Observation

ONE_SIDED = 1.645  # SDs that a normal score passes one time in twenty
HEAVY = 1.0  # excess kurtosis from which tails are called heavy


@click.command()
@options.directory
@options.campaign
@options.as_json
def noise(directory: Path, campaign: str | None, as_json: bool) -> None:
    """How much runs of the same code scatter, what that hides, and a picture of it in results/<campaign>/."""
    from autolab.judging.course import criterion, noise_now
    from autolab.lab import attach, open_lab
    from autolab.ledger.observations import newest_ordinal, noise_sample, observations

    root = options.find_root(directory)
    with open_lab(root) as ledger:
        lab = attach(root, ledger, ledger.campaign(campaign))
        name, metric, rule = lab.campaign.id, lab.task.metric.name, criterion(lab)
        until = newest_ordinal(ledger, name)
        known, sample = noise_now(lab, until), noise_sample(ledger, lab.campaign, until)
        promoted = ledger.newest_promotion(name)
        master = observations(ledger, name, promoted.program if promoted else lab.campaign.baseline)
    on_one_host = Counter(one.host for one in master).most_common(1)
    record = summarise(known, sample, rule, on_one_host[0][1] if on_one_host else 0)
    if as_json:
        options.emit({"campaign": name, "metric": metric, **record})
        return
    for line in describe(metric, known, record):
        click.echo(line)
    if importlib.util.find_spec("matplotlib") is None:
        click.echo("picture   none: pip install 'autolab[figures]'")
    elif sample:
        from autolab.report.noise_picture import draw_noise

        path = root / "results" / name / "noise.png"
        draw_noise(known, sample, master, metric, path)
        click.echo(f"picture   {path.relative_to(root)}")


def summarise(
    known: Noise, sample: Sequence[Observation], rule: Criterion, master_runs: int
) -> dict[str, Any]:
    """What `noise --json` says; `master_runs`: of the master on one host. What only known noise tells is None else."""
    from autolab.judge.noise import replicates
    from autolab.judge.power import REPEATABILITY, sd_bounds

    groups = [runs for by_host in replicates(sample).values() for runs in by_host]
    there = known.state == "known"
    low, high = sd_bounds(known.sd, known.df) if there else (None, None)
    beside = math.sqrt(1 + 1 / master_runs) if master_runs else None
    return {
        "state": known.state, "deterministic": rule.deterministic,
        "sd": known.sd if there else None, "sd_low": low, "sd_high": high, "df": known.df,
        "runs": len(sample), "replicates": sum(map(len, groups)),
        "programs": known.programs,
        "two_runs_differ": REPEATABILITY * known.sd if there else None,
        "one_run_shows": ONE_SIDED * known.sd * beside if there and beside else None, "master_runs": master_runs,
        "looks_for": rule.min_effect + rule.target * max(known.yardstick, known.sd) if there else None,
        "target": rule.target, "min_effect": rule.min_effect, "level": rule.level, "tails": known.tails,
        "over_hosts": known.total if there else None,
        "hosts": [
            {"host": host, "runs": one.runs, "sd": one.sd if one.df else None, "df": one.df, "offset": one.offset}
            for host, one in known.hosts.items()
        ],
    }  # fmt: skip


def describe(metric: str, known: Noise, record: dict[str, Any]) -> list[str]:
    """The noise in words, from what `summarise` says."""
    if known.state == "unknown":
        lines = _unknown(record)
    elif known.state == "silent":
        lines = _silent(metric, record)
    else:
        lines = _known(metric, record)
    return lines + _hosts(record)


def _unknown(record: dict[str, Any]) -> list[str]:
    if record["deterministic"]:
        return ["noise     none, by the task's own word; nothing was measured twice on one host"]
    lines = [f"noise     unknown: {_runs(record['runs'])}, none of them of the same program on the same host"]
    if len(record["hosts"]) > 1:
        lines.append("          every run landed on another host; what never meets there cannot be compared")
    return [*lines, "means     nothing is promoted until a program has been measured twice on one host"]


def _silent(metric: str, record: dict[str, Any]) -> list[str]:
    seen = f"{_runs(record['replicates'])} of {_programs(record['programs'])} gave the same digits each time"
    if record["deterministic"]:
        return [f"noise     none, as the task says: {seen}"]
    return [
        f"noise     none was seen, which is not to know it: {seen}",
        f"check     does the recipe use AUTOLAB_SEED? does {metric} have enough digits? is it at its best value?",
        "means     nothing is promoted; if there is no noise, task.yaml says so with `metric.deterministic: true`",
    ]


def _known(metric: str, record: dict[str, Any]) -> list[str]:
    lines = [
        f"noise     {metric} scatters by {record['sd']:.3g} from run to run on one host"
        f" (SD, 95 %: {record['sd_low']:.2g} … {record['sd_high']:.2g})",
        f"learned   from {_runs(record['replicates'])} of {_programs(record['programs'])} measured more than once,"
        f" {record['df']} degrees of freedom",
        f"means     two runs of the same code differ by more than {record['two_runs_differ']:.2g}"
        " one time in twenty",
    ]
    if record["one_run_shows"] is not None:
        lines.append(
            f"          one run beside {record['master_runs']} of the master shows a gain of"
            f" {record['one_run_shows']:.2g} or more (5 % one-sided)"
        )
    lines.append(
        f"          the lab looks for gains of {record['looks_for']:.2g} (target {record['target']:g} SD, min_effect"
        f" {record['min_effect']:g}); smaller ones less often"
    )
    tails = record["tails"]
    if tails is not None:
        kind = "heavy: wild runs are common" if tails > HEAVY else "as of a normal distribution, roughly"
        lines.append(f"tails     {kind} (excess kurtosis {tails:+.1f})")
    if record["deterministic"]:
        lines.append(
            click.style(
                "          the task says `metric.deterministic: true`, which is wrong: nothing is promoted",
                fg="red",
            )
        )
    return lines


def _hosts(record: dict[str, Any]) -> list[str]:
    hosts = record["hosts"]
    if not hosts:
        return []
    lines = [f"{'host':<32}{'runs':>6}{'SD':>11}{'level':>11}"]
    for one in hosts:
        sd = "-" if one["sd"] is None else f"{one['sd']:.3g}"
        level = "-" if one["offset"] is None else f"{one['offset']:+.3g}"
        lines.append(f"{cell(one['host'])[:31] or '-':<32}{one['runs']:>6}{sd:>11}{level:>11}")
    if len(hosts) > 1 and record["over_hosts"] is not None:
        lines.append(
            f"over all hosts the SD is {record['over_hosts']:.3g}; programs are compared within a host only"
        )
    return lines


def _runs(count: int) -> str:
    return "no run" if count == 0 else f"{count} run" if count == 1 else f"{count} runs"


def _programs(count: int) -> str:
    return "1 program" if count == 1 else f"{count} programs"

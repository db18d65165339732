"""`autolab audit`: which promotions of a campaign would stand, given its noise."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autolab.cli import options
from autolab.errors import LabError

if TYPE_CHECKING:
    from autolab.judge.audit import Audit, AuditedPromotion
    from autolab.judge.audit_sources import Source
    from autolab.judge.noise import Noise

MOST = 30  # promotions in the table,
FEW = 5  # problems and
OPEN = 8  # open promotions that are named; --json has all
COLORS = {"stands": "green", "contradicted": "red", "withdrawn": "bright_black"}
LEAST_SD, MOST_SD = 1e-30, 1e50


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@options.directory
@click.option("--campaign", help="Another campaign than the newest, or which one of our own tables.")
@click.option("--metric", help="The table's column of the score.")
@click.option("--direction", type=click.Choice(["minimize", "maximize"]), help="Which way is better.")
@click.option("--repeats", metavar="REGEX", help="Rows whose description it matches ran the same code.")
@click.option("--noise-sd", type=float, help="SD of one run on one host, where the table has no repeats.")
@click.option(
    "--level",
    type=click.FloatRange(0, 1, min_open=True),
    help="False promotions that a campaign may expect (default: the task's, or 0.05).",
)
@options.as_json
def audit(
    path: Path | None,
    directory: Path,
    campaign: str | None,
    metric: str | None,
    direction: str | None,
    repeats: str | None,
    noise_sd: float | None,
    level: float | None,
    as_json: bool,
) -> None:
    """Re-judge a campaign: which of its promotions stand, given its noise?

    PATH is a table that another loop left (results.tsv, tree.tsv, dag.json), or a directory with one; without it, this
    lab's newest campaign is judged.
    """
    from autolab.judge.audit import audit as judge

    if noise_sd is not None and not LEAST_SD <= noise_sd <= MOST_SD:
        raise LabError(f"--noise-sd {noise_sd:g} is no standard deviation", mend="a number above 0")
    if path is not None:
        source = _table(path, campaign, metric, direction, repeats, level)
    elif metric or direction or repeats:
        raise LabError("--metric, --direction and --repeats are for tables", mend="autolab audit PATH …")
    else:
        source = _own(directory, campaign, level)
    found = judge(source.entries, source.criterion, noise_sd)
    if as_json:
        options.emit(_json(source, found))
        return
    for line in _lines(source, found):
        click.echo(line)


def _table(
    path: Path,
    campaign: str | None,
    metric: str | None,
    direction: str | None,
    repeats: str | None,
    level: float | None,
) -> Source:
    from autolab.judge.audit_sources import from_table
    from autolab.ledger.imports.reading import group_repeats, read_results

    table = read_results(path, metric=metric, direction=direction, campaign=campaign)
    return from_table(group_repeats(table, repeats) if repeats is not None else table, level)


def _own(directory: Path, campaign: str | None, level: float | None) -> Source:
    from autolab.judge.audit_sources import from_ledger
    from autolab.lab import open_lab

    with open_lab(options.find_root(directory)) as ledger:
        return from_ledger(ledger, ledger.campaign(campaign), level)


def headline(found: Audit) -> str:
    """The answer in one sentence."""
    claims = [verdict for verdict in found.verdicts if verdict.outcome != "withdrawn"]
    if found.baseline is None:
        return "Nothing can be judged: no promoted trial has a score."
    if not claims:
        return "Nothing was promoted after the baseline."
    of = f"{len(claims)} promotion{'' if len(claims) == 1 else 's'}"
    stands = found.count("stands")
    kinds = (
        (found.count("contradicted"), "contradicted by repeats"),
        (found.count("not shown"), "not shown"),
        (found.count("no comparison"), "never measured on a host where the master was"),
        (found.count("no score"), "without a score"),
        (found.count("withdrawn"), "more withdrawn by the loop itself"),
    )
    rest = "".join(f"; {count} {what}" for count, what in kinds if count)
    return f"{stands or 'None'} of {of} stand{'s' if stands == 1 or len(claims) == 1 else ''}{rest}."


def noise_sentence(found: Audit) -> str:
    """What the verdicts rest on."""
    noise = found.noise
    if found.given:
        return f"SD {noise.sd:.3g} a run, as --noise-sd says"
    if noise.state == "unknown":
        return "unknown: no program was measured twice on one host, so no gain can be told from luck"
    if noise.state == "silent":
        return "unknown: repeats have the same digits (copies? a seed that is not used?)"
    hosts = _hosts(noise)
    where = f" on {len(hosts)} hosts ({', '.join(hosts)})" if len(hosts) > 1 else ""
    programs = f"{found.repeated} program{'' if found.repeated == 1 else 's'}"
    text = f"SD {noise.sd:.3g} a run, from {noise.df} repeats of {programs}{where}"
    if noise.tails is not None and noise.tails < -1:
        text += "; they fall into clusters, as from different hosts"
    elif noise.tails is not None and noise.tails > 3:
        text += "; with outliers"
    if found.copies:
        text += f"; {found.copies} whose runs have the same digits left out, as copies"
    return text


def _hosts(noise: Noise) -> list[str]:
    return [host or "unnamed" for host in noise.hosts]


def _lines(source: Source, found: Audit) -> Iterator[str]:
    yield click.style(headline(found), bold=True)
    better = "lower" if source.direction == "minimize" else "higher"
    rows = "" if source.rows is None else f"{source.rows} rows, "
    yield f"{'source':<10}{source.name} ({source.format}): {source.metric}, {better} is better"
    yield f"{'':<10}{rows}{found.trials} trials, {found.scored} with a score, {len(source.problems)} problems"
    yield f"{'noise':<10}{noise_sentence(found)}"
    luck = f"of {found.scored} equal trials, “keep what is better” promotes {found.expected_by_luck:.1f}"
    if found.luckiest_gain is not None:
        luck += f" and claims a gain of {found.luckiest_gain:.3g}"
    yield f"{'luck':<10}{luck}"
    if found.claimed_gain is not None and found.verdicts:
        stands = "nothing" if found.master == found.baseline else _signed(found.standing_gain)
        if found.standing_gain is None:
            stands = "how much is not known"
        yield f"{'gain':<10}{_signed(found.claimed_gain)} over the baseline is claimed; {stands} stands"
    if found.verdicts:
        yield ""
        yield from _verdicts(found)
    yield from _open(found)
    if source.problems or source.notes:
        yield ""
    yield from source.notes
    for problem in source.problems[:FEW]:
        where = f"line {problem.line}" if problem.line else "the table"
        yield click.style(f"{where} {problem.text}", fg="yellow")
    if len(source.problems) > FEW:
        yield f"… and {len(source.problems) - FEW} more problems (--json has all)"


def _verdicts(found: Audit) -> Iterator[str]:
    yield f"{'trial':<14}{'claimed':<10}{'gain':<11}{'measured':<21}{'outcome':<15}change"
    shown = found.verdicts[-MOST:]
    if len(shown) < len(found.verdicts):
        yield f"… {len(found.verdicts) - len(shown)} earlier ones (--json has all)"
    for verdict in shown:
        score = "-" if verdict.claimed_score is None else f"{verdict.claimed_score:.6g}"
        gain = _measured(verdict, found.noise)
        color = COLORS.get(verdict.outcome, "yellow")
        yield (
            f"{_short(verdict.id, 13):<14}{score:<10}{_signed(verdict.claimed_gain):<11}{gain:<21}"
            + click.style(f"{verdict.outcome:<15}", fg=color)
            + _short(verdict.description, 28)
        ).rstrip()


def _open(found: Audit) -> Iterator[str]:
    """What speaks against the promotions that do not stand, and what would settle them."""
    chosen = [verdict for verdict in found.verdicts if verdict.outcome not in ("stands", "withdrawn")]
    if not chosen or found.baseline is None:
        return
    yield ""
    if not found.given and found.noise.state != "known":
        yield f"To settle them: measure {_short(found.baseline, 13)} and the last master 3 times each with fresh seeds,"
        yield "and add the rows; or say --noise-sd, or with --repeats which rows ran the same code."
        return
    yield "What speaks against the others, and what would settle them if the gains are as large as they look:"
    chosen.sort(key=lambda verdict: -(verdict.gain or 0.0))
    for verdict in chosen[:OPEN]:
        text = f"  {_short(verdict.id, 13):<14}{verdict.note}"
        if verdict.log_evidence is not None and verdict.needed is not None:
            text += f" (evidence {_odds(verdict.log_evidence)}, needed {_odds(verdict.needed)})"
        yield text
    if len(chosen) > OPEN:
        yield f"  … and {len(chosen) - OPEN} more (--json has all)"


def _measured(verdict: AuditedPromotion, noise: Noise) -> str:
    """The gain over the master that stands, with its 95 % interval."""
    from autolab.judge.evidence import student

    if verdict.gain is None or verdict.se is None:
        return _signed(verdict.gain)
    return f"{_signed(verdict.gain)} ± {student(0.975, noise.df) * verdict.se:.2g}"


def _odds(log_ratio: float) -> str:
    """A log likelihood ratio for people: 5,200:1, 1:30."""
    times = f"{math.exp(abs(log_ratio)):,.0f}" if abs(log_ratio) < 14 else "over 1,000,000"
    return f"{times}:1" if log_ratio >= 0 else f"1:{times}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3g}"


def _short(text: str, most: int) -> str:
    from autolab.ledger.views import cell

    text = cell(text)
    return text if len(text) <= most else text[: most - 1] + "…"


def _json(source: Source, found: Audit) -> dict[str, Any]:
    """Everything, with evidence as natural logarithms; what is not finite is null."""
    record = {
        "headline": headline(found),
        "source": source.name,
        "format": source.format,
        "metric": source.metric,
        "direction": source.direction,
        "rows": source.rows,
        "level": source.criterion.level,
        "min_effect": source.criterion.min_effect,
        "notes": list(source.notes),
        "problems": [dataclasses.asdict(problem) for problem in source.problems],
        **dataclasses.asdict(found),
    }
    cleaned: dict[str, Any] = _finite(record)
    return cleaned


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

"""`autolab study`: ways of searching side by side, with several seeds each, at an equal budget."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autolab.cli import options
from autolab.errors import LabError

if TYPE_CHECKING:
    from autolab.campaign.study import Study
    from autolab.report.study import Outcome

KEYS = ("harness", "collaboration", "archive", "lineage", "generic", "model", "agents")
PLAIN = ("harness", "collaboration", "archive")  # keys whose values say by themselves what they are
OWN = (
    "directory",
    "trials",
    "hours",
    "max_usd",
    "seed",
    "new",
    "dry_run",
    "as_json",
)  # parameters that a study sets
STOPS = ("patience",)  # parameters that end a campaign before its budget is spent
ARM = "collaboration=team,lineage=off"


@click.command()
@options.directory
@click.option(
    "--arm", "said_arms", multiple=True, metavar="KEY=VALUE,…", help=f"One arm, as {ARM}; repeat it."
)
@click.option(
    "--vary",
    "varied",
    multiple=True,
    metavar="KEY=VALUE,VALUE…",
    help="Values of one key; repeat it, and every combination is an arm.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Campaigns for each arm."
)
@click.option("--trials", type=click.IntRange(min=1), help="Of each campaign.")
@click.option("--minutes", type=click.FloatRange(min=0, min_open=True), help="Of each campaign.")
@click.option("--max-usd", type=click.FloatRange(min=0, min_open=True), help="Of each campaign.")
@click.option(
    "--name", default="study", show_default=True, help="Of the study, which goes on under the same name."
)
@click.option("--show", is_flag=True, help="The results so far; run nothing.")
@options.as_json
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def study(
    directory: Path,
    said_arms: tuple[str, ...],
    varied: tuple[str, ...],
    seeds: int,
    trials: int | None,
    minutes: float | None,
    max_usd: float | None,
    name: str,
    show: bool,
    as_json: bool,
    words: tuple[str, ...],
) -> None:
    """Compare arms, ways of searching on this task, with several seeds each.

    \b
    autolab study --vary collaboration=single,team --vary lineage=on,off \\
                  --seeds 5 --minutes 30 -- --harness chat --model hf/… --slots 2

    Keys are harness, collaboration, archive, lineage, generic, model and agents, as `autolab run` knows them; what
    comes after -- goes to every `autolab run`. The first arm is what the others are compared with. Run the same command
    again to go on, with more arms or more seeds if you like: campaigns that are done are kept.
    """  # fmt: skip
    from autolab.campaign.lock import only_one
    from autolab.campaign.study import folder, keep_study, kept_study, outcomes, run_study

    root = options.find_root(directory)
    _check_name(name)
    if show:
        known = kept_study(root, name)
        if known is None:
            raise LabError(f"there is no study {name!r}", where=str(root), mend="--name, or run one")
        _tell(root, known, outcomes(root, known), as_json=as_json)
        return
    planned = _planned(root, name, read_arms(said_arms, varied), seeds, (trials, minutes, max_usd), words)
    with only_one(folder(root, name)):
        whole = keep_study(root, planned)
        if not as_json:
            count = len(whole.arms) * len(whole.seeds)
            click.echo(f"{count} campaigns, {whole.budget.text()} each, in {folder(root, name)}")
        found = run_study(root, whole, lambda one, known: None if as_json else _progress(one, known))
    _tell(root, whole, found, as_json=as_json)


def _planned(
    root: Path,
    name: str,
    arms: Mapping[str, Mapping[str, str]],
    seeds: int,
    limits: tuple[int | None, float | None, float | None],
    words: Sequence[str],
) -> Study:
    """The study that the options ask for. Raises LabError for what cannot be run, or would say nothing."""
    from autolab.campaign.study import Budget, Study, arm_words, task_hash
    from autolab.report.study import FEWEST

    if seeds < FEWEST:
        raise LabError(
            "one seed says nothing of an arm: two campaigns with the same settings differ as much as arms do",
            where=f"--seeds {seeds}",
            mend="--seeds 5",
        )
    if not any(limits):
        raise LabError(
            "a comparison needs an equal budget", mend="--trials, --minutes or --max-usd, of each campaign"
        )
    for option, value in zip(("--minutes", "--max-usd"), limits[1:], strict=True):
        if value is not None and not math.isfinite(value):
            raise LabError(f"{option} {value} is no limit", mend="give a number, or leave it out")
    for label, arm in arms.items():
        _check_words(root, [*words, *arm_words(arm)], label)
    return Study(name, arms, list(range(seeds)), Budget(*limits), list(words), task_hash(root))


def _check_name(name: str) -> None:
    if not name.replace("-", "").isalnum() or not name.isascii():
        raise LabError(f"{name!r} is no name for a study", where="--name", mend="letters, digits and dashes")


# ------------------------------------------------------------------------------------------------------------
# Arms.


def read_arms(said: Iterable[str], varied: Iterable[str]) -> dict[str, dict[str, str]]:
    """The arms by their labels: those that were said, then every combination of what is varied. Raises LabError."""
    arms = [_read_arm(text) for text in said]
    axes = dict(_read_axis(text) for text in varied)
    if axes:
        arms += [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    if not arms:
        raise LabError("nothing to compare", mend=f"--arm {ARM} for each arm, or --vary lineage=on,off")
    labels = [label_of(arm) for arm in arms]
    for label in labels:
        if labels.count(label) > 1:
            raise LabError(f"the arm {label!r} is there twice", where="--arm", mend="leave one out")
    return dict(zip(labels, arms, strict=True))


def label_of(arm: Mapping[str, str]) -> str:
    """An arm in a few words: `team, lineage off`."""
    said = []
    for key in KEYS:
        if key in arm:
            said.append(arm[key] if key in PLAIN else f"{key} {arm[key]}")
    return ", ".join(said)


def _read_arm(text: str) -> dict[str, str]:
    """`collaboration=team,model=a/b=1,c/d=2`: what does not begin with a key belongs to the value before it."""
    arm: dict[str, str] = {}
    last = ""
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if equals and key.strip() in KEYS:
            last = key.strip()
            if last in arm:
                raise LabError(f"{last} is there twice", where=f"--arm {text}", mend="leave one out")
            arm[last] = value.strip()
        elif last == "model":
            arm[last] += f",{part.strip()}"
        else:
            raise LabError(f"{part.strip()!r} is no setting", where=f"--arm {text}", mend=_like())
    return {key: _checked(key, value, f"--arm {text}") for key, value in arm.items()}


def _read_axis(text: str) -> tuple[str, list[str]]:
    key, equals, values = text.partition("=")
    key = key.strip()
    if not equals or key not in KEYS:
        raise LabError(f"{key!r} is nothing that an arm can set", where=f"--vary {text}", mend=_like())
    return key, [_checked(key, value.strip(), f"--vary {text}") for value in values.split(",")]


def _checked(key: str, value: str, where: str) -> str:
    if not value or (key == "generic" and value not in ("on", "off")):
        raise LabError(f"{value!r} is no value of {key}", where=where, mend=_like())
    return value


def _like() -> str:
    return f"KEY=VALUE, where KEY is one of {', '.join(KEYS)}"


def _check_words(root: Path, words: Sequence[str], label: str) -> None:
    """Raises LabError for what `autolab run` would not take, before anything runs."""
    from click.core import ParameterSource

    from autolab.cli.run import agents_can_work, run
    from autolab.cli.ways import Ways

    try:
        context = run.make_context("run", list(words))
    except click.exceptions.Exit:
        raise LabError("--help is for `autolab run --help`", where="after --", mend="leave it out") from None
    except click.ClickException as problem:
        said = " ".join(problem.format_message().split())
        raise LabError(said, where=f"arm {label!r}", mend="see `autolab run --help`") from None
    for name in (*OWN, *STOPS):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = "-C" if name == "directory" else f"--{name.removeprefix('as_').replace('_', '-')}"
            if name in STOPS:
                raise LabError(
                    f"{option} would end campaigns before their budget is spent, and the study goes by that",
                    where="after --",
                    mend="leave it out; --trials, --minutes or --max-usd before -- say when campaigns end",
                )
            raise LabError(
                f"{option} is the study's own", where="after --", mend="leave it out; the study says it"
            )
    ways = Ways(**{one.name: context.params[one.name] for one in fields(Ways)})
    try:
        ways.check({})
        agents_can_work(root, ways)
    except LabError as problem:
        raise LabError(problem.what, where=f"arm {label!r}", mend=problem.mend) from None


# ------------------------------------------------------------------------------------------------------------
# What is shown and kept.


def _progress(one: Outcome, known: bool) -> None:
    figures = one.figures
    invalid = "" if math.isnan(figures["invalid"]) else f", {100 * figures['invalid']:.0f} % invalid"
    click.echo(
        f"  {one.arm}, seed {one.seed}: {figures['trials']:.0f} trials in {figures['minutes']:.1f} minutes{invalid}"
        + (" (kept)" if known else "")
    )


def _tell(root: Path, whole: Study, found: Sequence[Outcome], *, as_json: bool) -> None:
    """Print the results, and leave them as files."""
    from autolab.ledger.views import replacing
    from autolab.report.study import study_json, study_record, study_text, study_tsv

    if not found:
        raise LabError(f"no campaign of the study {whole.name!r} is done yet", mend="run it")
    settings: dict[str, Any] = {
        "study": whole.name,
        "task": whole.files,
        "budget": {
            "trials": whole.budget.trials,
            "minutes": whole.budget.minutes,
            "max_usd": whole.budget.max_usd,
        },
        "words": list(whole.words),
        "seeds": list(whole.seeds),
    }
    record = study_record(found, whole.arms, settings)
    missing = len(whole.arms) * len(whole.seeds) - len(found)
    told = f"{whole.name}: {len(whole.arms)} arms, {len(whole.seeds)} seeds, {whole.budget.text()} a campaign"
    text = study_text(
        found, list(whole.arms), told + (f"; {missing} campaigns are missing" if missing else "")
    )
    place = root / "results" / "studies" / whole.name
    place.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("study.tsv", study_tsv(found)),
        ("study.json", study_json(record)),
        ("study.txt", text),
    ):
        with replacing(place / name) as file:
            file.write(content)
    if as_json:
        options.emit(record)
    else:
        click.echo(f"\n{text}\n{place}: study.tsv, study.json, study.txt")

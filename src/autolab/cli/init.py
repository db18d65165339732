"""`autolab init`: a task.yaml for a script that people already have, and the skill pack for their agents."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from string import Template

import click
from click.core import ParameterSource

from autolab.cli.install import change_pack
from autolab.errors import LabError
from autolab.lab import read_files
from autolab.ledger.views import replacing
from autolab.program.preflight import preflight
from autolab.task import TASK_FILE, check_task

LIKELY = ("train.py", "main.py", "run.py")
LIKELY_METRIC = re.compile(r"loss|acc|bpb|score|error|perplexity|f1|auc|val", re.IGNORECASE)
HIGHER = re.compile(r"acc|f1|auc|score|reward|(^|_)r2($|_)", re.IGNORECASE)


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--script", help="The file that agents may edit (default: train.py, main.py, or the only one).")
@click.option("--metric", help="Name of the number that it prints, as in `val_loss: 0.123`.")
@click.option("--maximize/--minimize", default=None, help="Is higher or lower better?")
@click.option(
    "--wall-seconds", type=click.IntRange(min=1), default=600, show_default=True, help="For one trial."
)
@click.option("--force", is_flag=True, help="Overwrite an existing task.yaml.")
@click.option("--opencode", is_flag=True, help="Install the skill pack for OpenCode into DIRECTORY.")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    type=click.Choice(("claude", "codex", "pi", "hermes")),
    help="Install it for another host; may be repeated.",
)
@click.option("--global", "globally", is_flag=True, help="Install it for you, in every project.")
@click.option("--remove", "take_out", is_flag=True, help="Take it out again; your own edits stay.")
@click.pass_context
def init(
    context: click.Context,
    directory: Path,
    script: str | None,
    metric: str | None,
    maximize: bool | None,
    wall_seconds: int,
    force: bool,
    opencode: bool,
    hosts: tuple[str, ...],
    globally: bool,
    take_out: bool,
) -> None:
    """Make a lab out of DIRECTORY. The score is self-reported until you add an evaluator.

    With --opencode, --host or --remove only the skill pack is installed or removed: `autolab init --opencode`
    for the project here, `autolab init --opencode --global` for you. Options of the task, as --script, make
    the lab too.
    """
    for_pack = opencode or bool(hosts) or globally or take_out
    for_task = any(
        context.get_parameter_source(name) is not ParameterSource.DEFAULT
        for name in ("script", "metric", "maximize", "wall_seconds", "force")
    )
    if take_out and for_task:
        raise LabError("--remove takes out the skill pack and makes no lab", mend="run the two one by one")
    if globally and not (opencode or hosts or take_out):
        raise LabError("--global for which host?", mend="autolab init --opencode --global, or --host NAME")
    if for_task or not for_pack:
        _make_lab(directory, script, metric, maximize, wall_seconds, force)
    if for_pack:
        names = ("opencode",) * opencode + tuple(dict.fromkeys(hosts))
        change_pack(directory, names, globally=globally, take_out=take_out)


def _make_lab(
    directory: Path,
    script: str | None,
    metric: str | None,
    maximize: bool | None,
    wall_seconds: int,
    force: bool,
) -> None:
    target = directory / TASK_FILE
    if target.exists() and not force:
        raise LabError("is there already", where=str(target), mend="edit it, or `autolab init --force`")
    if not directory.is_dir():
        raise LabError("there is no such directory", where=str(directory), mend="create it first")
    script = script or _find_script(directory)
    if not (directory / script).is_file():
        raise LabError(
            "there is no such file", where=str(directory / script), mend="name the script with --script"
        )
    problem = preflight(read_files(directory, (script,)))
    if problem is not None:
        raise LabError(problem, where=str(directory), mend="a search needs a script that runs")
    metric = metric or _find_metric(directory / script)
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_./-]*", metric):
        raise LabError(f"{metric!r} is no name of a metric", mend="letters, digits and _ . / - only")
    if maximize is None and HIGHER.search(metric):
        raise LabError(
            f"is a higher {metric} better?", where=str(directory), mend="say --maximize or --minimize"
        )
    text = _task_text(directory, script, metric, "maximize" if maximize else "minimize", wall_seconds)
    check_task(text, directory)
    with replacing(target) as file:
        file.write(text)
    click.echo(f"wrote {target}: {'maximizing' if maximize else 'minimizing'} {metric} of {script}")
    click.secho(f"scores are SELF-REPORTED: {script} prints them, nothing checks them", fg="red")
    click.echo("next: autolab doctor, then autolab run --trials 10")


def _task_text(directory: Path, script: str, metric: str, direction: str, wall_seconds: int) -> str:
    """A commented task.yaml; names are quoted, for `2024` or `null` would be something else in YAML."""
    name = re.sub(r"[^a-z0-9]+", "-", directory.resolve().name.lower()).strip("-") or "lab"
    template = Template(
        resources.files("autolab.cli").joinpath("templates/task.yaml").read_text(encoding="utf-8")
    )
    return template.substitute(
        name=json.dumps(name),
        metric=metric,
        quoted_metric=json.dumps(metric),
        direction=direction,
        script=json.dumps(script, ensure_ascii=False),
        wall_seconds=wall_seconds,
    )


def _find_script(directory: Path) -> str:
    scripts = sorted(path.name for path in directory.glob("*.py"))
    for name in LIKELY:
        if name in scripts:
            return name
    if len(scripts) == 1:
        return scripts[0]
    found = ", ".join(scripts) or "no Python file"
    raise LabError(
        f"which script is the recipe? ({found})", where=str(directory), mend="say so with --script NAME"
    )


def _find_metric(script: Path) -> str:
    """The last name that the script prints at the start of a line, before `:` or `=`, if it looks like a metric.

    The runner reads lines that are `name: value` and nothing more, so anything else would not be found again.
    """
    text = script.read_text(encoding="utf-8")
    printed: list[str] = re.findall(r"""print\(\s*[rf]*["']([A-Za-z_]\w*)\s*[:=]\s*["'{%]""", text)
    likely = [name for name in printed if LIKELY_METRIC.search(name)]
    if not likely:
        raise LabError(
            "cannot tell which printed number is the metric",
            where=str(script),
            mend="name it with --metric, and print it on a line of its own: `val_loss: 0.123`",
        )
    return likely[-1]

"""`autolab init`: a task.yaml for a script that people already have."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template

import click

from autolab.errors import LabError
from autolab.ledger.views import replacing
from autolab.task import load_task

LIKELY = ("train.py", "main.py", "run.py")


@click.command()
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path), default=Path())
@click.option("--script", help="The file that agents may edit (default: train.py, main.py, or the only one).")
@click.option("--metric", help="Name of the number that it prints, as in `val_loss: 0.123`.")
@click.option("--maximize", is_flag=True, help="Higher is better.")
@click.option(
    "--wall-seconds", type=click.IntRange(min=1), default=600, show_default=True, help="For one trial."
)
@click.option("--force", is_flag=True, help="Overwrite an existing task.yaml.")
def init(
    directory: Path, script: str | None, metric: str | None, maximize: bool, wall_seconds: int, force: bool
) -> None:
    """Make a lab out of DIRECTORY. The score is self-reported until you add an evaluator."""
    target = directory / "task.yaml"
    if target.exists() and not force:
        raise LabError("is there already", where=str(target), mend="edit it, or `autolab init --force`")
    if not directory.is_dir():
        raise LabError("there is no such directory", where=str(directory), mend="create it first")
    script = script or _find_script(directory)
    if not (directory / script).is_file():
        raise LabError(
            "there is no such file", where=str(directory / script), mend="name the script with --script"
        )
    metric = metric or _find_metric(directory / script)
    name = re.sub(r"[^a-z0-9]+", "-", directory.resolve().name.lower()).strip("-") or "lab"
    template = Template(
        resources.files("autolab.cli").joinpath("templates/task.yaml").read_text(encoding="utf-8")
    )
    direction = "maximize" if maximize else "minimize"
    with replacing(target) as file:
        file.write(
            template.substitute(
                name=name, metric=metric, direction=direction, script=script, wall_seconds=wall_seconds
            )
        )
    load_task(directory)
    click.echo(f"wrote {target}: {direction[:-2]}ing {metric} of {script}")
    click.secho(f"scores are SELF-REPORTED: {script} prints them, nothing checks them", fg="red")
    click.echo("next: autolab doctor, then autolab run --trials 10")


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
    """The last `name:` or `name=` before a formatted value in a print call, if it looks like a metric."""
    printed: list[str] = re.findall(
        r"print\(.*?\b([A-Za-z_]\w*)\s*[:=]\s*\{", script.read_text(encoding="utf-8", errors="replace")
    )
    likely = [
        name for name in printed if re.search(r"loss|acc|bpb|score|error|perplexity|f1|auc|val", name, re.I)
    ]
    if not likely:
        raise LabError(
            "cannot tell which printed number is the metric",
            where=str(script),
            mend="name it with --metric, e.g. --metric val_loss",
        )
    return likely[-1]

"""`autolab jobs smoke`: one tiny measurement as a job, through every part that a campaign uses."""

from __future__ import annotations

import asyncio
import tempfile
import time
from importlib import resources
from pathlib import Path

import click
import yaml

from autolab.cli import options
from autolab.cli.executors import Place, check_names, executor_for, job_settings
from autolab.errors import LabError
from autolab.hub.connection import connect
from autolab.hub.jobs.flavors import hardware
from autolab.lab import Lab, begin_campaign, open_lab
from autolab.ledger.records import Measurement, Status
from autolab.task import load_task

FILES = ("task.yaml", "train.py", "evaluate.py")
WEAK = "the container does not allow one: trials run with limits only, could forge results, and every record says so"


@click.command()
@options.directory
@click.option("--flavor", help="Machine to try (default: the cheapest).")
@click.option("--namespace", help="Who pays (default: the account of the token).")
@click.option("--bucket", help="OWNER/NAME of the private bucket of jobs (default: NAMESPACE/autolab).")
@options.as_json
def smoke(
    directory: Path, flavor: str | None, namespace: str | None, bucket: str | None, as_json: bool
) -> None:
    """Try an account end to end: bucket, launch, sandbox, result, cost. It runs one job for some seconds.

    In a lab its image and packages are tried; the lab itself is not touched.
    """
    check_names(namespace, bucket)
    place = Place("hf-jobs", flavor or hardware(connect())[0].name, namespace, bucket)
    with tempfile.TemporaryDirectory(prefix="autolab-smoke-") as scratch:
        root = _write_task(Path(scratch), directory)
        with open_lab(root, create=True) as ledger:
            settings = job_settings(root, "cpu", place)
            config = {"seed": int(time.time()), "window": 1, "jobs": vars(settings)}
            lab = begin_campaign(
                root, ledger, name="smoke", profile="cpu", config=config, hardware=settings.hardware
            )
            if not as_json:
                click.echo(f"account   {settings.namespace}, bucket {settings.bucket}")
                click.echo(f"machine   {settings.flavor}, image {settings.image}")
            began = time.monotonic()
            done = asyncio.run(_measure(lab))
            seconds = time.monotonic() - began
    good = done.status is Status.OK and done.metrics == {"answer": 42.0}
    if as_json:
        options.emit(
            {"ok": good, "job": done.job, "status": done.status, "cause": done.cause, "sandbox": done.sandbox,
             "seconds": seconds, "cost_usd": done.cost_usd, "flavor": settings.flavor}
        )  # fmt: skip
    else:
        click.echo(f"job       {done.job}, {seconds:.0f} s from here, ${done.cost_usd:.4f}")
        click.echo(f"sandbox   {done.sandbox}" + ("" if done.sandbox == "bubblewrap" else f": {WEAK}"))
        click.echo(f"result    {'as it should be' if good else f'{done.status}: {done.cause}'}")
    if not good:
        raise LabError(
            f"the job came to nothing: {done.status}: {done.cause}",
            where=f"job {done.job}",
            mend=f"`autolab jobs logs {done.job}` shows what it printed",
        )


def _write_task(scratch: Path, directory: Path) -> Path:
    """The smoke task, in the image of the lab around `directory` if there is one."""
    for name in FILES:
        text = resources.files("autolab.cli").joinpath(f"templates/smoke/{name}").read_text(encoding="utf-8")
        (scratch / name).write_text(text, encoding="utf-8")
    try:
        root = options.find_root(directory)
    except LabError:
        return scratch  # not in a lab: the usual image
    jobs = load_task(root).jobs.model_dump(mode="json")
    with open(scratch / "task.yaml", "a", encoding="utf-8") as file:
        yaml.safe_dump({"jobs": jobs}, file)
    return scratch


async def _measure(lab: Lab) -> Measurement:
    executor = executor_for(lab, 1, place=Place("hf-jobs", fresh=True))
    executor.notice = lambda text: click.echo(text, err=True)
    measurement = lab.first_measurements(next(lab.ledger.sequence(lab.campaign.id)))[0]
    lab.ledger.start_measurement(measurement)
    bundle = executor.stage(measurement, lab.ledger.program(lab.campaign.baseline))
    return await executor.run(bundle, measurement, executor.slots[0])

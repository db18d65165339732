"""What `autolab run` and `autolab serve` share: the campaign to go on with or to begin, and what to warn of."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from autolab.cli.executors import Place, gpus_at, job_settings, kept_settings, ray_settings, slot_count
from autolab.errors import LabError
from autolab.execution.sandbox import available
from autolab.lab import Lab, begin_campaign, current_key, read_files, resume_campaign
from autolab.ledger.records import TrialState
from autolab.ledger.store import Ledger
from autolab.program.hashing import program_id
from autolab.task import load_task


def new_campaign(
    root: Path,
    ledger: Ledger,
    *,
    profile: str | None,
    slots: int | None,
    place: Place,
    max_usd: float | None,
    **config: Any,
) -> Lab:
    """Begin a campaign with the files as they are now, measured at `place`. Raises LabError."""
    chosen = profile or default_profile(root, place)
    hardware = None
    if place.remote:
        from autolab.execution.job_launch import try_account

        settings = job_settings(root, chosen, place)
        hardware = settings.hardware
        try_account(settings, load_task(root, chosen).budget, max_usd)  # before a campaign begins
        config |= {"jobs": dataclasses.asdict(settings), "max_usd": max_usd}
    elif place.on_ray:
        cluster = ray_settings(root, chosen, place)
        hardware = cluster.hardware
        config |= {"ray": dataclasses.asdict(cluster)}
    width = slot_count(root, chosen, place, slots)
    config = {"seed": 0, "window": 2 * width + 1, **config}
    return begin_campaign(root, ledger, name=None, profile=chosen, config=config, hardware=hardware)


def earlier_campaign(root: Path, ledger: Ledger, profile: str | None, place: Place) -> Lab | None:
    """The newest campaign, if it can be gone on with; None when a new one should begin. Raises LabError."""
    campaigns = ledger.campaigns()
    if not campaigns:
        return None
    campaign = campaigns[-1]
    first = next(ledger.sequence(campaign.id), None)
    if first is None or (first.state is TrialState.DONE and not ledger.promotions(campaign.id)):
        return None  # its baseline failed; there is nothing to go on with
    if profile is not None and profile != campaign.config["task"]["profile"]:
        raise LabError(
            f"{campaign.id} runs with profile {campaign.config['task']['profile']!r}, not {profile!r}",
            where=str(root),
            mend="`autolab run --new --profile …` starts a new campaign",
        )
    settings = kept_settings(campaign.config, place)
    lab = resume_campaign(root, ledger, campaign)
    if current_key(root, lab.task.profile, settings.hardware if settings else None) != campaign.key:
        raise LabError(
            f"the task, its evaluator, its data or this machine changed since {campaign.id} began, so new scores"
            " would not compare with its own",
            where=str(root),
            mend="`autolab run --new` starts a new campaign; or undo the change",
        )
    return lab


def default_profile(root: Path, place: Place) -> str:
    """`gpu` where the machine has one and the task has such a profile."""
    task = load_task(root)
    return "gpu" if "gpu" in task.profiles and gpus_at(place) else "cpu"


def warnings(lab: Lab) -> list[str]:
    """What a person should know before they believe a score of this lab."""
    found = []
    text = _edited_since(lab)
    if text:
        found.append(text)
    mode, reason = available()
    if "ray" in lab.campaign.config:
        mode, reason = (
            lab.campaign.config["ray"]["sandbox"],
            "a node of the cluster has no bubblewrap that works",
        )
    if mode == "none" and "jobs" not in lab.campaign.config:
        found.append(f"NO SANDBOX: {reason}. Trials can read your files and the network.")
    if "jobs" in lab.campaign.config and lab.campaign.config.get("max_usd") is None:
        found.append("NO BUDGET: jobs cost money for as long as this runs; --max-usd sets a limit.")
    if lab.task.self_reported:
        found.append(
            "SELF-REPORTED: task.yaml has no evaluate command, so the score is whatever the recipe prints."
        )
    return found


def _edited_since(lab: Lab) -> str | None:
    """What a person changed in the working tree that this campaign will not look at."""
    known = [step.program for step in lab.ledger.promotions(lab.campaign.id)] + [lab.campaign.baseline]
    now = load_task(lab.root, lab.task.profile)
    if program_id(read_files(lab.root, lab.task.editable)) not in known:
        changed = ", ".join(lab.task.editable)
    elif (now.moves, now.surfaces) != (lab.task.moves, lab.task.surfaces):
        changed = "task.yaml"
    else:
        return None
    return (
        f"{changed} changed since {lab.campaign.id} began, which goes on from its own copy: `autolab submit` tries"
        " yours, `autolab run --new` starts from it."
    )

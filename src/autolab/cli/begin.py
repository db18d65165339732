"""What `autolab run` and `autolab serve` share: the campaign to go on with or to begin, and what to warn of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autolab.errors import LabError
from autolab.execution.local import discover_slots, visible_gpus
from autolab.execution.sandbox import available
from autolab.lab import Lab, begin_campaign, current_key, read_files, resume_campaign
from autolab.ledger.records import TrialState
from autolab.ledger.store import Ledger
from autolab.program.hashing import program_id
from autolab.task import load_task


def new_campaign(root: Path, ledger: Ledger, *, profile: str | None, slots: int | None, **config: Any) -> Lab:
    """Begin a campaign with the files as they are now. Raises LabError."""
    chosen = profile or default_profile(root)
    width = len(discover_slots(slots, load_task(root, chosen).kind))
    config = {"seed": 0, "window": 2 * width + 1, **config}
    return begin_campaign(root, ledger, name=None, profile=chosen, config=config)


def earlier_campaign(root: Path, ledger: Ledger, profile: str | None) -> Lab | None:
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
    lab = resume_campaign(root, ledger, campaign)
    if current_key(root, lab.task.profile) != campaign.key:
        raise LabError(
            f"the task, its evaluator, its data or this machine changed since {campaign.id} began, so new scores"
            " would not compare with its own",
            where=str(root),
            mend="`autolab run --new` starts a new campaign; or undo the change",
        )
    return lab


def default_profile(root: Path) -> str:
    """`gpu` where there is one and the task has such a profile."""
    task = load_task(root)
    return "gpu" if "gpu" in task.profiles and visible_gpus() else "cpu"


def warnings(lab: Lab) -> list[str]:
    """What a person should know before they believe a score of this lab."""
    found = []
    text = _edited_since(lab)
    if text:
        found.append(text)
    mode, reason = available()
    if mode == "none":
        found.append(f"NO SANDBOX: {reason}. Trials can read your files and the network.")
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

"""Runs a study: every arm with every seed is a campaign of its own, in a copy of the task, at an equal budget.

    .autolab/studies/NAME/study.json          what is compared; written before anything runs
    .autolab/studies/NAME/ARM-SEED/           a lab: the task's files, its own ledger
    .autolab/studies/NAME/ARM-SEED/work.json  when it was worked on, and whether its budget is spent

Nothing is shared but prepared data, so no campaign learns from another one. They run one after the other, all arms of
a seed before the next seed: what the machine does to one arm in an hour it does to all. A campaign is a process of
`autolab run`, which dies with this one; whatever is killed goes on where it was, with what is left of its budget.
"""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolab.errors import LabError
from autolab.lab import STATE_DIRECTORY, open_lab
from autolab.ledger.jobs import campaign_jobs, costs
from autolab.ledger.records import TrialState
from autolab.ledger.store import Ledger
from autolab.ledger.views import cell, replacing
from autolab.report.study import Outcome, figures_of
from autolab.task import TASK_FILE, load_task

STUDIES = "studies"
MODELS = ("opencode.json", "opencode.jsonc")  # a person's providers, beside the task
SHORTEST_SECONDS = 5.0  # less than this of a time budget is not worth starting for
FLAGS = {
    "generic": {"on": ["--generic"], "off": ["--specialists"]}
}  # keys of an arm that are no option with a value


@dataclass(frozen=True)
class Budget:
    """What each campaign may use; None: no limit of that kind, but at least one is given."""

    trials: int | None = None
    minutes: float | None = None
    max_usd: float | None = None

    def text(self) -> str:
        """In words: `20 trials, 1.5 minutes`."""
        parts = [
            f"{self.trials} trials" if self.trials else "",
            f"{self.minutes:g} minutes" if self.minutes else "",
            f"{self.max_usd:g} dollars" if self.max_usd else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Study:
    """What is compared. `arms`: label -> what it says of how to search; `words`: what all campaigns are run with."""

    name: str
    arms: Mapping[str, Mapping[str, str]]
    seeds: Sequence[int]
    budget: Budget
    words: Sequence[str]
    files: str  # hash of the task as it was


@dataclass(frozen=True)
class Segment:
    """One stretch of work on a campaign; `end` is None if it was killed."""

    start: float
    end: float | None


def arm_words(arm: Mapping[str, str]) -> list[str]:
    """The options of `autolab run` that an arm stands for."""
    words: list[str] = []
    for key, value in arm.items():
        words += FLAGS[key][value] if key in FLAGS else [f"--{key}", value]
    return words


def task_hash(root: Path) -> str:
    """Names the content of all files that a campaign of the study gets."""
    digest = hashlib.sha256()
    for name in _files(root):
        data = (root / name).read_bytes()
        digest.update(f"{name}\0{len(data)}\0".encode() + data)
    return digest.hexdigest()[:12]


def _files(root: Path) -> list[str]:
    """The task's files, and the models that the person set up for it."""
    task = load_task(root)
    return [TASK_FILE, *task.editable, *task.protected, *(name for name in MODELS if (root / name).is_file())]


# ------------------------------------------------------------------------------------------------------------
# On disk.


def folder(root: Path, name: str) -> Path:
    """Where a study of a lab lives."""
    return root / STATE_DIRECTORY / STUDIES / name


def kept_study(root: Path, name: str) -> Study | None:
    """The study of that name as it is on disk. Raises LabError for a file that cannot be read."""
    path = folder(root, name) / "study.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return Study(**{**said, "budget": Budget(**said["budget"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, OSError) as problem:
        raise LabError(
            f"cannot be read: {problem}", where=str(path), mend="delete that study's folder"
        ) from None


def keep_study(root: Path, said: Study) -> Study:
    """Write a study down before it runs; one that is there already gets the new arms and seeds as well.

    Raises LabError if that was run on another task, with another budget or with other options: it would not compare.
    """
    known = kept_study(root, said.name)
    if known is not None:
        for what, before, now in (
            ("on other files", known.files, said.files),
            ("with another budget", known.budget, said.budget),
            ("with other options", list(known.words), list(said.words)),
        ):
            if before != now:
                raise LabError(
                    f"the study {said.name!r} was run {what}, so new campaigns would not compare with its own",
                    where=str(folder(root, said.name)),
                    mend="--name another",
                )
        arms = {**known.arms, **said.arms}
        said = dataclasses.replace(said, arms=arms, seeds=sorted({*known.seeds, *said.seeds}))
    place = folder(root, said.name)
    place.mkdir(parents=True, exist_ok=True)
    _write(place / "study.json", dataclasses.asdict(said))
    return said


def lab_of(root: Path, study: Study, arm: str, seed: int) -> Path:
    """The directory of one campaign, named for people."""
    return folder(root, study.name) / f"{slug(arm)}-{seed}"


def slug(label: str) -> str:
    """A label as a file name; other signs than letters and digits add some of its hash, so that no two meet."""
    plain = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
    if re.fullmatch(r"[a-z0-9]+(,? [a-z0-9]+)*", label):
        return plain
    return f"{plain[:80]}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"


def _make_lab(root: Path, target: Path) -> None:
    """Copy the task's files, all of them or none; prepared data is the root's own."""
    if target.is_dir():
        return
    new = target.with_name(target.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    for name in _files(root):
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, new / name)
    cache = root.resolve() / STATE_DIRECTORY / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    (new / STATE_DIRECTORY).mkdir()
    (new / STATE_DIRECTORY / "cache").symlink_to(cache)
    new.rename(target)


def _write(path: Path, value: Any) -> None:
    with replacing(path) as file:
        json.dump(value, file, indent=1)


def _segments(lab: Path) -> tuple[list[Segment], bool]:
    """When a campaign was worked on, and whether its budget is spent."""
    try:
        said = json.loads((lab / "work.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return [], False
    return [Segment(**segment) for segment in said["segments"]], said["spent"]


def _keep_segments(lab: Path, segments: Sequence[Segment], *, spent: bool) -> None:
    _write(lab / "work.json", {"spent": spent, "segments": [dataclasses.asdict(s) for s in segments]})


# ------------------------------------------------------------------------------------------------------------
# One campaign.


def is_done(lab: Path) -> bool:
    """Whether a campaign's budget is spent."""
    return _segments(lab)[1]


def outcome(root: Path, study: Study, arm: str, seed: int) -> Outcome | None:
    """The figures of one campaign; None if its budget is not spent yet."""
    lab = lab_of(root, study, arm, seed)
    segments, spent = _segments(lab)
    if not spent:
        return None
    with open_lab(lab) as ledger:
        hours = _seconds(ledger, segments) / 3600
        return Outcome(arm, seed, figures_of(ledger, ledger.campaigns()[-1].id, hours))


def outcomes(root: Path, study: Study) -> list[Outcome]:
    """The figures of all campaigns whose budget is spent, by arm and seed."""
    found = [outcome(root, study, arm, seed) for arm in study.arms for seed in study.seeds]
    return [one for one in found if one is not None]


def _seconds(ledger: Ledger, segments: Sequence[Segment]) -> float:
    """How long a campaign was worked on. A stretch that was killed ended when something was last recorded in it."""
    seconds = 0.0
    for place, segment in enumerate(segments):
        end = segment.end
        if end is None:
            until = segments[place + 1].start if place + 1 < len(segments) else time.time()
            end = max((at for at in _ends(ledger) if segment.start <= at <= until), default=segment.start)
        seconds += end - segment.start
    return seconds


def _ends(ledger: Ledger) -> list[float]:
    if not ledger.campaigns():
        return []
    return [trial.finished_at or 0.0 for trial in ledger.sequence(ledger.campaigns()[-1].id)]


def run_campaign(root: Path, study: Study, arm: str, seed: int) -> None:
    """Work on one campaign until its budget is spent. Raises LabError if it cannot go on, KeyboardInterrupt if the
    person ends it."""
    lab = lab_of(root, study, arm, seed)
    _make_lab(root, lab)
    segments, spent = _segments(lab)
    if not spent and segments:
        spent = _budget_is_spent(lab, study.budget, segments)  # it was killed before that was written down
    if not spent:
        segments = _work_on(lab, study, arm, seed, segments)
        if not _budget_is_spent(lab, study.budget, segments):
            raise LabError(
                f"the campaign of arm {arm!r}, seed {seed}, was stopped before its budget was spent",
                where=str(lab),
                mend="the same command goes on with it",
            )
    _keep_segments(lab, segments, spent=True)


def _work_on(lab: Path, study: Study, arm: str, seed: int, before: Sequence[Segment]) -> list[Segment]:
    """One more stretch of work; returns all of them. Raises as `run_campaign` does."""
    with open_lab(lab, create=True) as ledger:
        seconds = _seconds(ledger, before)
    words = [*study.words, *arm_words(study.arms[arm]), "--seed", str(seed), *_limits(study.budget, seconds)]
    now = Segment(time.time(), None)
    _keep_segments(lab, [*before, now], spent=False)
    try:
        code = _run(lab, words)
    finally:
        segments = [*before, dataclasses.replace(now, end=time.time())]
        _keep_segments(lab, segments, spent=False)
    if code != 0:
        raise LabError(
            f"the campaign of arm {arm!r}, seed {seed}, ended: {_last_words(lab)}",
            where=str(lab / "run.log"),
            mend="mend that; the same command then goes on",
        )
    return segments


def _limits(budget: Budget, seconds: float) -> list[str]:
    words: list[str] = []
    if budget.trials is not None:
        words += ["--trials", str(budget.trials)]
    if budget.minutes is not None:
        words += ["--hours", repr((60 * budget.minutes - seconds) / 3600)]
    if budget.max_usd is not None:
        words += ["--max-usd", repr(budget.max_usd)]
    return words


def _budget_is_spent(lab: Path, budget: Budget, segments: Sequence[Segment]) -> bool:
    """Whether a campaign ended by its budget or because nothing is left to try, not because somebody stopped it."""
    with open_lab(lab, create=True) as ledger:
        if not ledger.campaigns():
            return False
        campaign = ledger.campaigns()[-1]
        ended = sum(t.ordinal > 0 and t.state is TrialState.DONE for t in ledger.sequence(campaign.id))
        seconds = _seconds(ledger, segments)
        dollars = costs(ledger, campaign.id)[0]
        dearest = max((job.most_usd for job in campaign_jobs(ledger, campaign.id)), default=0.0)
        return (
            campaign.state == "finished"
            or (budget.trials is not None and ended >= budget.trials)
            or (budget.minutes is not None and seconds >= 60 * budget.minutes - SHORTEST_SECONDS)
            or (budget.max_usd is not None and dollars >= budget.max_usd)
            # A job is not launched if it might cost more than is left.
            or (budget.max_usd is not None and dollars + dearest > budget.max_usd)
        )


def _run(lab: Path, words: Sequence[str]) -> int:
    """`autolab run` in a session of its own; Ctrl-C is passed on, and waits for it as `autolab run` would."""
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    parent = os.getpid()

    def dies_with_us() -> None:
        if libc is not None:
            libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
            if os.getppid() != parent:  # it died before we could ask to die with it
                os._exit(127)

    command = [sys.executable, "-m", "autolab.cli.main", "run", "-C", str(lab), *words, "--json"]
    with open(lab / "run.log", "ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            preexec_fn=dies_with_us,
        )  # fmt: skip
    interrupted: KeyboardInterrupt | None = None
    while True:
        try:
            code = process.wait()
            break
        except KeyboardInterrupt as stop:
            interrupted = stop
            process.send_signal(signal.SIGINT)
    if interrupted is not None:
        raise interrupted
    return code


def _last_words(lab: Path) -> str:
    """The last line of a campaign's log that is no event."""
    lines = (lab / "run.log").read_text(encoding="utf-8", errors="replace").splitlines()
    said = [line for line in lines[-50:] if line.strip() and not line.startswith("{")]
    return cell(said[-1].removeprefix("autolab: "))[:300] if said else "without a word"


# ------------------------------------------------------------------------------------------------------------
# All of them.


def run_study(root: Path, study: Study, heard: Callable[[Outcome, bool], None]) -> list[Outcome]:
    """Run what is missing of a study, and return all outcomes. `heard` is told each one, and whether it was there."""
    for seed in study.seeds:
        for arm in study.arms:
            lab = lab_of(root, study, arm, seed)
            known = is_done(lab)
            if not known:
                run_campaign(root, study, arm, seed)
            found = outcome(root, study, arm, seed)
            assert found is not None
            heard(found, known)
    return outcomes(root, study)

"""The façade: `open_trial` asks, `submit` tells. It ties the rooms together and holds no state of its own.

Everything a lab knows is in its ledger. What becomes of a trial that was queued is in `judging/`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from autolab.errors import LabError
from autolab.execution.data import Data, prepare_data
from autolab.harness import Ticket
from autolab.judge.curves import band_for
from autolab.judge.promotion import BASELINE_REPLICATES
from autolab.ledger.claims import Claim
from autolab.ledger.observations import observe
from autolab.ledger.records import Band, Campaign, Measurement, Proposal, Status, Trial, TrialState
from autolab.ledger.store import Ledger
from autolab.program.edits import EditRefused, apply_edits
from autolab.program.hashing import Files, program_id
from autolab.program.preflight import preflight
from autolab.search.novelty import described, queue, refusal
from autolab.search.parent import choose_parent
from autolab.task import Edit, Task, comparability_key, load_task

STATE_DIRECTORY = ".autolab"
ATTEMPTS = 3
PERSON = "person"  # role of whoever submits a change of their own


@dataclass(frozen=True)
class _Weighed:
    """A proposal that can be applied: the program that results, and what it claims. `passed`: the trial for which, the
    move as which, and the version of the ledger at which it was found to repeat nothing."""

    parent_files: Files
    edits: tuple[Edit, ...]
    files: Files
    claim: Claim
    passed: tuple[int, str, tuple[int, int]] | None = None


@dataclass(frozen=True)
class Lab:
    """A directory with a task, a ledger, and one campaign that is in force."""

    root: Path
    ledger: Ledger
    campaign: Campaign
    task: Task
    protected: dict[str, str]
    prepared: Data | None = None
    fingerprint: Any = field(default=None, repr=False)
    weighed: list[_Weighed] = field(default_factory=list, repr=False, compare=False)  # the last one

    @property
    def state(self) -> Path:
        """What is the lab's own: ledger, bundles, workspaces, caches."""
        return self.root / STATE_DIRECTORY

    @property
    def data(self) -> Data:
        """The prepared data; a lab that was only attached to measures nothing and has none."""
        assert self.prepared is not None, "attach() is for labs that do not measure"
        return self.prepared

    @property
    def runs(self) -> Path:
        """Where bundles live while they are measured."""
        return self.state / "runs"

    # ask ------------------------------------------------------------------------------------------

    def open_trial(self, *, role: str, agent: str, surface: str | None = None) -> Ticket:
        """Reserve a trial that branches from the master, and say so."""
        return self.ticket(self.reserve(role=role, agent=agent, surface=surface))

    def reserve(
        self,
        *,
        role: str,
        agent: str,
        surface: str | None = None,
        parent: tuple[str, int] | None = None,
    ) -> Trial:
        """Reserve a trial that branches from `parent`, a program and its trial, or from the master."""
        with self.ledger.transaction():
            program, trial = parent or choose_parent(self.ledger, self.campaign.id)
            return self.ledger.open_trial(
                self.campaign.id,
                role=role,
                agent=agent,
                surface=surface or "",
                parent_program=program,
                parent_trial=trial,
                executor=executor_name(self.campaign.config),
            )

    def ticket(self, trial: Trial, *, goal: str = "", model: str = "") -> Ticket:
        """What a proposer needs to know of an opened trial."""
        assert trial.parent_program is not None
        parent = trial.parent_trial
        return Ticket(
            number=trial.number,
            ordinal=trial.ordinal,
            parent_program=trial.parent_program,
            parent_files=self.ledger.program(trial.parent_program),
            parent_score=self.ledger.trial(parent).score if parent else None,
            surface=trial.surface or None,
            guidance=tuple(text for _, text in self.ledger.guidance(self.campaign.id)),
            trial=trial.id,
            role=trial.role,
            parent_trial=parent,
            goal=goal,
            model=model,
        )

    # tell -----------------------------------------------------------------------------------------

    def gates(self, role: str) -> bool:
        """Whether what repeats another trial in other words, or on another parent, is refused (`search.novelty`). A
        person who tries something again knows why."""
        return role != PERSON and bool(self.campaign.config.get("novelty"))

    def submit(self, ticket: Ticket, proposal: Proposal) -> Trial:
        """Apply a proposal and check it. The trial comes back queued, or done if it may not run."""
        number = ticket.number
        found = self._weighed(ticket, proposal)
        if isinstance(found, tuple):
            return self.refuse(number, *found, proposal)
        gate = self.gates(ticket.role)
        passed = found.passed[2] if found.passed and found.passed[:2] == (number, proposal.move) else None
        repeated = queue(self.ledger, number, found.files, proposal, found.claim, gate=gate, passed=passed)
        if repeated is not None:
            reason = repeated.text or self._repeats(repeated.trial, ticket, found.files)
            return self.refuse(number, Status.DUPLICATE, reason)
        return self.ledger.trial(number)

    def objection(self, ticket: Ticket, proposal: Proposal) -> tuple[Status, str] | None:
        """Why `submit` would refuse a proposal as things are now, or None; changes nothing."""
        found = self._weighed(ticket, proposal)
        if isinstance(found, tuple):
            return found
        before = self.ledger.version()  # whoever writes from here on may be who it repeats
        repeats = self.ledger.claimed_by(ticket.number, found.files)
        if repeats is not None:
            return Status.DUPLICATE, self._repeats(repeats, ticket, found.files)
        if not self.gates(ticket.role):
            return None
        repeated = refusal(self.ledger, ticket.number, found.claim, proposal.move)
        if repeated is not None:
            return Status.DUPLICATE, repeated.text
        self.weighed[:] = [replace(found, passed=(ticket.number, proposal.move, before))]
        return None

    def _weighed(self, ticket: Ticket, proposal: Proposal) -> _Weighed | tuple[Status, str]:
        """What a proposal comes to, or why it may not run. Kept for once more: what a harness asks about is handed in
        next."""
        last = self.weighed[-1] if self.weighed else None
        if (
            last is not None
            and last.parent_files is ticket.parent_files
            and last.edits is proposal.edits
            and last.claim.hypothesis == proposal.hypothesis
        ):
            return last
        try:
            files = apply_edits(ticket.parent_files, proposal.edits, self.task.protected)
        except EditRefused as reason:
            return Status.PROPOSAL_FAILED, str(reason)
        problem = preflight(files, 1024 * self.task.budget.program_kb)
        if problem is not None:
            return Status.PREFLIGHT_FAILED, problem
        claim = described(ticket.parent_files, files, proposal, gate=self.gates(ticket.role))
        found = _Weighed(ticket.parent_files, proposal.edits, files, claim)
        self.weighed[:] = [found]
        return found

    def refuse(self, number: int, status: Status, reason: str, proposal: Proposal | None = None) -> Trial:
        """End a trial that is not worth measuring."""
        return self.ledger.finish_trial(number, status, note=reason, proposal=proposal)

    def _repeats(self, number: int, ticket: Ticket, files: Files) -> str:
        other = self.ledger.trial(number)
        if (
            program_id(files) == ticket.parent_program
            or number == self.ledger.trial(ticket.number).parent_trial
        ):
            return f"changes nothing that the code means: it is its parent, trial {other.id}"
        if other.state is not TrialState.DONE:
            return f"repeats trial {other.id}, which is queued or running"
        outcome = f"{other.status}" + (f", {other.verdict}" if other.verdict else "")
        score = f", {self.task.metric.name} {other.score:.6g}" if other.score is not None else ""
        return f"repeats trial {other.id} ({outcome}{score})"

    def program(self, trial: Trial) -> Files:
        """The files of a trial that was accepted."""
        assert trial.program is not None
        return self.ledger.program(trial.program)

    # measure and judge ----------------------------------------------------------------------------

    def needed(self, trial: Trial, stage: str, replicate: int = 0) -> Measurement:
        """The measurement of a stage: finished, or the next attempt at it."""
        prefix = f"{trial.id}-{stage}-{replicate}"
        tried = self.ledger.attempts(prefix)
        attempt = len(tried) + 1
        if tried:
            last = tried[-1]
            if last.status is None:
                return last.replace(band=self._band(trial, stage))
            if last.status is not Status.INFRA_ERROR or last.attempt >= ATTEMPTS:
                return last
        seed = self._seed(trial.ordinal, stage, replicate)
        return Measurement(
            id=f"{prefix}-{attempt}",
            trial=trial.number,
            stage=stage,
            attempt=attempt,
            seed=seed,
            eval_seed=self._seed(trial.ordinal, stage + " windows", replicate),
            band=self._band(trial, stage),
        )

    def _band(self, trial: Trial, stage: str) -> Band:
        """What the learning curve of a screening run may not exceed; the program that it branches from is known when
        it is opened, so this does not depend on who is quicker."""
        rule = self.task.early_abort
        if rule is None or stage != "screen" or trial.parent_trial is None:
            return ()
        first = self.ledger.promotions(trial.campaign)
        if not first:
            return ()
        known = self.ledger.measurements
        return band_for(rule, known(trial.parent_trial), known(first[0].trial))

    def first_measurements(self, trial: Trial) -> list[Measurement]:
        """What a queued trial needs before it can be judged at all; the baseline needs its replicates."""
        several = trial.ordinal == 0 and not self.task.metric.deterministic
        count = BASELINE_REPLICATES if several else 1
        return [self.needed(trial, "screen", replicate) for replicate in range(count)]

    def again(self, measurement: Measurement, *, fresh: int | None) -> Measurement:
        """A replay of a measurement: with its own seed, or with the `fresh`-th new one."""
        trial = self.ledger.trial(measurement.trial)
        stage = "replay-" + measurement.stage
        count = len([m for m in self.ledger.measurements(trial.number) if m.stage.startswith("replay")])
        seed = measurement.seed if fresh is None else self._seed(trial.ordinal, "replay", fresh)
        return Measurement(
            id=f"{trial.id}-{stage}-{count if fresh is None else fresh}-1",
            trial=trial.number,
            stage=stage,
            seed=seed,
            eval_seed=measurement.eval_seed,
        )

    def _seed(self, *parts: object) -> int:
        """Seeds belong to the lab: a function of the campaign's seed and of what is measured."""
        text = "/".join(str(part) for part in (self.campaign.config["seed"], *parts))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") & 0x7FFFFFFF

    def record(self, measurement: Measurement) -> Measurement:
        """Store what an executor measured, after applying gates and the objective."""
        checked = self._checked(measurement)
        with self.ledger.transaction():
            if self.ledger.finish_measurement(checked):
                observe(self.ledger, checked)
        return checked

    def _checked(self, measured: Measurement) -> Measurement:
        changed = self._changed_data(
            thoroughly=measured.stage.endswith("confirm") or measured.stage == "certify"
        )
        if changed is not None:
            return measured.replace(status=Status.TAMPERED, cause=changed, score=None)
        if measured.status is not Status.OK:
            return measured.replace(score=None)
        name = self.task.metric.reported(measured.stage)
        for gate in self.task.gates:
            limit = gate.model_copy(update={"metric": name}) if gate.metric == self.task.metric.name else gate
            if measured.stage == "certify" and limit.metric not in measured.metrics:
                continue  # measured on the other split alone; it was met at confirmation
            missed = limit.miss(measured.metrics)
            if missed is not None:
                return measured.replace(status=Status.GATE_MISSED, cause=missed, score=None)
        if self.task.objective == "wallclock":
            return measured.replace(score=measured.train_seconds)
        return measured.replace(score=measured.metrics[name])

    def _changed_data(self, *, thoroughly: bool) -> str | None:
        """Whether the data is still what it was: by its files' inodes and times, before a promotion by hash."""
        if self.data.fingerprint() != self.fingerprint:
            return "the data changed during the measurement"
        damaged = self.data.damage() if thoroughly else None
        return f"the data changed: {damaged}" if damaged else None


def executor_name(config: Mapping[str, Any]) -> str:
    """Where a campaign with this configuration measures."""
    return "hf-jobs" if "jobs" in config else "ray" if "ray" in config else "local"


def open_lab(directory: Path, *, create: bool = False) -> Ledger:
    """The ledger of a lab. Raises LabError if no campaign has run there and `create` is false."""
    return Ledger(directory / STATE_DIRECTORY / "ledger.sqlite", create=create)


def read_files(root: Path, names: tuple[str, ...]) -> dict[str, str]:
    """Some of a task's files as text. Raises LabError for links and what is not UTF-8."""
    files = {}
    for name in names:
        path = root / name
        if path.is_symlink() or not path.is_file():
            raise LabError("is not a plain file", where=str(path), mend="replace the link by the file itself")
        try:
            files[name] = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            raise LabError("is not UTF-8 text", where=str(path), mend="convert it") from None
    return files


def begin_campaign(
    directory: Path,
    ledger: Ledger,
    *,
    name: str | None,
    profile: str,
    config: Mapping[str, Any],
    hardware: str | None = None,
) -> Lab:
    """Start a campaign on the task in `directory`, with its files as they are now as the baseline. `hardware` names
    what it is measured on, if that is not this machine."""
    task = load_task(directory, profile)
    protected = read_files(task.root, task.protected)
    baseline = read_files(task.root, task.editable)
    problem = preflight(baseline)
    if problem is not None:
        raise LabError(problem, where=str(task.root), mend="mend the recipe; a search needs one that runs")
    data = prepare_data(task, protected, task.root / STATE_DIRECTORY / "cache")
    with ledger.transaction():
        campaign = ledger.create_campaign(
            name=name or task.name,
            task=task.name,
            key=comparability_key(task, data.manifest, hardware),
            config={
                **config,
                "task": task.model_dump(mode="json"),
                "data": data.directory.name if data.directory else None,
                "protected": ledger.add_program(protected),
            },
            baseline=ledger.add_program(baseline),
        )
        opened = ledger.open_trial(
            campaign.id, role="baseline", agent="", surface="", parent_program=None, parent_trial=None,
            executor=executor_name(config),
        )  # fmt: skip
        ledger.queue_trial(opened.number, baseline, Proposal("The recipe as it is.", ()))
    return Lab(task.root, ledger, campaign, task, protected, data, data.fingerprint())


def current_key(directory: Path, profile: str, hardware: str | None = None) -> str:
    """The comparability key of the task as it is in the directory now."""
    task = load_task(directory, profile)
    data = prepare_data(task, read_files(task.root, task.protected), task.root / STATE_DIRECTORY / "cache")
    return comparability_key(task, data.manifest, hardware)


def attach(directory: Path, ledger: Ledger, campaign: Campaign) -> Lab:
    """A lab around an earlier campaign, from the ledger alone: its own task and evaluator. It can open trials and
    take proposals, but not measure: that needs the data, which `resume_campaign` prepares.

    Raises LabError for a campaign of another lab."""
    if campaign.lab:
        raise LabError(
            f"{campaign.id} is another lab's, whose evaluator is not run here",
            mend="`autolab diff` shows a trial's change; try it with `autolab submit`",
        )
    root = directory.resolve()
    task = Task.model_validate({**campaign.config["task"], "root": root})
    return Lab(root, ledger, campaign, task, ledger.program(campaign.config["protected"]))


def resume_campaign(directory: Path, ledger: Ledger, campaign: Campaign) -> Lab:
    """A lab around an earlier campaign that can measure, with its data prepared and checked."""
    lab = attach(directory, ledger, campaign)
    data = prepare_data(lab.task, lab.protected, lab.state / "cache")
    return replace(lab, prepared=data, fingerprint=data.fingerprint())

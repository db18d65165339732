"""What one lab tells another: its finished trials as records, one JSON line each, checked by whoever reads them.

A part is a file of such lines: its lab first, then every campaign and program before the trial that speaks of it.
It is complete in itself, and never changes once it is written. Trials are named by their ids, which no two labs
share. What belongs to a machine (its name, its slots, its logs) stays there.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from autolab.errors import LabError
from autolab.ledger.naming import TRIAL, campaign_lab, lab_and_place
from autolab.ledger.records import PROMOTED, Status, Verdict
from autolab.ledger.views import CELL, cell
from autolab.program.hashing import program_id
from autolab.task import Edit, Gate, Metric

VERSION = 1
LINE_BYTES = 16 << 20
MOST_FILES = 200

TrialId = Annotated[str, Field(pattern=TRIAL)]
LabId = Annotated[str, Field(pattern=r"^(?:[0-9a-f]{4}|[0-9a-f]{6})$")]
# It names folders and files, so it can be nothing but a name.
CampaignId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
ProgramId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


def _shown(text: str) -> str:
    """It may be printed as it is."""
    if not text.isprintable():
        raise ValueError("it holds control or invisible characters")
    return text


Word = Annotated[str, Field(max_length=200), AfterValidator(_shown)]
Line = Annotated[str, Field(max_length=CELL), AfterValidator(_shown)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Amount = Annotated[float, Field(ge=0)]
Time = Annotated[float, Field(ge=0, lt=2.5e11)]  # unix time that a calendar still has a date for


class _Fact(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    def line(self) -> str:
        """The fact as one line of JSON; the same fact gives the same bytes."""
        return self.model_dump_json()


class LabFact(_Fact):
    """The head of a part: whose it is, and which of its finished trials it holds."""

    kind: Literal["lab"] = "lab"
    version: Literal[1]
    id: LabId
    first: Count
    last: Count
    trials: Count


class TaskFact(_Fact):
    """What a campaign measured, as far as others need it to read its scores."""

    metric: Metric
    name: Word = ""
    profile: Word = ""
    editable: tuple[str, ...] = ()
    budget: dict[Word, float | None] = {}
    gates: tuple[Gate, ...] = ()
    objective: Word = "metric"


class CampaignFact(_Fact):
    """A campaign, without what changes while it runs."""

    kind: Literal["campaign"] = "campaign"
    id: CampaignId
    task: Word
    key: Word
    seed: Count | None
    config: TaskFact
    baseline: ProgramId
    created_at: Time


class ProgramFact(_Fact):
    """One content of the editable files. `autolab adopt` may write them, so their paths stay below a directory."""

    kind: Literal["program"] = "program"
    id: ProgramId
    files: Annotated[dict[str, str], Field(max_length=MOST_FILES)]

    @field_validator("files")
    @classmethod
    def _plain_paths(cls, files: dict[str, str]) -> dict[str, str]:
        for path in files:
            parts = PurePosixPath(path).parts
            plain = path == str(PurePosixPath(path)) and len(path) < 500 and path.isprintable()
            if not plain or "\\" in path or any(part.startswith(".") or part == "/" for part in parts):
                raise ValueError("a path is not a plain one below the task's directory")
        return files

    @model_validator(mode="after")
    def _named_by_content(self) -> ProgramFact:
        if program_id(self.files) != self.id:
            raise ValueError("the content is not the one of that id")
        return self


class ProposalFact(_Fact):
    """What an agent handed over."""

    hypothesis: str
    edits: tuple[Edit, ...]
    surface: str
    expected_effect: str
    rationale: str
    sources: tuple[str, ...]
    move: str
    tokens: Count
    cost_usd: Amount


class MeasurementFact(_Fact):
    """One finished measurement."""

    id: Word
    stage: Word
    seed: Count
    eval_seed: Count
    attempt: Count
    status: Status
    score: float | None
    cause: str
    metrics: dict[Word, float]
    sandbox: Word
    evidence: Word
    train_seconds: Amount
    train_cpu_seconds: Amount
    eval_seconds: Amount
    peak_memory_mb: Amount
    artifact_bytes: Count
    tokens: Count
    started_at: Time
    finished_at: Time
    job: Word
    cost_usd: Amount
    cached_from: Word


class PromotionFact(_Fact):
    """That a trial's program became the master, and on what evidence."""

    score: float
    score_low: float
    score_high: float
    gain: float
    reason: str
    at: Time


class TrialFact(_Fact):
    """A finished trial with its measurements. `noise_sd` is what the replicates of a baseline gave."""

    kind: Literal["trial"] = "trial"
    id: TrialId
    campaign: CampaignId
    ordinal: Count
    role: Word
    agent: Word
    surface: Line
    parent_program: ProgramId | None
    parent: TrialId | None
    program: ProgramId | None
    status: Status
    verdict: Verdict | None
    score: float | None
    score_low: float | None
    score_high: float | None
    delta: float | None
    repeats: TrialId | None
    proposal: ProposalFact | None
    note: str
    executor: Word
    created_at: Time
    finished_at: Time
    noise_sd: Amount | None
    measurements: tuple[MeasurementFact, ...]
    promotion: PromotionFact | None

    @model_validator(mode="after")
    def _consistent(self) -> TrialFact:
        lab, place = lab_and_place(self.id)
        for name in (self.parent, self.repeats):
            if name is not None and lab_and_place(name)[0] != lab:
                raise ValueError("it speaks of a trial of another lab")
        # Or a chain of parents could be a ring, which nobody reaches the end of.
        if self.parent is not None and lab_and_place(self.parent)[1] >= place:
            raise ValueError("its parent was opened later")
        if self.status is not Status.OK and (self.score is not None or self.verdict is not None):
            raise ValueError("it failed and has a score")
        low, high = self.score_low, self.score_high
        if (
            low is not None
            and high is not None
            and not (self.score is not None and low <= self.score <= high)
        ):
            raise ValueError("its score is outside its interval")
        if self.promotion is not None and (self.program is None or self.verdict not in PROMOTED):
            raise ValueError("it was promoted without being confirmed")
        names = [measured.id for measured in self.measurements]
        if len(set(names)) != len(names) or not all(name.startswith(f"{self.id}-") for name in names):
            raise ValueError("a measurement has another trial's name")
        return self


Fact = LabFact | CampaignFact | ProgramFact | TrialFact
_FACT: TypeAdapter[Fact] = TypeAdapter(Annotated[Fact, Field(discriminator="kind")])


@dataclass
class Part:
    """A part that was read: everything it holds, by id. Programs are kept as the ledger keeps them."""

    where: str
    lab: str = ""
    first: int = 0  # finish orders in its lab
    last: int = 0
    campaigns: dict[str, CampaignFact] = field(default_factory=dict)
    programs: dict[str, bytes] = field(default_factory=dict)
    trials: dict[str, TrialFact] = field(default_factory=dict)


def read_part(content: bytes, where: str) -> Part:
    """The facts of a part, each of them checked. Raises LabError that names `where` and the line."""
    part, head, number = Part(where), None, 0
    try:
        for line in content.removesuffix(b"\n").split(b"\n"):
            number += 1
            if len(line) > LINE_BYTES:
                raise ValueError("the line is too long")
            fact = _FACT.validate_json(line)
            if head is not None:
                _add(part, fact)
            elif isinstance(fact, LabFact):
                head = fact
                part.lab, part.first, part.last = fact.id, fact.first, fact.last
            else:
                raise ValueError("it does not begin with its lab")
        if head is None or head.trials != len(part.trials):
            raise ValueError("its end is missing")
        if head.trials > head.last - head.first + 1:
            raise ValueError("it holds more trials than it says")
    except (ValueError, RecursionError) as problem:
        text = plainly(problem) if isinstance(problem, ValidationError) else str(problem)
        raise LabError(
            f"is damaged: {cell(text)[:200]}",
            where=f"{where} line {number}",
            mend="nothing was merged; ask the lab that wrote it",
        ) from None
    return part


def _add(part: Part, fact: Fact) -> None:
    """Put a fact to the others. Raises ValueError if it speaks of what the part does not hold."""
    if isinstance(fact, ProgramFact):
        part.programs[fact.id] = packed(fact.files)
    elif isinstance(fact, CampaignFact):
        if campaign_lab(fact.id) not in (part.lab, ""):
            raise ValueError("the campaign is of another lab")
        _known(part, fact.baseline)
        part.campaigns[fact.id] = fact
    elif isinstance(fact, TrialFact):
        if lab_and_place(fact.id)[0] != part.lab:
            raise ValueError("the trial is of another lab")
        if fact.campaign not in part.campaigns:
            raise ValueError("it speaks of a campaign that is not in this part")
        for program in (fact.program, fact.parent_program):
            _known(part, program)
        if fact.id in part.trials:
            raise ValueError("the trial is there twice")
        part.trials[fact.id] = fact
    else:
        raise ValueError("it has a second head")


def _known(part: Part, program: str | None) -> None:
    if program is not None and program not in part.programs:
        raise ValueError("it speaks of a program that is not in this part")


def packed(files: dict[str, str]) -> bytes:
    """A program's files as the ledger keeps them."""
    return zlib.compress(json.dumps(files, sort_keys=True).encode(), 6)


def plainly(error: ValidationError) -> str:
    """The first problem that pydantic found, without what it found there."""
    problem = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in problem["loc"] if part != "function-after")
    if place.endswith("version"):
        return f"it was written by another version of Autolab (this one reads {VERSION})"
    return f"{place}: {problem['msg'].removeprefix('Value error, ')}".removeprefix(": ")

"""The records that cross rooms: what an agent hands over, what was measured, what became of it."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from typing import Any

from autolab.task import Edit


def storable(text: str) -> str:
    """The text with what no file can hold (lone surrogates, from bytes that are not UTF-8) as question marks."""
    return text.encode("utf-8", "replace").decode()


class Status(enum.StrEnum):
    """What became of a trial or a measurement; exactly one applies."""

    OK = "ok"
    PROPOSAL_FAILED = "proposal_failed"
    PREFLIGHT_FAILED = "preflight_failed"
    DUPLICATE = "duplicate"
    ILLEGAL = "illegal"
    CRASH = "crash"
    OOM = "oom"
    NAN = "nan"
    TIMEOUT = "timeout"
    EVAL_TIMEOUT = "eval_timeout"
    OVER_SIZE = "over_size"
    GATE_MISSED = "gate_missed"
    TAMPERED = "tampered"
    INFRA_ERROR = "infra_error"
    ABORTED = "aborted"  # stopped early: its learning curve was far outside the master's band


# The machine lost it, or somebody touched the data meanwhile: nothing that the change need have done.
UNRELATED = frozenset({Status.INFRA_ERROR, Status.TAMPERED})
# What can be of the machine or of the moment, and need not happen to the same program again.
PASSING = UNRELATED | {Status.TIMEOUT, Status.EVAL_TIMEOUT, Status.OOM}
# No result to reuse elsewhere: whether a run is stopped early depends on the master of its campaign.
NOT_REUSED = PASSING | {Status.ABORTED}

# What a person calls failed: the change, tried as it was meant, did not work. Whoever counts failures counts these.
FAILURES = frozenset(
    {
        Status.PREFLIGHT_FAILED, Status.CRASH, Status.OOM, Status.NAN, Status.TIMEOUT, Status.EVAL_TIMEOUT,
        Status.OVER_SIZE, Status.GATE_MISSED,
    }
)  # fmt: skip
# More than a failure, and told apart from them: it reached for what it may not touch.
BROKE_RULES = frozenset({Status.TAMPERED, Status.ILLEGAL})
# No failure of anybody: the change was measured, its result was known already, or the machine lost it.
NOT_ITS_FAULT = frozenset({Status.OK, Status.DUPLICATE, Status.INFRA_ERROR})
# Nothing is missing: it has a score, or the trial that it repeats has one. All others were lost, by whosever fault.
NOT_LOST = frozenset({Status.OK, Status.DUPLICATE})
# A proposal that came to nothing and an early abort (which is what early aborts are for) are in none of these.

# In rising progress: (progress 0..1, value), and (progress, lowest, highest, worst allowed).
Curve = tuple[tuple[float, float], ...]
Band = tuple[tuple[float, float, float, float], ...]


class Verdict(enum.StrEnum):
    """How an `ok` trial compares with the master that it was judged against."""

    WORSE = "worse"
    NO_DIFFERENCE = "no_difference"
    PROVISIONAL = "provisional"
    CONFIRMED = "confirmed"
    CERTIFIED = "certified"
    SIMPLIFICATION = "simplification"


PROMOTED = frozenset({Verdict.CONFIRMED, Verdict.CERTIFIED, Verdict.SIMPLIFICATION})  # became master


class TrialState(enum.StrEnum):
    """Where a trial is on its way; `done` is final, and the ledger refuses to change it."""

    OPEN = "open"
    QUEUED = "queued"
    DONE = "done"


@dataclass(frozen=True)
class Proposal:
    """What an agent hands over: one hypothesis and one edit of the parent program."""

    hypothesis: str
    edits: tuple[Edit, ...]
    surface: str = ""
    expected_effect: str = ""
    rationale: str = ""
    sources: tuple[str, ...] = ()
    move: str = ""  # the harness' own name of what it changed, for learning from outcomes
    tokens: int = 0  # spent by the model that wrote it
    cost_usd: float = 0.0

    def __post_init__(self) -> None:
        for name in ("hypothesis", "surface", "expected_effect", "rationale", "move"):
            object.__setattr__(self, name, storable(getattr(self, name)))
        object.__setattr__(self, "sources", tuple(storable(source) for source in self.sources))


@dataclass(frozen=True)
class Measurement:
    """One execution of one program. A failed one has no score: not zero, not infinity."""

    id: str
    trial: int
    stage: str
    seed: int
    eval_seed: int
    attempt: int = 1
    status: Status | None = None  # None while it waits or runs
    cause: str = ""
    score: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    host: str = ""
    sandbox: str = ""
    evidence: str = "measured"
    train_seconds: float = 0.0
    train_cpu_seconds: float = 0.0
    eval_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    artifact_bytes: int = 0
    tokens: int = 0
    clock: dict[str, Any] | None = None
    slot: int = 0
    started_at: float = 0.0
    finished_at: float = 0.0
    log_excerpt: str = ""
    job: str = ""  # the Hub's id of the job that it ran in
    cost_usd: float = 0.0  # what was paid for the machine
    cached_from: str = ""  # the measurement whose result this is: nothing ran, and it is no new evidence
    curve: Curve = ()  # what the recipe said of its training: a rumour
    band: Band = ()  # what its curve may not exceed; asked of the executor, never recorded

    def replace(self, **changes: Any) -> Measurement:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class Trial:
    """One proposal and everything that happened to it."""

    number: int
    id: str
    campaign: str
    ordinal: int  # place in its campaign; 0 is the baseline
    state: TrialState
    role: str = ""
    agent: str = ""
    surface: str = ""
    parent_program: str | None = None
    parent_trial: int | None = None
    program: str | None = None
    status: Status | None = None
    verdict: Verdict | None = None
    score: float | None = None
    score_low: float | None = None
    score_high: float | None = None
    delta: float | None = None
    repeats: int | None = None  # the trial that a duplicate repeats
    proposal: Proposal | None = None
    note: str = ""
    executor: str = "local"
    created_at: float = 0.0
    finished_at: float | None = None
    order: int | None = None  # position among the finished trials

    @property
    def hypothesis(self) -> str:
        """What the trial set out to test."""
        return self.proposal.hypothesis if self.proposal else ""


@dataclass(frozen=True)
class Observation:
    """One scored measurement as statistics sees it. `at` is the ordinal of the trial for which it was made: the
    campaign's own clock, which, unlike the time of day, is the same when a campaign is repeated."""

    program: str
    host: str
    score: float
    at: int
    stage: str = "screen"
    campaign: str = ""


@dataclass(frozen=True)
class Promotion:
    """One change of the master, with the evidence for it."""

    number: int
    campaign: str
    trial: int
    program: str
    replaced: int | None
    score: float
    score_low: float
    score_high: float
    gain: float
    reason: str
    at: float
    kind: str = "improvement"  # baseline, improvement, simplification, or demotion: back to an earlier master


@dataclass(frozen=True)
class Standing:
    """The master as it is seen now: its score from every measurement made after it was selected, and its gain over
    the program that it replaced (None for the baseline)."""

    campaign: str
    promotion: int
    score: float
    low: float
    high: float
    runs: int
    gain: float | None
    gain_se: float | None
    gain_half: float | None  # half of the gain's 95 % interval
    noise_sd: float
    noise_df: int


@dataclass(frozen=True)
class Decision:
    """A test that ended well, of a trial that is still being measured for the report."""

    trial: int
    promotion: int
    verdict: Verdict
    note: str
    estimates: int


@dataclass(frozen=True)
class SealedLook:
    """One look at the sealed split; `asked_by` is `promotion` or `hand`."""

    number: int
    campaign: str
    trial: int
    measurement: str
    asked_by: str
    status: Status
    score: float | None
    at: float


@dataclass(frozen=True)
class Campaign:
    """One search on one task. `spec` is the task as it was when the campaign began."""

    id: str
    task: str
    key: str
    config: dict[str, Any]
    state: str
    baseline: str
    noise_sd: float | None
    created_at: float
    lab: str = ""  # whose it is; empty: this lab's own


class IdeaState(enum.StrEnum):
    """What became of an idea. `taken` while a trial of it is open or running."""

    OPEN = "open"
    TAKEN = "taken"
    TRIED = "tried"
    REFUTED = "refuted"
    ADOPTED = "adopted"
    DROPPED = "dropped"


@dataclass(frozen=True)
class Idea:
    """A single change that somebody thought worth trying, and where it comes from."""

    number: int
    campaign: str
    rank: float  # the lowest is next
    surface: str
    change: str
    claim: str
    source: str  # arXiv id or address; empty for an idea of one's own
    effect: str
    author: str
    state: IdeaState
    trial: int | None
    note: str
    at: float


@dataclass(frozen=True)
class Workspace:
    """Where the agent of an open trial edits, and until when it may."""

    trial: int
    path: str
    session: str
    idea: int | None
    opened_at: float
    lease_until: float


@dataclass(frozen=True)
class AgentSession:
    """What one session of a model cost, and how it ended."""

    campaign: str
    trial: int | None
    role: str
    agent: str
    model: str
    tokens_in: int = 0
    tokens_out: int = 0
    requests: int = 0
    retries: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0
    outcome: str = "answered"
    note: str = ""
    at: float = 0.0

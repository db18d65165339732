"""What a person is shown of a campaign: the records that the page, the figures, the morning report and the terminal
are drawn from, so that all of them say the same.

Times are seconds since the epoch, durations seconds, money US dollars. A score that does not exist is None: not zero.
Texts of agents and of programs stand here as they are in the ledger; whoever shows them makes them harmless.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Headline:
    """Is there a better recipe, can it be believed, what did it cost. `sentence` says all of it in one line."""

    sentence: str  # "val_bpb 2.31 → 2.18 [2.17, 2.19], confirmed at 99 %, 41 trials, 38 min, $0.00"
    before: float | None  # the baseline's score; None before there is one
    score: float | None  # the master's as it is seen now
    low: float | None  # of its 95 % interval
    high: float | None
    state: str  # baseline, confirmed, certified, simplification; empty before there is a baseline
    confidence: float | None  # 0..1, that no promotion is luck, at least: 1 - the campaign's error budget
    promotions: int
    demotions: int
    trials: int  # finished, without the baseline
    under_way: int
    seconds: float  # from the campaign's begin to its last finished trial, or to now while it is alive
    compute_hours: float  # of slots, training and evaluation together
    compute_unit: str  # "GPU-hours" or "slot-hours"
    dollars: float  # of jobs and of models
    tokens: int


@dataclass(frozen=True)
class Concern:
    """Something that needs a person, with what to do about it."""

    kind: str  # baseline, tampering, crash_cluster, hung, duplicates, host_shift, budget, stale_master, self_reported,
    # no_sandbox, unconfirmed, idle, sessions, infra, waiting, sealed …: `attention.KINDS` has them all
    level: Level
    text: str  # one sentence with its numbers; agents' words are plain text between “ and ”
    trials: tuple[str, ...]  # ids, newest first, all of them
    mend: str  # a command or an action; may be empty


@dataclass(frozen=True)
class Mark:
    """One trial, finished or not, in short. What only the opened row shows is a `Detail`."""

    id: str
    ordinal: int  # place in the campaign; 0 is the baseline
    outcome: str  # ledger.masters.outcome: state now, verdict, status, or open / queued / running
    status: str  # empty until it is finished
    role: str
    agent: str
    surface: str
    parent: int | None  # ordinal of the trial it branched from
    generation: int  # how many ancestors it has: the baseline has none
    score: float | None
    low: float | None
    high: float | None
    delta: float | None  # against the master that it was judged by; positive is better
    # As in research_results.tsv, of what it was judged by: no controls, no looks at the sealed split, no replays.
    measurements: int
    train_seconds: float
    # What it cost, of everything that was measured of its program.
    eval_seconds: float
    dollars: float  # and of the model that proposed it
    tokens: int
    peak_memory_mb: float  # of what it was judged by, as above
    created_at: float
    finished_at: float | None
    compute_hours: float  # spent by the campaign until this trial had ended (the x axis "compute")
    spent_dollars: float  # likewise (the x axis "cost")
    place: int | None  # 0, 1, 2 … in the order in which trials finished (the x axis "trials"); None: not yet
    hypothesis: str  # whole
    slot_seconds: float = 0.0  # of everything that was measured of its program: training and evaluation


@dataclass(frozen=True)
class Climb:
    """One change of the master."""

    trial: int  # ordinal
    id: str
    kind: str  # baseline, improvement, simplification, demotion
    state: str  # now: baseline, confirmed, certified, simplification, demoted
    score: float
    low: float
    high: float
    gain: float
    at: float
    place: int  # where it lies among the finished trials (Mark.place)
    compute_hours: float
    spent_dollars: float
    reason: str


@dataclass(frozen=True)
class Noise:
    """How much one run scatters, and the band around the baseline that this makes: ± `sds` standard deviations."""

    sd: float
    df: int | None
    sds: float
    low: float
    high: float


@dataclass(frozen=True)
class Span:
    """What a slot did. Between spans it was idle."""

    lane: int  # index into Slots.lanes
    kind: str  # "training", "evaluation", "failed" (a measurement that gave no score), "running" (not ended yet)
    begin: float
    end: float
    trial: int  # ordinal
    stage: str  # screen, confirm, control-1 …


@dataclass(frozen=True)
class Slots:
    """Slots over time."""

    lanes: tuple[str, ...]  # "slot 0", or "host, slot 0" where there are several hosts
    spans: tuple[Span, ...]  # by begin
    queue: tuple[tuple[float, int], ...]  # (time, trials that waited for a slot from then on)
    # Busy seconds / (lanes × time from the first span's begin to the last one's end).
    utilisation: float | None
    # Median that a finished trial waited from its submission to its first measurement.
    queue_seconds: float | None


@dataclass(frozen=True)
class Group:
    """What came of the trials of one surface or role."""

    name: str  # "none" if the trials have none
    trials: int
    valid: int  # status ok
    promoted: int  # and not taken back
    provisional: int
    no_difference: int
    worse: int
    demoted: int
    failed: int  # all but records.NOT_ITS_FAULT: broken rules, empty proposals and early aborts too
    gain: float  # sum of the gains that stood
    compute_hours: float  # of slots, all that its trials took
    dollars: float


@dataclass(frozen=True)
class DeadEnd:
    """What was tried and does not work, for now."""

    surface: str
    trial: str  # id
    hypothesis: str
    outcome: str
    evidence: str  # score and delta, or the cause of the failure
    expires: str  # "after 2 changes of the master"; there are no others here


@dataclass(frozen=True)
class Learned:
    """What the campaign taught."""

    by_surface: tuple[Group, ...]
    by_role: tuple[Group, ...]
    dead_ends: tuple[DeadEnd, ...]  # newest first, at most 200


@dataclass(frozen=True)
class UnderWay:
    """A trial that is not finished."""

    id: str
    ordinal: int
    state: str  # open (with its agent), queued, running
    slot: str  # lane's name, or empty
    seconds: float  # in that state
    hypothesis: str


@dataclass(frozen=True)
class Overview:
    """A campaign as it is shown, at `now`. The same ledger and the same `now` give the same overview."""

    campaign: str
    task: str
    key: str  # comparability key
    state: str  # of the campaign; "interrupted" if nobody works on it although it says running
    alive: bool
    metric: str
    direction: str  # minimize or maximize
    now: float
    began: float
    headline: Headline
    concerns: tuple[Concern, ...]  # the gravest first
    marks: tuple[Mark, ...]  # by ordinal
    climbs: tuple[Climb, ...]  # oldest first
    noise: Noise | None
    slots: Slots
    learned: Learned
    under_way: tuple[UnderWay, ...]


@dataclass(frozen=True)
class Run:
    """One measurement of an opened row."""

    stage: str
    status: str
    score: float | None  # None for looks at the sealed split, as for failures
    seed: int
    host: str
    seconds: float
    cpu_seconds: float
    memory_mb: float
    evidence: str
    sandbox: str
    cause: str
    metrics: dict[str, float]
    curve: tuple[tuple[float, float], ...]  # (progress 0..1, value): what the recipe said, a rumour
    log: str  # excerpt


@dataclass(frozen=True)
class Detail:
    """What an opened row shows of one trial."""

    id: str
    note: str
    rationale: str
    expected: str
    sources: tuple[str, ...]
    patch: str  # unified diff against its parent; control characters are named: <U+001B>
    runs: tuple[Run, ...]
    children: tuple[str, ...]  # ids

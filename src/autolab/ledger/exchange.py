"""A ledger's finished trials as parts for other labs, and other labs' parts merged into a ledger.

Merging is a union of sets: the order of merges, and how often, makes no difference. A trial that is known already
is compared; one that says something else under the same name is refused, and then nothing is merged.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from pydantic import ValidationError

from autolab.errors import LabError
from autolab.ledger.facts import (
    CampaignFact,
    LabFact,
    MeasurementFact,
    Part,
    ProgramFact,
    PromotionFact,
    ProposalFact,
    TaskFact,
    TrialFact,
    plainly,
)
from autolab.ledger.naming import foreign_number, lab_and_place
from autolab.ledger.records import PROMOTED, Campaign, Measurement, Proposal, Status, Trial
from autolab.ledger.rows import encode_proposal, trial_of
from autolab.ledger.store import Ledger
from autolab.ledger.views import cell, evidence, milliseconds, timestamp

MOST_TRIALS, MOST_BYTES = (
    500,
    4 << 20,
)  # of a part, so that none becomes a file that the Hub stores another way
AHEAD_SECONDS = 300  # by which the clock of another lab may be ahead of this one's
PULLED = "pulled"  # the state of another lab's campaign


@dataclass(frozen=True)
class WrittenPart:
    """A part to be written: which of its lab's finished trials (by finish order) it holds."""

    first: int
    last: int
    content: bytes
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Merged:
    """What a merge brought."""

    new: int
    known: int
    labs: int  # how many the new ones are of


# out --------------------------------------------------------------------------------------------------


def pack(ledger: Ledger, after: int = 0) -> Iterator[WrittenPart]:
    """This lab's own finished trials past finish order `after`, as parts. The same trials give the same bytes."""
    facts = _Facts(ledger)
    lines: dict[str, str] = {}  # by what they are about, in the order in which they are needed
    trials: list[Trial] = []
    size = 0
    for trial in _own_trials(ledger, after):
        if trials and (len(trials) >= MOST_TRIALS or size >= MOST_BYTES):
            yield _close(ledger, lines, trials)
            lines, trials, size = {}, [], 0
        for name, line in facts.lines(trial):
            if name not in lines:
                lines[name] = line
                size += len(line)
        trials.append(trial)
    if trials:
        yield _close(ledger, lines, trials)


def _close(ledger: Ledger, lines: dict[str, str], trials: Sequence[Trial]) -> WrittenPart:
    first, last = trials[0].order or 0, trials[-1].order or 0
    head = LabFact(version=1, id=ledger.meta("lab") or "", first=first, last=last, trials=len(trials))
    text = "".join(line + "\n" for line in (head.line(), *lines.values()))
    return WrittenPart(first, last, text.encode(), tuple(trials))


def newest_order(ledger: Ledger) -> int:
    """The finish order of this lab's own newest finished trial; 0 if none has finished."""
    row = ledger.rows.execute(
        "SELECT t.finish_order FROM trial t JOIN campaign c ON c.id = t.campaign WHERE c.lab = ''"
        " AND t.finish_order IS NOT NULL ORDER BY t.finish_order DESC LIMIT 1"
    ).fetchone()
    return 0 if row is None else int(row[0])


def _own_trials(ledger: Ledger, after: int) -> Iterator[Trial]:
    while page := ledger.rows.execute(
        "SELECT t.* FROM trial t JOIN campaign c ON c.id = t.campaign WHERE c.lab = '' AND t.finish_order > ?"
        " ORDER BY t.finish_order LIMIT 200",
        (after,),
    ).fetchall():
        yield from map(trial_of, page)
        after = page[-1]["finish_order"]


class _Facts:
    """What a ledger says, as facts."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.campaign = cache(self._campaign)
        self._promotions = cache(self._promotions_of)
        self._program = lru_cache(32)(lambda name: ProgramFact(id=name, files=ledger.program(name)).line())

    def lines(self, trial: Trial) -> Iterator[tuple[str, str]]:
        """(what it is about, the line) of a trial and of everything that it speaks of, that first.

        Raises LabError for what no other lab would read, such as a program with a file in a hidden folder.
        """
        try:
            campaign = self.campaign(trial.campaign)
            for program in (campaign.baseline, trial.parent_program, trial.program):
                if program is not None:
                    yield f"program {program}", self._program(program)
            yield f"campaign {campaign.id}", campaign.line()
            yield f"trial {trial.id}", self.trial(trial).line()
        except ValidationError as problem:
            raise LabError(
                f"no other lab would read it: {plainly(problem)}",
                where=f"trial {trial.id}",
                mend="leave such files out of `editable`; this campaign cannot be published",
            ) from None

    def _campaign(self, name: str) -> CampaignFact:
        return campaign_fact(self.ledger.campaign(name))

    def trial(self, trial: Trial) -> TrialFact:
        """A finished trial as a fact."""
        assert trial.status is not None and trial.finished_at is not None
        measured = evidence(trial, self.ledger.measurements(trial.number))
        baseline = trial.ordinal == 0 and trial.status is Status.OK
        proposal = trial.proposal
        return TrialFact(
            id=trial.id,
            campaign=trial.campaign,
            ordinal=trial.ordinal,
            role=trial.role,
            agent=trial.agent,
            surface=cell(trial.surface),
            parent_program=trial.parent_program,
            parent=self.ledger.trial_id(trial.parent_trial) if trial.parent_trial else None,
            program=trial.program,
            status=trial.status,
            verdict=trial.verdict,
            score=trial.score,
            score_low=trial.score_low,
            score_high=trial.score_high,
            delta=trial.delta,
            repeats=self.ledger.trial_id(trial.repeats) if trial.repeats else None,
            proposal=ProposalFact(**vars(proposal)) if proposal is not None else None,
            note=trial.note,
            executor=trial.executor,
            created_at=trial.created_at,
            finished_at=trial.finished_at,
            noise_sd=self.ledger.campaign(trial.campaign).noise_sd if baseline else None,
            measurements=tuple(map(_measurement_fact, measured)),
            promotion=self._promotions(trial.campaign).get(trial.number),
        )

    def _promotions_of(self, campaign: str) -> dict[int, PromotionFact]:
        """The promotion that each trial ended with. What came later (a demotion, a person's `confirm`) is this lab's
        own view: a trial that was written never changes."""
        found: dict[int, PromotionFact] = {}
        for step in self.ledger.promotions(campaign):
            if self.ledger.trial(step.trial).verdict in PROMOTED:
                fact = PromotionFact(**{name: getattr(step, name) for name in PromotionFact.model_fields})
                found.setdefault(step.trial, fact)
        return found


def campaign_fact(campaign: Campaign) -> CampaignFact:
    """A campaign as a fact."""
    task = {name: value for name, value in campaign.config["task"].items() if name in TaskFact.model_fields}
    return CampaignFact(
        id=campaign.id,
        task=campaign.task,
        key=campaign.key,
        seed=campaign.config.get("seed"),
        config=TaskFact.model_validate_json(json.dumps(task)),
        baseline=campaign.baseline,
        created_at=campaign.created_at,
    )


def _measurement_fact(measurement: Measurement) -> MeasurementFact:
    known = {name: getattr(measurement, name) for name in MeasurementFact.model_fields}
    told = {
        name: value for name, value in measurement.metrics.items()
        if math.isfinite(value) and name.isprintable() and len(name) <= 200
    }  # fmt: skip
    return MeasurementFact(**{**known, "metrics": told})


# in ---------------------------------------------------------------------------------------------------


def merge(ledger: Ledger, parts: Iterable[Part]) -> Merged:
    """Add what is new in other labs' parts, all of it or nothing. Raises LabError if a name means something else here.

    Trials of this lab that come back are only compared.
    """
    with ledger.transaction() as db:
        own, facts = ledger.meta("lab"), _Facts(ledger)
        new: dict[str, TrialFact] = {}
        known: set[str] = set()
        for part in parts:
            for campaign in part.campaigns.values():
                _merge_campaign(ledger, campaign, part, own)
            for program, blob in part.programs.items():
                # What its code means is asked of own programs only: a stranger's is not even compiled.
                db.execute("INSERT OR IGNORE INTO program VALUES (?, '', ?, ?)", (program, blob, time.time()))
            for trial in part.trials.values():
                there = new.get(trial.id) or _here(ledger, facts, trial.id)
                if there is not None and there != trial:
                    raise _other(part, f"trial {trial.id}")
                if there is None and part.lab == own:
                    raise LabError(
                        f"holds trial {trial.id} of this lab, which its ledger does not have",
                        where=part.where,
                        mend="was the ledger restored, or the directory copied? Pull into another directory",
                    )
                if there is None:
                    _refuse_future(part, trial)
                    new[trial.id] = trial
                elif trial.id not in new:
                    known.add(trial.id)
        ordered = sorted(new.values(), key=lambda trial: (milliseconds(trial.finished_at), trial.id))
        for trial in ordered:
            _insert(db, trial)
        for name in sorted({trial.campaign for trial in ordered if trial.promotion}):
            _insert_promotions(ledger, name, [trial for trial in ordered if trial.campaign == name])
    return Merged(len(new), len(known), len({lab_and_place(name)[0] for name in new}))


def _refuse_future(part: Part, trial: TrialFact) -> None:
    """Such a trial would stay the last row of the table, which every own trial would then have to write anew."""
    if trial.finished_at > time.time() + AHEAD_SECONDS:
        raise LabError(
            f"trial {trial.id} finished in the future, at {timestamp(trial.finished_at)}",
            where=part.where,
            mend="nothing was merged; check the clock here, then ask the lab that wrote it to check its own",
        )


def _here(ledger: Ledger, facts: _Facts, name: str) -> TrialFact | None:
    row = ledger.rows.execute("SELECT * FROM trial WHERE id = ? AND state = 'done'", (name,)).fetchone()
    return None if row is None else facts.trial(trial_of(row))


def _other(part: Part, what: str) -> LabError:
    return LabError(
        f"{what} says something else there than here",
        where=part.where,
        mend="nothing was merged; one of the two was changed after it had been written",
    )


def _merge_campaign(ledger: Ledger, fact: CampaignFact, part: Part, own: str | None) -> None:
    row = ledger.rows.execute("SELECT lab FROM campaign WHERE id = ?", (fact.id,)).fetchone()
    if row is not None:
        if (row["lab"] or own) != part.lab or campaign_fact(ledger.campaign(fact.id)) != fact:
            raise _other(part, f"campaign {fact.id}")
        return
    config = {"seed": fact.seed, "task": fact.config.model_dump(mode="json")}
    with ledger.transaction() as db:
        db.execute(
            "INSERT INTO campaign (id, task, key, config, state, baseline, created_at, lab)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                fact.id,
                fact.task,
                fact.key,
                json.dumps(config),
                PULLED,
                fact.baseline,
                fact.created_at,
                part.lab,
            ),
        )


def _insert(db: sqlite3.Connection, fact: TrialFact) -> None:
    proposal = fact.proposal
    record = {
        "number": foreign_number(fact.id),
        "state": "done",
        "parent_trial": foreign_number(fact.parent) if fact.parent else None,
        "repeats": foreign_number(fact.repeats) if fact.repeats else None,
        "proposal": json.dumps(encode_proposal(Proposal(**vars(proposal)))) if proposal else None,
        **{name: getattr(fact, name) for name in _PLAIN},
    }
    marks = ", ".join("?" * len(record))
    db.execute(
        f"INSERT INTO trial ({', '.join(record)}, finish_order) VALUES ({marks},"
        " (SELECT coalesce(max(finish_order), 0) + 1 FROM trial WHERE finish_order IS NOT NULL))",
        list(record.values()),
    )
    if fact.noise_sd is not None:
        db.execute("UPDATE campaign SET noise_sd = ? WHERE id = ?", (fact.noise_sd, fact.campaign))
    for measured in fact.measurements:
        rest = {name: value for name, value in measured if name not in ("id", "stage", "seed", "eval_seed",
                                                                       "attempt", "status", "score")}  # fmt: skip
        db.execute(
            "INSERT INTO measurement VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (measured.id, record["number"], measured.stage, measured.seed, measured.eval_seed, measured.attempt,
             measured.status, measured.score, json.dumps(rest), measured.started_at, measured.finished_at),
        )  # fmt: skip


# The columns of a trial that are the same in every ledger.
_PLAIN = tuple(
    name for name in TrialFact.model_fields
    if name not in ("kind", "parent", "repeats", "proposal", "noise_sd", "measurements", "promotion")
)  # fmt: skip


def _insert_promotions(ledger: Ledger, campaign: str, new: Sequence[TrialFact]) -> None:
    """Write a campaign's promotions anew, in the order in which they were made, whatever came first."""
    steps = [(step.at, step.trial, step.program, step.score, step.score_low, step.score_high, step.gain, step.reason)
             for step in ledger.promotions(campaign)]  # fmt: skip
    for trial in new:
        if (step := trial.promotion) is not None:
            assert trial.program is not None
            steps.append((step.at, foreign_number(trial.id), trial.program, step.score, step.score_low,
                          step.score_high, step.gain, step.reason))  # fmt: skip
    with ledger.transaction() as db:
        db.execute("DELETE FROM promotion WHERE campaign = ?", (campaign,))
        before = None
        for at, trial_number, *rest, reason in sorted(steps, key=lambda step: (step[0], -step[1])):
            program, *scores = rest
            before = db.execute(
                "INSERT INTO promotion (campaign, trial, program, replaced, score, score_low, score_high, gain,"
                " reason, at, kind) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    campaign,
                    trial_number,
                    program,
                    before,
                    *scores,
                    reason,
                    at,
                    "improvement" if before else "baseline",
                ),
            ).lastrowid

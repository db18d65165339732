"""What the judge looks at and what it keeps: scored measurements in brief, decisions, standings, sealed looks."""

from __future__ import annotations

import dataclasses
import math
import sqlite3
import time
from collections import Counter
from typing import Any

from autolab.ledger.records import (
    Campaign,
    Decision,
    Measurement,
    Observation,
    SealedLook,
    Standing,
    Status,
    Verdict,
)
from autolab.ledger.store import Ledger

CONTROL = "control-"  # stage of a measurement of the master, made in turn with the candidate of that ordinal
AGAIN = "again"  # first word of the stages of measurements that a person asked for, of a trial that is done
UNSEEN = ("replay", "certify")  # stages that are no observations: repeats of the same seed, another split
WINDOW = 150  # trials back, and
SAME_DIGITS = 1e-12  # relative difference that is rounding
EARLIER = 200  # measurements of earlier campaigns under the same key, from which the noise is learned


def observe(ledger: Ledger, measurement: Measurement) -> None:
    """Note a recorded measurement for the judge, once: a scored one as an observation, a look at the sealed split as a
    look, whatever came of it and of what it was for."""
    if measurement.stage == "certify":
        campaign = ledger.trial(measurement.trial).campaign
        log_look(ledger, campaign, measurement, _asked_by(ledger, campaign))
    if measurement.score is None or measurement.stage.startswith(UNSEEN):
        return
    stage = measurement.stage
    trial = ledger.trial(measurement.trial)
    at = int(stage.removeprefix(CONTROL)) if stage.startswith(CONTROL) else trial.ordinal
    if stage.startswith(AGAIN):
        at = after_all(ledger, trial.campaign)
    with ledger.transaction() as db:
        db.execute(
            "INSERT OR IGNORE INTO observation VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (measurement.id, trial.campaign, trial.program, measurement.host,
             measurement.score, at, stage, _fresh(ledger, measurement, trial.program)),
        )  # fmt: skip


def _fresh(ledger: Ledger, measurement: Measurement, program: str | None) -> bool:
    """Whether a measurement tells of scatter what is not known here: it was made for this, or is the first copy of what
    a colleague measured."""
    if not measurement.cached_from:
        return not _repeated(ledger, measurement, program)
    known = ledger.rows.execute(
        "SELECT 1 FROM measurement WHERE id = ?1 UNION ALL SELECT 1 FROM observation WHERE program = ?2 AND score = ?3"
        " AND measurement != ?4 AND fresh LIMIT 1",
        (measurement.cached_from, program, measurement.score, measurement.id),
    ).fetchone()
    return known is None


def _repeated(ledger: Ledger, measurement: Measurement, program: str | None) -> bool:
    """Whether another campaign under the same key measured this program with this seed: that scatter is known."""
    row = ledger.rows.execute(
        "SELECT 1 FROM trial t CROSS JOIN campaign own CROSS JOIN campaign c CROSS JOIN observation o"
        " INDEXED BY observation_by_program CROSS JOIN measurement m"
        " WHERE t.number = ? AND own.id = t.campaign AND c.key = own.key AND c.lab = '' AND c.id != own.id"
        " AND o.campaign = c.id AND o.program = ? AND m.id = o.measurement AND m.seed = ? LIMIT 1",
        (measurement.trial, program, measurement.seed),
    ).fetchone()
    return row is not None


def newest_ordinal(ledger: Ledger, campaign: str) -> int:
    """The ordinal of the trial that was opened last."""
    row = ledger.rows.execute("SELECT max(ordinal) FROM trial WHERE campaign = ?", (campaign,)).fetchone()
    return int(row[0] or 0)


def after_all(ledger: Ledger, campaign: str) -> int:
    """When a person's measurements are made, on the campaign's clock: after every trial that was opened."""
    return newest_ordinal(ledger, campaign) + 1


def observations(ledger: Ledger, campaign: str, program: str) -> list[Observation]:
    """Everything observed of a program in a campaign, in the campaign's own order."""
    rows = ledger.rows.execute(
        "SELECT * FROM observation WHERE campaign = ? AND program = ? ORDER BY at, measurement",
        (campaign, program),
    )
    return [_observation(row) for row in rows]


def noise_sample(ledger: Ledger, campaign: Campaign, until: int) -> list[Observation]:
    """What the noise is learned from, as the trial of ordinal `until` may see it: the newest trials of the campaign and
    the end of earlier ones under the same comparability key. Copies are left out."""
    return [Observation(*row) for row in _sample(ledger, campaign, until)]


def scatter_sample(
    ledger: Ledger, campaign: Campaign, until: int
) -> tuple[list[Observation], dict[str, int]]:
    """What `noise_sample` tells of the scatter, in brief: the runs of programs that were measured more than once, and
    how many other runs each host had."""
    rows = _sample(ledger, campaign, until)
    runs = Counter((row[0], row[5]) for row in rows)
    repeated = [Observation(*row) for row in rows if runs[row[0], row[5]] > 1]
    alone = Counter(row[1] for row in rows if runs[row[0], row[5]] == 1 and math.isfinite(row[2]))
    return repeated, dict(alone)


def scatters(ledger: Ledger, campaign: str, until: int) -> bool:
    """Whether runs of one program on one host differ, among the newest trials that the one of ordinal `until` sees."""
    row = ledger.rows.execute(
        "SELECT 1 FROM observation WHERE campaign = ? AND at BETWEEN ? AND ? AND fresh"
        " GROUP BY program, host HAVING max(score) - min(score) > ? * max(abs(score)) LIMIT 1",
        (campaign, until - WINDOW, until, SAME_DIGITS),
    ).fetchone()
    return row is not None


def _sample(ledger: Ledger, campaign: Campaign, until: int) -> list[Any]:
    """Rows in the order of Observation's fields: records of what is only counted would take most of the time."""
    columns = "SELECT program, host, score, at, stage, campaign FROM observation"
    cursor = ledger.rows.cursor()
    cursor.row_factory = None
    found: list[Any] = []
    before = ledger.rows.execute(
        "SELECT id FROM campaign WHERE key = ? AND lab = '' AND created_at < ? ORDER BY created_at DESC LIMIT 5",
        (campaign.key, campaign.created_at),
    )
    for earlier in before.fetchall():
        found += cursor.execute(
            f"{columns} WHERE campaign = ? AND fresh ORDER BY at DESC, measurement DESC LIMIT ?",
            (earlier["id"], EARLIER - len(found)),
        ).fetchall()
    found += cursor.execute(
        f"{columns} WHERE campaign = ? AND at = 0 AND at < ? AND fresh ORDER BY measurement",
        (campaign.id, until - WINDOW),
    ).fetchall()
    found += cursor.execute(
        f"{columns} WHERE campaign = ? AND at BETWEEN ? AND ? AND fresh ORDER BY at, measurement",
        (campaign.id, until - WINDOW, until),
    ).fetchall()
    return found


def _observation(row: sqlite3.Row) -> Observation:
    return Observation(row["program"], row["host"], row["score"], row["at"], row["stage"], row["campaign"])


# decisions ----------------------------------------------------------------------------------------------


def decision(ledger: Ledger, trial: int) -> Decision | None:
    """The decision on a trial that is still being measured, or None."""
    row = ledger.rows.execute("SELECT * FROM decision WHERE trial = ?", (trial,)).fetchone()
    return None if row is None else Decision(**{**dict(row), "verdict": Verdict(row["verdict"])})


def keep_decision(ledger: Ledger, made: Decision) -> None:
    """Note that a test has ended well."""
    with ledger.transaction() as db:
        db.execute("INSERT OR REPLACE INTO decision VALUES (?, ?, ?, ?, ?)", dataclasses.astuple(made))


def forget_decision(ledger: Ledger, trial: int) -> None:
    """A trial has ended, whatever was decided on the way."""
    with ledger.transaction() as db:
        db.execute("DELETE FROM decision WHERE trial = ?", (trial,))


# the master's standing ----------------------------------------------------------------------------------


def standing(ledger: Ledger, campaign: str) -> Standing | None:
    """The master as it is seen now; None before there is one, and for campaigns of other labs."""
    row = ledger.rows.execute("SELECT * FROM standing WHERE campaign = ?", (campaign,)).fetchone()
    return None if row is None else Standing(**dict(row))


def set_standing(ledger: Ledger, seen: Standing) -> None:
    """Replace what is known of a campaign's master."""
    with ledger.transaction() as db:
        db.execute(
            "INSERT OR REPLACE INTO standing VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            dataclasses.astuple(seen),
        )


# looks at the sealed split ------------------------------------------------------------------------------


def log_look(ledger: Ledger, campaign: str, measurement: Measurement, asked_by: str) -> None:
    """Log a finished measurement of the sealed split, once."""
    assert measurement.status is not None
    with ledger.transaction() as db:
        db.execute(
            "INSERT OR IGNORE INTO sealed_look (campaign, trial, measurement, asked_by, status, score, at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (campaign, measurement.trial, measurement.id, asked_by, measurement.status, measurement.score, time.time()),
        )  # fmt: skip


def _asked_by(ledger: Ledger, campaign: str) -> str:
    """Who wants a look: without a decision that waits for it, a person."""
    waiting = ledger.rows.execute(
        "SELECT 1 FROM decision d JOIN trial t ON t.number = d.trial WHERE t.campaign = ?", (campaign,)
    ).fetchone()
    return "promotion" if waiting else "hand"


def looks(ledger: Ledger, campaign: str) -> list[SealedLook]:
    """Every look at the sealed split in a campaign, oldest first."""
    rows = ledger.rows.execute("SELECT * FROM sealed_look WHERE campaign = ? ORDER BY number", (campaign,))
    return [SealedLook(**{**dict(row), "status": Status(row["status"])}) for row in rows]

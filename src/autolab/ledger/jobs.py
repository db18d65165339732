"""Cloud jobs in the ledger: reserved before they are launched, so that none is lost, launched twice or over budget."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from dataclasses import dataclass

from autolab.ledger.agents import spent_usd
from autolab.ledger.records import NOT_REUSED, Measurement
from autolab.ledger.store import Ledger

LAUNCHING = "LAUNCHING"


class OverBudget(Exception):
    """The next job could cost more than is left; `committed` is what running jobs still hold, in USD."""

    def __init__(self, left: float, wanted: float, committed: float) -> None:
        super().__init__(f"the next job can cost ${wanted:.4g}, and ${max(left, 0):.4g} are left")
        self.committed = committed


@dataclass(frozen=True)
class CloudJob:
    """One launch of one measurement. `id` is the Hub's, None until the launch was answered."""

    ticket: str
    measurement: str
    campaign: str
    launch: int
    bundle: str
    id: str | None
    flavor: str
    stage: str
    most_usd: float
    cost_usd: float | None
    running_seconds: float
    launched_at: float
    ended_at: float | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.ended_at is not None


def reserve(
    ledger: Ledger,
    campaign: str,
    measurement: Measurement,
    *,
    bundle: str,
    flavor: str,
    most_usd: float,
    limit: float | None,
) -> CloudJob:
    """The row of a job that is about to be launched. Raises OverBudget if all that was spent, what running
    jobs can still cost and this one at its most are over `limit` USD."""
    with ledger.transaction() as db:
        earlier = jobs_of(ledger, measurement.id)
        spent, committed = costs(ledger, campaign)
        if limit is not None and spent + committed + most_usd > limit + 1e-9:
            raise OverBudget(limit - spent - committed, most_usd, committed)
        launch = len(earlier) + 1
        # Not to be guessed, and the same again after a crash: the lab's secret and what is launched.
        named = f"{ledger.meta('secret')}/{measurement.id}/{launch}"
        ticket = hashlib.sha256(named.encode()).hexdigest()[:32]
        db.execute(
            "INSERT INTO job VALUES (?, ?, ?, ?, ?, NULL, ?, ?, ?, NULL, 0, ?, NULL)",
            (ticket, measurement.id, campaign, launch, bundle, flavor, LAUNCHING, most_usd, time.time()),
        )
    return jobs_of(ledger, measurement.id)[-1]


def note_job(
    ledger: Ledger,
    ticket: str,
    *,
    id: str,
    stage: str,
    running_seconds: float = 0.0,
    cost_usd: float | None = None,
) -> None:
    """What the Hub says of a job; with a cost it has ended. What has ended does not change any more."""
    with ledger.transaction() as db:
        db.execute(
            "UPDATE job SET id = ?, stage = ?, running_seconds = ?, cost_usd = ?, ended_at = ?"
            " WHERE ticket = ? AND ended_at IS NULL",
            (id, stage, running_seconds, cost_usd, None if cost_usd is None else time.time(), ticket),
        )


def note_duplicate(
    ledger: Ledger, ticket: str, *, id: str, stage: str, running_seconds: float, cost_usd: float
) -> None:
    """A second job of a launch, found and cancelled; what it cost is counted."""
    with ledger.transaction() as db:
        db.execute(
            "INSERT OR IGNORE INTO job SELECT ticket || '/' || ?, measurement, campaign, launch, bundle, ?, flavor, ?,"
            " most_usd, ?, ?, launched_at, ? FROM job WHERE ticket = ?",
            (id, id, stage, cost_usd, running_seconds, time.time(), ticket),
        )


def note_bundle(ledger: Ledger, ticket: str, bundle: str) -> None:
    """Another bundle is launched than the one that was reserved, of whose launch the Hub never heard."""
    with ledger.transaction() as db:
        db.execute("UPDATE job SET bundle = ? WHERE ticket = ? AND id IS NULL", (bundle, ticket))


def drop_job(ledger: Ledger, ticket: str) -> None:
    """Forget a reservation of which the Hub never heard."""
    with ledger.transaction() as db:
        db.execute("DELETE FROM job WHERE ticket = ? AND id IS NULL", (ticket,))


def jobs_of(ledger: Ledger, measurement: str) -> list[CloudJob]:
    """Every launch of a measurement, oldest first."""
    rows = ledger.rows.execute(
        "SELECT * FROM job WHERE measurement = ? AND instr(ticket, '/') = 0 ORDER BY launch", (measurement,)
    )
    return [_job_of(row) for row in rows]


def paid_usd(ledger: Ledger, measurement: str) -> float:
    """What all launches of a measurement have cost up to now, and second jobs of a launch."""
    row = ledger.rows.execute(
        "SELECT total(cost_usd) FROM job WHERE measurement = ?", (measurement,)
    ).fetchone()
    return float(row[0])


def find_job(ledger: Ledger, ticket: str) -> CloudJob | None:
    """A launch by its ticket."""
    row = ledger.rows.execute("SELECT * FROM job WHERE ticket = ?", (ticket,)).fetchone()
    return None if row is None else _job_of(row)


def campaign_jobs(ledger: Ledger, campaign: str, *, unfinished: bool = False) -> list[CloudJob]:
    """The launches of a campaign, in order; only those under way if `unfinished`."""
    where = " AND ended_at IS NULL" if unfinished else ""
    rows = ledger.rows.execute(
        f"SELECT * FROM job WHERE campaign = ?{where} ORDER BY launched_at, ticket", (campaign,)
    )
    return [_job_of(row) for row in rows]


def count_jobs(ledger: Ledger, campaign: str) -> tuple[int, int]:
    """(all, not ended) launches of a campaign."""
    row = ledger.rows.execute(
        "SELECT count(*), count(*) - count(ended_at) FROM job WHERE campaign = ?", (campaign,)
    ).fetchone()
    return int(row[0]), int(row[1])


def is_wanted(ledger: Ledger, job: CloudJob) -> bool:
    """Whether somebody will still ask for the measurement that a job was launched for.

    Finished trials are measured for others as well: a master as a control, while the candidate is undone.
    A look at the sealed split that has begun is always wanted: to end it would cost a second look.
    """
    row = ledger.rows.execute(
        "SELECT 1 FROM measurement m JOIN trial t ON t.number = m.trial WHERE m.id = ? AND m.status IS NULL"
        " AND (t.state != 'done' OR m.stage = 'certify' OR EXISTS (SELECT 1 FROM trial u"
        " WHERE u.campaign = t.campaign AND m.stage = 'control-' || u.ordinal AND u.state != 'done'))",
        (job.measurement,),
    ).fetchone()
    return row is not None


def uncollected(ledger: Ledger) -> list[CloudJob]:
    """The launches of all campaigns that have not ended, or whose result is not in the ledger yet."""
    rows = ledger.rows.execute(
        "SELECT j.* FROM job j LEFT JOIN measurement m ON m.id = j.measurement"
        " WHERE j.ended_at IS NULL OR m.status IS NULL ORDER BY j.launched_at"
    )
    return [_job_of(row) for row in rows]


def costs(ledger: Ledger, campaign: str) -> tuple[float, float]:
    """(spent, committed) in USD: agents' sessions and ended jobs; what jobs under way cost at most."""
    row = ledger.rows.execute(
        "SELECT total(cost_usd) AS spent, total(CASE WHEN ended_at IS NULL THEN most_usd END) AS committed"
        " FROM job WHERE campaign = ?",
        (campaign,),
    ).fetchone()
    return spent_usd(ledger, campaign) + float(row["spent"]), float(row["committed"])


def measured_before(ledger: Ledger, key: str, program: str, measurement: Measurement) -> Measurement | None:
    """A finished measurement of the same program with the same seeds and stage under the same comparability key,
    in any of this lab's own campaigns.

    What may be of the machine or the moment (a timeout, say), was copied itself, was only reported by the program or
    ran without a sandbox does not count.
    """
    passing = ", ".join(f"'{status}'" for status in sorted(NOT_REUSED))
    row = ledger.rows.execute(
        "SELECT m.id AS id, m.trial AS trial FROM measurement m JOIN trial t ON t.number = m.trial"
        " JOIN campaign c ON c.id = t.campaign WHERE t.program = ? AND c.key = ? AND m.stage = ? AND m.seed = ?"
        f" AND m.eval_seed = ? AND m.id != ? AND m.status NOT IN ({passing}) AND c.lab = ''"
        " AND coalesce(json_extract(m.record, '$.cached_from'), '') = ''"
        " AND json_extract(m.record, '$.sandbox') = 'bubblewrap'"
        " AND json_extract(m.record, '$.evidence') = 'measured' ORDER BY m.id LIMIT 1",
        (program, key, measurement.stage, measurement.seed, measurement.eval_seed, measurement.id),
    ).fetchone()
    if row is None:
        return None
    return next(known for known in ledger.measurements(row["trial"]) if known.id == row["id"])


def _job_of(row: sqlite3.Row) -> CloudJob:
    return CloudJob(**dict(row))

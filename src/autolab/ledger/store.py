"""Everything that reads or writes ledger.sqlite; no other module knows SQL.

Writers take short immediate transactions, so any number of processes may share one ledger; SQLite's
write-ahead log keeps every committed one through kill -9.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from autolab.errors import LabError
from autolab.ledger.naming import foreign_name
from autolab.ledger.records import (
    UNRELATED,
    Campaign,
    Measurement,
    Promotion,
    Proposal,
    Status,
    Trial,
    TrialState,
    Verdict,
    storable,
)
from autolab.ledger.rows import campaign_of, encode_proposal, measurement_of, trial_of
from autolab.program.hashing import Files, code_hash, program_id

SCHEMA_VERSION = "5"
OLDER = ("1", "2", "3", "4")  # a ledger of these is upgraded where it can be written
BUSY_SECONDS = 60.0
KNOWN_TRIALS = 1024  # finished ones that are kept at hand


class Ledger:
    """An open ledger. Raises LabError where a user can mend what is wrong."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        self.program = lru_cache(maxsize=64)(self._program)
        self._written = 0  # transactions of this process
        self._finished: dict[int, Trial] = {}  # trials that were asked for; they never change
        if not create and not path.exists():
            raise LabError(
                "no campaign has run here yet", where=str(path.parent.parent), mend="start one: `autolab run`"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not create and not os.access(path.parent, os.W_OK):
                uri = f"{path.resolve().as_uri()}?mode=ro" + (
                    "" if Path(f"{path}-wal").exists() else "&immutable=1"
                )
                self._db = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
                self._db.row_factory = sqlite3.Row
                self._check_schema()
                return
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._ensure_schema()
        except (sqlite3.Error, OSError) as error:
            raise ledger_problem(error, path) from None

    def close(self) -> None:
        """Close the file; everything committed is already safe."""
        self._db.close()

    def damage(self) -> str | None:
        """What SQLite's own check finds wrong, or None."""
        found = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        return None if found == "ok" else str(found)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; the write lock is held from the first line. Nested uses join the outer one."""
        if self._db.in_transaction:
            yield self._db
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # some failures of a COMMIT have ended it already
                self._db.execute("ROLLBACK")
            raise
        self._written += 1

    def note(self, statement: str, values: Sequence[Any]) -> None:
        """One statement that says nothing of trials, claims or promotions, by itself: no change of `version`."""
        self._db.execute(statement, values)

    def _ensure_schema(self) -> None:
        if self._schema() is None:
            with self.transaction():
                if self._schema() is None:
                    self._run("schema.sql")
                    self._run("schema_agents.sql")
                    self._run("schema_jobs.sql")
                    self._run("schema_statistics.sql")
                    self._run("schema_collaboration.sql")
                    self.set_meta("schema", SCHEMA_VERSION)
                    self.set_meta("lab", secrets.token_hex(3))
                    self.set_meta("secret", secrets.token_hex(16))
        if self._schema() in OLDER:
            with self.transaction():
                if self._schema() in OLDER:  # another process may have been first
                    self._upgrade()
        self._check_schema()

    def _schema(self) -> str | None:
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
            return None
        return self.meta("schema")

    def _check_schema(self) -> None:
        found = self._schema()
        if found in OLDER:
            raise LabError(
                f"was written by an earlier version of autolab (schema {found})",
                where=str(self.path),
                mend="open it once where it can be written: `autolab status` there brings it up to date",
            )
        if found != SCHEMA_VERSION:
            raise LabError(
                f"was written by another version of autolab (schema {found}, this one reads {SCHEMA_VERSION})",
                where=str(self.path),
                mend="install that version, or move the file away to begin anew",
            )

    def _upgrade(self) -> None:
        """Make an older ledger one of this schema; part of a transaction."""
        if self._schema() == "4":
            self._db.execute("DROP INDEX observation_by_program")
            self._db.execute("CREATE INDEX observation_by_program ON observation (campaign, program, at)")
            self._run("schema_collaboration.sql")
            self.set_meta("schema", SCHEMA_VERSION)
            return
        if self._schema() != "3":
            self._run("schema_agents.sql")
            self._run("schema_jobs.sql")
            self._db.execute("ALTER TABLE campaign ADD COLUMN lab TEXT NOT NULL DEFAULT ''")
            self._name_campaigns_after_lab()
        self._run("schema_statistics.sql")
        self._db.execute("ALTER TABLE promotion ADD COLUMN kind TEXT NOT NULL DEFAULT 'improvement'")
        self._db.execute("UPDATE promotion SET kind = 'baseline' WHERE replaced IS NULL")
        self._db.execute(
            "INSERT INTO observation SELECT m.id, t.campaign, t.program,"
            " coalesce(json_extract(m.record, '$.host'), ''), m.score, t.ordinal,"
            " CASE m.stage WHEN 'confirm' THEN 'replicate' ELSE m.stage END,"
            " coalesce(json_extract(m.record, '$.cached_from'), '') = ''"
            " FROM measurement m JOIN trial t ON t.number = m.trial JOIN campaign c ON c.id = t.campaign"
            " WHERE m.score IS NOT NULL AND m.stage IN ('screen', 'confirm') AND c.lab = ''"
        )
        self._run("schema_collaboration.sql")
        self.set_meta("schema", SCHEMA_VERSION)

    def _name_campaigns_after_lab(self) -> None:
        """Campaigns were called `toy-1` in every lab; now no other lab has the same. Their folders in results/ stay."""
        rows = self._db.execute("SELECT id FROM campaign").fetchall()
        parts = [(row["id"], *row["id"].rpartition("-")) for row in rows]
        lab = self.meta("lab")
        names = [(f"{task}-{lab}-{number}", old) for old, task, _, number in parts]
        once = "trial_is_written_once"
        trigger = self._db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (once,)).fetchone()["sql"]
        self._db.execute("PRAGMA defer_foreign_keys = ON")  # until the end of this transaction
        self._db.execute(f"DROP TRIGGER {once}")
        self._db.executemany("UPDATE campaign SET id = ? WHERE id = ?", names)
        for table in ("trial", "promotion", "steering", "idea", "agent_session"):
            self._db.executemany(f"UPDATE {table} SET campaign = ? WHERE campaign = ?", names)
        self._db.execute(trigger)
        self._db.execute("DELETE FROM meta WHERE key = 'master_view'")  # that file names the campaign

    def _run(self, name: str) -> None:
        script = resources.files("autolab.ledger").joinpath(name).read_text(encoding="utf-8")
        for statement in _statements(script):
            self._db.execute(statement)

    @property
    def rows(self) -> sqlite3.Connection:
        """The open database, for reading by the modules of this room; writers use `transaction`."""
        return self._db

    # meta ---------------------------------------------------------------------------------------

    def meta(self, key: str) -> str | None:
        """A value of the lab as a whole, or None."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row["value"])

    def set_meta(self, key: str, value: str) -> None:
        """Set a value of the lab as a whole."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def changes(self) -> int:
        """A number that changes whenever another process commits; reading it costs microseconds."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def version(self) -> tuple[int, int]:
        """Changes with every transaction that was written, by whichever process: with all that decides what a proposal
        repeats. Not with a `note` of this process."""
        return self.changes(), self._written

    # programs -----------------------------------------------------------------------------------

    def add_program(self, files: Files) -> str:
        """Store a program once; returns its id."""
        name = program_id(files)
        if self._db.execute("SELECT 1 FROM program WHERE id = ?", (name,)).fetchone():
            return name
        blob = zlib.compress(json.dumps(dict(files), sort_keys=True).encode(), 6)
        self._db.execute(
            "INSERT OR IGNORE INTO program VALUES (?, ?, ?, ?)", (name, code_hash(files), blob, time.time())
        )
        return name

    def _program(self, name: str) -> dict[str, str]:
        row = self._db.execute("SELECT files FROM program WHERE id = ?", (name,)).fetchone()
        if row is None:
            raise KeyError(name)
        try:
            files: dict[str, str] = json.loads(zlib.decompress(row["files"]))
        except (ValueError, zlib.error) as error:
            raise sqlite3.DatabaseError(f"program {name}: {error}") from None
        return files

    def meaning(self, program: str) -> str:
        """The code hash of a stored program, as it was when it was stored."""
        row = self._db.execute("SELECT code_hash FROM program WHERE id = ?", (program,)).fetchone()
        return str(row["code_hash"])

    # campaigns ----------------------------------------------------------------------------------

    def create_campaign(
        self, *, name: str, task: str, key: str, config: dict[str, Any], baseline: str
    ) -> Campaign:
        """Begin a campaign; its id is `name`, the lab and a number, so that no other lab has the same."""
        with self.transaction() as db:
            count = db.execute("SELECT count(*) FROM campaign WHERE lab = ''").fetchone()[0]
            campaign = Campaign(
                f"{name}-{self.meta('lab')}-{count + 1}",
                task,
                key,
                config,
                "running",
                baseline,
                None,
                time.time(),
            )
            db.execute(
                "INSERT INTO campaign (id, task, key, config, state, baseline, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (campaign.id, task, key, json.dumps(config), campaign.state, baseline, campaign.created_at),
            )
        return campaign

    def campaigns(self) -> list[Campaign]:
        """This lab's own campaigns, oldest first."""
        rows = self._db.execute("SELECT * FROM campaign WHERE lab = '' ORDER BY rowid")
        return [campaign_of(row) for row in rows]

    def campaign(self, name: str | None = None) -> Campaign:
        """One campaign; this lab's newest if no name is given. Raises LabError."""
        if name is None:
            row = self._db.execute(
                "SELECT * FROM campaign WHERE lab = '' ORDER BY rowid DESC LIMIT 1"
            ).fetchone()
        else:
            row = self._db.execute("SELECT * FROM campaign WHERE id = ?", (name,)).fetchone()
        if row is None:
            if name is None:
                raise LabError("no campaign has run here yet", mend="start one: `autolab run`")
            known = ", ".join(c.id for c in self.campaigns()[-5:]) or "none"
            raise LabError(f"there is no campaign {name!r}", mend=f"known: {known}")
        return campaign_of(row)

    def set_campaign(self, name: str, **changes: Any) -> None:
        """Change `state`, `config` or `noise_sd`."""
        for column, value in changes.items():
            assert column in ("state", "config", "noise_sd")
            stored = json.dumps(value) if column == "config" else value
            self._db.execute(f"UPDATE campaign SET {column} = ? WHERE id = ?", (stored, name))

    def noise_sd(self, campaign: str) -> float:
        """The SD of one run, from the replicates of the baseline; 0 if there is none, or it is not known yet."""
        row = self._db.execute("SELECT noise_sd FROM campaign WHERE id = ?", (campaign,)).fetchone()
        return 0.0 if row is None else float(row["noise_sd"] or 0.0)

    def steer(self, campaign: str, text: str) -> None:
        """Record a person's guidance for the agents of a campaign."""
        self._db.execute(
            "INSERT INTO steering (campaign, text, at) VALUES (?, ?, ?)",
            (campaign, storable(text), time.time()),
        )

    def guidance(self, campaign: str, last: int = 20) -> list[tuple[float, str]]:
        """The newest guidance, oldest first: (unix time, text)."""
        rows = self._db.execute(
            "SELECT at, text FROM steering WHERE campaign = ? ORDER BY number DESC LIMIT ?", (campaign, last)
        ).fetchall()
        return [(row["at"], row["text"]) for row in reversed(rows)]

    # trials -------------------------------------------------------------------------------------

    def open_trial(
        self,
        campaign: str,
        *,
        role: str,
        agent: str,
        surface: str,
        parent_program: str | None,
        parent_trial: int | None,
        executor: str = "local",
    ) -> Trial:
        """Reserve the next number."""
        with self.transaction() as db:
            number = db.execute("SELECT max(coalesce(max(number), 0), 0) + 1 FROM trial").fetchone()[0]
            lab = self.meta("lab")
            db.execute(
                "INSERT INTO trial (number, id, campaign, ordinal, state, role, agent, surface, parent_program,"
                " parent_trial, executor, created_at) VALUES (?, ?, ?,"
                " (SELECT coalesce(max(ordinal), -1) + 1 FROM trial WHERE campaign = ?), 'open', ?, ?, ?, ?, ?, ?, ?)",
                (
                    number,
                    f"{lab}-{number:04d}",
                    campaign,
                    campaign,
                    role,
                    agent,
                    surface,
                    parent_program,
                    parent_trial,
                    executor,
                    time.time(),
                ),
            )
        return self.trial(number)

    def queue_trial(self, number: int, program: Files, proposal: Proposal) -> int | None:
        """Claim a program for an open trial and make it ready to be measured.

        Returns the number of the trial that already claimed the same code, or None if this one has it.
        """
        meaning = code_hash(program)
        with self.transaction() as db:
            other = self._claimed_by(number, meaning)
            name = self.add_program(program)
            encoded = json.dumps(encode_proposal(proposal))
            if other is not None and other != number:
                db.execute(
                    "UPDATE trial SET program = ?, proposal = ?, surface = ?, repeats = ? WHERE number = ?",
                    (name, encoded, proposal.surface, other, number),
                )
                return other
            db.execute(
                "UPDATE trial SET state = 'queued', program = ?, code_hash = ?, proposal = ?, surface = ?"
                " WHERE number = ?",
                (name, meaning, encoded, proposal.surface, number),
            )
        return None

    def note_hypothesis(self, number: int, proposal: Proposal) -> None:
        """Let others see what an open trial is about before it has an edit."""
        with self.transaction() as db:
            db.execute(
                "UPDATE trial SET proposal = ? WHERE number = ? AND state = 'open'",
                (json.dumps(encode_proposal(proposal)), number),
            )

    def claimed_by(self, number: int, program: Files) -> int | None:
        """The trial of the same campaign that has claimed this program's code, or None."""
        other = self._claimed_by(number, code_hash(program))
        return None if other == number else other

    def _claimed_by(self, number: int, meaning: str) -> int | None:
        row = self._db.execute(
            "SELECT number FROM trial WHERE campaign = (SELECT campaign FROM trial WHERE number = ?)"
            " AND code_hash = ? AND repeats IS NULL",
            (number, meaning),
        ).fetchone()
        return None if row is None else int(row["number"])

    def finish_trial(
        self,
        number: int,
        status: Status,
        *,
        verdict: Verdict | None = None,
        score: float | None = None,
        interval: tuple[float, float] | None = None,
        delta: float | None = None,
        note: str = "",
        proposal: Proposal | None = None,
    ) -> Trial:
        """Write a trial's outcome, once. A failed trial has no score."""
        low, high = interval or (None, None)
        with self.transaction() as db:
            if proposal is not None:
                db.execute(
                    "UPDATE trial SET proposal = ?, surface = ? WHERE number = ?",
                    (json.dumps(encode_proposal(proposal)), proposal.surface, number),
                )
            db.execute(
                "UPDATE trial SET state = 'done', status = ?, verdict = ?, score = ?, score_low = ?, score_high = ?,"
                " delta = ?, note = ?, finished_at = ?, code_hash = CASE WHEN ? THEN NULL ELSE code_hash END,"
                " finish_order = (SELECT coalesce(max(finish_order), 0) + 1 FROM trial WHERE finish_order IS NOT NULL)"
                " WHERE number = ?",
                (
                    status,
                    verdict,
                    score,
                    low,
                    high,
                    delta,
                    note,
                    time.time(),
                    status in UNRELATED,
                    number,
                ),
            )
        return self.trial(number)

    def trial(self, number: int) -> Trial:
        """One trial by its number. Raises LabError."""
        known = self._finished.get(number)
        if known is not None:
            return known
        row = self._db.execute("SELECT * FROM trial WHERE number = ?", (number,)).fetchone()
        if row is None and number < 0:
            raise LabError(
                f"trial {foreign_name(number)} of another lab has not come here",
                mend="`autolab pull OWNER/NAME` from a repo that has it",
            )
        if row is None:
            raise LabError(f"there is no trial {number}", mend="`autolab trials` lists them")
        found = trial_of(row)
        if found.state is TrialState.DONE and not self._db.in_transaction:  # which may yet be rolled back
            if len(self._finished) >= KNOWN_TRIALS:
                self._finished.clear()
            self._finished[number] = found
        return found

    def find_trial(self, name: str) -> Trial:
        """One trial by its number, its id, or `master`. Raises LabError."""
        if name == "master":
            return self.trial(self.master(self.campaign().id).trial)
        if name.isdecimal() and len(name) < 19:  # SQLite counts up to 2**63
            return self.trial(int(name))
        row = self._db.execute("SELECT * FROM trial WHERE id = ?", (name,)).fetchone()
        if row is None:
            raise LabError(f"there is no trial {name!r}", mend="`autolab trials` lists them")
        return trial_of(row)

    def trials(
        self, campaign: str | None = None, *, after: int = 0, last: int | None = None
    ) -> Iterator[Trial]:
        """Finished trials of one campaign, or of all labs, in the order in which they came into this ledger; those past
        finish order `after`."""
        where, values = "finish_order > ?", [after]
        if campaign is not None:
            where, values = where + " AND campaign = ?", [*values, campaign]  # type: ignore[list-item]
        if last is not None:
            rows: Iterable[sqlite3.Row] = reversed(
                self._db.execute(
                    f"SELECT * FROM trial WHERE {where} ORDER BY finish_order DESC LIMIT ?", [*values, last]
                ).fetchall()
            )
        else:
            rows = self._db.execute(f"SELECT * FROM trial WHERE {where} ORDER BY finish_order", values)
        return map(trial_of, rows)

    def table_order(self, after: int = 0) -> list[tuple[int, str, int, int]]:
        """(milliseconds at which it finished, id, number, finish order) of the trials past finish order `after`, of all
        labs, sorted as the table is."""
        rows = self._db.execute(
            "SELECT CAST(finished_at * 1000 AS INTEGER), id, number, finish_order FROM trial"
            " WHERE finish_order > ? ORDER BY 1, 2",
            (after,),
        )
        return [tuple(row) for row in rows]

    def outcomes(self, numbers: Sequence[int] | None = None) -> Iterator[tuple[Trial, list[Measurement]]]:
        """Finished trials, each with its measurements: those asked for, or all of all labs sorted as the table is."""
        if numbers is None:
            numbers = [number for _, _, number, _ in self.table_order()]
        for start in range(0, len(numbers), 500):
            page = numbers[start : start + 500]
            marks = ",".join("?" * len(page))
            found: dict[int, list[Measurement]] = {number: [] for number in page}
            for row in self._db.execute(
                f"SELECT * FROM measurement WHERE trial IN ({marks}) ORDER BY started_at, id", page
            ):
                found[row["trial"]].append(measurement_of(row))
            rows = self._db.execute(f"SELECT * FROM trial WHERE number IN ({marks})", page)
            trials = {row["number"]: trial_of(row) for row in rows}
            yield from ((trials[number], found[number]) for number in page)

    def trial_id(self, number: int) -> str:
        """The id of a trial by its number; another lab's trial has one even before it is known here."""
        if number < 0:
            return foreign_name(number)
        return str(self._db.execute("SELECT id FROM trial WHERE number = ?", (number,)).fetchone()["id"])

    def undone(self, campaign: str) -> list[Trial]:
        """Trials that were opened and are not finished, in order."""
        rows = self._db.execute(
            "SELECT * FROM trial WHERE campaign = ? AND state != 'done' ORDER BY number", (campaign,)
        )
        return [trial_of(row) for row in rows]

    def sequence(self, campaign: str) -> Iterator[Trial]:
        """Every trial of a campaign in the order in which they were opened; read in pages, so that no read
        transaction stays open while the caller writes."""
        last = -1
        while page := self._db.execute(
            "SELECT * FROM trial WHERE campaign = ? AND ordinal > ? ORDER BY ordinal LIMIT 200",
            (campaign, last),
        ).fetchall():
            yield from map(trial_of, page)
            last = page[-1]["ordinal"]

    def children(self, number: int) -> list[int]:
        """Numbers of the trials that branched from this one."""
        rows = self._db.execute("SELECT number FROM trial WHERE parent_trial = ? ORDER BY number", (number,))
        return [int(row["number"]) for row in rows]

    def count(self, campaign: str | None = None) -> dict[tuple[str, str], int]:
        """How many finished trials have each (status, verdict), in one campaign or in all of this lab's own."""
        where, values = "WHERE campaign IN (SELECT id FROM campaign WHERE lab = '')", []
        if campaign:
            where, values = "WHERE campaign = ?", [campaign]
        rows = self._db.execute(
            f"SELECT status, coalesce(verdict, '') AS verdict, count(*) AS n FROM trial {where}"
            " GROUP BY campaign, status, verdict",
            values,
        )
        counts: dict[tuple[str, str], int] = {}
        for row in rows:
            if row["status"] is not None:
                key = (row["status"], row["verdict"])
                counts[key] = counts.get(key, 0) + row["n"]
        return counts

    # measurements -------------------------------------------------------------------------------

    def start_measurement(self, measurement: Measurement) -> None:
        """Record that a measurement is about to run; starting it again is harmless."""
        self._db.execute(
            "INSERT OR IGNORE INTO measurement VALUES (?, ?, ?, ?, ?, ?, NULL, NULL, '{}', ?, NULL)",
            (
                measurement.id,
                measurement.trial,
                measurement.stage,
                measurement.seed,
                measurement.eval_seed,
                measurement.attempt,
                time.time(),
            ),
        )

    def finish_measurement(self, measurement: Measurement) -> bool:
        """Write what was measured, once; False if it had been written before."""
        known = ("id", "trial", "stage", "seed", "eval_seed", "attempt", "status", "score", "band")
        record = {f.name: getattr(measurement, f.name) for f in fields(measurement) if f.name not in known}
        with self.transaction() as db:
            self.start_measurement(measurement)
            done = db.execute(
                "UPDATE measurement SET status = ?, score = ?, record = ?, started_at = ?, finished_at = ?"
                " WHERE id = ? AND status IS NULL",
                (
                    measurement.status,
                    measurement.score,
                    json.dumps(record),
                    measurement.started_at,
                    measurement.finished_at,
                    measurement.id,
                ),
            )
        return done.rowcount == 1

    def attempts(self, prefix: str) -> list[Measurement]:
        """The attempts at one measurement: those called `prefix`-1, `prefix`-2, ..."""
        rows = self._db.execute(
            "SELECT * FROM measurement WHERE id > ? AND id < ? ORDER BY attempt",
            (f"{prefix}-", f"{prefix}-:"),
        )
        return [measurement_of(row) for row in rows]

    def measurements(self, trial: int) -> list[Measurement]:
        """All measurements of a trial, in the order of their start."""
        rows = self._db.execute("SELECT * FROM measurement WHERE trial = ? ORDER BY started_at, id", (trial,))
        return [measurement_of(row) for row in rows]

    def begun(self, campaign: str) -> list[Measurement]:
        """Measurements that were begun and not finished, replays aside: of trials under way, of the master for them."""
        rows = self._db.execute(
            "SELECT m.* FROM measurement m JOIN trial t ON t.number = m.trial WHERE t.campaign = ?"
            " AND m.status IS NULL AND m.stage NOT GLOB 'replay*' ORDER BY m.started_at, m.id",
            (campaign,),
        )
        return [measurement_of(row) for row in rows]

    def last_measurement(self, campaign: str) -> Measurement | None:
        """The newest finished measurement of a campaign's newest measured trial."""
        row = self._db.execute(
            "SELECT m.* FROM trial t JOIN measurement m ON m.trial = t.number WHERE t.campaign = ?"
            " AND m.status IS NOT NULL ORDER BY t.ordinal DESC LIMIT 1",
            (campaign,),
        ).fetchone()
        return None if row is None else measurement_of(row)

    # promotions ---------------------------------------------------------------------------------

    def promote(
        self,
        trial: Trial,
        *,
        score: float,
        interval: tuple[float, float],
        gain: float,
        reason: str,
        kind: str = "improvement",
    ) -> Promotion:
        """Make a trial's program the master. `kind`: baseline, improvement, simplification, or demotion (of the one
        before)."""
        with self.transaction() as db:
            before = db.execute(
                "SELECT max(number) FROM promotion WHERE campaign = ?", (trial.campaign,)
            ).fetchone()[0]
            db.execute(
                "INSERT INTO promotion (campaign, trial, program, replaced, score, score_low, score_high, gain,"
                " reason, at, kind) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    trial.campaign,
                    trial.number,
                    trial.program,
                    before,
                    score,
                    *interval,
                    gain,
                    reason,
                    time.time(),
                    kind,
                ),
            )
        return self.master(trial.campaign)

    def master(self, campaign: str) -> Promotion:
        """The promotion in force. Raises LabError before the baseline has been measured."""
        found = self.newest_promotion(campaign)
        if found is None:
            raise LabError(
                "there is no master: the baseline has not been measured, or failed",
                where=campaign,
                mend="`autolab status` tells which",
            )
        return found

    def newest_promotion(self, campaign: str) -> Promotion | None:
        """The promotion in force, or None before the baseline has been measured."""
        row = self._db.execute(
            "SELECT * FROM promotion WHERE campaign = ? ORDER BY number DESC LIMIT 1", (campaign,)
        ).fetchone()
        return None if row is None else Promotion(**dict(row))

    def promotions(self, campaign: str) -> list[Promotion]:
        """Every change of the master, oldest first; the first is the baseline."""
        rows = self._db.execute("SELECT * FROM promotion WHERE campaign = ? ORDER BY number", (campaign,))
        return [Promotion(**dict(row)) for row in rows]


def _no_room(path: Path) -> bool:
    """Whether the disk is full, which SQLite sometimes only calls an error of input or output."""
    try:
        return shutil.disk_usage(path.parent).free < 1 << 20
    except OSError:
        return False


def ledger_problem(error: Exception, path: Path) -> LabError:
    """What a failure of SQLite or the file system means to a user."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # without the path, which can hold any word
        text = error.strerror
    if "full" in text or getattr(error, "errno", None) == 28 or ("I/O error" in text and _no_room(path)):
        return LabError(
            "the disk is full", where=str(path), mend="free some space and run again; nothing was lost"
        )
    if isinstance(error, PermissionError) or "readonly" in text or "unable to open" in text:
        return LabError("cannot be written", where=str(path), mend="check the directory's owner and rights")
    if "locked" in text:
        return LabError(
            f"stayed locked for {BUSY_SECONDS:.0f} s",
            where=str(path),
            mend="another program holds it; close that one and run again",
        )
    if isinstance(error, sqlite3.OperationalError) and "I/O error" in text:
        return LabError(
            f"cannot be read or written: {text}",
            where=str(path),
            mend="check the disk and the limits of this shell (`ulimit -a`), then run again; nothing was lost",
        )
    if isinstance(error, sqlite3.DatabaseError):
        return LabError(
            f"is damaged: {text}",
            where=str(path),
            mend="keep a copy, then `sqlite3 ledger.sqlite .recover | sqlite3 new.sqlite` and put new.sqlite in its"
            " place; research_results.tsv still holds every finished trial",
        )
    return LabError(text, where=str(path), mend="check the directory")


def _statements(script: str) -> Iterator[str]:
    """Split a script at statement ends (sqlite3's own executescript would commit half-way)."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""

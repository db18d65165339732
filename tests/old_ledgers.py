"""Ledgers as earlier versions wrote them: lab ids of four digits, campaigns without the lab in their name."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from publishing import finish, finish_one, results

from autolab.ledger.agents import add_idea, add_session
from autolab.ledger.records import AgentSession, Status
from autolab.ledger.store import Ledger
from autolab.ledger.views import write_views

AGENTS = ("workspace", "idea", "agent_session")
TABLES = ("meta", "campaign", "program", "trial", "measurement", "promotion", "steering", *AGENTS)


def old_lab(root: Path, lab: str = "3fa2", *, schema: str = "2") -> Path:
    """A lab of schema 1 or 2 with a campaign `c-1` of three finished trials, and its views; returns its ledger."""
    path = root / ".autolab" / "ledger.sqlite"
    with Ledger(path) as fresh:
        fresh.set_meta("lab", lab)
    with results(root) as ledger:
        finish(ledger, 2)
        finish_one(ledger, status=Status.CRASH)
        campaign = ledger.campaign().id
        ledger.steer(campaign, "try a wider layer")
        if schema == "2":
            add_idea(ledger, campaign, change="a wider layer")
            add_session(ledger, AgentSession(campaign, 1, "worker", "w", "m"))
        write_views(ledger, root)
    _write_old(path, campaign, lab, schema)
    return path


def _write_old(path: Path, campaign: str, lab: str, schema: str) -> None:
    """Put the content of a ledger into a file of an earlier schema, under the names of then."""
    fresh = path.rename(path.with_name("fresh.sqlite"))
    old = sqlite3.connect(path, isolation_level=None)
    old.execute("PRAGMA journal_mode = WAL")
    old.executescript(Path(__file__).with_name("schema_2.sql").read_text())
    for table in AGENTS if schema == "1" else ():
        old.execute(f"DROP TABLE {table}")
    old.execute("ATTACH ? AS fresh", (str(fresh),))
    then = campaign.replace(f"-{lab}-", "-")
    for table in TABLES[: -len(AGENTS)] if schema == "1" else TABLES:
        columns = [row[1] for row in old.execute(f"PRAGMA main.table_info({table})")]
        for row in old.execute(f"SELECT {', '.join(columns)} FROM fresh.{table}").fetchall():
            values = [then if value == campaign else value for value in row]
            old.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)
    old.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (schema,))
    length = (path.parent.parent / "research_results.tsv").stat().st_size
    old.execute("UPDATE meta SET value = ? WHERE key = 'table'", (f"3 {length}",))
    old.execute("DETACH fresh")
    old.close()
    fresh.unlink()

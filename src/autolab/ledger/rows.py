"""Rows of the database as records, and back."""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Callable
from dataclasses import fields
from typing import Any, TypeVar

from autolab.ledger.records import Campaign, Measurement, Proposal, Status, Trial, TrialState, Verdict
from autolab.task import Edit

Record = TypeVar("Record")


def _readable(convert: Callable[[sqlite3.Row], Record]) -> Callable[[sqlite3.Row], Record]:
    """A row that cannot be read is a damaged database, whatever it was that broke."""

    @functools.wraps(convert)
    def checked(row: sqlite3.Row) -> Record:
        try:
            return convert(row)
        except (ValueError, TypeError, KeyError) as error:
            raise sqlite3.DatabaseError(f"a row cannot be read: {error}") from None

    return checked


@_readable
def campaign_of(row: sqlite3.Row) -> Campaign:
    return Campaign(
        row["id"],
        row["task"],
        row["key"],
        json.loads(row["config"]),
        row["state"],
        row["baseline"],
        row["noise_sd"],
        row["created_at"],
        row["lab"],
    )


def encode_proposal(proposal: Proposal) -> dict[str, Any]:
    encoded = {f.name: getattr(proposal, f.name) for f in fields(proposal)}
    encoded["edits"] = [edit.model_dump() for edit in proposal.edits]
    return encoded


@functools.lru_cache(maxsize=256)
def _decode_proposal(text: str) -> Proposal:
    raw = json.loads(text)
    raw["edits"] = tuple(Edit.model_construct(**edit) for edit in raw["edits"])
    return Proposal(**{**raw, "sources": tuple(raw["sources"])})


@_readable
def trial_of(row: sqlite3.Row) -> Trial:
    return Trial(
        number=row["number"],
        id=row["id"],
        campaign=row["campaign"],
        ordinal=row["ordinal"],
        state=TrialState(row["state"]),
        role=row["role"],
        agent=row["agent"],
        surface=row["surface"],
        parent_program=row["parent_program"],
        parent_trial=row["parent_trial"],
        program=row["program"],
        status=Status(row["status"]) if row["status"] else None,
        verdict=Verdict(row["verdict"]) if row["verdict"] else None,
        score=row["score"],
        score_low=row["score_low"],
        score_high=row["score_high"],
        delta=row["delta"],
        repeats=row["repeats"],
        proposal=_decode_proposal(row["proposal"]) if row["proposal"] else None,
        note=row["note"],
        executor=row["executor"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        order=row["finish_order"],
    )


@_readable
def measurement_of(row: sqlite3.Row) -> Measurement:
    record = json.loads(row["record"])
    curve = tuple((progress, value) for progress, value in record.pop("curve", ()))
    record.pop("band", None)
    return Measurement(
        **{
            "id": row["id"],
            "trial": row["trial"],
            "stage": row["stage"],
            "seed": row["seed"],
            "eval_seed": row["eval_seed"],
            "attempt": row["attempt"],
            "status": Status(row["status"]) if row["status"] else None,
            "score": row["score"],
            **record,
            "started_at": row["started_at"],
            "curve": curve,
        }
    )

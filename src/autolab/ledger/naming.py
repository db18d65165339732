"""Names that no two labs share, and what they say.

A trial is named by its lab and its place there: `3fa2c1-0007`. In its own lab's ledger its number is that place. In
another's it is a negative number made of both, so that a name can be followed before what it names has come.
"""

from __future__ import annotations

import re

TRIAL = r"^(?:[0-9a-f]{4}|[0-9a-f]{6})-(?:[0-9]{4}|[1-9][0-9]{4,9})$"
_OF_LAB = re.compile(r"-([0-9a-f]{4}|[0-9a-f]{6})-[0-9]+$")
_PLACES = 2**34
_SHORT = 2**24  # marks a lab with four digits, as the first ones had


def lab_and_place(trial: str) -> tuple[str, int]:
    """Which lab a trial is of, and its place there."""
    lab, place = trial.split("-")
    return lab, int(place)


def foreign_number(trial: str) -> int:
    """The number of another lab's trial."""
    lab, place = lab_and_place(trial)
    return -1 - ((int(lab, 16) + _SHORT * (len(lab) == 4)) * _PLACES + place)


def foreign_name(number: int) -> str:
    """The name of another lab's trial."""
    lab, place = divmod(-1 - number, _PLACES)
    return f"{lab - _SHORT:04x}-{place:04d}" if lab >= _SHORT else f"{lab:06x}-{place:04d}"


def campaign_lab(campaign: str) -> str:
    """Which lab a campaign is of, as its name says; empty for names from before labs stood in them."""
    found = _OF_LAB.search(campaign)
    return found[1] if found else ""

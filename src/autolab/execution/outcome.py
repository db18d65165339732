"""How a measurement can end: with an outcome, or stopped without one.

Standard library only, and nothing from autolab: these files run by themselves on other machines.
"""

from __future__ import annotations


class Stopped(Exception):
    """The lab is gone, or asked us to stop: leave no result."""


class Outcome(Exception):
    """The measurement is over, with this status and cause."""

    def __init__(self, status: str, cause: str = "") -> None:
        super().__init__(status, cause)
        self.status, self.cause = status, cause

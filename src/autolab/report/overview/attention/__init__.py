"""What needs a person: each concern with its numbers and what to do about it, the gravest first.

Which concern is how grave is a rule of thumb each, written where it is found; the numbers in it are the ledger's.
"""

from __future__ import annotations

from collections.abc import Sequence

from autolab.report.overview.attention.course import of_the_course
from autolab.report.overview.attention.measuring import of_measuring
from autolab.report.overview.attention.trials import of_trials
from autolab.report.overview.gathered import Gathered
from autolab.report.overview.records import Climb, Concern, Slots
from autolab.report.overview.slots import Occupation

LEVELS = ("error", "warning", "info")
# Within a level: first what makes the results doubtful, then what stands still, then what is wasted, then news.
KINDS = (
    "baseline", "tampering", "hung", "interrupted", "waiting", "self_reported", "no_sandbox", "host_shift", "sealed",
    "budget", "unconfirmed", "demotion", "stale_master", "crash_cluster", "failures", "infra", "sessions", "duplicates",
    "abandoned", "proposals", "idle",
)  # fmt: skip


def concerns(
    found: Gathered, used: Occupation, shown: Slots, climbed: Sequence[Climb]
) -> tuple[Concern, ...]:
    """Everything that needs a person, the gravest first; the same for the same ledger and the same time."""
    every = [*of_the_course(found, climbed), *of_measuring(found, used, shown), *of_trials(found)]
    every.sort(key=lambda one: (LEVELS.index(one.level), KINDS.index(one.kind), -len(one.trials), one.text))
    return tuple(every)

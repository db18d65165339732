"""Which program each trial of a campaign branches from: the campaign's archive, kept up from judged trials.

It keeps no files. A resumed campaign tells it the same trials in the same order, and gets the same choices.
"""

from __future__ import annotations

import math

import numpy as np

from autolab.ledger.records import PROMOTED, Campaign, Status, Trial
from autolab.ledger.store import Ledger
from autolab.search.archives import new_archive
from autolab.search.descriptors import bounds_of, lines_of, measures, representative
from autolab.search.parent import choose_parent
from autolab.task import Task

MIGRATION = 20  # own trials between two looks at other labs' results
MIGRANTS = 3  # that come from each of those labs at a time: its best new ones
# A child's failure that speaks against its parent; what is of the machine, or was never run, does not.
BARREN = frozenset(
    {
        Status.CRASH, Status.NAN, Status.OOM, Status.TIMEOUT, Status.ILLEGAL, Status.OVER_SIZE, Status.GATE_MISSED,
        Status.ABORTED, Status.EVAL_TIMEOUT,
    }
)  # fmt: skip


class Population:
    """The archive of one campaign. A trial costs the same however many were told before.

    What the statistics say goes before single scores: the master counts as the best program, and a trial that was not
    promoted never counts as better, however lucky its score was.
    """

    def __init__(self, ledger: Ledger, campaign: Campaign, task: Task, archive: str, seed: int) -> None:
        """`archive` is a name in `archives.ARCHIVES`."""
        self._ledger, self._campaign, self._task, self._seed = ledger, campaign, task, seed
        # Seconds are never the same twice, and a seeded proposer's campaign has to be.
        self._timed = campaign.config.get("harness", "offline") != "offline"
        self.archive = new_archive(archive, bounds_of(task, timed=self._timed))
        baseline = ledger.program(campaign.baseline)
        self._paths, self._lines = set(baseline), lines_of(baseline)
        self._programs: dict[int, str] = {}
        self._surfaces: dict[int, frozenset[str]] = {}
        self._told = 0
        self._top: float | None = None  # the master's objective
        self._leader: int | None = None  # the trial that was promoted last
        self._order = 0  # the highest finish order that was told
        self._migrated = 0  # finish order up to which other labs' trials came in

    def tell(self, trial: Trial) -> None:
        """A trial was judged. Tell each once, in the order in which they were judged."""
        self._told += 1
        self._order = max(self._order, trial.order or 0)
        if trial.status is Status.OK and trial.score is not None and trial.program is not None:
            self._add(trial, self._objective(trial), trial.parent_trial)
        elif trial.status in BARREN:
            self.archive.add_failed(trial.parent_trial)
        if self._told % MIGRATION == 0:
            self._migrate()

    def choose(self, ordinal: int) -> tuple[str, int]:
        """(program, trial) for the trial with this place in the campaign: the master, the baseline while that is being
        measured, or an elite. The same seed, ordinal and trials told give the same choice."""
        rng = np.random.default_rng([self._seed & 0x7FFFFFFF, ordinal])
        chosen = self.archive.sample_elites(1, rng, max(1, ordinal + 1 - self._told))
        if not chosen or chosen[0] == self._leader:
            return choose_parent(self._ledger, self._campaign.id)
        return self._programs[chosen[0]], chosen[0]

    def _objective(self, trial: Trial) -> float:
        assert trial.score is not None
        objective = self._task.sign * trial.score
        if trial.ordinal == 0 or trial.verdict in PROMOTED:
            # The test compared it with the master of that moment: it is better, whatever its own score says.
            if self._top is not None:
                objective = max(objective, math.nextafter(self._top, math.inf))
            self._top, self._leader = objective, trial.number
        elif self._top is not None:
            objective = min(objective, math.nextafter(self._top, -math.inf))
        return objective

    def _add(self, trial: Trial, objective: float, parent: int | None) -> None:
        assert trial.program is not None
        surfaces = self._surfaces.get(parent or 0, frozenset())
        if trial.surface not in surfaces and trial.ordinal > 0:
            surfaces |= {trial.surface}
        measured = None
        if self._timed or self._task.descriptors:
            measured = representative(self._ledger.measurements(trial.number))
        described = measures(
            self._task,
            self._lines,
            self._ledger.program(trial.program),
            surfaces,
            measured,
            timed=self._timed,
        )
        self._surfaces[trial.number] = surfaces
        self._programs[trial.number] = trial.program
        self.archive.add(trial.number, objective, described, parent)

    def _migrate(self) -> None:
        """Let in the best of what other labs found under the same comparability key, since the last time.

        Other labs are islands: each searches by itself, and only a few of its best come over. What counts is that a
        trial came into the ledger before the newest one told, so that a resumed campaign sees the same migrants.
        """
        rows = self._ledger.rows.execute(
            "SELECT c.lab, t.number FROM trial t JOIN campaign c ON c.id = t.campaign"
            " WHERE t.finish_order > ? AND t.finish_order <= ? AND c.key = ? AND c.lab != ''"
            " AND t.status = 'ok' AND t.score IS NOT NULL AND t.program IS NOT NULL"
            " ORDER BY c.lab, t.score * ? DESC, t.finish_order",
            (self._migrated, self._order, self._campaign.key, self._task.sign),
        ).fetchall()
        self._migrated = self._order
        came: dict[str, int] = {}
        for lab, number in rows:
            if came.get(lab, 0) >= MIGRANTS:
                continue
            trial = self._ledger.trial(number)
            # A stranger's program may have other files than this task allows, and then nothing can be built on it.
            if trial.program is not None and set(self._ledger.program(trial.program)) == self._paths:
                came[lab] = came.get(lab, 0) + 1
                self._add(trial, self._capped(trial), None)

    def _capped(self, trial: Trial) -> float:
        """What a migrant's score counts for: this lab's judge has confirmed nothing of it."""
        assert trial.score is not None
        objective = self._task.sign * trial.score
        return objective if self._top is None else min(objective, math.nextafter(self._top, -math.inf))

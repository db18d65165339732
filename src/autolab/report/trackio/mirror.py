"""Writes what Trackio does not have yet of a lab's own campaigns.

Fragments first, then the cursor: whoever is killed in between writes the same again, and that adds nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from autolab.ledger.masters import sign, states, steps
from autolab.ledger.records import Campaign, Trial, TrialState
from autolab.ledger.store import Ledger
from autolab.report.overview import Reader
from autolab.report.trackio import alarms, fleet
from autolab.report.trackio.cursor import Cursor, Reached, load, save
from autolab.report.trackio.inbox import Inbox, Record, alert_record, metric_record
from autolab.report.trackio.naming import fleet_name, project_name
from autolab.report.trackio.trials import Series, told, trial_records

BATCH = 5000  # records of a fragment


def mirror_directory(ledger: Ledger) -> Path:
    """Where Trackio keeps what it shows: TRACKIO_DIR, or beside the ledger."""
    given = os.environ.get("TRACKIO_DIR")
    return Path(given) if given else ledger.path.parent / "trackio"


class Mirror:
    """One ledger, read only, and the inbox of one Trackio directory."""

    def __init__(self, ledger: Ledger, directory: Path) -> None:
        self.ledger, self.directory = ledger, directory
        self.lab = ledger.meta("lab") or "lab"
        self._inbox = Inbox(directory, f"autolab-{self.lab}")
        self._cursor_file = directory / f"autolab-{self.lab}.cursor.json"
        self._readers: dict[str, Reader] = {}
        self._settled: set[str] = set()  # older campaigns that this process has looked at
        ledger.rows.execute("PRAGMA query_only = ON")

    def write(self, *, alive: bool, rebuild: bool = False) -> int:
        """Write what is missing, or with `rebuild` everything; returns how many records that were. `alive`: whether
        the newest campaign is being worked on.

        Raises OSError if the directory cannot be written; what was not written is written the next time.
        """
        with self._inbox.alone():
            campaigns = self.ledger.campaigns()
            cursor = Cursor() if rebuild else load(self._cursor_file)
            cursor = Cursor() if self._gone(cursor, campaigns) else cursor
            count = 0
            for settings in campaigns:
                if settings.id in self._settled and settings.id in cursor.campaigns:
                    continue
                newest = settings.id == campaigns[-1].id
                count += self._write_campaign(settings, cursor, alive=alive and newest)
                if not newest:
                    self._settled.add(settings.id)
            return count

    def projects(self) -> list[str]:
        """The projects of the newest campaign: its trials, and the fleet."""
        newest = self.ledger.campaign()
        return [project_name(newest.task, newest.key), fleet_name(newest.task, self.lab)]

    def every_project(self) -> list[str]:
        """The projects of all campaigns."""
        names = [
            [project_name(one.task, one.key), fleet_name(one.task, self.lab)]
            for one in self.ledger.campaigns()
        ]
        return list(dict.fromkeys(name for some in names for name in some))

    def _gone(self, cursor: Cursor, campaigns: Sequence[Campaign]) -> bool:
        """Whether somebody removed what the cursor speaks of."""
        names = set()
        for settings in campaigns:
            reached = cursor.campaigns.get(settings.id, Reached())
            names |= {project_name(settings.task, settings.key)} if reached.finished else set()
            names |= {fleet_name(settings.task, self.lab)} if reached.last else set()
        there = all((self.directory / f"{name}.db").exists() for name in names)
        return not there and not self._inbox.waiting()

    def _write_campaign(self, settings: Campaign, cursor: Cursor, *, alive: bool) -> int:
        reached = cursor.of(settings.id)
        after = Reached(reached.finished, {}, {}, reached.bucket, reached.last, list(reached.alerts))
        count, batch = 0, []
        for record in self._records(settings, reached, after, alive=alive):
            batch.append(record)
            if len(batch) >= BATCH:
                cursor.fragment = self._inbox.write(batch, cursor.fragment) + 1
                count, batch = count + len(batch), []
        if batch:
            cursor.fragment = self._inbox.write(batch, cursor.fragment) + 1
            count += len(batch)
        if after != reached or batch:
            cursor.campaigns[settings.id] = after
            save(self._cursor_file, cursor)
        return count

    def _records(
        self, settings: Campaign, reached: Reached, after: Reached, *, alive: bool
    ) -> Iterator[Record]:
        chain = steps(self.ledger, settings.id)
        known = states(chain)
        series = Series(
            project_name(settings.task, settings.key), settings.id, settings.task, settings.key,
            settings.config["task"]["metric"]["name"], sign(settings), [step.promotion for step in chain], known,
        )  # fmt: skip
        whole = fleet_name(settings.task, self.lab)

        def alert(alarm: alarms.Alarm) -> Record:
            step = max(0, round(alarm.at - settings.created_at))
            return alert_record(
                whole, settings.id, alarm.id, level=alarm.level, title=alarm.title, text=alarm.text, step=step,
                at=alarm.at,
            )  # fmt: skip

        for trial, records in self._trials(settings, series, reached, after):
            yield from records
            if trial.state is TrialState.DONE and (alarm := alarms.of_trial(trial, dict(known))) is not None:
                yield alert(alarm)
        view = self._reader(settings).read(time.time(), alive)
        for alarm in [*alarms.of_masters(chain), *alarms.of_campaign(view, settings)]:
            if alarm.id not in reached.alerts:
                after.alerts.append(alarm.id)
                yield alert(alarm)
        yield from self._fleet(settings, whole, fleet.rows(view, series, reached.bucket), after)

    def _trials(
        self, settings: Campaign, series: Series, reached: Reached, after: Reached
    ) -> Iterator[tuple[Trial, Iterable[Record]]]:
        """Trials of which there is more to show than before, with all that there is."""
        undone = self.ledger.undone(settings.id)  # first: what ends meanwhile is among the finished ones
        finished = self.ledger.trials(settings.id, after=reached.finished)
        new = [(trial.order or 0, trial.number) for trial in finished]
        after.states = {str(number): state for number, state in series.known.items()}
        moved = [int(number) for number, state in after.states.items() if reached.states.get(number) != state]
        chosen = dict.fromkeys([*(number for _, number in new), *moved])
        for trial, measurements in self.ledger.outcomes(list(chosen)):
            if trial.state is TrialState.DONE:
                yield trial, trial_records(series, trial, measurements, self._parent(trial))
        after.finished = max([reached.finished, *(order for order, _ in new)])
        for trial in undone:
            if trial.state is TrialState.QUEUED and trial.number not in chosen:
                measurements = self.ledger.measurements(trial.number)
                after.unfinished[str(trial.number)] = now = told(trial, measurements)
                if reached.unfinished.get(str(trial.number)) != now:
                    yield trial, trial_records(series, trial, measurements, self._parent(trial))

    def _fleet(
        self, settings: Campaign, project: str, rows: Iterable[fleet.Row], after: Reached
    ) -> Iterator[Record]:
        config = {
            "_Group": settings.task,
            "campaign": settings.id,
            "task": settings.task,
            "key": settings.key,
        }
        for row in rows:
            name = f"{settings.id}:fleet:{f'end-{int(1000 * row.at)}' if row.bucket is None else row.bucket}"
            if name == after.last:
                continue
            after.last, after.bucket = name, max(after.bucket, row.bucket or 0)
            yield metric_record(
                project, settings.id, settings.id, name, step=max(0, round(row.at - settings.created_at)), at=row.at,
                metrics=row.values, config=config,
            )  # fmt: skip

    def _parent(self, trial: Trial) -> str:
        return self.ledger.trial_id(trial.parent_trial) if trial.parent_trial else ""

    def _reader(self, settings: Campaign) -> Reader:
        if settings.id not in self._readers:
            self._readers[settings.id] = Reader(self.ledger, settings.id)
        return self._readers[settings.id]

"""What a campaign shows while it runs: bars in a terminal, plain lines elsewhere, JSON for machines."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import Any

import click

from autolab.campaign.loop import CampaignRun, Event, Limits
from autolab.cli.told import score_text
from autolab.lab import Lab
from autolab.ledger.masters import is_sealed, steps, way_back
from autolab.ledger.records import Measurement, Trial, Verdict
from autolab.ledger.views import cell

LONG = ("proposal", "log_excerpt", "clock")  # fields that an event does without


class Reporter:
    """Turns events into lines, and keeps one bar for each slot where there is a terminal."""

    def __init__(self, lab: Lab, limits: Limits, *, json_lines: bool) -> None:
        self.lab, self.limits, self.json_lines = lab, limits, json_lines
        newest = lab.ledger.newest_promotion(lab.campaign.id)
        self._promotion = newest.number if newest else 0  # the newest that was told
        self._work: CampaignRun | None = None
        self._progress: Any = None
        self._bars: dict[int, Any] = {}
        self._typical = 1.2 * (lab.task.budget.cpu_seconds or lab.task.budget.wall_seconds) + 2

    def begin(self, work: CampaignRun, warnings: list[str]) -> None:
        """Say what starts, and warn where evidence is weak."""
        self._work = work
        if self.json_lines:
            for text in warnings:
                self._line({"kind": "warning", "text": text})
            return
        total = "" if self.limits.trials is None else f", {self.limits.trials} trials"
        click.echo(
            f"{self.lab.campaign.id}: {self.lab.task.name}, {self.lab.task.metric.name}, "
            f"{len(work.executor.slots)} slots{total}. Ctrl-C stops after what is running."
        )
        for text in warnings:
            click.secho(text, fg="red", bold=True)
        if sys.stdout is not None and sys.stdout.isatty():
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(24), TimeElapsedColumn(), transient=True
            )
            self._progress.start()

    def end(self) -> None:
        """Take the bars away."""
        if self._progress is not None:
            self._progress.stop()

    def heed(self, event: Event) -> None:
        """Show one event."""
        if self.json_lines:
            self._line(_event_record(event))
            return
        if self._progress is not None:
            self._move_bars(event)
        stamp = time.strftime("%H:%M:%S")
        for text in (self._sentence(event), self._demotion(event)):
            if text:
                click.echo(f"{stamp}  {text}")

    def _sentence(self, event: Event) -> str:
        trial, measured = event.trial, event.measurement
        if event.kind == "notice":
            return event.text
        if event.kind in ("draining", "paused", "resumed"):
            return f"{event.kind}: {event.text}" if event.text else event.kind
        if event.kind == "measured" and measured is not None:
            known = self.lab.ledger.trial(measured.trial)
            value = f"{measured.status}: {cell(measured.cause)[:80]}"
            if measured.score is not None:
                value = f"{self.lab.task.metric.name} {measured.score:.5g}"
                value = "looked at the sealed split" if is_sealed(measured) else value
            seconds = measured.finished_at - measured.started_at
            return f"{known.id}  {measured.stage:<10} {value}  ({seconds:.0f} s)"
        if event.kind == "refused" and trial is not None:
            return f"{trial.id}  {trial.status}: {cell(trial.note)[:90]}"
        if event.kind == "promoted" and trial is not None and trial.ordinal == 0:
            return f"{trial.id}  baseline {trial.score:.5g}: {trial.note}"
        if event.kind == "promoted" and trial is not None:
            return click.style(
                f"{trial.id}  NEW MASTER {score_text(trial.score, trial.score_low, trial.score_high)}"
                f" {trial.verdict} ({trial.delta:+.4g})  {cell(trial.hypothesis)[:70]}",
                fg="green",
                bold=True,
            )
        if event.kind == "judged" and trial is not None and trial.verdict:
            more = f"  (`autolab confirm {trial.id}`)" if trial.verdict is Verdict.PROVISIONAL else ""
            return f"{trial.id}  {trial.verdict} ({trial.delta:+.3g})  {cell(trial.hypothesis)[:70]}{more}"
        return ""

    def _demotion(self, event: Event) -> str:
        """A master that was taken back with the end of a trial, or nothing."""
        if event.kind not in ("judged", "promoted"):
            return ""
        newest = self.lab.ledger.newest_promotion(self.lab.campaign.id)
        known, self._promotion = self._promotion, newest.number if newest else 0
        if newest is None or newest.kind != "demotion" or newest.number <= known:
            return ""
        back = steps(self.lab.ledger, self.lab.campaign.id)[-1]
        return f"DEMOTED {way_back(self.lab.ledger, back)}"

    def _move_bars(self, event: Event) -> None:
        if event.kind == "started" and event.measurement is not None:
            slot = event.measurement.slot
            if slot in self._bars:
                self._progress.remove_task(self._bars[slot])
            trial = self.lab.ledger.trial(event.measurement.trial)
            self._bars[slot] = self._progress.add_task(
                f"slot {slot} {trial.id} {cell(trial.hypothesis)[:40]}", total=self._typical
            )
        if self._work is not None:
            for slot, measurement in self._work.running.items():
                if slot in self._bars:
                    self._progress.update(self._bars[slot], completed=time.time() - measurement.started_at)

    def _line(self, record: dict[str, Any]) -> None:
        click.echo(json.dumps({"at": time.time(), **record}, default=str))


def _event_record(event: Event) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": event.kind}
    if event.text:
        record["text"] = event.text
    if event.trial is not None:
        record["trial"] = _brief(event.trial)
    if event.measurement is not None:
        record["measurement"] = _brief(event.measurement)
    return record


def _brief(record: Trial | Measurement) -> dict[str, Any]:
    # Not asdict: copying every nested value would take a tenth of the time of a campaign of fast trials.
    known = {
        one.name: getattr(record, one.name) for one in dataclasses.fields(record) if one.name not in LONG
    }
    if isinstance(record, Measurement) and is_sealed(record):
        known["score"], known["metrics"] = None, {}
    if isinstance(record, Trial):
        known["hypothesis"] = record.hypothesis
    return known

"""What a campaign tells while it works: a view in a terminal, plain lines elsewhere, JSON for machines."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from autolab.campaign.loop import Event, Limits
from autolab.cli.fitting import on_a_terminal
from autolab.cli.options import document
from autolab.cli.told import score_text, wrapped
from autolab.lab import Lab
from autolab.ledger.masters import is_sealed, steps, way_back
from autolab.ledger.records import Measurement, Trial, Verdict
from autolab.ledger.views import cell

if TYPE_CHECKING:
    from autolab.cli.seen import Watch
    from autolab.cli.view import View

LONG = ("proposal", "log_excerpt", "clock")  # fields that an event does without
SHORT = {
    kind: [f.name for f in dataclasses.fields(kind) if f.name not in LONG] for kind in (Trial, Measurement)
}
EARLIER = 6  # outcomes of an earlier run that a terminal shows again
QUIET = "bright_black"


class Reporter:
    """Tells of events as they come: in a terminal above a view that is kept up to date, else line by line."""

    def __init__(self, lab: Lab, limits: Limits, *, json_lines: bool) -> None:
        self.lab, self.limits, self.json_lines = lab, limits, json_lines
        newest = lab.ledger.newest_promotion(lab.campaign.id)
        self._promotion = newest.number if newest else 0  # the newest that was told
        self._refused: set[int] = set()  # trials whose end was told before they are judged
        self._watch: Watch | None = None
        self._view: View | None = None

    def begin(self, first: str, running: Mapping[int, Measurement], slots: int, warnings: list[str]) -> None:
        """Say what starts, and warn where evidence is weak; from within the loop of whatever works. `running`: what
        runs on which of so many `slots`, kept up to date."""
        if self.json_lines:
            for text in warnings:
                self._line({"kind": "warning", "text": text})
            return
        if not on_a_terminal() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
            click.echo(first)
            for text in warnings:
                click.secho(text, fg="red", bold=True)
            return
        click.echo("\n".join(wrapped("", first, 0)))
        for text in warnings:
            click.secho("\n".join(wrapped("", text, 0)), fg="red", bold=True)
        from autolab.cli.seen import Watch
        from autolab.cli.view import View

        self._watch = Watch(self.lab, self.limits, running, slots)
        self._view = View(self._watch.look)
        for trial in self.lab.ledger.trials(self.lab.campaign.id, last=EARLIER):
            self._view.say(f"{_clock(trial.finished_at)}  {self._outcome(trial)}", QUIET)
        self._view.start()

    def end(self) -> None:
        """Take the view away; what was told stays."""
        if self._view is not None:
            self._view.stop()
            self._view = None

    def heed(self, event: Event) -> None:
        """Tell of one event."""
        if self.json_lines:
            self._line(_event_record(event))
            return
        back = self._demotion(event)
        if self._view is not None:
            self._show(self._view, event, back)
            return
        gain = event.kind == "promoted" and event.trial is not None and event.trial.ordinal > 0
        for text, color in ((self._sentence(event), "green" if gain else None), (back, None)):
            if text:
                click.echo(f"{_clock()}  {click.style(text, fg=color, bold=gain or None) if color else text}")

    def _show(self, view: View, event: Event, back: str) -> None:
        """What a terminal's log has of an event: how trials ended, and what a person should know. The view tells the
        rest. Of a hundred trials a second most are only counted, so no sentence is made before it is needed."""
        if self._watch is not None:
            self._watch.heed(event)
        at, trial = _clock(), event.trial
        if trial is None:
            if event.kind not in ("started", "measured"):
                view.say(f"{at}  {self._sentence(event)}", "yellow")
        elif event.kind == "promoted" and trial.ordinal == 0:
            view.say(f"{at}  {self._outcome(trial)}")
        elif event.kind == "promoted":
            view.say(f"{at}  {_new_master(trial)}", "bold green")
            view.say(f"{'':<10}{cell(trial.hypothesis)}", "green")
        elif trial.number in self._refused:
            self._refused.discard(trial.number)
        elif trial.status is not None:
            word = str(trial.verdict or trial.status)
            view.outcome(word, lambda: f"{at}  {self._outcome(trial)}")
            if event.kind == "refused":
                self._refused.add(trial.number)
        if back:
            view.say(f"{at}  {back}", "bold yellow")

    def _outcome(self, trial: Trial) -> str:
        """How a trial ended."""
        if trial.verdict is None:
            return f"{trial.id}  {trial.status}: {cell(trial.note)}"
        if trial.ordinal == 0:
            return f"{trial.id}  baseline {trial.score:.5g}: {cell(trial.note)}"
        delta = "" if trial.delta is None else f" ({trial.delta:+.3g})"
        return f"{trial.id}  {trial.verdict}{delta}  {cell(trial.hypothesis)}"

    def _sentence(self, event: Event) -> str:
        trial, measured = event.trial, event.measurement
        if event.kind == "notice":
            return cell(event.text)
        if event.kind in ("draining", "paused", "resumed"):
            return f"{event.kind}: {cell(event.text)}" if event.text else event.kind
        if event.kind == "measured" and measured is not None:
            known = self.lab.ledger.trial(measured.trial)
            value = f"{measured.status}: {cell(measured.cause)[:80]}"
            if is_sealed(measured):
                failed = "" if measured.score is not None else f": {measured.status}"
                value = f"looked at the sealed split{failed}"
            elif measured.score is not None:
                value = f"{self.lab.task.metric.name} {measured.score:.5g}"
            seconds = measured.finished_at - measured.started_at
            return f"{known.id}  {measured.stage:<10} {value}  ({seconds:.0f} s)"
        if event.kind == "refused" and trial is not None:
            return f"{trial.id}  {trial.status}: {cell(trial.note)[:90]}"
        if event.kind == "promoted" and trial is not None and trial.ordinal == 0:
            return self._outcome(trial)
        if event.kind == "promoted" and trial is not None:
            return f"{_new_master(trial)}  {cell(trial.hypothesis)[:70]}"
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
        return f"DEMOTED {cell(way_back(self.lab.ledger, back))}"

    def _line(self, record: dict[str, Any]) -> None:
        # Not click.echo, which asks on every line whether it goes to a terminal that knows colours.
        if sys.stdout is not None:  # as it is where the descriptor was closed
            sys.stdout.write(document({"at": time.time(), **record}) + "\n")
            sys.stdout.flush()


def _new_master(trial: Trial) -> str:
    score = score_text(trial.score, trial.score_low, trial.score_high)
    return f"{trial.id}  NEW MASTER {score} {trial.verdict} ({trial.delta:+.4g})"


def _clock(at: float | None = None) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


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
    known = {name: getattr(record, name) for name in SHORT[type(record)]}
    if isinstance(record, Measurement) and is_sealed(record):
        known.update(score=None, metrics={}, cause="", curve=())
    if isinstance(record, Trial):
        known["hypothesis"] = record.hypothesis
    return known

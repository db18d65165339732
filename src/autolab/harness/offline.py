"""The harness without a model: the control arm that every agent has to beat.

It changes one thing at a time (a constant of the recipe, or a structural move that the task declares),
learns from outcomes which knobs and directions move the score, and picks the next change by Thompson
sampling (Thompson 1933; Russo et al., "A Tutorial on Thompson Sampling", 2018) over the posterior that
`beliefs.py` keeps. Late in a campaign it may join two changes that both looked promising alone.

`propose` depends on nothing but the task, the campaign's seed, the ticket and what was told, in order.
What an outcome teaches travels in `Proposal.move`, so a resumed campaign only has to tell the ledger again.
"""

from __future__ import annotations

import json
import math
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from autolab.harness import Exhausted, Ticket, beliefs, knobs
from autolab.harness.beliefs import Array, Axis, Group, Outlook, Record
from autolab.harness.options import (
    Option,
    Parent,
    applied,
    child_identity,
    edits_of,
    files_identity,
    knob_option,
    prepare,
    read_guidance,
)
from autolab.ledger.records import PROMOTED, Proposal, Status, Trial
from autolab.task import Task

DULL = -1.0  # a change of what does not matter teaches nothing and gains nothing, in noise SDs
FAILURE_COST = 2.0  # what a trial without a score costs, in noise SDs: about as much as a bad one
MOVE_PRIOR = 3.0  # noise SDs; a declared move is somebody's idea, and worth an early look
RATE_PRIOR = 1.5  # likewise for learning rates, which matter most of all constants (Bengio, arXiv 1206.5533)
PAIR_SHARE = 0.25  # of late proposals join two changes, if there are two to join
PROMISING = 0.3  # expected gain, in noise SDs, from which a tried change may be joined with another
FINER_TRIES, PAIR_TRIES = 64, 256  # effort before Exhausted
FINER_COMPARED = 8  # of the finer steps that are new, how many are compared
PARENTS_KEPT = 64

LEARNING_RATE = re.compile(r"(^|_)LR($|_)|LEARNING_RATE")
NO_EVIDENCE = {Status.INFRA_ERROR, Status.DUPLICATE}
NOUNS = {"up": "increase", "down": "decrease", "off": "switching off", "toggle": "toggle", "swap": "swap"}
OPPOSITE = {"up": "down", "down": "up", "off": "down"}
COUNTED = {1: "last", 2: "last two"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """An option with what is believed of it, in squashed noise SDs."""

    option: Option
    mean: float
    spread: float
    sample: float
    valid: float


@dataclass(frozen=True, slots=True)
class Draw:
    """What is believed of every option, and one sample of it; arrays (options,)."""

    options: list[Option]
    mean: Array
    spread: Array
    sample: Array
    valid: Array
    utility: Array

    def candidate(self, index: int) -> Candidate:
        """One option with its numbers."""
        numbers = (self.mean, self.spread, self.sample, self.valid)
        return Candidate(self.options[index], *(float(array[index]) for array in numbers))


@dataclass(frozen=True, slots=True)
class Step:
    """One step on one axis, as it is written into Proposal.move."""

    axis: str
    start: float | str
    end: float | str
    direction: str
    surface: str


@dataclass(frozen=True, slots=True)
class Note:
    """What an outcome teaches: the steps, the two programs' identities, and the parent's score."""

    steps: tuple[Step, ...]
    parent: int
    child: int
    score: float | None


def _head_start(option: Option) -> float:
    """What is expected of an axis before anything is known of it, in noise SDs."""
    if option.move is not None:
        return MOVE_PRIOR
    return RATE_PRIOR if LEARNING_RATE.search(option.subject) else 0.0


def write_note(note: Note) -> str:
    """The note as one line of JSON, for Proposal.move."""
    steps = [[step.axis, step.start, step.end, step.direction, step.surface] for step in note.steps]
    return json.dumps({"steps": steps, "parent": note.parent, "child": note.child, "score": note.score})


def read_note(move: str) -> Note | None:
    """The note in a Proposal.move; None for what other harnesses wrote there."""
    if not move.startswith('{"steps":'):
        return None
    try:
        raw = json.loads(move)
        steps = tuple(Step(str(a), b, c, str(d), str(e)) for a, b, c, d, e in raw["steps"])
        note = Note(steps, int(raw["parent"]), int(raw["child"]), raw["score"])
    except (ValueError, TypeError, KeyError):
        return None
    sound = all(type(s.start) is type(s.end) and isinstance(s.start, (float, str)) for s in steps)
    return note if steps and sound and isinstance(note.score, (int, float, type(None))) else None


class OfflineHarness:
    """Ask/tell over single changes; see the module's text. One object per campaign and role."""

    name = "offline"
    ahead: int | None = None

    def __init__(self, task: Task, seed: int) -> None:
        self._task = task
        self._seed = seed
        self._axes: dict[str, Axis] = {}
        self._prior_axes: dict[float | str, Axis] = {}
        self._records: dict[tuple[str, str], Record] = {}
        self._groups: dict[str, Group] = {}
        self._everything = Group()
        self._seen: set[int] = set()
        self._in_flight: dict[int, Note] = {}
        self._worked = self._failed = 0
        self._unit = 0.0  # stands in for the noise where a task has none
        self._parents: OrderedDict[int, Parent] = OrderedDict()

    async def propose(self, ticket: Ticket) -> Proposal:
        """The next change of the ticket's parent; no awaits, a few milliseconds.

        Raises Exhausted when the standard changes, finer ones and pairs have all been proposed before, or
        the surface has nothing that could be changed.
        """
        rng = np.random.default_rng((self._seed, ticket.ordinal))
        parent = self._parent(ticket.parent_files)
        groups = self._allowed(parent, ticket)
        if not groups:
            where = f"surface {ticket.surface!r}" if ticket.surface else "the editable files"
            raise Exhausted(f"{where}: no constant or move that could be changed")
        draw = self._draw(groups, rng)
        if self._worked + self._failed >= len(parent.groups) and rng.random() < PAIR_SHARE:
            pair = self._promising_pair(parent, draw)
            if pair is not None:
                return self._proposal(ticket, parent, pair)
        for index in np.argsort(-draw.utility, kind="stable").tolist():
            if child_identity(parent, draw.options[index]) not in self._seen:
                return self._proposal(ticket, parent, [draw.candidate(index)])
        return self._last_resort(ticket, parent, groups, draw, rng)

    async def consult(self, ticket: Ticket) -> str:
        """Nothing: there is no model to ask."""
        return ""

    def tell_proposed(self, ticket_number: int, proposal: Proposal, parent_program: str) -> None:
        """An accepted proposal is in flight: its program is never proposed again, its arm is discounted."""
        note = read_note(proposal.move)
        if note is None:
            return
        self._seen.update((note.parent, note.child))
        self._in_flight[ticket_number] = note
        for step in note.steps:
            axis = self._axis(step)
            axis.begin(ticket_number, *axis.step(step.start, step.end))

    def tell(self, trial: Trial, noise_sd: float) -> None:
        """Learn from one judged trial; trials of other harnesses, and what says nothing, are passed over.

        `noise_sd` is the SD of one score in the metric's unit; 0 (no noise) uses the usual size of a gain.
        """
        note = self._in_flight.pop(trial.number, None)
        if note is None and trial.proposal is not None:
            note = read_note(trial.proposal.move)
        if note is None:
            return
        self._seen.update((note.parent, note.child))
        for step in note.steps:
            self._axis(step).finish(trial.number)
        if trial.status is None or trial.status in NO_EVIDENCE:
            return
        worked = trial.status is Status.OK
        self._worked += worked
        self._failed += not worked
        for step in note.steps:
            axis = self._axis(step)
            weight = 1.0 if worked else 1 / len(note.steps)
            axis.count(*axis.step(step.start, step.end), worked=worked, weight=weight)
            record = self._records.setdefault((step.axis, step.direction), Record())
            record.worked += worked
            record.failed += not worked
        # The parent's own score if it is known, else what the trial gained over the master.
        against = trial.delta
        if trial.score is not None and note.score is not None:
            against = self._task.gain(trial.score, note.score)
        if worked and against is not None:
            gain = self._in_noise_units(against, noise_sd)
            if math.isfinite(gain):
                self._learn(note.steps, gain)
        if worked and trial.verdict in PROMOTED:
            for axis in self._axes.values():
                axis.age()

    def _learn(self, steps: Sequence[Step], gain: float) -> None:
        """Share one gain out among its steps, by how uncertain each of them was."""
        axes = [self._axis(step) for step in steps]
        levels = [axis.step(step.start, step.end) for axis, step in zip(axes, steps, strict=True)]
        expected = [axis.innovation(*pair) for axis, pair in zip(axes, levels, strict=True)]
        residual = beliefs.squash(gain) - sum(mean for mean, _ in expected)
        variance = beliefs.OBSERVATION + sum(spread for _, spread in expected)
        if len(steps) == 1:
            axes[0].weigh(beliefs.squash(gain), expected[0][0], variance)
        for step, axis, pair, (_, spread) in zip(steps, axes, levels, expected, strict=True):
            # Only a step that was still a guess tells something of others like it.
            prior = float(axis.prior_variance(pair[0], np.array([pair[1]]))[0])
            freshness = min(1.0, spread / prior) / len(steps) if prior else 0.0
            self._everything.add(residual, freshness)
            for group in (f"surface:{step.surface}", f"kind:{step.direction}"):
                self._groups.setdefault(group, Group()).add(residual, freshness)
            axis.learn(*pair, residual, variance)
            if len(steps) == 1:
                self._records[step.axis, step.direction].recent.append(gain)

    def _in_noise_units(self, gain: float, noise_sd: float) -> float:
        if noise_sd > 0:
            return gain / noise_sd
        if gain and math.isfinite(gain):
            # A slow geometric mean of the gains so far: half of them then count as more than 2 units.
            size = abs(gain) / 2
            self._unit = size if not self._unit else self._unit * (size / self._unit) ** 0.1
        return gain / self._unit if self._unit else 0.0

    def _parent(self, files: Mapping[str, str]) -> Parent:
        texts = {path: files[path] for path in self._task.editable if path in files}
        identity = files_identity(texts)
        parent = self._parents.get(identity)
        if parent is None:
            parent = self._parents[identity] = prepare(self._task, texts)
            if len(self._parents) > PARENTS_KEPT:
                self._parents.popitem(last=False)
        else:
            self._parents.move_to_end(identity)
        return parent

    def _axis(self, step: Step) -> Axis:
        axis = self._axes.get(step.axis)
        if axis is None:
            axis = self._axes[step.axis] = _new_axis(step.start)
        return axis

    def _allowed(self, parent: Parent, ticket: Ticket) -> list[tuple[list[Option], float]]:
        """The axes that this ticket may use, each with a human's hint in noise SDs."""
        groups = [g for g in parent.groups if ticket.surface is None or g[0].surface == ticket.surface]
        if not ticket.guidance:
            return [(group, 0.0) for group in groups]
        names = sorted(
            {name for g in groups for name in (g[0].subject, g[0].subject.split("[")[0], g[0].surface)}
        )
        said = read_guidance(ticket.guidance, [name for name in names if name])
        allowed = []
        for group in groups:
            subject, surface = group[0].subject, group[0].surface
            hint = said.get(subject, said.get(subject.split("[")[0], said.get(surface, 0.0)))
            if hint > -math.inf:
                allowed.append((group, hint))
        return allowed

    def _draw(self, groups: Sequence[tuple[list[Option], float]], rng: np.random.Generator) -> Draw:
        """One Thompson draw: for each axis one sample of its whole response, read off at every option."""
        share = (self._failed + 0.2) / (self._worked + self._failed + 2)
        general = self._everything.mean()
        views: list[Outlook] = []
        options = [option for group, _ in groups for option in group]
        normals = rng.standard_normal(len(options))
        noises: list[Array] = []
        hints: list[float] = []
        dull: list[Array] = []
        at = 0
        for group, hint in groups:
            first = group[0]
            axis = self._axes.get(first.axis) or self._untold(first.start)
            view = axis.outlook(tuple(o.start for o in group), tuple(o.end for o in group))
            views.append(view)
            noises.append(view.root @ normals[at : at + len(group)])
            dull.append(np.full(len(group), hint <= 0 and rng.random() > view.active))
            hints.extend([hint + _head_start(first)] * len(group))
            at += len(group)
        like = [
            0.5 * (self._like(f"surface:{o.surface}", general) + self._like(f"kind:{o.direction}", general))
            for o in options
        ]
        fresh = np.concatenate([view.fresh for view in views])
        mean = np.concatenate([view.mean for view in views]) + fresh * np.array(like) + np.array(hints)
        sample = mean + np.concatenate(noises)
        sample = np.where(np.concatenate(dull), DULL, sample)
        worked = np.concatenate([view.worked for view in views]) + 2 * (1 - share)
        failed = np.concatenate([view.failed for view in views]) + 2 * share
        valid = worked / (worked + failed)
        utility = valid * sample - (1 - valid) * FAILURE_COST
        return Draw(options, mean, np.concatenate([view.spread for view in views]), sample, valid, utility)

    def _untold(self, start: float | str) -> Axis:
        """An axis of which nothing was told; shared, because only what is told changes an axis."""
        axis = self._prior_axes.get(start)
        if axis is None:
            if len(self._prior_axes) >= 512:
                self._prior_axes.clear()
            axis = self._prior_axes[start] = _new_axis(start)
        return axis

    def _like(self, name: str, general: float) -> float:
        group = self._groups.get(name)
        return group.mean(general) if group is not None else general

    def _promising_pair(self, parent: Parent, draw: Draw) -> list[Candidate] | None:
        """Two tried changes on different axes that are expected to help, best samples first."""
        likely = np.flatnonzero((draw.mean > PROMISING) & (draw.valid > 0.5)).tolist()
        tried = [draw.candidate(i) for i in likely]
        tried = [c for c in tried if (c.option.axis, c.option.direction) in self._records]
        tried.sort(key=lambda c: -c.sample)
        best: dict[str, Candidate] = {}
        for candidate in tried:
            best.setdefault(candidate.option.axis, candidate)
        top = list(best.values())[:4]
        for i, first in enumerate(top):
            for second in top[i + 1 :]:
                if self._new_pair(parent, first.option, second.option):
                    return [first, second]
        return None

    def _new_pair(self, parent: Parent, first: Option, second: Option) -> bool:
        files = applied(parent.files, edits_of(parent, first) + edits_of(parent, second))
        return files is not None and files_identity(files) not in self._seen

    def _last_resort(
        self,
        ticket: Ticket,
        parent: Parent,
        groups: Sequence[tuple[list[Option], float]],
        draw: Draw,
        rng: np.random.Generator,
    ) -> Proposal:
        """All standard changes are used up: finer steps first, then any two changes at once."""
        numbers = [g[0] for g, _ in groups if g[0].change and isinstance(g[0].start, float)]
        new = (option for option in _finer(numbers, rng) if child_identity(parent, option) not in self._seen)
        finer = list(islice(new, FINER_COMPARED))
        if finer:
            some = self._draw([([option], 0.0) for option in finer], rng)
            return self._proposal(ticket, parent, [some.candidate(int(np.argmax(some.utility)))])
        for _ in range(PAIR_TRIES if len(groups) > 1 else 0):
            first, second = (draw.candidate(int(rng.integers(len(draw.options)))) for _ in range(2))
            if first.option.axis == second.option.axis:
                continue
            if self._new_pair(parent, first.option, second.option):
                return self._proposal(ticket, parent, [first, second])
        raise Exhausted(f"{len(draw.options)} single changes, finer steps and pairs were all proposed before")

    def _proposal(self, ticket: Ticket, parent: Parent, chosen: Sequence[Candidate]) -> Proposal:
        options = [candidate.option for candidate in chosen]
        edits = tuple(edit for option in options for edit in edits_of(parent, option))
        if len(options) == 1:
            child = child_identity(parent, options[0])
            hypothesis = self._sentence(options[0])
        else:
            child = files_identity(applied(parent.files, edits) or parent.files)
            labels = " and ".join(option.label for option in options)
            reasons = "; ".join(self._history(option) for option in options)
            hypothesis = f"Two changes at once: {labels}; {reasons}"
        mean, spread = sum(c.mean for c in chosen), math.hypot(*(c.spread for c in chosen))
        valid = math.prod(c.valid for c in chosen)
        surfaces = {option.surface for option in options}
        steps = tuple(Step(o.axis, o.start, o.end, o.direction, o.surface) for o in options)
        note = Note(steps, parent.identity, child, ticket.parent_score)
        return Proposal(
            hypothesis=hypothesis,
            edits=edits,
            surface=surfaces.pop() if len(surfaces) == 1 else "",
            expected_effect=f"{mean:+.1f} ± {spread:.1f} noise SDs, {valid:.0%} likely to give a score",
            rationale="drawn by Thompson sampling from what earlier trials of this campaign showed",
            move=write_note(note),
        )

    def _sentence(self, option: Option) -> str:
        if option.move is not None:
            return f"{option.move.hypothesis.rstrip('.')} ({option.subject}); {self._history(option)}"
        return f"{option.label}; {self._history(option)}"

    def _history(self, option: Option) -> str:
        """What earlier trials suggest, in words."""
        same = self._records.get((option.axis, option.direction))
        subject = option.subject
        if option.move is not None:
            if same is None:
                return "a move that the task declares, not tried yet"
            return f"it was tried {_times(same.worked + same.failed)}" + (
                f" and {_change(sum(same.recent) / len(same.recent))}" if same.recent else ""
            )
        noun = NOUNS[option.direction]
        if same is not None and same.recent:
            number = len(same.recent)
            plural = "s" if number > 1 and option.direction != "off" else ""
            average = " on average" if number > 1 else ""
            result = _change(sum(same.recent) / number)
            text = f"the {COUNTED[number]} {noun}{plural} of {subject} {result}{average}"
            if same.failed:
                text += f", and {_times(same.failed)} it failed to give a score"
            return text
        if same is not None and same.failed:
            return f"its {noun} failed {_times(same.failed)}, so this is another step"
        other = self._records.get((option.axis, OPPOSITE.get(option.direction, "")))
        if other is not None and other.recent:
            noun = NOUNS[OPPOSITE[option.direction]]
            return f"the last {noun} of {subject} {_change(other.recent[-1])}, the other way is untried"
        group = self._groups.get(f"surface:{option.surface}")
        if option.surface and group is not None and group.count >= 2:
            better = "better" if group.mean(self._everything.mean()) > 0 else "worse"
            return f"{subject} is untried, and changes of {option.surface} did {better} than expected so far"
        return f"nothing is known of {subject} yet"


def _new_axis(start: float | str) -> Axis:
    return Axis(smooth=False) if isinstance(start, str) else Axis(smooth=True, anchor=start)


def _finer(options: Sequence[Option], rng: np.random.Generator) -> Iterator[Option]:
    """Steps of any size between the standard ones, with up to three significant digits."""
    for attempt in range(FINER_TRIES if options else 0):
        option = options[int(rng.integers(len(options)))]
        assert option.change is not None and isinstance(option.start, float)
        knob = option.change.knob
        if knob.choices or not isinstance(knob.value, (int, float)):
            continue
        factor = math.exp(rng.uniform(-1, 1) * math.log(6))
        value = float(knob.value)
        if knob.scale == "unit" and 0 < value < 1:
            odds = value / (1 - value) * factor
            target = odds / (1 + odds)
        else:
            target = (value or 0.02) * factor
        change = knobs.change_to(knob, target, digits=2 if attempt < FINER_TRIES // 2 else 3)
        if change is not None:
            yield knob_option(knob, change, option.surface)


def _change(gain: float) -> str:
    return f"{'gained' if gain >= 0 else 'lost'} {abs(gain):.1f}σ"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")

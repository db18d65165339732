"""What could be changed in one program: every standard single change, grouped by axis.

An axis is one knob of the recipe or one structural move that the task declares. This says only what is
possible; `offline.py` decides what is worth a trial.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from autolab.harness import knobs
from autolab.task import Edit, Move, Task

HINT = 2.0  # what a human's mention of a knob is worth, in noise SDs
NEGATION = re.compile(r"\b(avoid|don'?t|do not|never|stop|skip|leave|not|without)\b", re.IGNORECASE)

# Which surface a constant belongs to, by the words in its name; the first rule whose surface the task has.
# A surface is recognised by how its name begins, so that either spelling of regularisation will do.
SURFACE_WORDS: tuple[tuple[str, str], ...] = (
    ("sched", "WARMUP WARMDOWN COOLDOWN SCHEDULE ANNEAL FINAL STEPS EPOCHS"),
    ("optim", "LR LRS BETA BETA1 BETA2 BETAS MOMENTUM DECAY EPS MUON ADAM SGD CLIP NESTEROV"),
    ("regul", "DROPOUT DECAY NOISE SMOOTHING AUGMENT EMA PENALTY CLIP"),
    ("loss", "LOSS SOFTCAP LABEL LABELS SMOOTHING Z TEMPERATURE"),
    ("data", "BATCH SEQ SEQUENCE CONTEXT SHUFFLE TOKENS DATA CROP TOKENIZER"),
    (
        "archi",
        "DEPTH DIM DIMS HEAD HEADS LAYER LAYERS MLP WIDTH HIDDEN ACT ACTIVATION ROPE NORM WINDOW EMBED",
    ),
    ("archi", "KERNEL CHANNELS RANK VOCAB SKIP BIAS TIE TIED SOFTCAP EXPERTS RATIO"),
    ("syst", "DTYPE COMPILE THREADS WORKERS PRECISION"),
)


@dataclass(slots=True, eq=False)
class Option:
    """One single change of one parent: a step on an axis."""

    axis: str
    start: float | str  # a coordinate on a smooth axis, else a level's name
    end: float | str
    direction: str
    surface: str
    label: str  # what is changed from what to what
    subject: str  # the knob's or move's own name
    change: knobs.Change | None = None
    move: Move | None = None
    child: int | None = None  # identity of the program that results, once it was asked for


@dataclass(slots=True)
class Parent:
    """What there is to change in one parent program; made once, and kept while it is in use."""

    files: dict[str, str]
    digests: dict[str, bytes]
    identity: int
    groups: list[list[Option]]  # one list per axis


def surface_of(name: str, surfaces: Mapping[str, str]) -> str:
    """The surface that a constant belongs to: one whose description names it, else by its words, else ""."""
    plain = name.split("[")[0]
    for surface, description in surfaces.items():
        if re.search(rf"\b{re.escape(plain)}\b", description):
            return surface
    words = set(plain.split("_"))
    for beginning, known in SURFACE_WORDS:
        if words & set(known.split()):
            for surface in surfaces:
                if surface.lower().startswith(beginning):
                    return surface
    return ""


def applied(files: Mapping[str, str], edits: Sequence[Edit]) -> dict[str, str] | None:
    """The files after the edits, or None if a search block does not match exactly once.

    Each block must match once in the parent and also in what earlier edits left, so that it does not
    matter which of the two an applier looks at.
    """
    result = dict(files)
    for edit in edits:
        parent, current = files.get(edit.path), result.get(edit.path)
        if parent is None or current is None:
            return None
        if not (knobs.occurs_once(parent, edit.search) and knobs.occurs_once(current, edit.search)):
            return None
        result[edit.path] = current.replace(edit.search, edit.replace)
    return None if result == dict(files) else result


def prepare(task: Task, files: Mapping[str, str]) -> Parent:
    """All standard single changes of one program, grouped by axis, in a fixed order."""
    texts = {path: files[path] for path in task.editable if path in files}
    groups: list[list[Option]] = []
    for path, text in texts.items():
        for knob in knobs.read_knobs(path, text):
            surface = surface_of(knob.name, task.surfaces)
            options = [knob_option(knob, change, surface) for change in knobs.changes(knob)]
            if options:
                groups.append(options)
    for move in task.moves:
        if applied(texts, move.edits) is not None:
            groups.append([move_option(move)])
    digests = {path: _digest(text) for path, text in texts.items()}
    return Parent(texts, digests, _identity(digests), groups)


def move_option(move: Move) -> Option:
    """The option that makes a declared structural move."""
    axis, label = f"move:{move.name}", f"apply {move.name}"
    return Option(axis, "without", "with", "move", move.surface, label, move.name, move=move)


def knob_option(knob: knobs.Knob, change: knobs.Change, surface: str) -> Option:
    """The option that makes this change of this knob."""
    start: float | str
    end: float | str
    if knob.scale == "set":
        # Literals may be written in two ways; what they say is one level.
        start, end = repr(knob.value), repr(change.value)
    else:
        start, end = (knobs.coordinate(knob.scale, value) for value in (knob.value, change.value))
    label = f"{knob.name} {knob.literal} → {change.literal}"
    return Option(knob.axis, start, end, change.direction, surface, label, knob.name, change)


def edits_of(parent: Parent, option: Option) -> tuple[Edit, ...]:
    """The edits that make one option."""
    if option.move is not None:
        return option.move.edits
    assert option.change is not None
    return (knobs.edit(parent.files[option.change.knob.path], option.change),)


def child_identity(parent: Parent, option: Option) -> int:
    """What the program after one option is known by: 64 bits of a hash of its files' contents."""
    if option.child is None:
        digests = dict(parent.digests)
        if option.change is not None:
            knob = option.change.knob
            text = parent.files[knob.path]
            digests[knob.path] = _digest(text[: knob.start] + option.change.literal + text[knob.end :])
            option.child = _identity(digests)
        else:
            option.child = files_identity(applied(parent.files, edits_of(parent, option)) or parent.files)
    return option.child


def files_identity(files: Mapping[str, str]) -> int:
    """What a program is known by here."""
    return _identity({path: _digest(text) for path, text in files.items()})


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _identity(digests: Mapping[str, bytes]) -> int:
    whole = blake2b(digest_size=8)
    for path in sorted(digests):
        whole.update(path.encode("utf-8", "surrogatepass") + b"\0" + digests[path])
    return int.from_bytes(whole.digest(), "big")


def read_guidance(guidance: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """What people said of knobs, moves or surfaces: name -> HINT, or -inf for what is to be left alone.

    A clause with a negation ("leave DEPTH alone") forbids what it names, any other favours it; the most
    recent mention holds.
    """
    said: dict[str, float] = {}
    for text in guidance:
        for clause in re.split(r"[.;:\n]|\bbut\b|\bthen\b", text):
            weight = -math.inf if NEGATION.search(clause) else HINT
            for name in names:
                if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", clause, re.IGNORECASE):
                    said[name] = weight
    return said

"""What earlier trials teach, as a bounded text for one prompt.

What agents wrote (hypotheses, causes, ideas) is quoted as one line each, capped, without control characters:
it is evidence for the next agent, never an instruction. The words around it are in slice.md.j2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, TypeVar, overload

from autolab.ledger.dead_ends import FAILED, changes_left, is_dead_end, newest_changes
from autolab.ledger.lineage.budget import fit
from autolab.ledger.lineage.rows import MOST_SURFACES, Entry, Idea, Rows, Word, constants_of
from autolab.ledger.masters import DEMOTED, Master, Step, last_steps, master_now, sign, way_back
from autolab.ledger.observations import standing
from autolab.ledger.records import PROMOTED, Status, Verdict
from autolab.ledger.store import Ledger
from autolab.ledger.views import cell

LIMIT = 6000  # bytes
RECENT = 100  # finished trials of the campaign,
OF_SURFACE = 40  # of the agent's own surface,
CHILDREN = 40  # and of the parent, among which a slice chooses
BEST = 6  # trials of each surface among which near misses are looked for
CHAIN = 12  # changes of the master that are told
OWN = 8
SATURATED = 5  # trials in a row without anything to go by
UNDER_WAY = 12
IDEAS = 40
WORDS = 12  # of colleagues
HYPOTHESIS, CAUSE, CONSTANTS = 100, 70, 60  # characters of a line
NO_EVIDENCE = (Status.INFRA_ERROR, Status.DUPLICATE, Status.PROPOSAL_FAILED)

Told = TypeVar("Told", Entry, Idea, Word)

# Lines that a part takes in its turn: what is used most gets the most room.
SHARES = {"said": 2, "chain": 5, "own": 2, "near": 2, "dead": 2}


def lineage_slice(
    ledger: Ledger,
    campaign: str,
    *,
    surface: str = "",
    parent: int | None = None,
    role: str = "",
    limit: int = LIMIT,
) -> str:
    """A slice for one prompt, as of `Lineage.slice`, for whoever asks once."""
    return Lineage(ledger, campaign).slice(surface=surface, parent=parent, role=role, limit=limit)


class Lineage:
    """The slices of one campaign. It keeps what cannot change any more, so that the next slice only reads what is new;
    a slice is the same as from a new one."""

    def __init__(self, ledger: Ledger, campaign: str) -> None:
        self._ledger, self._campaign = ledger, campaign
        self._rows = Rows(ledger, campaign)
        self._seen: tuple[int, int] | None = None
        self._told: dict[tuple[object, ...], str] = {}  # slices of the ledger as it is
        self._chain: tuple[tuple[object, ...], list[Step], dict[int, str]] | None = None
        self._higher: bool | None = None

    def slice(
        self, *, surface: str = "", parent: int | None = None, role: str = "", limit: int = LIMIT
    ) -> str:
        """Markdown of at most `limit` bytes, the same for the same ledger: what people said, the master and its chain,
        the `role`'s own last trials, what branched from the trial `parent` (the master, if it is not given), the best
        of each surface, near misses, dead ends with their evidence and expiry, what colleagues hand over, what is under
        way, open ideas, what made no difference, what failed and why.

        What concerns `surface` comes first within each part; parts share the room, so that none crowds out the others;
        and each trial stands where it is of most use, beside the list of the best.
        """
        version = (self._ledger.changes(), self._ledger.rows.total_changes)
        if version != self._seen:
            self._seen = version
            self._told.clear()
        asked = (surface, parent, role, limit)
        if asked not in self._told:
            self._told[asked] = self._slice(surface, parent, role, limit)
        return self._told[asked]

    def _slice(self, surface: str, parent: int | None, role: str, limit: int) -> str:
        chain, known = self._steps()
        if parent is None and chain:
            parent = chain[-1].promotion.trial
        found = _Found(self._rows, known, newest_changes(self._ledger, self._campaign), surface)
        chosen = self._parts(found, chain, surface, parent, role)
        name = "" if parent is None else self._ledger.trial_id(parent)
        titles = {part: str(_words().title(part, surface, name)) for part, _ in chosen}
        return fit(
            [(titles[part], lines) for part, lines in chosen],
            limit,
            {titles[part]: share for part, share in SHARES.items() if part in titles},
        )

    def _parts(
        self, found: _Found, chain: Sequence[Step], surface: str, parent: int | None, role: str
    ) -> list[tuple[str, Sequence[str]]]:
        """(part, lines), in the order in which they are read. Trials are given out to the part in which they are of
        most use first."""
        rows, guidance = self._rows, self._ledger.guidance(self._campaign)
        surfaces = _most_used(surface, found.recent, rows.surfaces())
        best = {name: rows.entries(rows.best(name, BEST, maximize=self._maximize())) for name in surfaces}
        own = found.own(role)
        near = found.near_misses(best)
        children = found.children(parent)
        dead = found.take(lambda t: found.left(t) > 0)
        same = found.take(lambda t: t.verdict is not None)
        failed = found.take(lambda t: t.status in FAILED)
        parts: list[tuple[str, Sequence[str]]] = [
            ("said", _Lines(lambda said: _words().said(cell(said[1])[:300]), guidance[::-1])),
            ("chain", _chain(self._ledger, self._campaign, chain)),
            ("saturated", list(self._saturated([surface] if surface else surfaces))),
            ("own", _Lines(found.line, own)),
            ("near", _Lines(found.line, near)),
            ("children", _Lines(found.line, children)),
            ("best", list(_best(best, found, {step.trial.number for step in chain}))),
            ("dead", _Lines(found.line, dead)),
            ("colleagues", _Lines(_word, _first(rows.handovers(WORDS), surface))),
            ("under_way", _Lines(found.line, found.under_way())),
            ("ideas", _Lines(_idea, _ideas(rows.open_ideas(IDEAS), surface))),
            ("same", _Lines(found.line, same)),
            ("failed", _Lines(found.line, failed, list(_failures(found.recent)))),
        ]  # fmt: skip
        return [part for part in parts if part[1]]

    def _steps(self) -> tuple[list[Step], dict[int, str]]:
        """The last changes of the master and what became of all that were promoted; read again when that can have
        changed, by a promotion or by a look at the sealed split."""
        newest = self._ledger.rows.execute(
            "SELECT (SELECT max(number) FROM promotion), (SELECT max(number) FROM sealed_look)"
        ).fetchone()
        if self._chain is None or self._chain[0] != tuple(newest):
            self._chain = (tuple(newest), *last_steps(self._ledger, self._campaign, CHAIN))
        return self._chain[1:]

    def _maximize(self) -> bool:
        if self._higher is None:
            self._higher = sign(self._ledger.campaign(self._campaign)) > 0
        return self._higher

    def _saturated(self, surfaces: Sequence[str]) -> Iterator[str]:
        """A warning for each surface whose last trials brought nothing to go by."""
        seen = standing(self._ledger, self._campaign)
        noise = seen.noise_sd if seen else self._ledger.campaign(self._campaign).noise_sd or 0.0
        for surface in surfaces:
            newest = self._rows.entries(self._rows.of_surface(surface, 3 * SATURATED))
            last = [t for t in newest if t.status not in NO_EVIDENCE][:SATURATED]
            if len(last) == SATURATED and all(_says_nothing(t, noise) for t in last):
                yield str(_words().saturated(cell(surface)[:30], SATURATED, _ends(last)))


class _Found:
    """The trials that one slice chooses from, each given out once: to the part that asks for it first."""

    def __init__(
        self, rows: Rows, known: Mapping[int, str], changes: tuple[float, ...], surface: str
    ) -> None:
        self._rows, self._known, self._changes, self._surface = rows, known, changes, surface
        self.recent = rows.entries(rows.newest(RECENT))
        of_surface = rows.entries(rows.of_surface(surface, OF_SURFACE)) if surface else []
        self._pool = {t.number: t for t in (*of_surface, *self.recent)}
        self._out: set[int] = set()

    def take(self, wanted: Callable[[Entry], bool], among: Iterable[Entry] | None = None) -> list[Entry]:
        """Those that fit and were not given out yet. Masters are none of them, for they stand in the chain; nor are
        those that say nothing of their change."""
        found = [
            t for t in (self._pool.values() if among is None else among)
            if t.number not in self._out and t.status not in NO_EVIDENCE
            and self._known.get(t.number, DEMOTED) == DEMOTED and wanted(t)
        ]  # fmt: skip
        self._out |= {t.number for t in found}
        return found

    def own(self, role: str) -> list[Entry]:
        """The last trials of a role, on the surface if there is one."""
        mine = [
            t for t in self._pool.values() if role and t.role == role and self._surface in ("", t.surface)
        ]
        return self.take(lambda t: True, sorted(mine, key=lambda t: -t.ordinal)[:OWN])

    def near_misses(self, best: Mapping[str, Sequence[Entry]]) -> list[Entry]:
        """What was better than its master and not shown to be: the best of each surface first, then the seconds."""
        ranked = [
            (nth, t.verdict != Verdict.PROVISIONAL, place, t)
            for place, some in enumerate(best.values())
            for nth, t in enumerate(t for t in some if self._is_near(t))
        ]
        ranked.sort(key=lambda one: one[:3])
        newer = [t for t in self._pool.values() if t.verdict == Verdict.PROVISIONAL]
        return self.take(lambda t: True, {t.number: t for t in [*(t for *_, t in ranked), *newer]}.values())

    def _is_near(self, t: Entry) -> bool:
        gained = t.delta is not None and t.delta > 0 and changes_left(self._changes, t.finished_at) > 0
        return t.verdict == Verdict.PROVISIONAL or (t.verdict == Verdict.NO_DIFFERENCE and gained)

    def children(self, parent: int | None) -> list[Entry]:
        """What branched from a program, the own surface's first."""
        every = [] if parent is None else self._rows.entries(self._rows.children(parent, CHILDREN))
        return self.take(lambda t: t.number not in self._known, _first(every, self._surface))

    def under_way(self) -> list[Entry]:
        """What others are at, the own surface's first."""
        own = self._rows.under_way(UNDER_WAY, self._surface) if self._surface else []
        numbers = list(dict.fromkeys([*own, *self._rows.under_way(UNDER_WAY)]))[:UNDER_WAY]
        return [t for t in self._rows.entries(numbers) if t.hypothesis]

    def left(self, t: Entry) -> int:
        """How often the master has still to change before a dead end expires; 0: it is none, or none any more."""
        return changes_left(self._changes, t.finished_at) if is_dead_end(t.status, t.verdict) else 0

    def outcome(self, t: Entry) -> str:
        """What to call a trial's outcome now."""
        return self._known.get(t.number) or str(t.verdict or t.status or t.state)

    def line(self, t: Entry) -> str:
        """A trial in one line."""
        told = self.outcome(t)
        changed = ", ".join(f"{name} {old} -> {new}" for name, old, new in constants_of(t))
        line: str = _words().trial(
            t.id,
            told,
            "" if t.delta is None or told == DEMOTED else f"{t.delta:+.3g}",
            cell(t.surface)[:30],
            cell(t.hypothesis)[:HYPOTHESIS],
            cell(t.note)[:CAUSE] if t.status in FAILED else "",
            cell(changed)[:CONSTANTS],
            self.left(t),
        )
        return line


class _Lines(Sequence[str]):
    """Lines that are only written when they are looked at: most do not fit into a slice."""

    def __init__(self, write: Callable[[Any], str], what: Sequence[Any], before: Sequence[str] = ()) -> None:
        self._write, self._what, self._before = write, what, before

    def __len__(self) -> int:
        return len(self._before) + len(self._what)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[n] for n in range(*place.indices(len(self)))]
        if place < len(self._before):
            return self._before[place]
        return self._write(self._what[place - len(self._before)])


def _chain(ledger: Ledger, campaign: str, chain: Sequence[Step]) -> list[str]:
    """The master as it is seen now, and before it the changes of the master, newest first."""
    if not chain:
        return []
    seen = master_now(ledger, campaign, chain)
    lines = [str(_words().master(_master(seen, chain[-1])))]
    for step in [*chain[:-CHAIN:-1], *([chain[0]] if len(chain) >= CHAIN else [])]:
        made, trial = step.promotion, step.trial
        if step.kind == "demotion":
            lines.append(str(_words().said(cell(way_back(ledger, step))[:200])))
        elif trial.number != seen.trial.number:
            told = {
                "id": trial.id,
                "score": f"{made.score:.5g} [{made.score_low:.5g}, {made.score_high:.5g}]",
                "state": step.state,
                "gain": f"{made.gain:+.4g} then" if trial.ordinal else "",
                "runs": "",
                "what": _what(step),
            }
            lines.append(str(_words().master(told)))
    return lines


def _master(seen: Master, step: Step) -> dict[str, str]:
    gain = ""
    if seen.gain is not None and seen.over is not None:
        gain = f"{seen.gain:+.4g}"
        if seen.gain_low is not None and seen.gain_high is not None:
            gain += f" [{seen.gain_low:.4g}, {seen.gain_high:.4g}]"
        gain += f" over {seen.over.id}"
    return {
        "id": seen.trial.id,
        "score": f"{seen.score:.5g} [{seen.low:.5g}, {seen.high:.5g}]",
        "state": seen.state,
        "gain": gain,
        "runs": "" if seen.runs is None else f"{seen.runs} run{'' if seen.runs == 1 else 's'}",
        "what": _what(step),
    }


def _what(step: Step) -> str:
    return "the recipe as it was" if step.trial.ordinal == 0 else cell(step.trial.hypothesis)[:HYPOTHESIS]


def _best(best: Mapping[str, Sequence[Entry]], found: _Found, told: set[int]) -> Iterator[str]:
    """One line for each surface; what the chain tells already in brief."""
    for surface, some in best.items():
        for t in some[:1]:
            yield str(_words().best({
                "id": t.id, "surface": cell(surface)[:30], "outcome": found.outcome(t), "score": f"{t.score:.5g}",
                "hypothesis": "" if t.number in told else cell(t.hypothesis)[:HYPOTHESIS],
            }))  # fmt: skip


def _most_used(own: str, recent: Sequence[Entry], known: Sequence[str]) -> list[str]:
    """Surfaces: one's own, then those that were worked on last, then the others."""
    used = dict.fromkeys([own, *(t.surface for t in recent), *known] if own else [t.surface for t in recent])
    return list(dict.fromkeys([*used, *known]))[:MOST_SURFACES]


def _failures(recent: Sequence[Entry]) -> Iterator[str]:
    """How many failed lately, and of what: the share that more care could save."""
    counted = [t for t in recent if t.status not in NO_EVIDENCE]
    failed = [t for t in counted if t.status in FAILED]
    if len(failed) > 1:
        yield str(_words().failures(len(failed), len(counted), _ends(failed)))


def _ends(trials: Iterable[Entry]) -> str:
    """How trials ended: `crash 3, no_difference 2`."""
    count = Counter(str(t.verdict or t.status) for t in trials)
    return ", ".join(f"{end} {n}" for end, n in sorted(count.items(), key=lambda one: (-one[1], one[0])))


def _ideas(some: Sequence[Idea], surface: str) -> list[Idea]:
    """Ideas for a surface, or for any: those with a source first."""
    fitting = [idea for idea in some if not surface or idea.surface in ("", surface)]
    return sorted(_first(fitting, surface), key=lambda idea: not idea.source)


def _idea(idea: Idea) -> str:
    change, source = cell(idea.change)[:HYPOTHESIS], cell(idea.source)[:40]
    return str(_words().idea(idea.number, cell(idea.surface)[:30], change, source))


def _word(word: Word) -> str:
    by, on = cell(word.role)[:40], cell(word.surface)[:30]
    return str(_words().word(cell(word.kind)[:20], by, on, cell(word.text)[:300]))


def _says_nothing(t: Entry, noise: float) -> bool:
    within = t.delta is not None and abs(t.delta) <= noise
    return t.verdict not in PROMOTED and (t.status in FAILED or t.verdict == Verdict.NO_DIFFERENCE or within)


def _first(some: Sequence[Told], surface: str) -> Sequence[Told]:
    """What is of the surface first; otherwise in the order that they have."""
    return sorted(some, key=lambda one: one.surface != surface) if surface else some


@cache
def _words() -> Any:
    """The macros of the template: one for each kind of line."""
    from jinja2 import Environment, StrictUndefined

    text = resources.files("autolab.ledger.lineage").joinpath("slice.md.j2").read_text(encoding="utf-8")
    return Environment(undefined=StrictUndefined, autoescape=False).from_string(text).module

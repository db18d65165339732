"""The gate before compute is spent: does a proposal repeat what was tried, is running, or waits?

- The same program (comments and white space aside) is a duplicate, always.
- The same edit, or the same change of the same constants, on another parent is refused while the other trial is under
  way, and while it is a dead end (`ledger.dead_ends`: it ended worse or failed, and the master has not changed twice
  since). What made no difference, or won, may be tried on another parent.
- Similar words are no reason by themselves. They are one together with a similar edit: constants set to nearly the
  same values, or mostly the same lines replaced, while the other trial is under way or is such a dead end that was
  measured. A crash is no such reason: another edit of the same idea may be its repair.
- An agent that opens a trial before it has an edit claims its hypothesis: nobody opens another one with the same words
  while that one's lease holds.

Words are compared by the cosine of their counts; which hypotheses are worth that is found by SimHash (Charikar 2002, as
used for near-duplicates by Manku, Jain and Das Sarma 2007), whose cost does not grow with the ledger. With an embedding
endpoint (`embeddings`) the cosine is that of the embeddings.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from autolab.ledger.claims import (
    Claim,
    Rival,
    keep_claim,
    mark_repeat,
    recent_sketches,
    recent_vectors,
    rivals,
    same_constants,
    same_edit,
)
from autolab.ledger.dead_ends import changes_left, is_dead_end, newest_changes
from autolab.ledger.records import Proposal, Trial, Verdict
from autolab.ledger.store import Ledger
from autolab.program.change import Change, Constants, change_between
from autolab.program.hashing import Files
from autolab.search.embeddings import embedding

BITS = 64
NEAR_BITS = 22  # a cosine of 0.8 is 13 bits apart on average, with an SD of 3
NEAREST = 8  # hypotheses that are compared exactly
ALIKE = 0.8  # cosine of word counts
ALIKE_EMBEDDED = 0.9  # of embeddings
SAME_WORDS = 0.97
NEARLY = 0.1  # of the step from the old value: how far apart two new values are nearly the same
MOSTLY = 0.5  # of the lines that either replaces

_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"  # signs of scripts that are written without spaces
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+(?:\.[0-9]+)?")
_NOTHING = Change("", (), frozenset())


@dataclass(frozen=True)
class Refusal:
    """Which trial a proposal repeats, and in what. `text` says it and what came of that trial; it is empty for the same
    program, of which the lab tells more."""

    trial: int
    text: str


def described(parent_files: Files, files: Files, proposal: Proposal, *, gate: bool) -> Claim:
    """What a proposal claims. For the gate it may ask an embedding endpoint, so this is done before the ledger is
    locked."""
    model, vector = embedding(proposal.hypothesis) if gate else ("", b"")
    change = change_between(parent_files, files)
    return Claim(proposal.hypothesis, change, sketch(proposal.hypothesis), model, vector)


def queue(
    ledger: Ledger,
    number: int,
    files: Files,
    proposal: Proposal,
    claim: Claim,
    *,
    gate: bool,
    passed: tuple[int, int] | None = None,
) -> Refusal | None:
    """Queue an open trial with its program and its claim, or say what it repeats; one transaction, so that of two who
    want the same at once one is refused. A refused trial is still open, and knows which trial it repeats. Without the
    `gate` only the same program is refused. `passed`: the version of the ledger at which `refusal` found nothing; as
    long as nobody has written since, it is not asked again."""
    with ledger.transaction():
        gate = gate and passed != ledger.version()
        if gate and ledger.claimed_by(number, files) is None:
            repeated = refusal(ledger, number, claim, proposal.move)
            if repeated is not None:
                mark_repeat(ledger, number, files, proposal, repeated.trial)
                return repeated
        same = ledger.queue_trial(number, files, proposal)
        if same is not None:
            return Refusal(same, "")
        keep_claim(ledger, number, claim)
    return None


def refusal(ledger: Ledger, number: int, claim: Claim, move: str = "") -> Refusal | None:
    """Why the proposal of a trial would be refused now, the same program aside; changes nothing. `move` is the
    proposal's: a repair may resemble what it repairs."""
    opened = ledger.trial(number)
    campaign = opened.campaign
    changes = newest_changes(ledger, campaign)
    change = claim.change
    for how, found in (
        ("makes the same edit as", same_edit(ledger, campaign, change.edit_hash)),
        (f"sets {_names(change.constants)} as", same_constants(ledger, campaign, change.constants)),
        ("is in other words and nearly the same lines", _similar(ledger, campaign, claim)),
    ):
        for rival in found:
            similar = how.startswith("is in")
            counts = rival.verdict == Verdict.WORSE if similar else is_dead_end(rival.status, rival.verdict)
            left = changes_left(changes, rival.finished_at) if counts and rival.finished_at is not None else 0
            if rival.number == number or (similar and move == f"repair {rival.id}"):
                continue
            if not similar and rival.parent_program == opened.parent_program:
                continue  # the same lines in the same program that come to another one: they stand elsewhere in it
            if rival.under_way or left:
                return Refusal(rival.number, f"{how} trial {rival.id}, {_became(rival, left)}")
    return None


def claim_hypothesis(ledger: Ledger, opened: Trial, hypothesis: str, lease_until: float) -> Refusal | None:
    """Claim what an agent has opened a trial for, until its lease ends; or say who is at the same already. Part of the
    transaction that opens the trial."""
    claim = Claim(hypothesis, _NOTHING, sketch(hypothesis))
    wanted = _words(hypothesis)
    with ledger.transaction():
        for rival in rivals(ledger, _near(ledger, opened.campaign, claim.sketch)):
            elsewhere = opened.surface and rival.surface and opened.surface != rival.surface
            if rival.number == opened.number or elsewhere or not rival.under_way:
                continue
            if _cosine(wanted, _words(rival.hypothesis)) >= SAME_WORDS:
                return Refusal(rival.number, f"is what trial {rival.id} is about, {_became(rival, 0)}")
        keep_claim(ledger, opened.number, claim, lease_until=lease_until)
    return None


def _became(rival: Rival, left: int) -> str:
    if rival.under_way:
        return f"which is {'open' if rival.state == 'open' else 'queued or running'}"
    score = "" if rival.score is None else f", score {rival.score:.6g}"
    delta = "" if rival.delta is None else f", {rival.delta:+.3g} against its master"
    times = "changes" if left == 1 else f"has changed {left} times"
    return f"which ended {rival.verdict or rival.status}{score}{delta}: a dead end until the master {times}"


def _names(constants: Constants) -> str:
    told = ", ".join(f"{name} to {new}" for name, _, new in constants[:4])
    return told + (" and others" if len(constants) > 4 else "")


# similar words ----------------------------------------------------------------------------------------


def _similar(ledger: Ledger, campaign: str, claim: Claim) -> Iterator[Rival]:
    """Trials with similar words and a similar edit, the likest first."""
    if not claim.change.touched:
        return
    placed = _placed(ledger, campaign, claim)
    numbers = list(dict.fromkeys([*placed, *_near(ledger, campaign, claim.sketch)]))
    wanted = _words(claim.hypothesis)
    for rival in rivals(ledger, numbers):
        likeness, needed = placed.get(rival.number), ALIKE_EMBEDDED
        if likeness is None:
            likeness, needed = _cosine(wanted, _words(rival.hypothesis)), ALIKE
        if likeness >= needed and _same_place(claim.change, rival):
            yield rival


def _same_place(change: Change, rival: Rival) -> bool:
    """Whether two edits do nearly the same: the same constants to nearly the same values, or mostly the same lines."""
    other = rival.changed
    if change.constants and other:
        return _nearly(change.constants, other)
    theirs = set(rival.touched.split())
    either = change.touched | theirs
    return bool(theirs) and len(change.touched & theirs) > MOSTLY * len(either)


def _nearly(one: Constants, other: Constants) -> bool:
    """Whether constants are set to nearly the same, the step being the measure; what is no number has to be the
    same."""
    if [name for name, _, _ in one] != [name for name, _, _ in other]:
        return False
    for (_, old, new), (_, _, theirs) in zip(one, other, strict=True):
        try:
            if abs(float(new) - float(theirs)) > NEARLY * abs(float(new) - float(old)):
                return False
        except (ValueError, OverflowError):
            if new != theirs:
                return False
    return True


def _near(ledger: Ledger, campaign: str, wanted: int) -> list[int]:
    """Trials among the recent ones whose sketch is near, the nearest first."""
    recent = recent_sketches(ledger, campaign)
    if not recent:
        return []
    numbers, sketches = zip(*recent, strict=True)
    apart = np.bitwise_count(np.array(sketches, dtype=np.int64).view(np.uint64) ^ np.uint64(wanted % 2**BITS))
    order = np.argsort(apart, kind="stable")[:NEAREST]
    return [numbers[place] for place in order if apart[place] <= NEAR_BITS]


def _placed(ledger: Ledger, campaign: str, claim: Claim) -> dict[int, float]:
    """Cosines of the recent trials that stand nearest, by their embeddings; none without an endpoint."""
    recent = recent_vectors(ledger, campaign, claim.model) if claim.vector else []
    recent = [(number, vector) for number, vector in recent if len(vector) == len(claim.vector)]
    if not recent:
        return {}
    others = np.frombuffer(b"".join(vector for _, vector in recent), dtype=np.float16).reshape(
        len(recent), -1
    )
    cosines = others.astype(np.float32) @ np.frombuffer(claim.vector, dtype=np.float16).astype(np.float32)
    order = np.argsort(-cosines, kind="stable")[:NEAREST]
    return {recent[place][0]: float(cosines[place]) for place in order}


def sketch(text: str) -> int:
    """The SimHash of a text's words, as a signed 64-bit number: texts that share most words differ in few bits."""
    words = _words(text).counts
    if not words:
        return 0
    digests = b"".join(_digest(word) for word in words)
    bits = np.unpackbits(np.frombuffer(digests, dtype=np.uint8)).reshape(len(words), BITS)
    counts = np.array(list(words.values()))
    return int(np.packbits(2 * (counts @ bits) > counts.sum()).view(">i8")[0])


@lru_cache(maxsize=8192)
def _digest(word: str) -> bytes:
    return hashlib.blake2b(word.encode(), digest_size=BITS // 8).digest()


@dataclass(frozen=True)
class _Words:
    """How often each word stands in a text, and the length of that as a vector."""

    counts: Mapping[str, int]
    length: float


@lru_cache(maxsize=1024)
def _words(text: str) -> _Words:
    counts = Counter(word for word in _WORD.findall(text.lower()) if len(word) > 1 or not word.isascii())
    return _Words(counts, sum(n * n for n in counts.values()) ** 0.5)


def _cosine(one: _Words, other: _Words) -> float:
    shared = one.counts.keys() & other.counts.keys()
    product = sum(one.counts[word] * other.counts[word] for word in shared)
    return product / (one.length * other.length) if product else 0.0

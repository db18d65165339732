"""The morning report: what the night brought, what a person should look at, what was learned, what it cost.

What agents wrote stands in code spans, one line each: it is quoted, and no markup in it has an effect.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from autolab.ledger.agents import cost_by_role, ideas, sessions
from autolab.ledger.jobs import campaign_jobs, costs
from autolab.ledger.lineage import fit
from autolab.ledger.masters import Step, master_now, outcome, states, steps, stood, way_back
from autolab.ledger.observations import looks
from autolab.ledger.records import Campaign, Measurement, Promotion, Status, Trial, TrialState, Verdict
from autolab.ledger.store import Ledger
from autolab.ledger.views import cell, replacing

LIMIT = 8_000  # bytes
BROKEN = frozenset(Status) - {Status.OK, Status.DUPLICATE, Status.INFRA_ERROR, Status.PROPOSAL_FAILED}
MOST_NAMED = 4  # trials named beside a cluster of failures


def morning(ledger: Ledger, campaign: str, *, limit: int = LIMIT) -> str:
    """The report of a campaign as Markdown of at most `limit` bytes; the same ledger gives the same bytes."""
    settings = ledger.campaign(campaign)
    trials = [trial for trial in ledger.trials(campaign) if trial.ordinal > 0]
    measured = {trial.number: ledger.measurements(trial.number) for trial in trials}
    chain = steps(ledger, campaign)
    known = states(chain)
    head = f"# {cell(campaign)}\n\n{_headline(ledger, settings, trials, chain)}\n\n"
    surface, role = (lambda trial: trial.surface or "none"), (lambda trial: trial.role or "none")
    parts = [
        ("What changed", _changed(ledger, chain)),
        ("Promising, not shown to be better", _promising(trials, known)),
        ("Look at this", _attention(ledger, settings, trials, measured)),
        ("What was learned, by surface", _table("surface", trials, known, surface)),
        ("What was learned, by role", _table("role", trials, known, role)),
        ("Cost by role", _costs(ledger, campaign)),
        ("Jobs", _jobs(ledger, campaign)),
        ("Sources", _sources(ledger, campaign, trials, known)),
    ]
    return head + fit([part for part in parts if part[1]], limit - len(head.encode()) - 1) + "\n"


def write_morning(ledger: Ledger, campaign: str, root: Path) -> Path:
    """Write the report to results/<campaign>/report.md below `root`, all of it or nothing; returns the path."""
    path = root / "results" / campaign / "report.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(morning(ledger, campaign))
    return path


def quoted(text: str, room: int = 160) -> str:
    """Somebody else's words as one code span: one line, no control characters, no markup, nothing to click."""
    plain = cell(text).replace("`", "'").replace("|", "/")
    return f"`{plain if len(plain) <= room else plain[: room - 1] + '…'}`" if plain else "(nothing)"


def _headline(ledger: Ledger, settings: Campaign, trials: Sequence[Trial], chain: Sequence[Step]) -> str:
    """The first sentence says whether anything got better, and how sure that is."""
    metric = settings.config["task"]["metric"]["name"]
    climbs = [step for step in chain if step.kind not in ("baseline", "demotion")]
    if not chain:
        change = f"**{metric}: no baseline yet.**"
    else:
        seen = master_now(ledger, settings.id, chain)
        now = f"{seen.score:.5g} [{seen.low:.4g}, {seen.high:.4g}]"
        basis = seen.state + ("" if seen.runs is None else f", from {_count(seen.runs, 'run')}")
        taken_back = len(chain) - 1 - len(climbs)
        moves = f"{_count(len(climbs), 'promotion')}" + f", {_count(taken_back, 'demotion')}" * bool(
            taken_back
        )
        if seen.promotion.program == chain[0].promotion.program:
            after = f" after {moves}" if climbs else ""
            change = f"**{metric} stays at {now}: nothing was better than the baseline{after}.**"
        else:
            change = f"**{metric} {chain[0].promotion.score:.5g} → {now} ({basis}) in {moves}.**"
    ended = max((trial.finished_at or 0.0 for trial in trials), default=settings.created_at)
    hours = max(0.0, ended - settings.created_at) / 3600
    spent = sessions(ledger, settings.id)
    tokens = sum(s.tokens_in + s.tokens_out for s in spent)
    dollars, _ = costs(ledger, settings.id)
    ended_by = settings.config.get("ended", "")
    facts = [
        f"Campaign {settings.state}" + (f" ({cell(ended_by)[:80]})" if ended_by else ""),
        f"{_count(len(trials), 'trial')} finished, {len(_waiting(ledger, settings.id))} under way",
        f"{hours:.1f} hours" if hours >= 1 else _count(round(60 * hours), "minute"),
        f"{tokens:,} tokens, ${dollars:.2f}",
    ]
    return f"{change} {'; '.join(facts)}."


def _changed(ledger: Ledger, chain: Sequence[Step]) -> list[str]:
    """Promotions with their state now, and what was taken back with the reason, newest first."""
    lines = []
    for step in reversed(chain):
        trial = step.trial
        if step.kind == "demotion":
            lines.append(f"- **Demoted**: {cell(way_back(ledger, step))}")
        elif step.kind != "baseline":
            sources = (
                ", ".join(quoted(source, 60) for source in trial.proposal.sources[:4])
                if trial.proposal
                else ""
            )
            lines.append(
                f"- {trial.id} {_scored(step.promotion)}, {step.state}, gain {step.promotion.gain:.3g}:"
                f" {quoted(trial.hypothesis)}"
                + (f" on {quoted(trial.surface, 30)}" if trial.surface else "")
                + (f", from {sources}" if sources else "")
            )
    count = len(looks(ledger, chain[0].promotion.campaign)) if chain else 0
    return lines + ([f"- {_count(count, 'look')} at the sealed split"] if count else [])


def _promising(trials: Sequence[Trial], known: Mapping[int, str]) -> list[str]:
    """Trials that were better so far, and could not be told apart from the master: for a person to go on with."""
    return [
        f"- {trial.id}" + ("" if trial.delta is None else f" {trial.delta:+.3g}")
        + f": {quoted(trial.hypothesis)}; `autolab confirm {trial.id}` measures on"
        for trial in reversed(trials) if trial.verdict is Verdict.PROVISIONAL and trial.number not in known
    ]  # fmt: skip


def _attention(
    ledger: Ledger, settings: Campaign, trials: Sequence[Trial], measured: dict[int, list[Measurement]]
) -> list[str]:
    """What a person should know before believing or repeating any of it, the gravest first."""
    lines = []
    first = next(ledger.sequence(settings.id), None)
    if first is not None and first.state is TrialState.DONE and first.status is not Status.OK:
        lines.append(f"- The baseline failed ({first.status}): {quoted(first.note)}")
    baseline = ledger.measurements(first.number) if first is not None else []
    every = [m for some in (baseline, *measured.values()) for m in some if m.status is not None]
    weak = sum(m.evidence == "self_reported" for m in every)
    if weak:
        lines.append(
            f"- **Self-reported scores** in {_count(weak, 'measurement')}: whatever the recipe prints counts."
        )
    bare = sum(m.sandbox == "none" for m in every)
    if bare:
        lines.append(
            f"- **No sandbox** in {_count(bare, 'measurement')}: trials could read files and the network."
        )
    tampered = [trial for trial in trials if trial.status in (Status.TAMPERED, Status.ILLEGAL)]
    if tampered:
        lines.append(f"- **{_count(len(tampered), 'trial')} broke the rules**: {_named(tampered)}:"
                     f" {quoted(tampered[-1].note, 100)}")  # fmt: skip
    lines += _failures(trials)
    kinds: list[tuple[str, Callable[[Trial], bool]]] = [
        ("repeated earlier ones", lambda t: t.status is Status.DUPLICATE),
        ("were abandoned by their agents", lambda t: _abandoned(t)),
        (
            "ended without a usable proposal",
            lambda t: t.status is Status.PROPOSAL_FAILED and not _abandoned(t),
        ),
        ("failed by the machine, not by the code", lambda t: t.status is Status.INFRA_ERROR),
    ]
    for text, chosen in kinds:
        some = [trial for trial in trials if chosen(trial)]
        if some:
            lines.append(f"- {len(some)} of {_count(len(trials), 'trial')} {text}: {_named(some)}")
    failed = Counter(
        session.outcome for session in sessions(ledger, settings.id) if session.outcome != "answered"
    )
    if failed:
        counts = ", ".join(f"{number} {cell(outcome)[:40]}" for outcome, number in sorted(failed.items()))
        lines.append(f"- Sessions that did not end in an answer: {counts}")
    waiting = _waiting(ledger, settings.id)
    if waiting and settings.state in ("stopped", "finished"):
        lines.append(
            f"- {_count(len(waiting), 'trial')} wait to be measured: `autolab serve` goes on with them."
        )
    allowed = (settings.config.get("serving") or {}).get("trials")
    if allowed is not None and len(trials) >= allowed:
        lines.append(f"- The budget of {_count(allowed, 'trial')} is used up.")
    return lines


def _failures(trials: Sequence[Trial]) -> list[str]:
    """Failed trials that share a cause, the largest group first."""
    groups: dict[tuple[str, str], list[Trial]] = defaultdict(list)
    for trial in trials:
        if trial.status in BROKEN - {Status.TAMPERED, Status.ILLEGAL}:
            groups[str(trial.status), re.sub(r"[0-9]+", "#", cell(trial.note))[:80]].append(trial)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        f"- {len(some)} × {status}: {quoted(some[-1].note, 120)} ({_named(some)})"
        for (status, _), some in ordered
    ]


def _table(
    name: str, trials: Sequence[Trial], known: Mapping[int, str], key: Callable[[Trial], str]
) -> list[str]:
    """For each group: how many trials, how many gave a score, what became of them, and the largest gain that stood."""
    groups: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[key(trial)].append(trial)
    words = ("provisional", "no_difference", "worse", "demoted")
    lines = [
        f"| {name} | trials | valid | promoted | provisional | no difference | worse | demoted | largest gain |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for group, some in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        outcomes = Counter(outcome(trial, known) for trial in some)
        won = [trial for trial in some if stood(trial, known)]
        gains = [trial.delta for trial in won if trial.delta is not None]
        valid = sum(trial.status is Status.OK for trial in some)
        counts = " | ".join(str(outcomes[word]) for word in words)
        lines.append(
            f"| {quoted(group, 40)} | {len(some)} | {100 * valid / len(some):.0f} % | {len(won)} | {counts} |"
            f" {f'{max(gains):.3g}' if gains else ''} |"
        )
    return lines if groups else []


def _costs(ledger: Ledger, campaign: str) -> list[str]:
    rows = cost_by_role(ledger, campaign)
    lines = [
        "| role | sessions | without an answer | tokens in | tokens out | dollars | hours |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        lines.append(
            f"| {quoted(str(row['role']), 40)} | {row['sessions']} | {row['failed']} | {row['tokens_in']:,} |"
            f" {row['tokens_out']:,} | {row['cost_usd']:.2f} | {float(str(row['seconds'])) / 3600:.2f} |"
        )
    return lines if rows else []


def _jobs(ledger: Ledger, campaign: str) -> list[str]:
    """How the cloud's jobs ended, and what they cost."""
    jobs = campaign_jobs(ledger, campaign)
    lines = ["| flavor | ended as | jobs | dollars | hours |", "|---|---|--:|--:|--:|"]
    for flavor, stage in sorted({(job.flavor, job.stage) for job in jobs}):
        some = [job for job in jobs if (job.flavor, job.stage) == (flavor, stage)]
        dollars = sum(job.cost_usd or 0.0 for job in some)
        hours = sum(job.running_seconds for job in some) / 3600
        lines.append(f"| {flavor} | {stage} | {len(some)} | {dollars:.4f} | {hours:.2f} |")
    return lines if jobs else []


def _sources(ledger: Ledger, campaign: str, trials: Sequence[Trial], known: Mapping[int, str]) -> list[str]:
    """What was cited, and what came of it; what helped first."""
    cited: dict[str, list[Trial]] = defaultdict(list)
    behind = {idea.trial: idea.source for idea in ideas(ledger, campaign) if idea.source and idea.trial}
    for trial in trials:
        named = trial.proposal.sources if trial.proposal else ()
        for source in dict.fromkeys([*named, *([behind[trial.number]] if trial.number in behind else [])]):
            cited[source].append(trial)
    ordered = sorted(
        cited.items(), key=lambda item: (-sum(stood(t, known) for t in item[1]), -len(item[1]), item[0])
    )
    return [
        f"- {quoted(source, 80)}: " + ", ".join(f"{t.id} {outcome(t, known)}" for t in some[-MOST_NAMED:])
        + (f" and {len(some) - MOST_NAMED} more" if len(some) > MOST_NAMED else "")
        for source, some in ordered
    ]  # fmt: skip


def _waiting(ledger: Ledger, campaign: str) -> list[Trial]:
    return [
        trial for trial in ledger.undone(campaign) if trial.ordinal > 0 and trial.state is TrialState.QUEUED
    ]


def _abandoned(trial: Trial) -> bool:
    return trial.status is Status.PROPOSAL_FAILED and trial.note.startswith("abandoned")


def _named(trials: Iterable[Trial]) -> str:
    names = [trial.id for trial in trials]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[-MOST_NAMED:]) + more


def _scored(step: Promotion) -> str:
    return f"{step.score:.5g} [{step.score_low:.4g}, {step.score_high:.4g}]"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

"""The morning report: what the night brought, what a person should look at, what was learned, what it cost.

Its headline and its concerns are those of the overview. What agents wrote stands in code spans, one line each: it is
quoted, and no markup in it has an effect.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from autolab.ledger.agents import cost_by_role, ideas
from autolab.ledger.jobs import campaign_jobs
from autolab.ledger.lineage import fit
from autolab.ledger.masters import Step, master_now, outcome, states, steps, stood, way_back
from autolab.ledger.observations import looks
from autolab.ledger.records import Campaign, Promotion, Status, Trial, Verdict
from autolab.ledger.runs import snapshot
from autolab.ledger.store import Ledger
from autolab.ledger.views import cell, replacing
from autolab.report.overview import Concern, Overview, overview, requote
from autolab.report.overview.words import counted

LIMIT = 8_000  # bytes
ATTENTION = "Look at this"
MOST_NAMED = 4  # trials named beside a concern, or a source


def morning(ledger: Ledger, campaign: str, *, now: float, alive: bool, limit: int = LIMIT) -> str:
    """The report of a campaign at `now` (Unix time) as Markdown of at most `limit` bytes; `alive` says whether somebody
    works on it. The same ledger at the same time gives the same bytes."""
    with snapshot(ledger):
        settings = ledger.campaign(campaign)
        view = overview(ledger, campaign, now=now, alive=alive)
        trials = [trial for trial in ledger.trials(campaign) if trial.ordinal > 0]
        chain = steps(ledger, campaign)
        known = states(chain)
        head = f"# {cell(campaign)}\n\n{_headline(ledger, settings, view, chain)}\n\n"
        surface, role = (lambda trial: trial.surface or "none"), (lambda trial: trial.role or "none")
        parts = [
            (ATTENTION, [_concern(one) for one in view.concerns if one.kind != "unconfirmed"]),
            ("What changed", _changed(ledger, chain)),
            ("Promising, not shown to be better", _promising(trials, known)),
            ("What was learned, by surface", _table("surface", trials, known, surface)),
            ("What was learned, by role", _table("role", trials, known, role)),
            ("Cost by role", _costs(ledger, campaign)),
            ("Jobs", _jobs(ledger, campaign)),
            ("Sources", _sources(ledger, campaign, trials, known)),
        ]
    room = limit - len(head.encode()) - 1
    return head + fit([part for part in parts if part[1]], room, {ATTENTION: 2}) + "\n"


def write_morning(ledger: Ledger, campaign: str, root: Path, *, now: float, alive: bool) -> Path:
    """Write the report to results/<campaign>/report.md below `root`, all of it or nothing; returns the path."""
    path = root / "results" / campaign / "report.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(morning(ledger, campaign, now=now, alive=alive))
    return path


def quoted(text: str, room: int = 160) -> str:
    """Somebody else's words as one code span: one line, no control characters, no markup, nothing to click."""
    plain = cell(text).replace("`", "'").replace("|", "/")
    return f"`{plain if len(plain) <= room else plain[: room - 1] + '…'}`" if plain else "(nothing)"


def _headline(ledger: Ledger, settings: Campaign, view: Overview, chain: Sequence[Step]) -> str:
    """The first sentence says whether anything got better, how sure that is and what it cost; the second, what it
    rests on."""
    told = view.headline
    facts = []
    if chain:
        runs = master_now(ledger, settings.id, chain).runs
        facts += [] if runs is None else [f"The master's score is from {counted(runs, 'run')}"]
        back = f", {counted(told.demotions, 'demotion')}" if told.demotions else ""
        facts.append(f"{counted(told.promotions, 'promotion')}{back}")
    ended_by = settings.config.get("ended", "")
    facts.append(f"campaign {view.state}" + (f" ({cell(ended_by)[:80]})" if ended_by else ""))
    facts += [
        f"{told.under_way} under way",
        f"{told.compute_hours:.3g} {told.compute_unit}",
        f"{told.tokens:,} tokens",
    ]
    return f"**{told.sentence}.** {'; '.join(facts)}."


def _concern(one: Concern) -> str:
    """A concern as a list item: its quotes as code spans, the newest trials of it, and what to do."""
    text = requote(one.text, quoted)
    text = f"**{text}**" if one.level == "error" else text
    shown = ", ".join(one.trials[:MOST_NAMED])
    more = len(one.trials) - MOST_NAMED
    which = f" ({shown}{f' and {more:,} more' if more > 0 else ''})" if shown else ""
    mend = f": {quoted(one.mend)}" if one.mend.startswith("autolab ") else f": {one.mend}" if one.mend else ""
    return f"- {text}{which}{mend}"


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
    return lines + ([f"- {counted(count, 'look')} at the sealed split"] if count else [])


def _promising(trials: Sequence[Trial], known: Mapping[int, str]) -> list[str]:
    """Trials that were better so far, and could not be told apart from the master: for a person to go on with."""
    return [
        f"- {trial.id}" + ("" if trial.delta is None else f" {trial.delta:+.3g}")
        + f": {quoted(trial.hypothesis)}; `autolab confirm {trial.id}` measures on"
        for trial in reversed(trials) if trial.verdict is Verdict.PROVISIONAL and trial.number not in known
    ]  # fmt: skip


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


def _scored(step: Promotion) -> str:
    return f"{step.score:.5g} [{step.score_low:.4g}, {step.score_high:.4g}]"

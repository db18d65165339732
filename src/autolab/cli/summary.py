"""Where a campaign stands, for `status`: as data, and in words that fit a terminal. Its cost does not grow with the
number of trials: nothing reads them all."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import click

from autolab.cli.fitting import cut, width
from autolab.cli.told import master_lines, over_baseline, shortened, standing_text, wrapped
from autolab.ledger.jobs import costs, count_jobs
from autolab.ledger.masters import Step, is_control, master_now, outcome, states, steps
from autolab.ledger.observations import looks
from autolab.ledger.records import BROKE_RULES, FAILURES, Campaign, Status, Trial, Verdict
from autolab.ledger.store import Ledger
from autolab.ledger.views import cell, timestamp
from autolab.report.overview.gathered import AT_WORK
from autolab.report.overview.words import counted

INDENT = 10  # columns that the labels take
MOST_NAMED = 6  # trials under way that are named one by one
MOST_CONCERNS = 3
OFTEN = 0.3  # share of trials that fail, from which it is spoken of, if there are
SEVERAL = 4  # of them


def status_lines(ledger: Ledger, summary: dict[str, Any]) -> list[str]:
    """What `status` prints: the headline, what needs a person, and the rest."""
    waiting = "under way" if summary["alive"] else "waiting"
    lines = wrapped("", summary["headline"], 0)
    lines += [click.style(line, fg="red") for line in _concerns(summary)]
    counts = f"{summary['trials']} trials finished, {len(summary['running'])} {waiting}"
    lines += wrapped("campaign", f"{summary['campaign']}: {counts}; {summary['state']}", INDENT)
    outcomes = ", ".join(f"{count} {name}" for name, count in summary["outcomes"].items())
    lines += wrapped("outcomes", outcomes or "none yet", INDENT) + _master(ledger, summary)
    lines += _under_way(summary["running"], waiting)
    jobs = summary["jobs"]
    if summary["cost_usd"] or jobs["all"]:
        more = f", {jobs['unfinished']} not ended: ${summary['committed_usd']:.4f} more at most"
        text = f"${summary['cost_usd']:.4f}, {jobs['all']} jobs" + more * bool(jobs["unfinished"])
        lines += wrapped("cost", text, INDENT)
    if summary["guidance"]:
        lines.append(cut(f"{'guidance':<{INDENT}}{cell(summary['guidance'][-1])}", width()))
    return lines


def _concerns(summary: dict[str, Any]) -> list[str]:
    """What a person should know before believing it or going on, the gravest first; few lines."""
    found: list[str] = []
    outcomes = Counter(summary["outcomes"])
    cheats = sorted((word for word in BROKE_RULES if outcomes[word]), reverse=True)
    if cheats:
        number = sum(outcomes[word] for word in cheats)
        found.append(f"{counted(number, 'trial')} broke the rules: `autolab trials --status {cheats[0]}`")
    if summary["evidence"] == "self_reported":
        found.append("scores are self-reported by the recipe: anything it prints counts")
    if summary["sandbox"] == "none":
        where = "in the container: see docs/hub.md" if summary["jobs"]["all"] else "see `autolab doctor`"
        found.append(f"measured without a sandbox: {where}")
    failures = {word: outcomes[word] for word in FAILURES if outcomes[word]}
    failed = sum(failures.values())
    if failed >= SEVERAL and failed > OFTEN * summary["trials"]:
        most = max(sorted(failures), key=lambda word: failures[word])
        found.append(f"{failed} of {summary['trials']} trials failed: `autolab trials --status {most}`")
    if len(found) > MOST_CONCERNS:
        found[MOST_CONCERNS - 1 :] = [f"and {len(found) - MOST_CONCERNS + 1} more: `autolab morning`"]
    return [cut(line, width()) for line in found]


def _under_way(running: list[dict[str, str]], waiting: str) -> list[str]:
    lines = []
    for item in running[:MOST_NAMED]:
        head = f"{waiting:<{INDENT}}{item['trial']}  {item['state']:<6}  "
        lines.append(head + shortened(item["hypothesis"], width() - len(head)))
    if more := running[MOST_NAMED:]:
        counts = Counter(item["state"] for item in more)
        told = ", ".join(f"{count} {state}" for state, count in counts.items())
        lines.append(f"{'':<{INDENT}}and {len(more)} more: {told}")
    return lines


def _master(ledger: Ledger, summary: dict[str, Any]) -> list[str]:
    if summary["master"] is None:
        return wrapped("master", f"none: the baseline {summary['baseline']}", INDENT)
    chain = steps(ledger, summary["campaign"])
    seen = master_now(ledger, summary["campaign"], chain)
    made = summary["master"]
    text = f"{summary['metric']} {standing_text(seen)}, trial {seen.trial.id}, {moves(made)}"
    lines = wrapped("master", text, INDENT) + master_lines(ledger, seen, chain, INDENT)
    if made["sealed_looks"]:
        lines += wrapped("sealed", f"{counted(made['sealed_looks'], 'look')} at the sealed split", INDENT)
    if promising := summary["outcomes"].get(Verdict.PROVISIONAL):
        text = (
            f"{promising} not shown to be better: `autolab trials --status provisional`, `autolab confirm ID`"
        )
        lines += wrapped("promising", text, INDENT)
    return lines


def summarise(ledger: Ledger, campaign: Campaign, root: Path) -> dict[str, Any]:
    """What `status --json` says."""
    from autolab.campaign.lock import works_on

    outcomes: dict[str, int] = {}
    for (state, verdict), count in sorted(ledger.count(campaign.id).items(), key=lambda item: -item[1]):
        outcomes[verdict or state] = outcomes.get(verdict or state, 0) + count
    chain = steps(ledger, campaign.id)
    known = states(chain)
    for trial in {step.trial.number: step.trial for step in chain}.values():
        before, now = str(trial.verdict or trial.status), outcome(trial, known)
        outcomes[before] = outcomes.get(before, 0) - 1
        outcomes[now] = outcomes.get(now, 0) + 1
    outcomes = {name: count for name, count in outcomes.items() if count > 0}
    seen = master_summary(ledger, chain) if chain else None
    state = campaign.state
    alive = works_on(root, ledger, campaign.id)
    first = next(ledger.sequence(campaign.id), None)
    if state in AT_WORK and not alive:
        state = "interrupted; `autolab run` goes on"
    last = ledger.last_measurement(campaign.id)
    jobs, unfinished = count_jobs(ledger, campaign.id)
    spent, committed = costs(ledger, campaign.id)
    newest = next(ledger.trials(campaign.id, last=1), None)
    until = max(newest.finished_at or 0.0 if newest else 0.0, time.time() if alive else campaign.created_at)
    until = max(until, campaign.config.get("ended_at", 0.0))
    summary = {
        "campaign": campaign.id,
        "task": campaign.task,
        "comparability_key": campaign.key,
        "state": state,
        "alive": alive,
        "baseline": _baseline_text(first),
        "metric": campaign.config["task"]["metric"]["name"],
        "trials": sum(outcomes.values()),
        "outcomes": outcomes,
        "deterministic": bool(campaign.config["task"]["metric"].get("deterministic")),
        "noise_sd": seen["noise_sd"] if seen else campaign.noise_sd,
        "noise_df": seen["noise_df"] if seen else None,
        "baseline_score": chain[0].promotion.score if chain else None,
        "master": seen,
        "running": [
            {"trial": t.id, "state": str(t.state), "hypothesis": cell(t.hypothesis)}
            for t in ledger.undone(campaign.id)
        ],
        "cost_usd": spent,
        "committed_usd": committed,
        "jobs": {"all": jobs, "unfinished": unfinished},
        "evidence": last.evidence if last else None,
        "sandbox": last.sandbox if last else None,
        "guidance": [text for _, text in ledger.guidance(campaign.id)],
    }
    if campaign.lab:  # what its trials cost is not summed up anywhere
        from autolab.report.overview import overview

        return {
            "headline": overview(ledger, campaign.id, now=until, alive=False).headline.sentence,
            **summary,
        }
    candidates = summary["trials"] - (first is not None and first.status is not None)
    headline = _headline(campaign, first, summary, candidates, until - campaign.created_at)
    return {"headline": headline, **summary}


def _headline(
    campaign: Campaign, first: Trial | None, summary: dict[str, Any], candidates: int, seconds: float
) -> str:
    """The sentence of `report.overview`, which reads every trial for it; here it has to be there at once."""
    from autolab.report.overview.sentence import Found, confidence, sentence

    seen = summary["master"] or {}
    state = seen.get("state", "")
    return sentence(
        Found(
            metric=summary["metric"],
            before=summary["baseline_score"],
            score=seen.get("score"),
            low=seen.get("score_low"),
            high=seen.get("score_high"),
            state=state,
            better=bool(seen) and seen["program"] != campaign.baseline,
            confidence=confidence(campaign.config["task"], state, foreign=bool(campaign.lab)),
            promotions=seen.get("promotions", 0),
            demotions=seen.get("demotions", 0),
            self_reported=summary["evidence"] == "self_reported",
            failed=str(first.status) if first is not None and first.status not in (None, Status.OK) else "",
            trials=candidates,
            seconds=max(0.0, seconds),
            dollars=summary["cost_usd"],
        )
    )


def master_summary(ledger: Ledger, chain: list[Step]) -> dict[str, Any]:
    """The master in brief, as it is seen now. Gains are positive when it is better: `gain` over what it replaced,
    `gain_total` over the baseline; `controls` are its measurements in turn with candidates."""
    campaign = chain[0].promotion.campaign
    seen = master_now(ledger, campaign, chain)
    total, total_low, total_high = over_baseline(ledger, seen, chain)
    return {
        "trial": seen.trial.id, "program": seen.promotion.program, "state": seen.state, "score": seen.score,
        "score_low": seen.low, "score_high": seen.high, "estimated_from": seen.runs,
        "replaced": seen.over.id if seen.over else None, "gain": seen.gain, "gain_low": seen.gain_low,
        "gain_high": seen.gain_high, "noise_sd": seen.noise_sd, "noise_df": seen.noise_df,
        "controls": sum(is_control(m) for m in ledger.measurements(seen.trial.number)),
        "sealed_looks": len(looks(ledger, campaign)),
        "promotions": sum(step.kind not in ("baseline", "demotion") for step in chain),
        "demotions": sum(step.kind == "demotion" for step in chain),
        "gain_total": total, "gain_total_low": total_low, "gain_total_high": total_high,
        "promoted_at": timestamp(seen.promotion.at),
    }  # fmt: skip


def _baseline_text(first: Trial | None) -> str:
    """What became of the baseline, after the words `the baseline`."""
    if first is None or first.status is None:
        return "is not measured yet"
    return "was measured" if first.status == "ok" else f"failed ({first.status}: {cell(first.note)[:60]})"


def moves(master: dict[str, Any]) -> str:
    """How often the master changed, of its summary: `2 promotions, 1 demotion`."""
    taken_back = f", {counted(master['demotions'], 'demotion')}" if master["demotions"] else ""
    return counted(master["promotions"], "promotion") + taken_back

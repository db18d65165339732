"""The first sentence: is there a better recipe, can it be believed, what did it cost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autolab.report.overview.gathered import Gathered
from autolab.report.overview.records import Headline
from autolab.report.overview.sentence import Found, confidence, sentence
from autolab.report.overview.spending import dollars_of, seconds_of
from autolab.report.overview.words import HOUR


def headline(found: Gathered, under_way: int) -> Headline:
    """What a campaign found, in numbers and in one sentence."""
    climbed = sum(step.kind not in ("baseline", "demotion") for step in found.chain)
    master = found.master
    ended = max((trial.finished_at or 0.0 for trial in found.trials), default=found.campaign.created_at)
    ended = max(ended, found.campaign.config.get("ended_at", 0.0))
    until = max(found.now, ended) if found.alive else ended
    dollars, tokens = found.dollars, sum(session.tokens for session in found.sessions)
    if found.campaign.lab:  # of other labs' campaigns only their trials' costs are known
        dollars = sum(dollars_of(t, found.own_runs.get(t.number, ())) for t in found.trials)
        tokens = sum(trial.proposal.tokens for trial in found.trials if trial.proposal)
    told = Headline(
        sentence="",
        before=found.chain[0].promotion.score if found.chain else None,
        score=master.score if master else None,
        low=master.low if master else None,
        high=master.high if master else None,
        state=master.state if master else "",
        confidence=confidence(
            found.campaign.config["task"], master.state if master else "", foreign=bool(found.campaign.lab)
        ),
        promotions=climbed,
        demotions=sum(step.kind == "demotion" for step in found.chain),
        trials=len(found.candidates),
        under_way=under_way,
        seconds=max(0.0, until - found.campaign.created_at),
        compute_hours=sum(map(seconds_of, found.runs)) / HOUR,
        compute_unit="GPU-hours" if _on_gpus(found.campaign.config["task"]) else "slot-hours",
        dollars=dollars,
        tokens=tokens,
    )
    first = found.chain[0].promotion.program if found.chain else None
    failed = found.baseline.status if found.baseline_failed and found.baseline is not None else ""
    shared = {name: getattr(told, name) for name in ("before", "score", "low", "high", "state", "confidence")}
    words = sentence(
        Found(
            found.metric,
            **shared,
            better=master is not None and master.promotion.program != first,
            promotions=told.promotions,
            demotions=told.demotions,
            self_reported=any(run.evidence == "self_reported" for run in found.runs),
            failed=str(failed or ""),
            trials=told.trials,
            seconds=told.seconds,
            dollars=told.dollars,
        )
    )
    return replace(told, sentence=words)


def _on_gpus(task: dict[str, Any]) -> bool:
    profile = (task.get("profiles") or {}).get(task.get("profile", "cpu")) or {}
    return bool(profile.get("kind") == "gpu")

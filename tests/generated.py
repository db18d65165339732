"""A campaign as a long night leaves it: every way in which a trial can end, several roles, surfaces, slots and hosts,
promotions and a demotion, looks at the sealed split, sessions of models, jobs, handovers, and trials under way.

Nothing runs, the clock is made up, and the same arguments give the same ledger. Whatever the lab knows how to do with a
trial is done by the lab itself.
"""

from __future__ import annotations

import heapq
import json
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

from conftest import EVALUATE, TRAIN

from autolab.lab import Lab, begin_campaign, open_lab
from autolab.ledger import handovers
from autolab.ledger.agents import add_idea, add_session, add_workspace
from autolab.ledger.jobs import note_job, reserve
from autolab.ledger.observations import set_standing
from autolab.ledger.records import (
    AgentSession,
    Measurement,
    Promotion,
    Proposal,
    Standing,
    Status,
    Trial,
    Verdict,
    Workspace,
    storable,
)
from autolab.task import Edit

BEGAN = 1_780_000_000.0
SEALED = 40.0  # added to scores on the sealed split: what no other score comes near
NOISE = 0.004
SHIFT = 0.02  # by how much the second host scores worse
LANES = (("here", 0), ("here", 1), ("there", 2), ("there", 3))
BUDGET = 20.0  # seconds of training
SURFACES = ("optimizer", "architecture", "regularization", "data order", "loss", "")
ROLES = ("worker", "specialists/optimizer", "specialists/architecture", "explorer")
MODELS = ("small/model-7b", "large/model-400b")
CHANGES = (
    "a larger rate", "a longer warm-down of the rate", "weight decay on the embeddings only", "a second value residual",
    "clip gradients at 0.5", "order documents by length", "average the weights of the last tenth of the run",
)  # fmt: skip
CAUSES = {
    Status.ILLEGAL: "loss -1 is outside of its bounds [0, 100]",
    Status.CRASH: "RuntimeError: shape '[{n}, 8]' is invalid for input of size 48",
    Status.OOM: "memory: used {n} MB",
    Status.NAN: "loss is nan after {n} steps",
    Status.TIMEOUT: "the training took longer than 20 s",
    Status.EVAL_TIMEOUT: "the evaluation took longer than 20 s",
    Status.OVER_SIZE: "the artifact has {n} bytes, 65536 are allowed",
    Status.GATE_MISSED: "speed {n} is below 400",
    Status.TAMPERED: "a protected file was changed: evaluate.py",
    Status.INFRA_ERROR: "the machine was lost",
    Status.ABORTED: "stopped early: its learning curve was far outside the master's band",
}
UNMEASURED = (Status.PROPOSAL_FAILED, Status.PREFLIGHT_FAILED, Status.DUPLICATE)
ENDS = (Status.OK, *CAUSES, *UNMEASURED)
WEIGHTS = (520, 4, 70, 10, 16, 14, 4, 60, 12, 2, 24, 18, 30, 20, 60)
HOSTILE = (
    "</script><img src=x onerror=alert(1)>", "tab\there\nand a line\r\nmore", "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "lone \ud800 surrogate", "\u202eright to left\u202c \u200f", "{{ 7 * 7 }} {% raw %} {# no #}",
    "`code` ``` and | pipe | too", "\"quotes\" 'and' & <!-- --> ]]> \\u003c/script> $HOME `id` ${1}",
    "</textarea></style><svg onload=alert(2)>\u2028\u2029",
)  # fmt: skip
HOSTILE_FILE = "lib/</script><img src=x onerror=alert(3)>{{7*7}}|`b`\t\x1b[1m\u202e.py"
BLOCK = '''

def block_{n}(values):
    """What trial {n} adds."""
    total = 0.0
    for value in values:  # {words}
        total += value * {n}
    return total / max(1, len(values))
'''

TASK = """\
name: generated
metric: {{name: loss, direction: minimize, bounds: [0, 100], sealed: sealed_loss}}
editable: {editable}
protected: [evaluate.py]
commands: {{train: [python, train.py], evaluate: [python, evaluate.py]}}
budget: {{wall_seconds: 20, eval_seconds: 20, idle_seconds: 10, memory_gb: 1, artifact_kb: 64}}
promotion: {{level: 0.01}}
surfaces: {{optimizer: "rates", architecture: "shape"}}
"""


def generate(root: Path, trials: int = 3000, seed: int = 0, hostile: bool = False) -> tuple[Path, str]:
    """Fill the lab in `root`, which is made, with a campaign of `trials` finished trials beside its baseline and a few
    under way. With `hostile`, whatever agents and programs write is written to break whoever shows it.

    Returns the path of the ledger and the campaign's id."""
    root.mkdir(parents=True, exist_ok=True)
    files = {"train.py": TRAIN, **({HOSTILE_FILE: "KNOB = 1\n"} if hostile else {}), "evaluate.py": EVALUATE}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    editable = json.dumps([name for name in files if name != "evaluate.py"])
    (root / "task.yaml").write_text(TASK.format(editable=editable), encoding="utf-8")
    clock = _Clock()
    with mock.patch("time.time", clock), open_lab(root, create=True) as ledger:
        ledger.set_meta("lab", f"{seed % 4096 + 0xABC000:06x}")
        ledger.set_meta("secret", f"{seed:032x}")
        lab = begin_campaign(
            root, ledger, name=None, profile="cpu",
            config={"seed": seed, "window": 4, "slots": len(LANES), "serving": {"trials": math.ceil(1.1 * trials)}},
        )  # fmt: skip
        with ledger.transaction():
            _Night(lab, clock, random.Random(seed), trials, hostile).run()
        return ledger.path, lab.campaign.id


@dataclass
class _Clock:
    now: float = BEGAN

    def __call__(self) -> float:
        return self.now


@dataclass
class _Plan:
    """What a trial is meant to come to. `runs`: (stage, replicate) still to be measured, of the trial or the master."""

    trial: Trial
    status: Status
    kind: str = ""  # improvement, certified, simplification, provisional
    effect: float = 0.0  # how much better than the master, truly
    runs: list[tuple[str, int]] = field(default_factory=list)
    under_way: int = 0
    scores: list[float] = field(default_factory=list)
    failed: Measurement | None = None


class _Night:
    """Trials are opened as slots become free, measured in the order in which they were submitted, and judged."""

    def __init__(self, lab: Lab, clock: _Clock, chance: random.Random, trials: int, hostile: bool) -> None:
        self.lab, self.clock, self.chance, self.trials, self.hostile = lab, clock, chance, trials, hostile
        self.ledger, self.campaign = lab.ledger, lab.campaign.id
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.count = 0
        self.free = sorted(LANES)
        self.queue: deque[tuple[_Plan, str, int]] = deque()
        self.level = 2.31  # the master's true score
        self.finished = self.opened = 0
        self.elites: list[Trial] = []
        self.demoted = False
        climbs = max(1, min(30, trials // 7))
        places = sorted(chance.sample(range(2, trials), climbs)) if trials > 8 else []
        kinds = ["improvement"] * climbs
        kinds[1::5] = ["certified"] * len(kinds[1::5])
        kinds[3::9] = ["simplification"] * len(kinds[3::9])
        self.climbs = dict(zip(places, kinds, strict=False))

    def run(self) -> None:
        first = next(self.ledger.sequence(self.campaign))
        self._submitted(_Plan(first, Status.OK, "baseline", runs=[("screen", n) for n in range(3)]))
        self.ledger.steer(self.campaign, storable(self._said("the tokenizer stays as it is")))
        for n, change in enumerate(CHANGES):
            source = f"24{n:02d}.{n:05d}" if n % 2 else ""
            add_idea(
                self.ledger, self.campaign, change=f"try {change}", surface=SURFACES[n % 5], source=source
            )
        while self.events and self.finished <= self.trials:
            self.clock.now, _, happen = heapq.heappop(self.events)
            happen()
        self._last_words()

    def _at(self, seconds: float, happen: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.clock.now + seconds, self.count, happen))

    def _said(self, words: str) -> str:
        """What an agent or a program writes."""
        return f"{words} {self.chance.choice(HOSTILE)}" if self.hostile else words

    # opened, and submitted ----------------------------------------------------------------------------

    def _open(self) -> None:
        chance, self.opened = self.chance, self.opened + 1
        surface, role = chance.choices(SURFACES, (6, 4, 3, 2, 2, 1))[0], chance.choice(ROLES)
        if self.hostile and chance.random() < 0.3:
            surface, role = storable(chance.choice(HOSTILE)), storable(f"role {chance.choice(HOSTILE)}")
        elite = chance.choice(self.elites) if self.elites and chance.random() < 0.3 else None
        trial = self.lab.reserve(
            role=role, agent=storable(self._said(f"agent-{chance.randrange(3)}")), surface=surface,
            parent=(elite.program or "", elite.number) if elite else None,
        )  # fmt: skip
        kind = self.climbs.get(trial.ordinal, "")
        status = Status.OK if kind else chance.choices(ENDS, WEIGHTS)[0]
        plan = _Plan(trial, status, kind, runs=[("screen", 0)])
        if kind:
            plan.effect = (
                0.0001 if kind == "simplification" else chance.uniform(0.3, 1.7) * 0.13 / len(self.climbs)
            )
            plan.runs += [("confirm", n) for n in range(3)] + [
                (f"control-{trial.ordinal}", n) for n in range(3)
            ]
            plan.runs += [("certify", 0)] if kind == "certified" else []
        else:
            plan.effect = min(chance.gauss(-0.02, 0.02), 0.3 * NOISE)
            if status is Status.OK and plan.effect > 0 and chance.random() < 0.3:
                plan.kind = "provisional"
                plan.runs += [("confirm", n) for n in range(4)]
        self._at(chance.expovariate(1 / 12), lambda: self._propose(plan))

    def _propose(self, plan: _Plan) -> None:
        trial, chance = plan.trial, self.chance
        proposal = self._proposal(trial)
        self._session(trial, proposal)
        if plan.status in UNMEASURED:
            lost = "abandoned: its lease ran out" if chance.random() < 0.3 else "no answer with an edit"
            note = {
                Status.PROPOSAL_FAILED: lost,
                Status.PREFLIGHT_FAILED: f"train.py, line {chance.randrange(90)}: invalid syntax",
                Status.DUPLICATE: f"repeats trial {self.ledger.trial_id(max(1, trial.number - 5))}",
            }[plan.status]  # fmt: skip
            self.lab.refuse(trial.number, plan.status, storable(self._said(note)), proposal)
            self._over()
            return
        plan.trial = self.lab.submit(self.lab.ticket(trial), proposal)
        assert plan.trial.status is None, plan.trial.note
        if chance.random() < 0.2:
            self._hand_over(plan.trial)
        self._submitted(plan)

    def _proposal(self, trial: Trial) -> Proposal:
        chance, n = self.chance, trial.number
        assert trial.parent_program is not None
        parent = self.ledger.program(trial.parent_program)
        (line,) = [line for line in parent["train.py"].splitlines() if line.startswith("RATE")]
        edits = [Edit(path="train.py", search=line, replace=f"RATE = {0.5 + n * 1e-6!r}")]
        change = chance.choice(CHANGES)
        if chance.random() < 0.3 and len(parent["train.py"]) < 3000:
            words = " ".join(self._said(change).split()).encode("ascii", "ignore").decode()
            words = "".join(c for c in words if c.isprintable())
            anchor = "\n\ndef answer(state):"
            edits.append(
                Edit(path="train.py", search=anchor, replace=BLOCK.format(n=n, words=words) + anchor)
            )
        if self.hostile and chance.random() < 0.3:
            edits.append(
                Edit(path=HOSTILE_FILE, search=parent[HOSTILE_FILE], replace=f"KNOB = {n}  # </script>\n")
            )
        sources = (f"24{n % 12:02d}.{n % 40:05d}",) if chance.random() < 0.25 else ()
        return Proposal(
            self._said(f"{change}, step {n}"), tuple(edits), surface=trial.surface,
            expected_effect=self._said(f"-{chance.uniform(0, 0.02):.3f} loss"),
            rationale=self._said(f"Because {change} worked elsewhere.\nIt should here, too."),
            sources=tuple(self._said(source) for source in sources), move=f"move-{n % 7}",
            tokens=chance.randrange(500, 9000), cost_usd=round(chance.uniform(0, 0.004), 6),
        )  # fmt: skip

    def _session(self, trial: Trial, proposal: Proposal) -> None:
        outcome = self.chance.choices(("answered", "timeout", "no_answer"), (97, 2, 1))[0]
        tokens_in = proposal.tokens * 3 // 4
        add_session(
            self.ledger,
            AgentSession(
                self.campaign, trial.number, trial.role, trial.agent, MODELS[trial.number % 2], tokens_in,
                proposal.tokens - tokens_in, requests=self.chance.randrange(1, 9), cost_usd=proposal.cost_usd,
                seconds=self.clock.now - trial.created_at, outcome=outcome, at=self.clock.now,
            ),
        )  # fmt: skip

    def _hand_over(self, trial: Trial) -> None:
        kind = self.chance.choice(handovers.KINDS)
        handovers.add(
            self.ledger, self.campaign, round=f"team:{trial.ordinal // 4}", role=trial.role, kind=kind,
            text=self._said(f"{kind} of trial {trial.ordinal}"), surface=trial.surface, trial=trial.number,
        )  # fmt: skip

    # measured -----------------------------------------------------------------------------------------

    def _submitted(self, plan: _Plan) -> None:
        self._ask(plan, [run for run in plan.runs if run[0] == "screen"])

    def _ask(self, plan: _Plan, runs: list[tuple[str, int]]) -> None:
        plan.runs = [run for run in plan.runs if run not in runs]
        plan.under_way += len(runs)
        self.queue.extend((plan, *run) for run in runs)
        self._fill_slots()

    def _fill_slots(self) -> None:
        while self.free and self.queue:
            plan, stage, replicate = self.queue.popleft()
            lane = self.free.pop(0)
            master = self.ledger.newest_promotion(self.campaign)
            of_master = stage.startswith("control") and master is not None
            trial = self.ledger.trial(master.trial) if of_master and master else plan.trial
            wanted = self.lab.needed(trial, stage, replicate)
            if wanted.status is not None:  # a second look at the master
                plan.under_way -= 1
                self.free.append(lane)
                continue
            self.ledger.start_measurement(wanted)
            self._start(plan, wanted, lane, self.level if of_master else self.level - plan.effect)

    def _start(self, plan: _Plan, wanted: Measurement, lane: tuple[str, int], level: float) -> None:
        chance, begin = self.chance, self.clock.now
        host, slot = lane
        fails = plan.status is not Status.OK and wanted.stage == "screen"
        status = plan.status if fails else Status.OK
        short = {Status.OK: 1.0, Status.TIMEOUT: 1.0, Status.ABORTED: 0.3}.get(status, chance.random())
        train = BUDGET * short * chance.uniform(0.9, 1.0)
        evaluated = status in (Status.OK, Status.ILLEGAL, Status.GATE_MISSED, Status.EVAL_TIMEOUT)
        seconds = (train, chance.uniform(1, 4) if evaluated else 0.0)
        score = chance.gauss(level, NOISE) + (SHIFT if host == "there" else 0.0)
        name = self.lab.task.metric.reported(wanted.stage)
        metrics = {
            name: score + (SEALED if wanted.stage == "certify" else 0.0),
            "speed": chance.uniform(400, 900),
        }
        if self.hostile and chance.random() < 0.1:
            metrics[chance.choice(HOSTILE)] = 1.0
        cause = CAUSES[status].format(n=chance.randrange(10**6)) if fails else ""
        curve = tuple(
            (p / 12, score + 2 * math.exp(-5 * p / 12)) for p in range(1, 1 + math.ceil(12 * short))
        )
        done = wanted.replace(
            status=status, cause=self._said(cause) if cause else "", metrics=metrics if status is Status.OK else {},
            host=host, slot=slot, sandbox="none" if chance.random() < 0.001 else "bubblewrap", train_seconds=seconds[0],
            train_cpu_seconds=seconds[0] * 0.98, eval_seconds=seconds[1], peak_memory_mb=chance.uniform(80, 900),
            artifact_bytes=chance.randrange(2000, 60000), tokens=10_000, started_at=begin, curve=curve,
            log_excerpt=self._said("\n".join([*(f"loss {value:.4f}" for _, value in curve[-4:]), cause])),
        )  # fmt: skip
        ticket = self._launch(wanted) if chance.random() < 0.01 else ""
        self._at(sum(seconds) + chance.uniform(0.05, 0.6), lambda: self._measured(plan, done, lane, ticket))

    def _launch(self, wanted: Measurement) -> str:
        job = reserve(
            self.ledger, self.campaign, wanted, bundle=f"{wanted.seed:064x}", flavor="cpu-basic", most_usd=0.01,
            limit=None,
        )  # fmt: skip
        note_job(self.ledger, job.ticket, id=f"job-{job.ticket[:8]}", stage="RUNNING", running_seconds=1.0)
        return job.ticket

    def _measured(self, plan: _Plan, done: Measurement, lane: tuple[str, int], ticket: str) -> None:
        if ticket:
            done = done.replace(job=f"job-{ticket[:8]}", cost_usd=0.0006)
            note_job(
                self.ledger, ticket, id=done.job, stage="COMPLETED",
                running_seconds=self.clock.now - done.started_at, cost_usd=done.cost_usd,
            )  # fmt: skip
        done = self.lab.record(done.replace(finished_at=self.clock.now))
        if done.status is not Status.OK:
            plan.failed = done
        elif done.stage in ("screen", "confirm") and done.score is not None:
            plan.scores.append(done.score)
        plan.under_way -= 1
        self.free.append(lane)
        if plan.under_way == 0:
            if plan.runs and plan.failed is None:
                self._ask(plan, list(plan.runs))
            if plan.under_way == 0:
                self._judge(plan)
        self._fill_slots()

    # judged -------------------------------------------------------------------------------------------

    def _judge(self, plan: _Plan) -> None:
        number, finish = plan.trial.number, self.ledger.finish_trial
        if plan.failed is not None:
            assert plan.failed.status is not None
            finish(number, plan.failed.status, note=storable(plan.failed.cause))
            return self._over()
        score = math.fsum(plan.scores) / len(plan.scores)
        half = 2 * NOISE / math.sqrt(len(plan.scores))
        interval = (score - half, score + half)
        delta = self.level - score + (0.0 if plan.kind else SHIFT / 2)
        verdict = Verdict.NO_DIFFERENCE if delta > -2 * NOISE else Verdict.WORSE
        if plan.kind == "provisional":
            verdict, delta = Verdict.PROVISIONAL, max(delta, 0.2 * NOISE)
        if plan.kind in ("baseline", "improvement", "certified", "simplification"):
            certain = {"certified": Verdict.CERTIFIED, "simplification": Verdict.SIMPLIFICATION}
            verdict = certain.get(plan.kind, Verdict.CONFIRMED)
            delta = plan.effect
        done = finish(
            number, Status.OK, verdict=verdict, score=score, interval=interval,
            delta=None if plan.kind == "baseline" else delta, note=f"{delta:+.4g} over {len(plan.scores)} runs",
        )  # fmt: skip
        if plan.kind == "baseline":
            self.ledger.set_campaign(self.campaign, noise_sd=NOISE)
        if plan.kind in ("baseline", "improvement", "certified", "simplification"):
            self._promote(plan, done, interval)
        elif verdict in (Verdict.NO_DIFFERENCE, Verdict.PROVISIONAL):
            self.elites = [*self.elites[-8:], done]
        return self._over()

    def _promote(self, plan: _Plan, done: Trial, interval: tuple[float, float]) -> None:
        assert done.score is not None
        kinds = {"baseline": "baseline", "simplification": "simplification"}
        before = self.ledger.newest_promotion(self.campaign)
        reason = "the recipe as it was" if before is None else f"better by {plan.effect:.3g}, evidence 900:1"
        made = self.ledger.promote(
            done, score=done.score, interval=interval, gain=plan.effect, reason=reason,
            kind=kinds.get(plan.kind, "improvement"),
        )  # fmt: skip
        self.level -= plan.effect
        self._stands(made, done.score, plan.effect if before else None)
        late = self.finished > self.trials // 2
        if plan.kind == "improvement" and before is not None and late and not self.demoted:
            self._at(20.0, lambda: self._demote(made, before, plan.effect))

    def _demote(self, made: Promotion, before: Promotion, effect: float) -> None:
        if self.demoted or self.ledger.master(self.campaign).number != made.number:
            return  # somebody else is master meanwhile
        self.demoted = True
        name = self.ledger.trial_id(made.trial)
        self.level += effect
        back = self.ledger.promote(
            self.ledger.trial(before.trial), score=before.score, interval=(before.score_low, before.score_high),
            gain=0.3 * effect, reason=f"{name} no longer beats it: -0.002 ± 0.001 over 6 measurements since",
            kind="demotion",
        )  # fmt: skip
        self._stands(back, before.score, None)

    def _stands(self, made: Promotion, score: float, gain: float | None) -> None:
        error = None if gain is None else NOISE / 2
        half = None if error is None else 2.05 * error
        seen = Standing(
            self.campaign, made.number, score, score - 0.003, score + 0.003, 6, gain, error, half, NOISE, 24
        )
        set_standing(self.ledger, seen)

    def _over(self) -> None:
        """A trial has ended: the next ones are opened, ahead of the slots."""
        self.finished += 1
        while self.finished <= self.trials and self.opened - self.finished < len(LANES) + 3:
            self._open()

    def _last_words(self) -> None:
        """The newest open trial has a workspace; a job hangs."""
        waiting = [trial for trial in self.ledger.undone(self.campaign) if trial.state == "open"]
        for trial in waiting[-1:]:
            place, until = f"workspaces/{trial.id}", self.clock.now + 600
            add_workspace(
                self.ledger, Workspace(trial.number, place, "session", None, trial.created_at, until)
            )
        begun = self.ledger.begun(self.campaign)
        if begun:
            ticket = self._launch(replace(begun[0], status=None))
            note_job(self.ledger, ticket, id="job-hung", stage="RUNNING", running_seconds=3600.0)

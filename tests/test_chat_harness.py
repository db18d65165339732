"""Agents that answer in words: the real client of the Hub, a real model server that misbehaves, no OpenCode."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from scripted import start
from scripted_agents import trial_of
from stand_ins.model_server import ModelServer, Request, Responder, Step, Usage, say

from autolab.campaign.loop import CampaignRun, Limits
from autolab.cli.agents import chat_harness
from autolab.cli.executors import local_executor
from autolab.errors import LabError
from autolab.harness import NoProposal, Spent, Ticket
from autolab.harness.chat import ChatHarness, ChatLimits, allow_files
from autolab.harness.desk import AgentEvent, Briefing, Desk
from autolab.harness.models import Model, ModelLimits
from autolab.harness.throttle import Throttle
from autolab.harness.upstream import Patience
from autolab.ledger.agents import sessions, spent_by_model
from autolab.ledger.records import AgentSession, Proposal, Status
from autolab.pack.roles import roles
from autolab.task import load_task

PARENT = {"train.py": "RATE = 0.5\n"}
ANSWER = (
    "HYPOTHESIS: higher\nSURFACE: optimizer\ntrain.py\n"
    "<<<<<<< SEARCH\nRATE = 0.5\n=======\nRATE = 0.7\n>>>>>>> REPLACE"
)
QUICK = ChatLimits(
    Patience(first_byte_seconds=1.0, stalled_seconds=1.0, tries=3, answer_bytes=2000, answer_seconds=1.0),
    outage_seconds=0.01,
)


@dataclass
class Office:
    """What became of a conversation with a harness."""

    found: Any = None
    server: ModelServer = field(default_factory=ModelServer)
    recorded: list[AgentSession] = field(default_factory=list)
    heard: list[AgentEvent] = field(default_factory=list)


def ticket(number: int = 1, **more: Any) -> Ticket:
    return Ticket(
        number=number,
        ordinal=number,
        parent_program="p",
        parent_files=PARENT,
        parent_score=0.25,
        surface=None,
        trial=f"abcdef-{number:04d}",
        role="worker",
        **more,
    )


def at_work(
    toy: Path,
    respond: Responder,
    use: Callable[[ChatHarness], Awaitable[Any]],
    *,
    agents: int = 4,
    stream: bool | None = None,
    models: dict[Model, float] | None = None,
    objection: Callable[[Ticket, Proposal], tuple[Status, str] | None] = lambda ticket, proposal: None,
    key: str = "the-key",
    streams: bool = True,
    limits: ChatLimits = QUICK,
    spent: dict[str, float] | None = None,
    heard: list[AgentEvent] | None = None,
) -> Office:
    """Let `use` work with a harness whose models a scripted server plays."""
    office = Office(heard=[] if heard is None else heard)
    desk = Desk(
        objection=objection,
        lineage=lambda ticket: "- abcdef-0000 worse: lower",
        noise_sd=lambda: 0.01,
        record=office.recorded.append,
        heard=office.heard.append,
    )

    async def work() -> Any:
        usual = Model("local/m", "m", office.server.url, key, limits=ModelLimits(stream=stream), usd_out=1e6)
        played = {
            replace(model, base_url=office.server.url): share for model, share in (models or {}).items()
        }
        briefing = Briefing(load_task(toy, "cpu"), desk)
        async with ChatHarness(
            "c", played or {usual: 1.0}, briefing, agents=agents, slots=2, spent=spent or {}, limits=limits
        ) as harness:
            return await use(harness)

    with ModelServer(respond, streams=streams) as office.server:
        office.found = asyncio.run(work())
    return office


async def one(harness: ChatHarness) -> Any:
    """One proposal, or why there is none."""
    return (await several(1)(harness))[0]


def several(count: int) -> Callable[[ChatHarness], Awaitable[list[Any]]]:
    """So many proposals at once, or why there are none."""

    async def use(harness: ChatHarness) -> list[Any]:
        asked = (harness.propose(ticket(number)) for number in range(1, count + 1))
        return await asyncio.gather(*asked, return_exceptions=True)

    return use


def test_a_trial_is_a_question_and_the_answer_its_change(toy: Path) -> None:
    office = at_work(toy, lambda r: say(ANSWER, usage=Usage(100, 7)), one)
    found = office.found
    assert (found.hypothesis, found.edits[0].replace, found.tokens) == ("higher", "RATE = 0.7\n", 107)
    request = office.server.requests[0]
    assert request.system == roles()["worker"].prompt
    assert "RATE = 0.5" in request.prompt and "abcdef-0000 worse" in request.prompt
    assert request.headers["authorization"] == "Bearer the-key" and "response_format" not in request.body
    (session,) = office.recorded
    assert (session.outcome, session.trial, session.tokens_in, session.tokens_out) == ("answered", 1, 100, 7)
    assert session.cost_usd == found.cost_usd == 7.0 and session.model == "local/m" and session.requests == 1


def test_what_the_lab_would_refuse_goes_back_once(toy: Path) -> None:
    def agent(request: Request) -> Step:
        first = sum(m["role"] == "user" for m in request.messages) == 1
        answers = {
            1: "I have no idea.",
            2: ANSWER.replace(">>>>>>> REPLACE", ""),
            3: ANSWER.replace("0.7", "0.3"),
            4: ANSWER.replace("HYPOTHESIS", "GUESS"),
            5: "<think>\nHYPOTHESIS: first\n</think>\n" + ANSWER,
        }
        bad = answers[trial_of(request)]
        return say(bad if first or trial_of(request) == 1 else ANSWER)

    def objection(ticket: Ticket, proposal: Proposal) -> tuple[Status, str] | None:
        lower = "0.3" in proposal.edits[0].replace
        return (Status.DUPLICATE, "repeats trial abcdef-0000") if lower else None

    office = at_work(toy, agent, several(5), objection=objection)
    nothing, *mended = office.found
    assert isinstance(nothing, NoProposal) and nothing.status is Status.PROPOSAL_FAILED
    assert str(nothing) == "nothing was changed" and nothing.spent.tokens > 0
    assert [p.hypothesis for p in mended] == ["higher"] * 4
    told = {trial_of(r): r.prompt for r in office.server.requests if len(r.messages) > 2}
    assert sorted(told) == [1, 2, 3, 4]
    assert "REPLACE line" in told[2] and "repeats trial abcdef-0000" in told[3] and "HYPOTHESIS" in told[4]
    assert Counter(s.outcome for s in office.recorded) == {"answered": 4, "no_answer": 1}
    assert {s.trial: s.requests for s in office.recorded} == {1: 2, 2: 2, 3: 2, 4: 2, 5: 1}


FAULTS = [
    Step(status=429, retry_after=0.01), Step(status=500), Step(status=503), Step(cut="reset"),
    Step(stream_error="overloaded"), say(""), Step(delay=math.inf), Step(stall=math.inf),
]  # fmt: skip


@pytest.mark.parametrize("stream", [True, False])
def test_what_passes_by_itself_is_asked_again(toy: Path, stream: bool) -> None:
    asked: Counter[int] = Counter()

    def busy(request: Request) -> Step:
        asked[trial_of(request)] += 1
        fault = FAULTS[trial_of(request) - 1]
        text = "" if fault == say("") else ANSWER
        return replace(fault, text=text) if asked[trial_of(request)] == 1 else say(ANSWER)

    office = at_work(toy, busy, several(len(FAULTS)), stream=stream, agents=len(FAULTS))
    assert [getattr(p, "hypothesis", p) for p in office.found] == ["higher"] * len(FAULTS)
    assert [s.retries for s in sorted(office.recorded, key=lambda s: s.trial or 0)] == [1] * len(FAULTS)
    assert {r.stream for r in office.server.requests} == {stream}
    assert {e.kind for e in office.heard} == {"model", "ended"}


def test_answers_without_usage_or_without_a_stream_are_read_as_well(toy: Path) -> None:
    silent = at_work(toy, lambda r: say(ANSWER, reports_usage=False), one)
    assert silent.found.hypothesis == "higher" and silent.recorded[0].tokens_out == len(ANSWER) // 4
    assert silent.recorded[0].tokens_in == silent.server.requests[0].size // 4
    whole = at_work(toy, lambda r: say(ANSWER), one, stream=True, streams=False)
    assert whole.server.requests[0].stream and whole.found.hypothesis == "higher"


@pytest.mark.parametrize(
    "fault", [{"endless": True}, {"endless": True, "chunk_delay": 0.05}, {"pings": 0.05}]
)
def test_a_stream_without_end_is_cut_by_its_length_and_by_the_time(toy: Path, fault: dict[str, Any]) -> None:
    endless = Step(text="word " * 20, **fault)
    office = at_work(toy, lambda r: endless, one)
    assert isinstance(office.found, NoProposal) and str(office.found) == "nothing was changed"
    assert [r.outcome for r in office.server.requests] == ["client left"] * 2
    assert office.recorded[0].retries == 0 and office.recorded[0].tokens_out > 0


@pytest.mark.parametrize("stream", [True, False])
def test_half_a_character_is_replaced_and_can_be_sent_back(toy: Path, stream: bool) -> None:
    def model(request: Request) -> Step:
        return say("I think \ud83d" if request.number == 1 else ANSWER)

    office = at_work(toy, model, one, stream=stream)
    assert office.found.hypothesis == "higher"
    said = [m["content"] for m in office.server.requests[1].body["messages"] if m["role"] == "assistant"]
    assert said == ["I think \ufffd"]


@pytest.mark.parametrize("stream", [True, False])
def test_signs_of_life_without_a_word_are_no_answer(toy: Path, stream: bool) -> None:
    def model(request: Request) -> Step:
        return Step(pings=0.05) if request.attempt == 1 else say(ANSWER)

    office = at_work(toy, model, one, stream=stream)
    assert office.found.hypothesis == "higher" and office.recorded[0].retries == 1
    assert [r.outcome for r in office.server.requests] == ["client left", "answered"]
    assert "did not answer in time" in office.heard[0].text


ENDURING = replace(QUICK, patience=replace(QUICK.patience, first_byte_seconds=600), seconds=2.0)


@pytest.mark.parametrize("fault", [Step(delay=math.inf), Step(status=503, retry_after=60)])
def test_a_session_has_one_deadline_for_all_its_tries(toy: Path, fault: Step) -> None:
    office = at_work(toy, lambda r: fault, one, limits=replace(ENDURING, seconds=3.0))
    assert isinstance(office.found, LabError) and "in 0.05 minutes (--agent-minutes)" in str(office.found)
    assert [(s.outcome, s.note) for s in office.recorded] == [("timeout", "after 0.05 minutes")]
    assert len(office.server.requests) == 1


def test_the_deadline_holds_for_the_feedback_as_well(toy: Path) -> None:
    def model(request: Request) -> Step:
        return say("I have no idea.") if len(request.messages) == 2 else Step(delay=math.inf)

    office = at_work(toy, model, one, limits=ENDURING)
    assert isinstance(office.found, NoProposal) and office.found.status is Status.INFRA_ERROR
    assert office.found.spent.tokens > 0 and office.recorded[0].outcome == "timeout"
    assert len(office.server.requests) == 2


def test_the_wait_for_a_turn_does_not_count(toy: Path) -> None:
    narrow = replace(B, limits=ModelLimits(in_flight=1))
    office = at_work(
        toy, lambda r: say(ANSWER, delay=0.6), several(5), models={narrow: 1.0}, agents=5, limits=ENDURING
    )
    assert Counter(type(p) for p in office.found) == {Proposal: 5}
    assert max(s.seconds for s in office.recorded) > ENDURING.seconds


def test_no_token_of_the_user_goes_to_a_server_that_asks_for_no_key(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    office = at_work(toy, lambda r: say(ANSWER), one, key="")
    assert "authorization" not in office.server.requests[0].headers
    assert "hf_secret" not in json.dumps(dict(office.server.requests[0].headers))


def test_offline_mode_is_no_obstacle_for_a_model_that_is_served_here(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert at_work(toy, lambda r: say(ANSWER), one).found.hypothesis == "higher"
    routed = ChatHarness(
        "c",
        {Model("hf/Qwen/x", "Qwen/x", "https://router.huggingface.co/v1", "hf_x"): 1.0},
        Briefing(load_task(toy, "cpu"), Desk(lambda t, p: None, lambda t: "", lambda: None, print)),
        agents=1,
        slots=1,
        spent={},
        limits=QUICK,
    )
    with pytest.raises(LabError, match=r"HF_HUB_OFFLINE is set, and this model is on the Hub \(unset"):
        asyncio.run(routed.__aenter__())


def test_a_model_that_never_answers_needs_a_person(toy: Path) -> None:
    office = at_work(toy, lambda r: Step(status=401, message="bad key the-key"), one)
    assert isinstance(office.found, LabError)
    assert "the model gives no answer: HTTP 401: bad key [key]" in str(office.found)
    assert len(office.server.requests) == 1 and office.recorded[0].outcome == "model_error"


KEY = "sk-" + 8 * "k3y/"


@pytest.mark.slow
def test_no_part_of_a_key_that_a_server_repeats_is_left_where_its_words_are_cut(toy: Path) -> None:
    def model(request: Request) -> Step:
        before = "x" * (180 + 5 * trial_of(request))
        return (
            Step(status=401, message=f"{before} {KEY}") if request.stream else Step(stream_error=before + KEY)
        )

    for stream in (True, False):
        broken = at_work(toy, model, several(25), key=KEY, stream=stream, agents=25)
        assert len({trial_of(request) for request in broken.server.requests}) == 25
        said = [str(f) for f in broken.found] + [s.note for s in broken.recorded]
        assert all(isinstance(f, LabError) for f in broken.found) and "[key]" in said[0]
        assert all("k3y" not in text for text in [*said, *(e.text for e in broken.heard)])


def test_a_model_that_answered_before_costs_a_trial_and_in_the_end_needs_a_person(toy: Path) -> None:
    async def use(harness: ChatHarness) -> list[Any]:
        found: list[Any] = [await harness.propose(ticket(1))]
        for number in (2, 3, 4):
            found += await asyncio.gather(harness.propose(ticket(number)), return_exceptions=True)
        return found

    def model(request: Request) -> Step:
        return say(ANSWER) if trial_of(request) == 1 else Step(status=400, message="too long")

    office = at_work(toy, model, use, agents=1)
    assert [type(f) for f in office.found] == [Proposal, NoProposal, NoProposal, LabError]
    assert office.found[1].status is Status.INFRA_ERROR and "HTTP 400: too long" in str(office.found[1])


def test_a_server_that_is_down_for_long_gets_further_sessions(toy: Path) -> None:
    seen: list[int] = []

    def model(request: Request) -> Step:
        seen.append(1)
        return Step(status=503) if len(seen) <= 2 else say(ANSWER)

    impatient = replace(QUICK, patience=replace(QUICK.patience, tries=1))
    office = at_work(toy, model, one, limits=impatient)
    assert office.found.hypothesis == "higher"
    assert [s.outcome for s in office.recorded] == ["model_error", "model_error", "answered"]


def test_hundreds_of_questions_are_in_flight_at_once(toy: Path) -> None:
    everybody = 400
    waiting: list[int] = []
    all_here = asyncio.Event()

    async def model(request: Request) -> Step:
        waiting.append(1)
        if len(waiting) == everybody:
            all_here.set()
        await all_here.wait()
        return say(ANSWER)

    patient = ChatLimits(Patience(first_byte_seconds=120, answer_seconds=120))
    office = at_work(toy, model, several(everybody), agents=everybody, limits=patient)
    assert Counter(type(p) for p in office.found) == {Proposal: everybody}
    assert office.server.stats.max_in_flight == everybody
    assert not any(r.stream for r in office.server.requests)  # that many streams would cost a wake-up a word


# several models -----------------------------------------------------------------------------------

A = Model("x/a", "a", "", usd_out=1e6)
B = Model("y/b", "b", "")


def by_model(office: Office) -> dict[int, str]:
    return {trial_of(r): r.model for r in office.server.requests}


def test_models_are_asked_by_their_shares_and_the_same_trial_asks_the_same(toy: Path) -> None:
    found = [
        by_model(at_work(toy, lambda r: say(ANSWER), several(40), models={A: 0.75, B: 0.25})) for _ in "12"
    ]
    assert found[0] == found[1] and Counter(found[0].values())["a"] in (29, 30, 31)


def test_a_ticket_may_name_its_model(toy: Path) -> None:
    async def use(harness: ChatHarness) -> None:
        for number, model in enumerate(["y/b", "y/b", "no/longer-there"], start=1):
            await harness.propose(ticket(number, model=model))

    office = at_work(toy, lambda r: say(ANSWER), use, models={A: 0.999, B: 0.001})
    assert by_model(office) == {1: "b", 2: "b", 3: "a"}


def test_a_model_that_has_spent_its_dollars_is_asked_no_more(toy: Path) -> None:
    frugal = replace(A, limits=ModelLimits(usd=10.0))

    async def use(harness: ChatHarness) -> list[Any]:
        return [*[(await several(1)(harness))[0] for _ in range(3)], await harness.consult(ticket())]

    def model(request: Request) -> Step:
        return say(ANSWER, usage=Usage(1, 4))  # four dollars

    both = at_work(toy, model, use, models={frugal: 0.9, B: 0.1}, spent={"x/a": 5.0})
    assert [r.model for r in both.server.requests] == ["a", "a", "b", "b"]
    alone = at_work(toy, model, use, models={frugal: 1.0}, spent={"x/a": 5.0})
    assert [type(f) for f in alone.found[:3]] == [Proposal, Proposal, Spent] and alone.found[3] == ""
    assert "the models' dollars are spent (x/a: 13.00 $); raise `autolab.usd`" in str(alone.found[2])


def asked_of(*models: str) -> Callable[[ChatHarness], Awaitable[list[Any]]]:
    """A proposal of each model in turn, or why there is none."""

    async def use(harness: ChatHarness) -> list[Any]:
        asked = [harness.propose(ticket(n, model=name)) for n, name in enumerate(models, start=1)]
        return [(await asyncio.gather(one, return_exceptions=True))[0] for one in asked]

    return use


def test_while_another_model_answers_a_broken_one_is_asked_no_more(toy: Path) -> None:
    def model(request: Request) -> Step:
        return Step(status=404, message="no such model") if request.model == "a" else say(ANSWER)

    office = at_work(toy, model, asked_of("x/a", "x/a", "y/b"), models={A: 0.5, B: 0.5})
    assert [type(f) for f in office.found] == [Proposal] * 3
    assert [r.model for r in office.server.requests] == ["a", "b", "b", "b"]
    assert [s.outcome for s in office.recorded] == ["model_error", "answered", "answered", "answered"]
    told = [e.text for e in office.heard if e.kind == "model"]
    assert told == ["x/a gives no answer and is asked no more: HTTP 404: no such model"]


def test_a_model_that_breaks_later_is_asked_no_more_either(toy: Path) -> None:
    def model(request: Request) -> Step:
        broken = request.model == "a" and trial_of(request) > 1
        return Step(status=400, message="out of order") if broken else say(ANSWER)

    office = at_work(toy, model, asked_of(*["x/a"] * 5), models={A: 0.5, B: 0.5}, agents=1)
    assert [type(f) for f in office.found] == [Proposal, NoProposal, NoProposal, Proposal, Proposal]
    assert [r.model for r in office.server.requests] == ["a", "a", "a", "a", "b", "b"]


def test_an_answer_that_was_under_way_brings_a_model_back(toy: Path) -> None:
    broke, answered = asyncio.Event(), []

    async def use(harness: ChatHarness) -> None:
        slow = asyncio.create_task(harness.propose(ticket(1, model="x/a")))
        while not answered:
            await asyncio.sleep(0.01)  # until its question is there
        await harness.propose(ticket(2, model="x/a"))
        await slow
        await harness.propose(ticket(3, model="x/a"))

    async def model(request: Request) -> Step:
        if request.model == "b":
            broke.set()
        elif trial_of(request) == 1:
            answered.append(1)
            await broke.wait()
        elif trial_of(request) == 2:
            return Step(status=404)
        return say(ANSWER)

    office = at_work(toy, model, use, models={A: 0.5, B: 0.5}, limits=replace(QUICK, patience=Patience()))
    assert [(trial_of(r), r.model) for r in office.server.requests] == [
        (1, "a"),
        (2, "a"),
        (2, "b"),
        (3, "a"),
    ]


def test_a_person_is_asked_only_when_no_model_is_left(toy: Path) -> None:
    office = at_work(toy, lambda r: Step(status=404, message=f"no {r.model}"), one, models={A: 0.5, B: 0.5})
    assert isinstance(office.found, LabError) and sorted(r.model for r in office.server.requests) == [
        "a",
        "b",
    ]
    assert all(part in str(office.found) for part in ("no a", "no b", "x/a at http", "y/b at http"))
    poor = at_work(
        toy, lambda r: Step(status=404), one, models={replace(A, limits=ModelLimits(usd=1)): 0.5, B: 0.5},
        spent={"x/a": 2.0},
    )  # fmt: skip
    assert isinstance(poor.found, Spent) and "(y/b: HTTP 404: scripted error 404, x/a: 2.00 $)" in str(
        poor.found
    )


def test_who_waits_for_a_turn_asks_nobody_once_the_dollars_are_spent(toy: Path) -> None:
    def model(request: Request) -> Step:
        return say(ANSWER, usage=Usage(1, 4))  # four dollars

    frugal = replace(A, limits=ModelLimits(usd=10.0, in_flight=1))
    alone = at_work(toy, model, several(8), models={frugal: 1.0}, agents=8)
    assert len(alone.server.requests) == 3
    assert sum(isinstance(found, Proposal) for found in alone.found) == 3
    left = [str(found) for found in alone.found if isinstance(found, Spent)]
    assert len(left) == 5 and all("(x/a: 12.00 $)" in said for said in left)
    assert sum(session.cost_usd for session in alone.recorded) == 12.0
    with_another = at_work(toy, model, several(8), models={frugal: 0.9, B: 0.1}, agents=8)
    assert all(isinstance(found, Proposal) for found in with_another.found)
    assert sum(request.model == "a" for request in with_another.server.requests) == 3


def test_so_many_requests_of_a_model_are_in_flight_and_no_more(toy: Path) -> None:
    narrow = replace(B, limits=ModelLimits(in_flight=2))
    office = at_work(toy, lambda r: say(ANSWER, delay=0.05), several(6), models={narrow: 1.0}, agents=6)
    assert len(office.server.requests) == 6 and office.server.stats.max_in_flight == 2


def turns(count: int, *, pause: float = 0.0) -> list[float]:
    """When so many who ask at once got their turns, in seconds: with 1,200 a minute, and a pause that the server asks
    for when they wait."""

    async def entries() -> list[float]:
        throttle, began, found = Throttle(ModelLimits(requests_per_minute=1200)), time.monotonic(), []

        async def enter() -> None:
            async with throttle.turn():
                found.append(time.monotonic() - began)

        waiting = [asyncio.create_task(enter()) for _ in range(count)]
        await asyncio.sleep(0)
        if pause:
            throttle.pause(pause)
        await asyncio.gather(*waiting)
        return found

    return asyncio.run(entries())


def test_requests_of_a_minute_are_spread_over_it() -> None:
    assert all(at >= place * 0.05 for place, at in enumerate(turns(5)))


def test_after_a_pause_requests_go_out_one_by_one_as_before() -> None:
    _, *others = turns(5, pause=0.3)  # the first one did not wait
    assert all(at >= 0.3 + place * 0.05 for place, at in enumerate(others))


def test_a_connection_for_every_agent_is_allowed_or_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = {"now": (1024, 4096)}
    monkeypatch.setattr("resource.getrlimit", lambda what: limits["now"])
    monkeypatch.setattr("resource.setrlimit", lambda what, wanted: limits.update(now=wanted))
    allow_files(1000)
    assert limits["now"] == (1024, 4096)
    allow_files(3000)
    assert limits["now"] == (3000, 4096)
    with pytest.raises(LabError, match=r"10000 agents need 10512 open files, 4096 are allowed"):
        allow_files(10_512)


def test_when_a_server_asks_for_a_pause_nobody_asks_it(toy: Path) -> None:
    async def use(harness: ChatHarness) -> None:
        first = asyncio.create_task(harness.propose(ticket(1)))
        while not heard:
            await asyncio.sleep(0)  # until the refusal is heard of
        await harness.propose(ticket(2))
        await first

    def model(request: Request) -> Step:
        return (
            Step(status=429, retry_after=0.5, text=ANSWER, times=1) if trial_of(request) == 1 else say(ANSWER)
        )

    heard: list[AgentEvent] = []
    office = at_work(toy, model, use, heard=heard)
    refused, *later = office.server.requests
    assert len(later) == 2 and all(request.at - refused.at >= 0.5 for request in later)


# the rest of the contract -------------------------------------------------------------------------


def test_an_agent_is_consulted_in_words(toy: Path) -> None:
    async def use(harness: ChatHarness) -> list[str]:
        asked = replace(ticket(), role="reviewer", goal="Which is next?", notes=("the optimizer is done",))
        return [
            await harness.consult(asked),
            await harness.consult(replace(asked, number=2, trial="abcdef-0002")),
        ]

    def model(request: Request) -> Step:
        return say("The loss.") if request.number == 1 else Step(status=400)

    office = at_work(toy, model, use)
    assert office.found == ["The loss.", ""]
    prompt = office.server.requests[0].prompt
    assert "Which is next?" in prompt and "the optimizer is done" in prompt
    assert [s.outcome for s in office.recorded] == ["answered", "model_error"]


def test_what_is_cancelled_is_recorded(toy: Path) -> None:
    async def use(harness: ChatHarness) -> None:
        task = asyncio.create_task(harness.propose(ticket()))
        while not harness_server.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    harness_server = ModelServer()

    def model(request: Request) -> Step:
        harness_server.requests.append(request)
        return Step(delay=math.inf)

    patient = ChatLimits(Patience(first_byte_seconds=60))
    assert [s.outcome for s in at_work(toy, model, use, limits=patient).recorded] == ["cancelled"]


def test_a_specialist_has_the_words_of_its_surface_unless_agents_are_generic(toy: Path) -> None:
    task = load_task(toy, "cpu")
    desk = Desk(lambda t, p: None, lambda t: "", lambda: None, print)
    asked = replace(ticket(), role="specialist", surface="optimizer")
    assert Briefing(task, desk).role(asked).name == "specialists/optimizer"
    assert Briefing(task, desk, generic=True).role(asked).name == "worker"
    assert Briefing(task, desk, generic=True).role(replace(asked, role="engineer")).name == "engineer"


def test_a_campaign_of_agents_that_answer_in_words(toy: Path) -> None:
    values = {2: 0.7, 3: 0.2, 4: 0.2}

    def model(request: Request) -> Step:
        return say(ANSWER.replace("0.7", str(values[trial_of(request)])))

    with ModelServer(model) as server:
        provider = {
            "options": {"baseURL": server.url, "apiKey": "the-key"},
            "models": {"m": {"cost": {"output": 1}}},
        }
        (toy / "opencode.json").write_text(json.dumps({"provider": {"local": provider}}), encoding="utf-8")
        lab = start(toy)
        executor = local_executor(lab, 2)

        async def run() -> None:
            async with chat_harness(
                lab, "local/m", agents=1, slots=2, minutes=2, heard=lambda event: None
            ) as harness:
                assert harness.ahead == 5
                await CampaignRun(lab, harness, executor, Limits(trials=3)).run()

        asyncio.run(run())
    trials = list(lab.ledger.sequence(lab.campaign.id))[1:]
    assert [(t.status, t.verdict) for t in trials[:2]] == [("ok", "confirmed"), ("ok", "worse")]
    assert trials[2].status == "duplicate" and trials[1].id in trials[2].note
    assert all(t.proposal is not None and t.proposal.tokens > 0 for t in trials[:2])
    assert [s.agent for s in sessions(lab.ledger, lab.campaign.id)] == ["chat"] * 3
    assert spent_by_model(lab.ledger, lab.campaign.id)["local/m"] > 0

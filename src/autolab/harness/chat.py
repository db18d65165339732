"""Agents that answer in words: a trial is a question to a model, and its answer holds search/replace blocks.

Nothing runs for an agent but a request, so that one process holds a thousand of them. Roles and prompts are those of
the agents in OpenCode; what would be refused goes back once, and no model can stall or stop the campaign.
"""

from __future__ import annotations

import asyncio
import dataclasses
import resource
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp import ClientSession, TCPConnector

from autolab.errors import LabError
from autolab.harness import NoProposal, Spent, Ticket
from autolab.harness.answer import AnswerRefused, parse_answer
from autolab.harness.desk import AgentEvent, Briefing, Desk
from autolab.harness.inference import InferenceModel, Message
from autolab.harness.models import Model
from autolab.harness.throttle import NoDollars
from autolab.harness.upstream import ModelFailed, Patience
from autolab.harness.usage import Clock, Usage
from autolab.ledger.records import AgentSession, Proposal, Status, Trial

HOPELESS = (400, 401, 402, 403, 404)  # what a model server says when no later try will do better
FAILURES_IN_A_ROW = 3  # sessions for each agent without a word from a model, before it is asked no more
SESSIONS_A_TRIAL = 3
STREAMED_AGENTS = (
    64  # with more of them, answers are not streamed: reading a stream costs a wake-up for each word
)
SAID_AGAIN_SECONDS = 10.0
OWN_FILES = 512  # descriptors of the lab beside a connection for each agent
GOLDEN = 0.6180339887498949  # its multiples spread evenly over the unit interval


Found = TypeVar("Found")
Converse = Callable[[Ticket, InferenceModel, Usage, Clock], Awaitable[Found]]


@dataclass(frozen=True)
class ChatLimits:
    """What one agent may take of time and of its model."""

    patience: Patience = field(default_factory=lambda: Patience(tries=10))
    outage_seconds: float = 10.0  # before the next try of a session that an outage ended; then twice as long
    seconds: float = 900.0  # for all tries and the feedback together, without the wait for its turn


class ChatHarness:
    """`agents` at a time, over models with shares of the work. Use it as an asynchronous context manager around the
    campaign."""

    name = "chat"

    def __init__(
        self,
        campaign: str,
        models: Mapping[Model, float],
        briefing: Briefing,
        *,
        agents: int,
        slots: int,
        spent: Mapping[str, float],
        limits: ChatLimits,
    ) -> None:
        """`models` have shares that sum to one; `spent` are the dollars that went to them earlier, by name."""
        self.campaign, self.models, self.briefing, self.limits = campaign, models, briefing, limits
        self.ahead: int | None = agents + 2 * slots
        self._agents = agents
        self._spent_before = dict(spent)
        self._at: dict[str, InferenceModel] = {}
        self._seats = asyncio.Semaphore(agents)
        self._last_said, self._said_again_at = "", 0.0

    @property
    def desk(self) -> Desk:
        """What the agents may ask of the lab."""
        return self.briefing.desk

    async def __aenter__(self) -> ChatHarness:
        allow_files(self._agents + OWN_FILES)
        self._http = ClientSession(connector=TCPConnector(limit=0))
        few = self._agents <= STREAMED_AGENTS
        for model in self.models:
            stream = few if model.limits.stream is None else model.limits.stream
            patience = self.limits.patience
            if not stream:  # the first byte comes with the last
                patience = dataclasses.replace(patience, first_byte_seconds=patience.answer_seconds)
            try:
                self._at[model.name] = InferenceModel(
                    model,
                    self._http,
                    patience,
                    stream=stream,
                    spent=self._spent_before.get(model.name, 0.0),
                    said=self._said,
                )
            except LabError:
                await self._http.close()
                raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    # ask and tell ---------------------------------------------------------------------------------

    def tell_proposed(self, ticket_number: int, proposal: Proposal, parent_program: str) -> None:
        """Nothing to remember: every session reads the ledger."""

    def tell(self, trial: Trial, noise_sd: float) -> None:
        """Nothing to remember."""

    async def propose(self, ticket: Ticket) -> Proposal:
        """One session, and another one if the model's server was down for longer than a request waits. Raises Spent
        when the models' dollars are."""
        return await self._in_sessions(ticket, self._conversation)

    async def consult(self, ticket: Ticket) -> str:
        """A session whose words are returned; it changes nothing."""
        try:
            return await self._in_sessions(ticket, self._words)
        except (NoProposal, Spent):
            return ""

    # one session ----------------------------------------------------------------------------------

    async def _in_sessions(self, ticket: Ticket, converse: Converse[Found]) -> Found:
        """What comes of a ticket; where its model is lost, another one is asked. Raises NoProposal, Spent if the
        models' dollars are, or LabError if no model gives an answer to anybody."""
        used: list[Usage] = []
        async with self._seats:
            for _ in self.models:
                at = self._at[self._model(ticket).name]
                try:
                    return await self._in_time(ticket, at, used, converse)
                except ModelFailed as failed:
                    reason = f"no answer of the model: {failed}"
                    nothing = NoProposal(Status.INFRA_ERROR, reason, _nothing_but(ticket, *used))
                    if not self._loses(at, failed):
                        raise nothing from None
                except NoDollars:
                    nothing = NoProposal(
                        Status.INFRA_ERROR,
                        "the model's dollars were spent meanwhile",
                        _nothing_but(ticket, *used),
                    )
                self._left()
            raise nothing

    async def _in_time(
        self, ticket: Ticket, at: InferenceModel, used: list[Usage], converse: Converse[Found]
    ) -> Found:
        """What comes of sessions with one model, which are noted in `used`. Raises NoProposal or ModelFailed."""
        clock = Clock(self.limits.seconds)
        try:
            async with clock.running():
                for attempt in range(SESSIONS_A_TRIAL):
                    used.append(Usage())
                    try:
                        return await self._session(ticket, at, used[-1], clock, converse)
                    except ModelFailed as failed:
                        if attempt == SESSIONS_A_TRIAL - 1 or failed.status in HOPELESS:
                            raise
                    await asyncio.sleep(self.limits.outage_seconds * 2**attempt)
        except TimeoutError:
            raise ModelFailed(f"not done in {clock.seconds / 60:g} minutes (--agent-minutes)", 408) from None
        raise AssertionError("the last attempt returns or raises")

    def _model(self, ticket: Ticket) -> Model:
        """The model that is asked: the one of the ticket's choice if it may be, else by shares, the same for the same
        ticket, as long as the same models are left. Raises Spent or LabError if none is."""
        left = self._left()
        left = {m: part for m, part in left.items() if m.name == ticket.model} or left
        point = ticket.ordinal * GOLDEN % 1.0 * sum(left.values())
        for model, part in left.items():
            point -= part
            if point < 0:
                return model
        return model

    def _left(self) -> dict[Model, float]:
        """The models that have dollars left and give answers, with their shares. Raises Spent if there is none, or
        LabError if that is not for the dollars of any."""
        spent = {name: at.throttle.spent for name, at in self._at.items() if at.throttle.dry}
        lost = {name: at.lost for name, at in self._at.items() if at.lost}
        left = {m: part for m, part in self.models.items() if m.name not in spent and m.name not in lost}
        if left:
            return left
        if spent:
            each = {**lost, **{name: f"{dollars:.2f} $" for name, dollars in spent.items()}}
            raise Spent(
                f"the models' dollars are spent ({', '.join(f'{name}: {why}' for name, why in each.items())}); "
                "raise `autolab.usd` of one in opencode.json, or name another with --model"
            )
        raise LabError(
            f"the model gives no answer: {'; '.join(lost.values())}",
            where=", ".join(f"{m.name} at {m.base_url}" for m in self.models),
            mend="check its server, its name and the key; `autolab run` then goes on with the same trials",
        )

    def _loses(self, at: InferenceModel, failed: ModelFailed) -> bool:
        """Is a model that gave no answer to be asked no more? So it is if it never answered, or nobody for long."""
        at.silent += 1
        if at.answered and at.silent < FAILURES_IN_A_ROW * self._agents:
            return False
        if not at.lost and len(self.models) > 1:
            self._said(f"{at.model.name} gives no answer and is asked no more: {failed}")
        at.lost = str(failed)
        return True

    async def _session(
        self,
        ticket: Ticket,
        at: InferenceModel,
        usage: Usage,
        clock: Clock,
        converse: Converse[Found],
    ) -> Found:
        """One conversation, which is recorded however it ends."""
        began = time.monotonic()
        outcome, note = "died", "by an error of the lab's"
        try:
            found = await converse(ticket, at, usage, clock)
            outcome, note = "answered", ""
            return found
        except ModelFailed as failed:
            outcome, note = "model_error", str(failed)
            raise
        except NoProposal as nothing:
            outcome, note = "no_answer", str(nothing)
            raise
        except NoDollars:
            outcome, note = "cancelled", "the model's dollars are spent"
            raise
        except asyncio.CancelledError:
            minutes = f"{clock.seconds / 60:g} minutes"
            outcome, note = ("timeout", f"after {minutes}") if clock.over else ("cancelled", "")
            raise
        finally:
            self._record(ticket, at.model, usage, time.monotonic() - began, outcome, note)

    async def _conversation(self, ticket: Ticket, at: InferenceModel, usage: Usage, clock: Clock) -> Proposal:
        """Ask for a change, and let the agent mend once what the lab would refuse."""
        messages = self.messages(ticket, self.briefing.trial(ticket, can_edit=False))
        said = await at.complete(messages, usage, clock)
        found = self._read(ticket, said)
        if not isinstance(found, Proposal):
            mend = self.briefing.feedback(found[1], can_edit=False)
            messages += [{"role": "assistant", "content": said}, {"role": "user", "content": mend}]
            found = self._read(ticket, await at.complete(messages, usage, clock))
        if isinstance(found, Proposal):
            return dataclasses.replace(found, tokens=usage.tokens, cost_usd=usage.cost_usd)
        raise NoProposal(*found, _nothing_but(ticket, usage))

    async def _words(self, ticket: Ticket, at: InferenceModel, usage: Usage, clock: Clock) -> str:
        return await at.complete(self.messages(ticket, self.briefing.consult(ticket)), usage, clock)

    def messages(self, ticket: Ticket, prompt: str) -> list[Message]:
        """A conversation of the ticket's role that opens with a prompt."""
        return [
            {"role": "system", "content": self.briefing.role(ticket).prompt},
            {"role": "user", "content": prompt},
        ]

    def _read(self, ticket: Ticket, said: str) -> Proposal | tuple[Status, str]:
        """What an answer amounts to: a proposal, or the label and the reason why there is none."""
        try:
            return self.briefing.accepted(ticket, parse_answer(said, ticket.parent_files))
        except AnswerRefused as refused:
            return Status.PROPOSAL_FAILED, str(refused)

    # what is said, counted, and recorded ----------------------------------------------------------

    def _record(
        self, ticket: Ticket, model: Model, usage: Usage, seconds: float, outcome: str, note: str
    ) -> None:
        self.desk.record(
            AgentSession(
                campaign=self.campaign,
                trial=ticket.number,
                role=ticket.role,
                agent=self.name,
                model=model.name,
                tokens_in=usage.tokens_in,
                tokens_out=usage.tokens_out,
                requests=usage.requests,
                retries=usage.retries,
                cost_usd=usage.cost_usd,
                seconds=seconds,
                outcome=outcome,
                note=note[:300],
                at=time.time(),
            )
        )
        said = outcome + (f": {note}" if note else "")
        self.desk.tell(AgentEvent(ticket.trial, self.briefing.role(ticket).name, "ended", said))

    def _said(self, text: str) -> None:
        """Pass on what a model's server said, once for all agents that it said it to."""
        now = time.monotonic()
        if text != self._last_said or now > self._said_again_at:
            self.desk.tell(AgentEvent("", "", "model", text))
            self._last_said, self._said_again_at = text, now + SAID_AGAIN_SECONDS


def _nothing_but(ticket: Ticket, *used: Usage) -> Proposal:
    """What sessions cost that brought no proposal."""
    tokens, dollars = sum(usage.tokens for usage in used), sum(usage.cost_usd for usage in used)
    return Proposal("", (), surface=ticket.surface or "", tokens=tokens, cost_usd=dollars)


def allow_files(wanted: int) -> None:
    """Let this process hold so many descriptors. Raises LabError if it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise LabError(
            f"{wanted - OWN_FILES} agents need {wanted} open files, {hard} are allowed",
            where="--agents",
            mend=f"ulimit -Hn {wanted}, as root, or --agents {max(1, hard - OWN_FILES)}",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

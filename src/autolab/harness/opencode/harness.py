"""Agents of a headless campaign: each trial is a fresh OpenCode session in a seat, and the loop is ours.

A session gets the parent program in a workspace and a bounded slice of the lineage, edits, says its hypothesis,
and ends. What it did is read from the workspace, never from its words; what would be refused goes back to it
once. Nothing depends on a model remembering, and no agent can stall or stop the campaign.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from aiohttp import ClientSession, TCPConnector

from autolab.errors import LabError
from autolab.execution.local import reap_orphans
from autolab.harness import NoProposal, Ticket
from autolab.harness.answer import AnswerRefused, parse_answer
from autolab.harness.desk import AgentEvent, Briefing
from autolab.harness.models import Model
from autolab.harness.opencode.binary import OpenCode
from autolab.harness.opencode.configuration import configuration
from autolab.harness.opencode.gateway import Endpoint, Gateway
from autolab.harness.opencode.seat import Seat, SessionEnded, Waiting
from autolab.harness.throttle import Throttle
from autolab.harness.upstream import Patience
from autolab.harness.usage import Allowance, Usage
from autolab.ledger.records import AgentSession, Proposal, Status, Trial
from autolab.pack.roles import Role
from autolab.program.edits import edits_between
from autolab.program.hashing import Files
from autolab.program.workspace import WorkspaceRefused, create_workspace, read_workspace

HOPELESS = (401, 402, 403, 404)  # what a model server says when no later try will do better
FAILURES_IN_A_ROW = 3  # trials for each worker without a word from the model, before a person is asked
SESSIONS_A_TRIAL = 3

Found = TypeVar("Found")


@dataclass(frozen=True)
class SessionLimits:
    """What one session may take of time and of the model."""

    waiting: Waiting = field(default_factory=Waiting)
    allowance: Allowance = field(default_factory=Allowance)
    patience: Patience = field(default_factory=Patience)
    outage_seconds: float = 10.0  # before the next try of a session that an outage ended; then twice as long


@dataclass
class _Session:
    """One agent at work on one ticket."""

    ticket: Ticket
    role: Role
    seat: Seat
    usage: Usage = field(default_factory=Usage)
    began: float = field(default_factory=time.monotonic)


class OpenCodeHarness:
    """`workers` agents at a time. Use it as an asynchronous context manager around the campaign."""

    name = "opencode"

    def __init__(
        self,
        campaign: str,
        model: Model,
        opencode: OpenCode,
        state: Path,
        protected: Files,
        briefing: Briefing,
        *,
        workers: int,
        slots: int,
        limits: SessionLimits,
    ) -> None:
        self.campaign, self.model, self.briefing, self.limits = campaign, model, briefing, limits
        self.ahead: int | None = workers + 2 * slots
        self._opencode, self._state, self._protected, self._workers = opencode, state, protected, workers
        self._endpoint: Endpoint | None = None
        self._free: asyncio.Queue[Seat] = asyncio.Queue()
        self._starting = asyncio.Semaphore(max(1, (os.cpu_count() or 1) // 2))
        self._seats: list[Seat] = []
        self._failed_starts = 0  # of servers, in a row
        self._silent_model = 0  # sessions in a row that the model did not answer at all
        self._at_work: dict[Path, _Session] = {}

    async def __aenter__(self) -> OpenCodeHarness:
        seats = self._state / "seats"
        await asyncio.to_thread(reap_orphans, seats)  # of a lab that was killed
        http = ClientSession(connector=TCPConnector(limit=0))
        self._endpoint = Endpoint(
            self.model,
            http,
            self.model.tools,
            lambda text: self._heard(None, "model", text),
            Throttle(self.model.limits),
        )
        for index in range(self._workers):
            self._seats.append(self._seat(seats / str(index), self._endpoint))
            self._free.put_nowait(self._seats[-1])
        return self

    def _seat(self, folder: Path, endpoint: Endpoint) -> Seat:
        gateway = Gateway(endpoint, self.limits.allowance, self.limits.patience)
        settings = configuration(self.model, self.briefing.roles.values(), self.briefing.task.editable)
        return Seat(
            folder,
            self._opencode,
            gateway,
            settings,
            [self._state / "repository.git"],
            lambda kind, text: self._heard(folder, kind, text),
        )

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(seat.stop() for seat in self._seats), return_exceptions=True)
        if self._endpoint is not None:
            await self._endpoint.http.close()

    # ask and tell ---------------------------------------------------------------------------------

    def tell_proposed(self, ticket_number: int, proposal: Proposal, parent_program: str) -> None:
        """Nothing to remember: every session reads the ledger."""

    def tell(self, trial: Trial, noise_sd: float) -> None:
        """Nothing to remember."""

    async def propose(self, ticket: Ticket) -> Proposal:
        """What an agent did to a workspace of the ticket's parent, in one session or in several."""
        return await self._in_sessions(ticket, self._converse)

    async def consult(self, ticket: Ticket) -> str:
        """The last words of a session; what it does to its workspace goes no further."""
        try:
            return await self._in_sessions(ticket, self._words)
        except NoProposal:
            return ""

    async def _in_sessions(
        self, ticket: Ticket, converse: Callable[[Seat, _Session, str], Awaitable[Found]]
    ) -> Found:
        """One session, and another one if it ended by what was not the agent's doing: its server died, or the model's
        server was down for longer than the gateway waits."""
        seat = await self._free.get()
        session = _Session(ticket, self.briefing.role(ticket), seat)
        self._at_work[seat.folder] = session
        try:
            for attempt in range(SESSIONS_A_TRIAL):
                try:
                    return await self._work(seat, session, converse)
                except SessionEnded as ended:
                    down = ended.how == "model_error" and session.usage.failure_status not in HOPELESS
                    last = SESSIONS_A_TRIAL - 1 if down else 1 if ended.how in ("died", "silent") else 0
                    if attempt >= last:
                        raise self._nothing(session, ended) from None
                    if down:
                        await asyncio.sleep(self.limits.outage_seconds * 2**attempt)
            raise AssertionError("the last attempt returns or raises")
        finally:
            self._at_work.pop(seat.folder, None)
            self._free.put_nowait(seat)

    # one session ----------------------------------------------------------------------------------

    async def _work(
        self, seat: Seat, session: _Session, converse: Callable[[Seat, _Session, str], Awaitable[Found]]
    ) -> Found:
        """From a fresh workspace to what comes of it. Raises SessionEnded or NoProposal."""
        outcome, note = "died", "by an error of the lab's"
        session.began = time.monotonic()
        session.usage = seat.gateway.begin()
        try:
            name = await self._sit_down(seat, session)
            found = await converse(seat, session, name)
            outcome, note = "answered", ""
            self._silent_model = 0
            return found
        except SessionEnded as ended:
            outcome, note = ended.how, str(ended)
            raise
        except NoProposal as nothing:
            outcome, note = "no_answer", str(nothing)
            self._silent_model = 0
            raise
        except asyncio.CancelledError:
            outcome, note = "cancelled", ""
            raise
        finally:
            self._record(session, outcome, note)

    async def _sit_down(self, seat: Seat, session: _Session) -> str:
        """A fresh workspace, a server, a session in it: its id. Raises SessionEnded; LabError if no start succeeds."""
        ticket = session.ticket
        try:
            if not seat.warm:
                await seat.stop()  # before its workspace is made anew
            where = (seat.workspace.name, ticket.parent_files, self._protected, seat.room)
            await asyncio.to_thread(create_workspace, self._state, *where)
            # One start after another brings the first proposal sooner than all of them at once.
            async with contextlib.nullcontext() if seat.warm else self._starting:
                await seat.ensure()
        except (LabError, OSError) as error:
            seat.broken = True
            self._failed_starts += 1
            if self._failed_starts >= FAILURES_IN_A_ROW:
                raise
            raise SessionEnded("died", str(error)) from None
        self._failed_starts = 0
        session.usage, session.began = seat.gateway.begin(), time.monotonic()
        return await seat.open(session.role.name)

    async def _converse(self, seat: Seat, session: _Session, name: str) -> Proposal:
        """Ask, and let the agent mend once what the lab would refuse."""
        tools = self._tools
        refusal = await self._turn(seat, session, name, self.briefing.trial(session.ticket, can_edit=tools))
        if tools and not self._tools and not isinstance(refusal, Proposal):
            refusal = await self._turn(
                seat, session, name, self.briefing.trial(session.ticket, can_edit=False)
            )
        if not isinstance(refusal, Proposal) and not session.usage.refused:
            reason = self.briefing.feedback(refusal[1], can_edit=self._tools)
            refusal = await self._turn(seat, session, name, reason)
        await seat.close(name)
        if isinstance(refusal, Proposal):
            return dataclasses.replace(refusal, tokens=session.usage.tokens, cost_usd=session.usage.cost_usd)
        raise NoProposal(*refusal, self._spent(session))

    async def _words(self, seat: Seat, session: _Session, name: str) -> str:
        said = await self._said(seat, session, name, self.briefing.consult(session.ticket))
        await seat.close(name)
        if session.usage.refused:
            raise NoProposal(Status.PROPOSAL_FAILED, _endless(session), self._spent(session))
        return said

    async def _turn(
        self, seat: Seat, session: _Session, name: str, prompt: str
    ) -> Proposal | tuple[Status, str]:
        """Send one message; the proposal that stands afterwards, or the label and the reason why there is none."""
        said = await self._said(seat, session, name, prompt)
        if session.usage.refused:
            return Status.PROPOSAL_FAILED, _endless(session)
        return self._read(seat, session.ticket, said)

    async def _said(self, seat: Seat, session: _Session, name: str, prompt: str) -> str:
        """Send one message; the agent's last words, or nothing if it met its allowance. Raises SessionEnded."""
        left = self.limits.waiting.wall - (time.monotonic() - session.began)
        waiting = dataclasses.replace(self.limits.waiting, wall=max(left, 1.0))
        try:
            said = await seat.ask(name, session.role.name, prompt, waiting)
        except SessionEnded as ended:
            if ended.how == "model_error" and session.usage.refused:
                return ""
            raise
        if session.usage.failure and not session.usage.refused:
            raise SessionEnded("model_error", session.usage.failure)
        return said

    def _read(self, seat: Seat, ticket: Ticket, said: str) -> Proposal | tuple[Status, str]:
        """What the workspace and the last words amount to."""
        limit = 1024 * self.briefing.task.budget.program_kb
        try:
            files = read_workspace(seat.workspace, self.briefing.task.editable, self._protected, limit)
        except WorkspaceRefused as reason:
            return (Status.TAMPERED if reason.tampered else Status.PROPOSAL_FAILED), str(reason)
        try:
            proposal = parse_answer(said, ticket.parent_files)
        except AnswerRefused as refused:
            return Status.PROPOSAL_FAILED, str(refused)
        edits = edits_between(ticket.parent_files, files) or proposal.edits
        return self.briefing.accepted(ticket, dataclasses.replace(proposal, edits=edits))

    # what is said, counted, and recorded ----------------------------------------------------------

    @property
    def _tools(self) -> bool:
        return self._endpoint.tools if self._endpoint is not None else self.model.tools

    def _nothing(self, session: _Session, ended: SessionEnded) -> Exception:
        """What becomes of a trial whose session ended before it had a proposal."""
        failed = ended.how == "model_error"
        self._silent_model = self._silent_model + 1 if failed else 0
        answered = self._endpoint is not None and self._endpoint.answered
        if failed and (not answered or self._silent_model >= FAILURES_IN_A_ROW * self._workers):
            return LabError(
                f"the model gives no answer: {ended}",
                where=f"{self.model.name} at {self.model.base_url}",
                mend="check its server, its name and the key; `autolab run` then goes on with the same trials",
            )
        label = Status.PROPOSAL_FAILED if ended.how == "timeout" else Status.INFRA_ERROR
        return NoProposal(label, f"the agent's session ended: {ended.how}: {ended}", self._spent(session))

    def _spent(self, session: _Session) -> Proposal:
        usage = session.usage
        return Proposal(
            "", (), surface=session.ticket.surface or "", tokens=usage.tokens, cost_usd=usage.cost_usd
        )

    def _record(self, session: _Session, outcome: str, note: str) -> None:
        usage = session.usage
        self.briefing.desk.record(
            AgentSession(
                campaign=self.campaign,
                trial=session.ticket.number,
                role=session.ticket.role,
                agent=self.name,
                model=self.model.name,
                tokens_in=usage.tokens_in,
                tokens_out=usage.tokens_out,
                requests=usage.requests,
                retries=usage.retries,
                cost_usd=usage.cost_usd,
                seconds=time.monotonic() - session.began,
                outcome=outcome,
                note=note[:300],
                at=time.time(),
            )
        )
        self._heard(session.seat.folder, "ended", outcome + (f": {note}" if note else ""))

    def _heard(self, folder: Path | None, kind: str, text: str) -> None:
        session = self._at_work.get(folder) if folder is not None else None
        event = AgentEvent(
            session.ticket.trial if session else "", session.role.name if session else "", kind, text
        )
        self.briefing.desk.tell(event)


def _endless(session: _Session) -> str:
    return f"endless: no proposal within {session.usage.refused}"

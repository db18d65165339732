"""A trial from an agent's side: open one with a workspace of its own, check it, submit it, or give it up.

Every verb is one short transaction on the ledger, so any number of agents in any number of processes work side
by side, and one that dies leaves nothing but an open trial whose lease runs out.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autolab.campaign.lock import holder
from autolab.errors import LabError
from autolab.harness import Ticket
from autolab.lab import STATE_DIRECTORY, Lab
from autolab.ledger.agents import (
    add_workspace,
    ideas,
    newest_ordinal,
    open_workspaces,
    renew_lease,
    set_idea,
    take_idea,
    workspace,
    workspaces_of_session,
)
from autolab.ledger.claims import renew_claim
from autolab.ledger.records import (
    PROMOTED,
    IdeaState,
    Proposal,
    Status,
    Trial,
    TrialState,
    Verdict,
    Workspace,
)
from autolab.program.edits import EditRefused, apply_edits, edits_between
from autolab.program.hashing import Files
from autolab.program.workspace import (
    WORKSPACES,
    WorkspaceRefused,
    create_workspace,
    read_workspace,
    remove_workspace,
    set_owner,
)
from autolab.search.novelty import claim_hypothesis

LEASE_SECONDS = 2 * 3600.0
OPEN_AT_ONCE = 256  # workspaces of one campaign; more are agents that open and never submit
LOOK_BACK = 1000  # finished trials among which an earlier repair is looked for
NOT_THE_PROGRAM = (
    Status.TAMPERED,
    Status.ILLEGAL,
    Status.INFRA_ERROR,
    Status.ABORTED,
)  # failures that no repair of the code mends


@dataclass(frozen=True)
class Check:
    """What a workspace would be as a proposal: the edits, and why it would be refused, if it would."""

    proposal: Proposal | None
    refusal: tuple[Status, str] | None
    files: Files | None


def open_for_agent(
    lab: Lab,
    *,
    role: str,
    agent: str,
    hypothesis: str,
    surface: str = "",
    session: str = "",
    idea: int | None = None,
    start_from: Trial | None = None,
) -> tuple[Trial, Path]:
    """Open a trial with a workspace that holds the parent program. `start_from` is a crashed trial to repair.

    Raises LabError if the campaign takes no more trials, if the session has an open one, if the idea is taken, or
    if too many are open.
    """
    if not hypothesis.strip():
        raise LabError("the hypothesis is empty", mend='--hypothesis "what the change should do, and why"')
    check_surface(lab, surface)
    abandon_expired(lab)
    with lab.ledger.transaction():
        _check_room(lab, session)
        if start_from is not None:
            _check_repairable(lab, start_from)
        if idea is not None:
            taken = take_idea(lab.ledger, idea)
            surface = surface or taken.surface
        ticket = lab.open_trial(role=role, agent=agent, surface=surface)
        if idea is not None:
            set_idea(lab.ledger, idea, IdeaState.TAKEN, trial=ticket.number)
        trial = lab.ledger.trial(ticket.number)
        path = _path(lab, trial)
        now = time.time()
        add_workspace(lab.ledger, Workspace(trial.number, str(path), session, idea, now, now + LEASE_SECONDS))
        move = _repair_of(start_from) if start_from else ""
        lab.ledger.note_hypothesis(trial.number, Proposal(hypothesis, edits=(), surface=surface, move=move))
        if start_from is None and lab.gates(role):
            _claim(lab, trial, hypothesis, now + LEASE_SECONDS)
    try:
        create_workspace(lab.state, trial.id, _start(lab, ticket, start_from), lab.protected)
        set_owner(lab.state, trial.id, session)
    except (LabError, OSError) as problem:
        _end(lab, trial, f"abandoned: no workspace could be made: {problem}")
        raise
    return lab.ledger.trial(trial.number), path


def _claim(lab: Lab, trial: Trial, hypothesis: str, until: float) -> None:
    """Claim a hypothesis for a trial that is being opened. Raises LabError if another one is open or queued for it."""
    repeated = claim_hypothesis(lab.ledger, trial, hypothesis, until)
    if repeated is not None:
        raise LabError(
            f"the hypothesis {repeated.text}",
            mend="take another one: `scripts/lineage.py slice` shows what is under way and which ideas are open",
        )


def check_surface(lab: Lab, surface: str) -> None:
    """Raises LabError if the task names its surfaces and this is none of them; none at all is fine."""
    if surface and lab.task.surfaces and surface not in lab.task.surfaces:
        raise LabError(f"there is no surface {surface!r}", mend="one of: " + ", ".join(lab.task.surfaces))


def trials_left(lab: Lab) -> int | None:
    """How many trials may still be opened by the limit that the process at work was given; None: no limit."""
    serving = lab.ledger.campaign(lab.campaign.id).config.get("serving") or {}
    if serving.get("trials") is None or str(serving.get("process")) != holder(lab.root):
        return None
    return max(0, int(serving["trials"]) - newest_ordinal(lab.ledger, lab.campaign.id))


def _check_room(lab: Lab, session: str) -> None:
    """Raises LabError if one more trial may not be opened now."""
    state = lab.ledger.campaign(lab.campaign.id).state
    if state in ("stopping", "cancelling", "stopped", "finished"):
        raise LabError(
            f"the campaign is {state} and takes no more trials",
            mend="report what was found; `scripts/lab.py start` goes on with it, if a person wants that",
        )
    if trials_left(lab) == 0:
        raise LabError("all trials that this campaign may have are opened", mend="wait for them, then report")
    mine = open_workspaces(lab.ledger, lab.campaign.id, session=session) if session else []
    if mine:
        raise LabError(
            f"you have an open trial: {lab.ledger.trial_id(mine[0].trial)}",
            mend="`scripts/trial.py submit` it, or `scripts/trial.py abandon --why …`, first",
        )
    if len(open_workspaces(lab.ledger, lab.campaign.id)) >= OPEN_AT_ONCE:
        raise LabError(f"{OPEN_AT_ONCE} trials are open already", mend="submit or abandon some first")


def _check_repairable(lab: Lab, broken: Trial) -> None:
    """Raises LabError unless a trial failed by its own code and nobody has tried to mend it."""
    if broken.state is not TrialState.DONE or broken.status is Status.OK:
        raise LabError(
            f"trial {broken.id} did not fail: it is {broken.status or broken.state}",
            mend="open a new trial for another change",
        )
    if broken.program is None or broken.status is Status.DUPLICATE or broken.status in NOT_THE_PROGRAM:
        raise LabError(f"trial {broken.id} is {broken.status}: there is nothing to repair in its code",
                       mend="open a new trial")  # fmt: skip
    known = [*lab.ledger.undone(broken.campaign), *lab.ledger.trials(broken.campaign, last=LOOK_BACK)]
    for other in known:
        if other.proposal is not None and other.proposal.move == _repair_of(broken):
            if other.status is Status.PROPOSAL_FAILED:
                continue  # given up before it was tried
            raise LabError(
                f"trial {other.id} is a repair of {broken.id} already", mend="one repair each: leave it"
            )


def _repair_of(broken: Trial) -> str:
    return f"repair {broken.id}"


def _start(lab: Lab, ticket: Ticket, broken: Trial | None) -> Files:
    """What a workspace begins with: the parent; for a repair the edit that failed, on today's master if it fits."""
    if broken is None or broken.program is None:
        return ticket.parent_files
    if broken.proposal is not None and broken.parent_program != ticket.parent_program:
        try:
            return apply_edits(ticket.parent_files, broken.proposal.edits, lab.task.protected)
        except EditRefused:
            pass  # the master changed in the same place: begin with the program as it failed
    return lab.ledger.program(broken.program)


def check(lab: Lab, trial: Trial, **told: object) -> Check:
    """What the workspace of an open trial would be as a proposal; spends nothing and changes nothing.

    `told` replaces fields of the proposal (hypothesis, expected_effect, rationale, sources). Raises LabError if the
    trial has no workspace, or is not open any more.
    """
    place = _place(lab, trial)
    ticket = lab.ticket(trial)
    limit = 1024 * lab.task.budget.program_kb
    try:
        files = read_workspace(place, lab.task.editable, lab.protected, limit)
    except WorkspaceRefused as reason:
        return Check(
            None, (Status.TAMPERED if reason.tampered else Status.PROPOSAL_FAILED, str(reason)), None
        )
    edits = edits_between(ticket.parent_files, files)
    known = trial.proposal or Proposal(hypothesis="", edits=(), surface=trial.surface)
    news: dict[str, Any] = {name: value for name, value in told.items() if value}
    proposal = dataclasses.replace(known, edits=edits, **news)
    if not edits:
        return Check(proposal, (Status.PROPOSAL_FAILED, "nothing was changed in the workspace"), files)
    return Check(proposal, lab.objection(ticket, proposal), files)


def submit(lab: Lab, trial: Trial, *, session: str = "", **told: object) -> Trial:
    """Hand in the workspace of an open trial; it comes back queued, or done with the reason.

    What can be mended (an edit that does not apply, a syntax error, a changed protected file) raises LabError and
    leaves the trial open, so that the agent can mend it; a duplicate is final. `told` as in `check`.
    """
    _check_owner(lab, trial, session)
    found = check(lab, trial, **told)
    if found.refusal is not None and found.refusal[0] is not Status.DUPLICATE:
        heard_from(lab, trial)
        raise LabError(found.refusal[1], where=trial.id, mend="edit it in the workspace and submit again")
    assert found.proposal is not None
    with lab.ledger.transaction():  # whoever dies in here has left the trial open
        _check_open(lab.ledger.trial(trial.number))
        done = lab.submit(lab.ticket(trial), found.proposal)
        if done.state is TrialState.DONE:
            settle_idea(lab, done)
    remove_workspace(lab.state, _path(lab, trial))
    return done


def abandon(lab: Lab, trial: Trial, why: str, *, session: str = "") -> Trial:
    """Give an open trial up. Raises LabError if it is not open, or another session's."""
    _check_owner(lab, trial, session)
    _check_workspace(lab, trial)
    return _end(lab, trial, f"abandoned: {' '.join(why.split())[:200]}")


def heard_from(lab: Lab, trial: Trial) -> None:
    """The agent of an open trial is still at work: its lease begins anew."""
    until = time.time() + LEASE_SECONDS
    with lab.ledger.transaction():
        renew_lease(lab.ledger, trial.number, until)
        renew_claim(lab.ledger, trial.number, until)


def abandon_expired(lab: Lab, *, now: float | None = None) -> list[Trial]:
    """End the open trials whose agents have not been heard of for longer than their lease."""
    ended = []
    for place in open_workspaces(lab.ledger, lab.campaign.id):
        if place.lease_until < (now or time.time()):
            try:
                ended.append(_end(lab, lab.ledger.trial(place.trial), "abandoned: its agent went away"))
            except LabError:
                continue  # submitted at this very moment
    return ended


def _end(lab: Lab, trial: Trial, note: str) -> Trial:
    """End a trial that is still open, without a measurement. Raises LabError if it is not open any more."""
    with lab.ledger.transaction():
        _check_open(lab.ledger.trial(trial.number))
        done = lab.refuse(trial.number, Status.PROPOSAL_FAILED, note)
        settle_idea(lab, done)
    remove_workspace(lab.state, _path(lab, trial))
    return done


def settle_ideas(lab: Lab) -> None:
    """Say of every idea whose trial has ended, whoever ended it, what came of it."""
    for taken in ideas(lab.ledger, lab.campaign.id, IdeaState.TAKEN):
        trial = lab.ledger.trial(taken.trial) if taken.trial else None
        if trial is not None and trial.state is TrialState.DONE:
            settle_idea(lab, trial)


def settle_idea(lab: Lab, trial: Trial) -> None:
    """Say of the idea behind a finished trial what came of it; an idea that was never measured is open again."""
    place = workspace(lab.ledger, trial.number)
    if place is None or place.idea is None:
        return
    if trial.status is Status.DUPLICATE and not _same_code(lab, trial):
        state = IdeaState.OPEN  # refused for its likeness to another one, which may come to nothing
    elif trial.status is not Status.OK and trial.status is not Status.DUPLICATE:
        measured = trial.program is not None and trial.status is not Status.INFRA_ERROR
        state = IdeaState.TRIED if measured else IdeaState.OPEN
    elif trial.verdict in PROMOTED:
        state = IdeaState.ADOPTED
    elif trial.verdict is Verdict.WORSE:
        state = IdeaState.REFUTED
    else:
        state = IdeaState.TRIED
    outcome = str(trial.verdict or trial.status)
    note = f"not measured yet: {outcome}" if state is IdeaState.OPEN else outcome
    set_idea(lab.ledger, place.idea, state, trial=trial.number, note=note)


def _same_code(lab: Lab, trial: Trial) -> bool:
    """Whether a duplicate is the program that it repeats."""
    other = None if trial.repeats is None else lab.ledger.trial(trial.repeats).program
    if trial.program is None or other is None:
        return False
    return lab.ledger.meaning(trial.program) == lab.ledger.meaning(other)


def sweep_workspaces(lab: Lab) -> None:
    """Remove what agents left behind that were killed between submitting and tidying up."""
    folder = lab.state / WORKSPACES
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            trial = lab.ledger.find_trial(path.name)
        except LabError:
            continue  # not a trial's
        if trial.id == path.name and trial.state is not TrialState.OPEN:
            remove_workspace(lab.state, path)


def find_open(lab: Lab, *, session: str, directory: Path) -> Trial:
    """The open trial that a session or a directory is about. Raises LabError if there is none, or several."""
    inside = directory.resolve()
    places = open_workspaces(lab.ledger, lab.campaign.id)
    here = [place for place in places if inside.is_relative_to(Path(place.path))]
    mine = here or [place for place in places if session and place.session == session]
    if len(mine) == 1:
        return lab.ledger.trial(mine[0].trial)
    if len(mine) > 1:
        names = ", ".join(lab.ledger.trial_id(place.trial) for place in mine)
        raise LabError(f"you have several open trials: {names}", mend="name one of them")
    known = workspaces_of_session(lab.ledger, session) if session else []
    if known:
        last = lab.ledger.trial(known[-1].trial)
        raise LabError(f"you have no open trial; your last one, {last.id}, is {last.status or last.state}",
                       mend="`scripts/trial.py open` opens another one")  # fmt: skip
    raise LabError("you have no open trial", mend="`scripts/trial.py open --hypothesis … --surface …` first")


def trials_of_session(lab: Lab, session: str, last: int = 10) -> list[Trial]:
    """The newest trials that a session opened in this campaign, oldest first."""
    found = [lab.ledger.trial(place.trial) for place in workspaces_of_session(lab.ledger, session)]
    return [trial for trial in found if trial.campaign == lab.campaign.id][-last:]


def workspace_at(directory: Path) -> tuple[Path, str] | None:
    """(lab's root, trial's id) of a directory at or in a workspace, by its path alone; it may be gone by now."""
    parts = directory.parts
    for place in range(len(parts) - 2, 0, -1):
        if parts[place - 1 : place + 1] == (STATE_DIRECTORY, WORKSPACES):
            return Path(*parts[: place - 1]), parts[place + 1]
    return None


def _place(lab: Lab, trial: Trial) -> Path:
    _check_workspace(lab, trial)
    path = _path(lab, trial)
    if not path.is_dir():  # killed in the middle of opening it
        create_workspace(lab.state, trial.id, lab.ticket(trial).parent_files, lab.protected)
    return path


def _check_owner(lab: Lab, trial: Trial, session: str) -> None:
    place = workspace(lab.ledger, trial.number)
    if place is not None and session and place.session != session:
        raise LabError(f"trial {trial.id} belongs to another agent", mend="name the trial that you opened")


def _check_open(trial: Trial) -> None:
    if trial.state is not TrialState.OPEN:
        raise LabError(
            f"trial {trial.id} is {trial.status or trial.state}, not open", mend="open a new trial"
        )


def _check_workspace(lab: Lab, trial: Trial) -> None:
    _check_open(lab.ledger.trial(trial.number))
    if workspace(lab.ledger, trial.number) is None:
        raise LabError(
            f"trial {trial.id} has no workspace: it is not an agent's", mend="open a trial of your own"
        )


def _path(lab: Lab, trial: Trial) -> Path:
    return lab.state / WORKSPACES / trial.id

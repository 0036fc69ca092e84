"""When the configuration changes, and what its leader owes to the members (section 6, thesis 4).

This module exists so that the conditions under which membership may change, and everything a leader
does about it by itself, stand on one screen. The arithmetic of changes is ``membership``'s.

The rules, and what breaks without them:

* A configuration is in force from the moment it is in the log (section 6).
* One change at a time: none before the last one is committed and applied, nor inside a joint one.
* None before the leader has committed an entry of its own term: an older leader's change may be in
  force elsewhere, and two single changes that do not know of each other make disjoint majorities
  (Ongaro, raft-dev, 2015).
* A leader outside the new configuration leads until it is committed, counting only the others, then
  hands over and steps down (section 6).

By itself a leader leaves a joint change, makes voters of learners that caught up, hands over when
it is removed, records the disks behind the voters, and makes a learner of a voter that came back
with another disk. It must never look at the contents of commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mcpcore.errors import (
    ChangePending,
    ChangeRefused,
    LearnerBehind,
    NotLeader,
    TransferUnderWay,
)
from mcpcore.raft import membership, tracking, transfer
from mcpcore.raft.catch_up import ROUNDS
from mcpcore.raft.election import become_follower
from mcpcore.raft.identity import incarnation_of, is_stranger
from mcpcore.raft.log import ENTRY_OVERHEAD_BYTES
from mcpcore.raft.membership import Change, Demote, Promote, Update
from mcpcore.raft.outcome import NEVER, MembershipNoticed
from mcpcore.raft.preference import Standing, better_placed
from mcpcore.raft.quorum import VoteResult, quorum_value, vote_result
from mcpcore.raft.state import RaftState
from mcpcore.raft.types import Configuration, Entry, EntryKind

# --- asked for ------------------------------------------------------------------------------------


def propose(
    state: RaftState,
    changes: Sequence[Change],
    *,
    joint: bool | None = None,
    auto_leave: bool = True,
    force: bool = False,
) -> Entry:
    """Begin a change. See ``Raft.propose_change``."""
    _refuse_unless_free(state)
    before = state.configuration
    if before.joint:
        raise ChangePending(state.group, "a joint change is under way", "Leave it first")
    try:
        if joint is None:
            joint = membership.voters_touched(before, changes) > 1
        if joint:
            after = membership.enter_joint(before, changes, auto_leave)
        else:
            after = membership.simple(before, changes)
    except ChangeRefused as refusal:
        raise ChangeRefused(state.group, refusal.reason, refusal.remedy) from None
    strangers = [peer for peer, progress in state.progress.items() if progress.stranger]
    if vote_result(after, dict.fromkeys(strangers, False)) is VoteResult.LOST:
        raise ChangeRefused(
            state.group,
            f"without {', '.join(sorted(strangers))}, who came back with another disk, the voters "
            f"{', '.join(sorted(after.voters))} would have no majority",
            "Wait until the leader has made learners of them",
        )
    for learner in sorted(after.voters & before.learners):
        if is_stranger(state, learner):
            raise ChangePending(state.group, f"the disk of {learner} is not the one admitted")
        if not force and not is_caught_up(state, learner):
            progress = state.progress[learner]
            rounds = progress.catch_up.rounds if progress.catch_up else 0
            behind = state.log.last_index - progress.match
            raise LearnerBehind(state.group, learner, behind, rounds)
    return _append(state, after)


def leave_joint(state: RaftState) -> Entry:
    """Leave a joint change. See ``Raft.leave_joint``."""
    _refuse_unless_free(state)
    try:
        after = membership.leave_joint(state.configuration)
    except ChangeRefused as refusal:
        raise ChangeRefused(state.group, refusal.reason, refusal.remedy) from None
    return _append(state, after)


def is_caught_up(state: RaftState, learner: str) -> bool:
    """Whether a learner, as a voter, would hold nobody up (thesis section 4.2.1)."""
    if learner == state.id:
        return True  # a leader that has just been demoted
    progress, timeout_ns = state.progress.get(learner), state.settings.election_timeout_ns
    return (
        progress is not None
        and progress.catch_up is not None
        and not progress.probing
        and state.now_ns - progress.contact_ns < timeout_ns
        and progress.catch_up.done(timeout_ns, state.now_ns)
    )


def _refuse_unless_free(state: RaftState) -> None:
    if not state.is_leader:
        raise NotLeader(state.group, state.leader or None)
    if state.transfer_target:
        raise TransferUnderWay(state.group, state.transfer_target)
    why = _why_not_now(state)
    if why:
        raise ChangePending(state.group, why, "Try again in a moment")


def _why_not_now(state: RaftState) -> str:
    """Which change or entry must be settled before another change may begin; empty if none."""
    index = state.configurations[-1][0]
    if state.commit < state.term_start:
        return "this leader has not yet committed an entry of its own term"
    if index > state.commit:
        return f"the change at index {index} is not yet committed"
    if index > state.handed:
        return f"the change at index {index} is not yet applied"
    return ""


def _append(state: RaftState, after: Configuration) -> Entry:
    """Put a configuration in force. It is never refused for want of room: the group may be waiting
    for this very change to make room again.
    """
    before, after = state.configuration, _with_known_disks(state, after)
    data = after.encode()
    entry = Entry(state.term, state.log.last_index + 1, EntryKind.CONFIG, data)
    state.uncommitted_bytes += len(data) + ENTRY_OVERHEAD_BYTES
    state.log.append((entry,))
    state.note_configuration(entry)
    tracking.follow_change(state, before, entry.index)
    return entry


def _with_known_disks(state: RaftState, configuration: Configuration) -> Configuration:
    """The configuration with the disks of members that have none recorded, where we know them.

    A voter's disk is the first one we met: a later one may have forgotten. Whoever did not vote so
    far has promised nothing, and is admitted with the disk it has now.
    """
    about, before = dict(configuration.about), state.configuration
    for name in configuration.members:
        member, found = configuration.member(name), incarnation_of(state, name)
        forgot = before.votes(name) and is_stranger(state, name)
        if found and not member.incarnation and not forgot:
            about[name] = member._replace(incarnation=found)
    return replace(configuration, about=about)


# --- by itself ------------------------------------------------------------------------------------


def look_around(state: RaftState) -> None:
    """Time passed: measure the learners, look for a better leader, and see what there is to do."""
    for progress in state.progress.values():
        if progress.catch_up is not None:
            progress.catch_up.observe(progress.match, state.log.last_index, state.now_ns)
    state.chores = True
    if state.configurations[-1][0] <= state.handed and not state.transfer_target:
        _prefer(state)


def _prefer(state: RaftState) -> None:
    """Hand over to a member that has been better placed for a while."""
    configuration, preference = state.configuration, state.preference
    if not configuration.about and not preference.round_trips_ns:
        return  # nothing is known that could make anybody better
    if not configuration.votes(state.id) or configuration.joint or state.commit < state.term_start:
        return
    heir = better_placed(
        _standing(state, state.id),
        {voter: _standing(state, voter) for voter in configuration.voters - {state.id}},
    )
    if preference.consider(heir, state.now_ns, state.settings.prefer_after_ns):
        transfer.start(state, heir)
        _notice(state, heir, "it is better placed to lead, and leadership is offered to it")


def _standing(state: RaftState, voter: str) -> Standing:
    priority = state.configuration.member(voter).priority
    told_ns = state.preference.round_trips_ns.get(voter, 0)
    progress = state.progress.get(voter)
    if voter == state.id:
        return Standing(priority, told_ns or _round_trip_ns(state), fit=True)
    fit = (
        progress is not None
        and not progress.stranger
        and not progress.probing
        and progress.match >= state.commit
        and state.now_ns - progress.contact_ns < state.settings.election_timeout_ns
    )
    return Standing(priority, told_ns, fit)


def _round_trip_ns(state: RaftState) -> int:
    """From us to a quorum and back: the time in which a majority answers. 0 if unknown."""
    measured = {peer: progress.round_trip_ns for peer, progress in state.progress.items()}

    def nearness(voter: str) -> int:
        round_trip_ns = 0 if voter == state.id else measured.get(voter, 0) or NEVER
        return NEVER - round_trip_ns

    value = quorum_value(state.configuration, nearness)
    return NEVER - value if value > 0 else 0


def tend(state: RaftState) -> None:
    """Do the first thing that is due, if any. Only a leader is asked."""
    state.chores = False
    tracking.let_go(state)
    _tell_of_strangers(state)
    index, configuration = state.configurations[-1]
    if index > state.handed or state.transfer_target or state.commit < state.term_start:
        return
    if not configuration.votes(state.id):
        _retire(state)
    elif configuration.joint:
        if configuration.auto_leave:
            _append(state, membership.leave_joint(configuration))
    elif not (_readmit_strangers(state) or _promote_learners(state)):
        _record_disks(state)


def _retire(state: RaftState) -> None:
    """We are no voter any more, and everybody could know: hand over gently, once, then go."""
    heirs = [voter for voter in state.configuration.voters if not is_stranger(state, voter)]
    if state.retiring or not heirs:
        become_follower(state, state.term, "", "this member is no voter any more")
        return
    state.retiring = True

    def fitness(voter: str) -> tuple[bool, int, int, str]:
        match = state.progress[voter].match
        return match >= state.commit, state.configuration.member(voter).priority, match, voter

    transfer.start(state, max(heirs, key=fitness))


def _promote_learners(state: RaftState) -> bool:
    """Make a voter of a learner that is meant to be one and has caught up; one at a time."""
    configuration = state.configuration
    for learner in sorted(configuration.learners):
        progress = state.progress.get(learner)
        if not configuration.member(learner).promote or progress is None or progress.stranger:
            continue
        if is_caught_up(state, learner):
            return _attempt(state, learner, [Promote(learner)], "it has caught up and votes now")
        catch_up = progress.catch_up
        if catch_up is not None and catch_up.rounds >= ROUNDS and not catch_up.reported:
            catch_up.reported = True
            took_s = catch_up.last_round_ns / 1e9
            _notice(
                state,
                learner,
                f"it has not caught up in {catch_up.rounds} rounds, the last of which took "
                f"{took_s:.1f} s; it stays a learner until it is faster",
            )
    return False


def _readmit_strangers(state: RaftState) -> bool:
    """Make a learner, with its new disk, of a member that came back with another one.

    Why this is safe although a vote may be forgotten. Let ``n`` voters, with the forgetful ``w``,
    be the old configuration, and let this leader of term T commit the new one, without ``w``, with
    a majority of the other ``n - 1``. Suppose somebody else was or is elected in a later term by
    the old configuration, with the vote that ``w`` forgot. It needs ``n // 2`` more votes among the
    same ``n - 1``, and ``n // 2 + (n - 1) // 2 + 1 = n``: some voter v did both. If v voted first,
    it was in a later term and refused the leader's entry. If it stored the entry first, it voted
    only for a log that holds it too, whose owner counts without ``w``. So once the new
    configuration is committed no election rests on what ``w`` forgot, and ``w`` may be promoted
    again: its new disk holds the log and has broken no promise. What ``w`` had stored alone makes
    no difference: this leader holds every entry that was committed with its help.
    """
    configuration = state.configuration
    for peer, progress in state.progress.items():
        if not progress.stranger or peer not in configuration.members:
            continue
        known, votes = configuration.member(peer), configuration.votes(peer)
        # A voter that forgot comes back when a person says so; a learner goes on as it was meant.
        member = known._replace(
            incarnation=incarnation_of(state, peer), promote=known.promote and not votes
        )
        changes: list[Change] = [Demote(peer)] if votes else []
        changes.append(Update(peer, member))
        if _attempt(state, peer, changes, f"it is a learner now, with the disk {member[2]}"):
            return True
    return False


def _record_disks(state: RaftState) -> None:
    """Once the disk of every voter is known, write them down: a name is one disk from then on."""
    if not state.incarnation:
        return
    configuration = state.configuration
    recorded = [configuration.member(voter).incarnation for voter in configuration.voters]
    known = [incarnation_of(state, voter) for voter in configuration.voters]
    if all(known) and not all(recorded):
        _append(state, configuration)


def _tell_of_strangers(state: RaftState) -> None:
    for peer, progress in state.progress.items():
        if progress.stranger:
            found = incarnation_of(state, peer)
            _notice(state, peer, f"it came back with another disk ({found}) and counts for nothing")


def _attempt(state: RaftState, member: str, changes: list[Change], what: str) -> bool:
    """Make a change that nobody asked for; say so, or why it cannot be."""
    try:
        propose(state, changes)
    except ChangeRefused as refusal:
        _notice(state, member, f"it stays as it is: {refusal.reason}")
        return False
    state.noticed = {text for text in state.noticed if not text.startswith(f"{member}: ")}
    _notice(state, member, what)
    return True


def _notice(state: RaftState, member: str, what: str) -> None:
    """Tell people, once per term of office."""
    if f"{member}: {what}" not in state.noticed:
        state.noticed.add(f"{member}: {what}")
        state.events.append(MembershipNoticed(state.term, member, what))

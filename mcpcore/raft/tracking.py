"""Whom a leader speaks to, and as whom it takes them.

This module exists so that a conversation begins, begins anew and ends in one place: at an election,
at a new connection, at a change of membership. A member that a change removes is spoken to until it
knows; otherwise it would go on believing in a configuration that is no more (etcd #10563). It must
never decide who is a member.
"""

from __future__ import annotations

from mcpcore.raft.catch_up import CatchUp
from mcpcore.raft.identity import is_stranger
from mcpcore.raft.progress import Progress
from mcpcore.raft.renewal import renew
from mcpcore.raft.state import RaftState
from mcpcore.raft.types import Configuration
from mcpcore.raft.windows import PromiseLedger

FAREWELL_TIMEOUTS = 10
"""For how many election timeouts a removed member is spoken to if it does not answer."""


def begin(state: RaftState) -> None:
    """A new leader speaks to every member, and to those that an uncommitted change removes."""
    state.progress = {}
    state.office_since_ns = state.now_ns
    state.chores = True
    index, configuration = state.configurations[-1]
    if index > state.commit and len(state.configurations) > 1:
        _say_farewell(state, state.configurations[-2][1], configuration, index)
    for peer in sorted((configuration.members | state.leaving.keys()) - {state.id}):
        _track(state, peer)
        # Its contact counts as old as our office; a lease needs a commit of ours, which a quorum
        # that really answered has made.
        state.progress[peer].contact_ns = 0 if state.progress[peer].stranger else state.now_ns
    renew(state)


def end(state: RaftState) -> None:
    """Nothing of it is ever acted upon in a later term."""
    state.progress = {}
    state.leaving = {}
    state.noticed = set()
    state.chores = state.retiring = False
    state.preference.forget()


def follow_change(state: RaftState, before: Configuration, index: int) -> None:
    """The configuration at ``index`` is in force now; ``before`` was until then."""
    after = state.configuration
    state.office_since_ns = state.now_ns
    _say_farewell(state, before, after, index)
    for peer in sorted(after.members - {state.id}):
        state.leaving.pop(peer, None)
        progress = state.progress.get(peer)
        if progress is None or progress.stranger != is_stranger(state, peer):
            _track(state, peer)
        elif after.votes(peer):
            progress.catch_up = None
        elif progress.catch_up is None:
            progress.catch_up = CatchUp(index, state.now_ns)


def reconnect(state: RaftState, peer: str) -> None:
    """A new connection: what was under way is lost, and maybe what was stored."""
    progress = state.progress.get(peer)
    if progress is None:
        return
    if is_stranger(state, peer) or progress.stranger:
        _track(state, peer)
    else:
        state.session_counter += 1
        progress.session = state.session_counter
        state.links.of(peer).forget_outstanding()
        progress.probe()
        progress.commit_sent = 0


def let_go(state: RaftState) -> None:
    """Stop speaking to removed members that know it, or have not answered for long."""
    for peer, (index, until_ns) in list(state.leaving.items()):
        progress = state.progress[peer]
        knows = progress.match >= index and progress.commit_sent >= index
        if knows or state.now_ns >= until_ns:
            del state.leaving[peer], state.progress[peer]


def _say_farewell(
    state: RaftState, before: Configuration, after: Configuration, index: int
) -> None:
    until_ns = state.now_ns + FAREWELL_TIMEOUTS * state.settings.election_timeout_ns
    for peer in before.members - after.members - {state.id}:
        state.leaving[peer] = (index, until_ns)


def _track(state: RaftState, peer: str) -> None:
    """Begin a conversation with somebody of whom nothing is known: no contact, nothing stored."""
    state.session_counter += 1
    last = state.log.last_index
    windows = state.windows.settings
    promises = PromiseLedger(windows, state.now_ns, windows.election_ceiling_ns)
    stranger = is_stranger(state, peer)
    progress = Progress(last + 1, 0, state.session_counter, promises, stranger=stranger)
    if not state.configuration.votes(peer):
        progress.catch_up = CatchUp(last, state.now_ns)
    state.progress[peer] = progress

"""What a leader asks for with its next heartbeats, and how soon the next ones leave.

This module exists so that windows change at one moment only: when a regular heartbeat is due. All
that leaves until the next one (appends, snapshots, rounds of reads) asks for the same promise, and
costs no thought. It must never decide how long a window is: that is ``windows``.
"""

from __future__ import annotations

from mcpcore.raft.state import RaftState


def renew(state: RaftState) -> None:
    """Look at the links, and decide anew."""
    windows, now_ns = state.windows, state.now_ns
    if not windows.settings.moving:
        return
    configuration = state.configuration
    voters = (configuration.voters | configuration.outgoing) - {state.id}
    state.heartbeat_ns = windows.heartbeat_ns(voters, now_ns)
    promises_ns = windows.promises_ns(state.progress, voters, now_ns)
    for peer, progress in state.progress.items():
        progress.promises.change(now_ns, promises_ns[peer])


def beaten(state: RaftState) -> None:
    """A regular heartbeat leaves for everybody: its answers will tell of the links."""
    if state.windows.settings.moving:
        for peer in state.progress:
            state.windows.link(peer).sent(state.now_ns)

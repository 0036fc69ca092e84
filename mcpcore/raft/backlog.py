"""What a member missed flows at the link's pace; what is new flows at once.

This module exists so that a member which comes back is not sent megabytes that queue up before the
heartbeats, its own and those of every other group on the same connection: they would come too
late, and the cut would begin anew. A member is paced from the moment the leader knows where their
logs meet, if it misses more than ``FRESH_ENTRIES``, until everything has been sent once; ``Pacer``
says how fast. It must never decide what is sent, only when and in how large pieces.
"""

from __future__ import annotations

from mcpcore.raft.log import RaftLog
from mcpcore.raft.pacing import Pacer, PacingSettings
from mcpcore.raft.progress import Progress
from mcpcore.raft.settings import MILLISECOND, SECOND
from mcpcore.raft.state import RaftState

FRESH_ENTRIES = 64
"""Missing no more than so many is the usual life of a member, and no backlog."""
PROBE_BYTES = 16 << 10
"""A probe asks where two logs meet; it must not queue up either."""
CHUNK_BYTES_MIN = 4 << 10
CHUNK_NS = 10 * MILLISECOND
"""How long one piece may occupy the link."""

PACING = PacingSettings()


def begin(state: RaftState, progress: Progress) -> None:
    """The leader knows now where the logs meet."""
    missing = state.log.last_index - progress.next + 1
    progress.pacer = Pacer(PACING, state.now_ns) if missing > FRESH_ENTRIES else None


def may_send(state: RaftState, progress: Progress) -> int:
    """How many bytes of entries may leave in one piece now; 0 if none, and then when is noted."""
    settings, pacer = state.settings, progress.pacer
    if pacer is None:
        return settings.max_append_bytes
    wanted = max(CHUNK_BYTES_MIN, pacer.bytes_per_s * CHUNK_NS // SECOND)
    chunk = min(wanted, settings.max_append_bytes)
    last = state.log.limit(progress.next, state.log.last_index, chunk)
    wait_ns = pacer.wait_ns(_size(state.log, progress.next, last), state.now_ns)
    if wait_ns:
        state.paced_due_ns = min(state.paced_due_ns, state.now_ns + wait_ns)
        return 0
    if last == state.log.last_index:
        progress.pacer = None  # all has been sent once; what comes now is new
    return chunk


def _size(log: RaftLog, first: int, last: int) -> int:
    return sum(len(entry.data) for entry in log.entries(first, last))

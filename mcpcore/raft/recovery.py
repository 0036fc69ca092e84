"""Where a member begins after a restart, from what its disk kept: a log and perhaps a snapshot.

A crash may fall between any two of: snapshot durable, log replaced, log compacted, older snapshot
removed. This module exists so that every mixture that can be found then is judged in one function.
It decides; reading and writing is the driver's.

| snapshot | log | begins |
|---|---|---|
| none | from the start | at zero |
| none, or ends before the log begins | after a base | without a state: others must send one |
| ends within the log, which agrees there | any | at the snapshot, the entries after it follow |
| ends beyond the log, or the log disagrees there | any | at the snapshot; the log goes |

The last case is an installation that was cut short, or a member that applied what the others had
made durable before its own disk did. A snapshot holds only what was committed, so entries that
disagree with it, and all after them, were not.
"""

from __future__ import annotations

from typing import NamedTuple

from mcpcore.raft.custody import Custody, Dropped
from mcpcore.raft.log import RaftLog
from mcpcore.raft.types import Configuration, HardState, LogPosition


class Start(NamedTuple):
    """How to begin.

    ``replace``: before anything else, keep what is ``dropped``, and then make durable that the log
    is empty and begins at ``base`` in ``configuration``, and that the hard state is ``hard_state``.
    """

    hard_state: HardState
    configuration: Configuration
    log: RaftLog
    applied: int
    stateless: bool
    replace: bool
    dropped: tuple[Dropped, ...] = ()


def begin(
    hard_state: HardState,
    configuration: Configuration,
    log: RaftLog,
    snapshot: tuple[LogPosition, Configuration] | None,
) -> Start:
    """Judge what was found.

    Args:
        configuration: in force where ``log`` begins.
        snapshot: the newest sound one, if any: its position and the configuration in force there.
    """
    if snapshot is None or snapshot[0].index < log.base.index:
        lost = log.base.index > 0
        return Start(hard_state, configuration, log, log.base.index, lost, False)
    position, its_configuration = snapshot
    if log.term_at(position.index) == position.term:
        return Start(hard_state, configuration, log, position.index, False, False)
    if hard_state.term < position.term:
        # A vote in the snapshot's term would have been durable before it left: there was none.
        hard_state = HardState(position.term, "")
    custody = Custody()
    custody.replaced(log, position, log.base.index, "")
    return Start(
        hard_state,
        its_configuration,
        RaftLog(position),
        position.index,
        False,
        replace=True,
        dropped=custody.hand_over(),
    )

"""How patient a group is and how much it may hold.

This module exists so that every window and bound of the protocol stands in one place, with its
unit and its reason. It must never hold a value that changes while a group runs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from mcpcore.errors import InvalidInput

SECOND = 1_000_000_000
MILLISECOND = 1_000_000
_MAY_BE_ZERO = (
    "drift_ppm",
    "election_floor_ns",
    "heartbeat_floor_ns",
    "lease_reads",
    "quiet_after_ns",
)


@dataclass(frozen=True, slots=True)
class RaftSettings:
    """Windows and bounds of one group. All members should use the same windows.

    Args:
        election_timeout_ns: silence of the leader after which a follower doubts it. Each wait is
            drawn from [this, twice this). Also the time after which a leader without a quorum
            steps down, and the promise that followers make to a leader they hear. Where windows
            move it is the longest of them, and must be the same on all members.
        heartbeat_ns: how often a leader speaks to each member when there is nothing to say; the
            longest interval, where it moves.
        election_floor_ns: how short the election timeout may become where the links allow it, as
            ``mcpcore.raft.windows`` says; 0: it does not move.
        heartbeat_floor_ns: the least heartbeat interval; 0: it does not move.
        drift_ppm: the most by which two members' monotonic clocks may differ in rate; shortens
            the lease. 500 is ten times what crystal oscillators do.
        lease_reads: whether reads may rely on the lease at all.
        prefer_after_ns: how long a better placed member must have been there, fit to lead, before
            leadership is handed to it; see ``preference``.
        max_proposal_bytes: size of one command.
        max_uncommitted_bytes: commands accepted but not yet committed, in bytes.
        max_append_bytes: entries in one message (one entry always fits).
        max_inflight: unanswered appends per member.
        max_inflight_bytes: unanswered appends per member, in bytes.
        max_apply_bytes: committed entries handed out in one go, in bytes.
        max_apply_entries: committed entries handed out in one go; what a group with much to apply
            holds up the others of its node for.
        max_pending_reads: reads waiting for confirmation.
        quiet_after_ns: after how long without work a group goes to sleep, so that it costs its
            nodes nothing; 0 keeps it awake.

    Raises:
        InvalidInput: the windows contradict each other or a bound is not positive.
    """

    election_timeout_ns: int = 5 * SECOND
    heartbeat_ns: int = 1 * SECOND
    election_floor_ns: int = 0
    heartbeat_floor_ns: int = 0
    drift_ppm: int = 500
    lease_reads: bool = True
    prefer_after_ns: int = 60 * SECOND
    max_proposal_bytes: int = 2 << 20
    max_uncommitted_bytes: int = 64 << 20
    max_append_bytes: int = 1 << 20
    max_inflight: int = 256
    max_inflight_bytes: int = 16 << 20
    max_apply_bytes: int = 4 << 20
    max_apply_entries: int = 1024
    max_pending_reads: int = 100_000
    quiet_after_ns: int = 15 * SECOND

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            wanted = bool if name == "lease_reads" else int
            if type(value) is not wanted:
                raise InvalidInput(f"must be of type {wanted.__name__}, not {value!r}", where=name)
            if value < 0 or (value == 0 and name not in _MAY_BE_ZERO):
                raise InvalidInput(f"must be positive, not {value}", where=name)
        if not 0 <= self.drift_ppm < 500_000:
            raise InvalidInput(f"must be in [0, 500000), not {self.drift_ppm}", where="drift_ppm")
        if self.max_proposal_bytes >= self.max_uncommitted_bytes:
            raise InvalidInput(
                f"a command of {self.max_proposal_bytes} bytes could never be accepted with room "
                f"for {self.max_uncommitted_bytes}",
                where="max_uncommitted_bytes",
                remedy="Give room for several of the largest commands",
            )
        if self.heartbeat_ns * 2 > self.election_timeout_ns:
            raise InvalidInput(
                f"{self.heartbeat_ns} ns leaves no room for a lost heartbeat within an election "
                f"timeout of {self.election_timeout_ns} ns",
                where="heartbeat_ns",
                remedy="Make the election timeout at least twice the heartbeat, better five times.",
            )
        self._check_floors()

    def with_usual_floors(self) -> RaftSettings:
        """The same with windows that move: down to a fifth, but not below 1 s and 0.2 s."""
        election_ns, heartbeat_ns = self.election_timeout_ns, self.heartbeat_ns
        return replace(
            self,
            election_floor_ns=min(election_ns, max(election_ns // 5, 1 * SECOND)),
            heartbeat_floor_ns=min(heartbeat_ns, max(heartbeat_ns // 5, 200 * MILLISECOND)),
        )

    def as_told(self) -> dict[str, Any]:
        """For files and nodes of earlier releases too: by field, without floors where none are."""
        given = asdict(self)
        for floor in ("election_floor_ns", "heartbeat_floor_ns"):
            if not given[floor]:
                del given[floor]
        return given

    def _check_floors(self) -> None:
        for floor, ceiling in (
            ("election_floor_ns", "election_timeout_ns"),
            ("heartbeat_floor_ns", "heartbeat_ns"),
        ):
            if getattr(self, floor) > getattr(self, ceiling):
                raise InvalidInput(
                    f"{getattr(self, floor)} ns lies above {ceiling}, {getattr(self, ceiling)} ns",
                    where=floor,
                    remedy=f"{ceiling} is the longest, {floor} the least",
                )
        least_ns = self.heartbeat_floor_ns or self.heartbeat_ns
        if least_ns * 2 > (self.election_floor_ns or self.election_timeout_ns):
            raise InvalidInput(
                f"a heartbeat each {least_ns} ns leaves no room for a lost one within "
                f"{self.election_floor_ns} ns",
                where="election_floor_ns",
                remedy="Make it at least twice heartbeat_floor_ns, better five times",
            )

"""What a clock refuses to promise."""

from __future__ import annotations

from mcpcore.errors.root import Rejected


class TimestampTooFarAhead(Rejected):
    """A peer's timestamp lies too far in our future, so it was refused and our clock did not move.

    Either the peer's clock is wrong or ours is; the clock view says which one the majority
    believes. Trying again helps once that clock is right, and harms nothing before.
    """

    def __init__(self, peer: str, ahead_ns: int, limit_ns: int) -> None:
        self.peer = peer
        self.ahead_ns = ahead_ns
        self.limit_ns = limit_ns
        super().__init__(
            f"timestamp from {peer or 'an unnamed peer'}: {ahead_ns / 1e9:.3f} s ahead of our "
            f"clock, the limit is {limit_ns / 1e9:.3f} s. Check both clocks against the cluster's"
        )


class ClockCeilingReached(Rejected):
    """The clock may not pass the upper bound that is on disk, so no timestamp was issued.

    Store a later bound, then raise the clock's ceiling to it. A clock that went on would repeat
    its timestamps after a restart.
    """

    def __init__(self, wanted_ns: int, ceiling_ns: int) -> None:
        self.wanted_ns = wanted_ns
        self.ceiling_ns = ceiling_ns
        super().__init__(
            f"timestamp at {wanted_ns} ns: the stored upper bound is {ceiling_ns} ns. "
            "Store a later bound and raise the ceiling, then ask again"
        )


class ClockBoundMissing(Rejected):
    """A node that issued timestamps before came back without its stored upper bound.

    Restore the bound; or hand in the latest timestamp that any peer has seen from this node; or,
    only if the node never issued one, declare it fresh.
    """

    def __init__(self) -> None:
        super().__init__(
            "clock: no stored upper bound, and the node was not declared fresh. Restore the bound, "
            "or hand in the latest timestamp that any peer has seen from this node"
        )


class CommitWaitTooLong(Rejected):
    """Waiting until a timestamp has surely passed would take longer than the caller allows."""

    def __init__(self, wait_ns: int, limit_ns: int) -> None:
        self.wait_ns = wait_ns
        self.limit_ns = limit_ns
        super().__init__(
            f"commit wait: {wait_ns / 1e9:.6f} s left, at most {limit_ns / 1e9:.6f} s allowed. "
            "Look at the clock's uncertainty, or allow more"
        )


class ClockUncertain(Rejected):
    """No majority of clocks agrees, so nobody can tell what time it is. Look at the clock's health.

    Args:
        what: what needed the time.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what}: no majority of clocks agrees. Look at the clock's health")

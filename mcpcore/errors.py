"""Every exception that a caller of mcpcore may want to catch.

This module exists so that one question, *may I retry?*, is answered by the class of the error and
by nothing else. It sits below every other module. It must never import any of them, nor anything
that acts on the outside world.

Facts live in attributes, so that nobody needs to parse a message; the message says what was wrong,
where, and what to do. A broken invariant of ours is an ``AssertionError`` and not in this list:
that is a bug, and no caller should catch it.
"""

from __future__ import annotations


class CoordinationError(Exception):
    """Root of everything mcpcore raises on purpose."""


# --- May I retry? -------------------------------------------------------------------------------


class Rejected(CoordinationError):
    """Nothing happened, and nothing will. Trying the same call again is always safe."""


class OutcomeUnknown(CoordinationError):
    """It may have happened, may happen later, or never. Retry only what is idempotent."""


class InvalidInput(CoordinationError, ValueError):
    """What was handed in cannot be used as it is; the same input will be refused again.

    Args:
        what: what was wrong.
        where: where it stands: a file and line, a field's path, an argument's name.
        remedy: what to do about it.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        text = f"{where}: {what}" if where else what
        super().__init__(f"{text}. {remedy}" if remedy else text)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    kind: type[CoordinationError], args: tuple[object, ...], facts: dict[str, object]
) -> CoordinationError:
    """Unpickle an error without calling its constructor, whose parameters are not its ``args``."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


# --- Clocks -------------------------------------------------------------------------------------


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

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


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

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


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

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class CommitWaitTooLong(Rejected):
    """Waiting until a timestamp has surely passed would take longer than the caller allows."""

    def __init__(self, wait_ns: int, limit_ns: int) -> None:
        self.wait_ns = wait_ns
        self.limit_ns = limit_ns
        super().__init__(
            f"commit wait: {wait_ns / 1e9:.6f} s left, at most {limit_ns / 1e9:.6f} s allowed. "
            "Look at the clock's uncertainty, or allow more"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class ClockUncertain(Rejected):
    """No majority of clocks agrees, so nobody can tell what time it is. Look at the clock's health.

    Args:
        what: what needed the time.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"{what}: no majority of clocks agrees. Look at the clock's health")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)

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


# --- The simulator ------------------------------------------------------------------------------


class NotSimulated(Rejected, NotImplementedError):
    """Code in a simulated world asked for something that only the real world has.

    Args:
        call: the call that was refused, as the caller would write it.
        remedy: what to use instead.
    """

    def __init__(self, call: str, *, remedy: str = "") -> None:
        self.call = call
        self.remedy = remedy
        text = f"{call} has no simulation: it would reach the real world and undo determinism"
        super().__init__(f"{text}. {remedy}" if remedy else text)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class SimulationStuck(CoordinationError):
    """Virtual time cannot go on: everybody waits for nobody, or somebody never waits.

    Args:
        why: what was found.
        waiting: the tasks that wait, or the one that spins, named ``host/task``.
    """

    def __init__(self, why: str, *, waiting: tuple[str, ...] = ()) -> None:
        self.why = why
        self.waiting = waiting
        names = f": {', '.join(waiting)}" if waiting else ""
        super().__init__(f"{why}{names}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class PropertyViolated(CoordinationError, AssertionError):
    """Something that a scenario promised did not hold.

    An ``AssertionError`` as well, so that every test runner counts it as a failed test.

    Args:
        name: the promise, as it was named.
        at_s: virtual seconds since the world began.
        found: what was the case instead.
    """

    def __init__(self, name: str, *, at_s: float, found: str) -> None:
        self.name = name
        self.at_s = at_s
        self.found = found
        super().__init__(f"{name}: {found}, at {at_s:.6f} s")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class NondeterminismFound(CoordinationError):
    """Two runs from one seed differed; something leaked in from the real world.

    Args:
        difference: the first event that differs, in both runs.
    """

    def __init__(self, difference: str) -> None:
        self.difference = difference
        super().__init__(f"two runs of the same seed differ; {difference}")

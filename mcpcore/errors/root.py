"""Root of all errors, and the one question that the class of an error answers: may I retry?"""

from __future__ import annotations


class CoordinationError(Exception):
    """Root of everything mcpcore raises on purpose. Survives pickling with all its facts."""

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


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


def _rebuild(
    kind: type[CoordinationError], args: tuple[object, ...], facts: dict[str, object]
) -> CoordinationError:
    """Unpickle an error without calling its constructor, whose parameters are not its ``args``."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error

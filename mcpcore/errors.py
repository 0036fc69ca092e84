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


# --- The log on disk ----------------------------------------------------------------------------


class StorageBusy(Rejected):
    """More waits for the disk than the log device may hold; nothing of this call was kept.

    Check ``LogDevice.full`` before accepting work, and come back once it is false again.
    """

    def __init__(self, pending_bytes: int, pending_bytes_max: int) -> None:
        self.pending_bytes = pending_bytes
        self.pending_bytes_max = pending_bytes_max
        super().__init__(
            f"the log already holds {pending_bytes} bytes that wait for the disk (limit "
            f"{pending_bytes_max}); try again when the disk has caught up"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class StorageClosed(Rejected):
    """The log device is closing or closed; nothing of this call was kept."""


class StorageInUse(Rejected):
    """Another process (or another device of this one) works on the same directory."""


class StorageFailed(OutcomeUnknown):
    """A write or a sync of the log failed, so the device works no more.

    What was on its way may or may not be on the disk: after a failed sync the operating system
    forgets what it could not write, so trying again would prove nothing. Stop the node, look at
    the disk, start it again: recovery reads what is really there.
    """


class StorageCorrupt(CoordinationError):
    """Bytes of the log that were once durable are gone or changed: rot, not a torn tail.

    Args:
        what: what is wrong.
        path: the file.
        offset: where in the file, in bytes.
    """

    def __init__(self, what: str, *, path: str, offset: int) -> None:
        self.what = what
        self.path = path
        self.offset = offset
        super().__init__(
            f"{path}, byte {offset}: {what}. Entries that this node acknowledged may be lost, so "
            "it must not vote with this log: restore the file from a backup, or wipe the "
            "directory and let the node rejoin as a learner"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class StorageVersion(Rejected):
    """The log was written by another version of this program, in a format that it cannot read.

    Nothing is wrong with the log, and nothing was changed: run the version that wrote it.
    """


class WrongIdentity(InvalidInput):
    """The directory holds the log of another node or another cluster."""

"""What the log on disk, its snapshots and their recovery refuse or report."""

from __future__ import annotations

from mcpcore.errors.root import CoordinationError, InvalidInput, OutcomeUnknown, Rejected


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
            "it must not vote with this log: restore the file from a backup, or let "
            "`mcpctl log repair` show what is left"
        )


class RecoveryRefused(Rejected):
    """A group is not recovered by force, and nothing was changed.

    Args:
        group: the group.
        why: what stands against it.
        remedy: what to do instead.
    """

    def __init__(self, group: str, why: str, remedy: str) -> None:
        self.group = group
        self.why = why
        self.remedy = remedy
        super().__init__(f"group {group}: {why}. {remedy}")


class StateMissing(Rejected):
    """This node's copy of the group's state is lost, and another member is sending a new one.

    Its log is whole, so nothing that it promised is in doubt; ask another node meanwhile.
    """

    def __init__(self, group: str) -> None:
        self.group = group
        super().__init__(
            f"group {group}: the state on this node is lost and being fetched; ask another node"
        )


class SnapshotDamaged(CoordinationError):
    """A snapshot file is not what was once written: never restore from it.

    Args:
        what: what is wrong.
        path: the file.
        offset: where in the file, in bytes.
    """

    def __init__(self, what: str, *, path: str, offset: int = 0) -> None:
        self.what = what
        self.path = path
        self.offset = offset
        super().__init__(
            f"{path}, byte {offset}: {what}. The snapshot cannot be used: a running member takes a "
            "new one or fetches it from the others; a backup must be replaced by another one"
        )


class StorageVersion(Rejected):
    """The log was written by another version of this program, in a format that it cannot read.

    Nothing is wrong with the log, and nothing was changed: run the version that wrote it.
    """


class WrongIdentity(InvalidInput):
    """The directory holds the log of another node or another cluster."""

"""The log that orders what must be ordered: who owns what, whose keys count, and every loosening.

This module exists because of one sentence: concurrent edits must never allow together what none of
their authors allowed alone. Taking away needs no agreement. Giving does: a permit added here and a
forbid lifted there meet in a merge that nobody wanted. So whatever gives takes effect only as a
prefix of this one log, and of two replicas one knows a prefix of what the other knows.

:class:`PolicyLog` is a state machine for a Raft group: by its shape it is a
``mcpcore.node.machine.StateMachine``, and it must never import the node. One group orders one
*scope*: the tenants whose grants can meet. Tenants that share nothing have a group each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgpack

from mcpcore.crdt import CausalContext
from mcpcore.errors import InvalidInput
from mcpcore.policy.edits import EDIT_BYTES_MAX, Edit, decode
from mcpcore.policy.prefix import Ordered, Prefix
from mcpcore.policy.signing import KEY_BYTES

_SNAPSHOT_MAGIC: Final = b"mcppol01"
_COMMAND_BYTES_MAX: Final = EDIT_BYTES_MAX + 1024


# --- commands -----------------------------------------------------------------------------------


def own(namespace: str, tenant: str) -> bytes:
    """The command that gives a namespace to a tenant; to nobody if the tenant is empty.

    What was written about the namespace before is not in force any more, whoever wrote it: it bears
    an older epoch. Giving a namespace to its owner changes nothing.
    """
    return bytes(msgpack.packb(["own", namespace, tenant]))


def trust(tenant: str, key: bytes, *, counts: bool = True) -> bytes:
    """The command that makes a public key count for a tenant, or no longer count.

    From a tenant's first key on, edits in its name need a signature by one of its keys.
    """
    return bytes(msgpack.packb(["key", tenant, key, counts]))


def loosen(edit: Edit) -> bytes:
    """The command that orders an edit."""
    return bytes(msgpack.packb(["loosen", edit.encode()]))


def compact(gone: CausalContext) -> bytes:
    """The command by which all replicas let go of edits, named by dot.

    It names all that earlier ones named, too. Which edits may go: ``mcpcore.policy.compaction``.
    """
    return bytes(msgpack.packb(["compact", gone.to_wire()]))


class PolicyLog:
    """The replicated state machine: applies commands, and answers what was ordered."""

    def __init__(self) -> None:
        self.prefix = Prefix()

    def apply(self, index: int, command: bytes) -> bytes:
        """Order one command. Returns msgpack ``["ok", epoch]`` or ``["refused", why]``.

        Ordering an edit twice is harmless: the second time answers with the present epoch.
        """
        try:
            fresh = self._check(command)
        except InvalidInput as error:
            return bytes(msgpack.packb(["refused", str(error)]))
        if fresh:
            self.prefix = self.prefix.extended(index, command)
        return bytes(msgpack.packb(["ok", self.prefix.epoch]))

    def _check(self, command: bytes) -> bool:
        """Whether a command says something new."""
        if len(command) > _COMMAND_BYTES_MAX:
            raise InvalidInput(f"a command of {len(command)} bytes is too large")
        try:
            wire = msgpack.unpackb(command)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise InvalidInput(f"not a command: {error}") from error
        match wire:
            case ["own", str(namespace), str(tenant)] if namespace and "/" not in namespace:
                if "/" in tenant:
                    raise InvalidInput(f"{tenant!r} is no tenant")
                owner = self.prefix.owner_by_name(namespace)
                return (owner.tenant if owner else "") != tenant
            case ["key", str(tenant), bytes(key), bool(counts)] if len(key) == KEY_BYTES:
                return (key in self.prefix.keys(tenant)) is not counts
            case ["loosen", bytes(data)]:
                edit = decode(data)
                if not edit.body.loosens:
                    raise InvalidInput("this edit needs no order", remedy="Join it to the replicas")
                if edit.epoch > self.prefix.epoch:
                    # Whoever may claim the future is never stale, whatever changes hands.
                    raise InvalidInput(
                        f"its author claims to know entry {edit.epoch}, there are "
                        f"{self.prefix.epoch}",
                        remedy="Make it anew on a replica that follows this log",
                    )
                if edit.dot in self.prefix.compacted:
                    raise InvalidInput("this edit was overtaken, and all replicas let go of it")
                return not self.prefix.has(data)
            case ["compact", gone]:
                known, named = self.prefix.compacted, CausalContext.from_wire(gone)
                if not named.covers(known):
                    raise InvalidInput("a compaction names all that earlier ones did")
                return named != known
        raise InvalidInput("not a command of a policy log")

    def query(self, request: bytes) -> bytes:
        """``["since", epoch]`` gives what follows there, as rows that :meth:`follow` takes; else a
        refusal.
        """
        try:
            wire = msgpack.unpackb(request)
        except (ValueError, TypeError, msgpack.UnpackException):
            wire = None
        match wire:
            case ["since", int(epoch)] if epoch >= 0:
                return bytes(msgpack.packb(_rows(self.prefix.since(epoch))))
        return bytes(msgpack.packb(["refused", "not a question to a policy log"]))

    def snapshot(self) -> Iterator[bytes]:
        """All entries, as chunks."""
        return _chunks(self.prefix)

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Become what a snapshot holds.

        Raises:
            InvalidInput: the bytes are no whole, sound snapshot. The old state stands.
        """
        data = b"".join(chunks)
        try:
            if data[:8] != _SNAPSHOT_MAGIC:
                raise ValueError("it begins otherwise")
            rows, digest = msgpack.unpackb(data[8:])
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise InvalidInput(
                f"not a snapshot of a policy log: {error}",
                where="snapshot",
                remedy="take a new one from a member of the group",
            ) from error
        fresh = PolicyLog()
        fresh._take(rows)
        if fresh.prefix.digest != digest:
            raise InvalidInput("the digest differs", where="snapshot", remedy="fetch it again")
        self.prefix = fresh.prefix

    def digest(self) -> bytes:
        """16 bytes over all entries."""
        return self.prefix.digest

    def load(self, prefix: Prefix) -> None:
        """Become a log that holds exactly this."""
        self.prefix = prefix

    def follow(self, rows: bytes) -> None:
        """Take entries that :meth:`query` gave elsewhere, and that begin where this one ends.

        Raises:
            InvalidInput: not such an answer. Nothing of it was taken.
        """
        try:
            wire = msgpack.unpackb(rows)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise InvalidInput(f"not entries of a policy log: {error}") from error
        self._take(wire)

    def _take(self, rows: object) -> None:
        """Go on with entries of another copy of this log, all of them or none."""
        before = self.prefix
        try:
            for entry in _ordered(rows):
                last = self.prefix.last
                if last is not None and (entry.index <= last.index or entry.epoch <= last.epoch):
                    raise InvalidInput(
                        f"a piece of a policy log begins at {entry.index}, where {last.index} is "
                        "known already",
                        remedy="Ask for what follows the last entry that is known",
                    )
                if not self._check(entry.command):
                    raise InvalidInput(f"entry {entry.index} says nothing new: of another log")
                follows = entry.epoch == self.prefix.epoch + 1
                digest = self.prefix.digest_with(entry.index, entry.command)
                if follows and entry.digest != digest:
                    raise InvalidInput(f"entry {entry.index} does not follow: of another log")
                self.prefix = self.prefix.with_entry(entry)
        except InvalidInput:
            self.load(before)
            raise


def _rows(entries: Iterable[Ordered]) -> list[list[object]]:
    return [[entry.epoch, entry.index, entry.command, entry.digest] for entry in entries]


def _ordered(rows: object) -> Iterator[Ordered]:
    if not isinstance(rows, list):
        raise InvalidInput("not entries of a policy log")
    for row in rows:
        match row:
            case [int(epoch), int(index), bytes(command), bytes(digest)] if (
                type(epoch) is type(index) is int
                and 0 < epoch < 1 << 63
                and 0 <= index < 1 << 63
                and len(digest) == 16
            ):
                yield Ordered(epoch, index, command, digest)
            case _:
                raise InvalidInput("an entry is a number, an index, a command and a digest")


def _chunks(prefix: Prefix) -> Iterator[bytes]:
    yield _SNAPSHOT_MAGIC
    yield bytes(msgpack.packb([_rows(prefix.entries), prefix.digest]))

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
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Final

import msgpack

from mcpcore.errors import InvalidInput
from mcpcore.policy.edits import EDIT_BYTES_MAX, Edit, decode
from mcpcore.policy.engine import Owner
from mcpcore.policy.signing import KEY_BYTES

EVERYTHING: Final = "*"
"""As a namespace: all that nobody owns by name."""
_SNAPSHOT_MAGIC: Final = b"mcppol01"
_COMMAND_BYTES_MAX: Final = EDIT_BYTES_MAX + 1024


@dataclass(frozen=True, slots=True)
class Ordered:
    """One entry of the log.

    Args:
        epoch: its number, from 1, without gaps: what ``Edit.epoch`` counts in.
        index: the Raft index that it was committed at.
        command: its bytes.
        digest: over this and all before it.
    """

    epoch: int
    index: int
    command: bytes
    digest: bytes


class Prefix:
    """What a replica knows of the log: a beginning of it. Immutable."""

    def __init__(self, entries: tuple[Ordered, ...] = ()) -> None:
        self.entries = entries

    @property
    def epoch(self) -> int:
        """How many entries are known."""
        return len(self.entries)

    @property
    def digest(self) -> bytes:
        """Over all entries."""
        return self.entries[-1].digest if self.entries else bytes(16)

    def extended(self, index: int, command: bytes) -> Prefix:
        """With one more entry."""
        digest = blake2b(self.digest + index.to_bytes(8, "big") + command, digest_size=16).digest()
        return Prefix((*self.entries, Ordered(self.epoch + 1, index, command, digest)))

    def join(self, other: Prefix) -> Prefix:
        """The longer one: of two prefixes of one log, one begins the other.

        Raises:
            InvalidInput: they are not of one log.
        """
        longer, shorter = (self, other) if self.epoch >= other.epoch else (other, self)
        if shorter.entries and longer.entries[shorter.epoch - 1].digest != shorter.digest:
            raise InvalidInput(
                f"two logs that differ at or before entry {shorter.epoch} cannot be joined",
                where="policy log",
                remedy="These replicas follow different groups; a policy has one",
            )
        return longer

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prefix):
            return NotImplemented
        return self.entries == other.entries

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Prefix({self.epoch} entries, {self.digest.hex()[:8]})"

    # --- what it says ---------------------------------------------------------------------------

    @cached_property
    def _told(self) -> _Told:
        told = _Told()
        for entry in self.entries:
            told.take(entry)
        return told

    def owner(self, namespace: str) -> Owner | None:
        """Who owns a namespace, and since which entry."""
        owners = self._told.owners
        return owners.get(namespace) or owners.get(EVERYTHING)

    def namespaces(self, tenant: str) -> list[str]:
        """The namespaces that a tenant owns."""
        owners = self._told.owners
        return sorted(name for name, owner in owners.items() if owner and owner.tenant == tenant)

    @property
    def history(self) -> list[tuple[str, str]]:
        """Every (namespace, tenant) that was ever given, in order."""
        return self._told.history

    def keys(self, tenant: str) -> frozenset[bytes]:
        """The public keys that sign for a tenant; none if its edits need no signature."""
        return frozenset(self._told.keys.get(tenant, ()))

    def once_kept(self, tenant: str) -> frozenset[bytes]:
        """The public keys that ever signed for a tenant."""
        return frozenset(self._told.ever.get(tenant, ()))

    def signed_since(self, tenant: str) -> int | None:
        """The entry that named the tenant's first key; None if it never had one."""
        return self._told.first_key.get(tenant)

    def has(self, data: bytes) -> bool:
        """Whether the edit of these bytes was ordered."""
        return data in self._told.encoded

    @property
    def loosenings(self) -> list[Edit]:
        """Every edit that was ordered, in that order."""
        return self._told.edits

    def place(self, edit: Edit) -> int | None:
        """The epoch at which this very edit was ordered; None if it was not."""
        return self._told.encoded.get(edit.encode())


class _Told:
    """What a prefix adds up to."""

    def __init__(self) -> None:
        self.owners: dict[str, Owner | None] = {}
        self.keys: dict[str, set[bytes]] = {}
        self.ever: dict[str, set[bytes]] = {}
        self.first_key: dict[str, int] = {}
        self.edits: list[Edit] = []
        self.encoded: dict[bytes, int] = {}
        self.history: list[tuple[str, str]] = []

    def take(self, entry: Ordered) -> None:
        match _read(entry.command):
            case ["own", str(namespace), str(tenant)]:
                self.owners[namespace] = Owner(tenant, entry.epoch) if tenant else None
                self.history.append((namespace, tenant))
            case ["key", str(tenant), bytes(key), bool(counts)]:
                keys = self.keys.setdefault(tenant, set())
                if counts:
                    keys.add(key)
                    self.ever.setdefault(tenant, set()).add(key)
                    self.first_key.setdefault(tenant, entry.epoch)
                else:
                    keys.discard(key)
            case ["loosen", bytes(data)]:
                self.edits.append(decode(data))
                self.encoded.setdefault(data, entry.epoch)


def _read(command: bytes) -> list[object]:
    """A command that was checked when it was applied."""
    wire: list[object] = msgpack.unpackb(command)
    return wire


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


class PolicyLog:
    """The replicated state machine: applies commands, and answers what was ordered."""

    def __init__(self) -> None:
        self.prefix = Prefix()
        self._told = _Told()

    def apply(self, index: int, command: bytes) -> bytes:
        """Order one command. Returns msgpack ``["ok", epoch]`` or ``["refused", why]``.

        Ordering an edit twice is harmless: the second time answers with the present epoch.
        """
        try:
            fresh = self._check(command)
        except InvalidInput as error:
            return bytes(msgpack.packb(["refused", str(error)]))
        if fresh:
            self._extend(index, command)
        return bytes(msgpack.packb(["ok", self.prefix.epoch]))

    def _extend(self, index: int, command: bytes) -> None:
        self.prefix = self.prefix.extended(index, command)
        self._told.take(self.prefix.entries[-1])

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
                owner = self._told.owners.get(namespace)
                return (owner.tenant if owner else "") != tenant
            case ["key", str(tenant), bytes(key), bool(counts)] if len(key) == KEY_BYTES:
                return (key in self._told.keys.get(tenant, ())) is not counts
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
                return data not in self._told.encoded
        raise InvalidInput("not a command of a policy log")

    def query(self, request: bytes) -> bytes:
        """``["since", epoch]`` gives ``[[index, command], ...]`` from there; else a refusal."""
        try:
            wire = msgpack.unpackb(request)
        except (ValueError, TypeError, msgpack.UnpackException):
            wire = None
        match wire:
            case ["since", int(epoch)] if epoch >= 0:
                rows = [[entry.index, entry.command] for entry in self.prefix.entries[epoch:]]
                return bytes(msgpack.packb(rows))
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
        self.prefix, self._told = fresh.prefix, fresh._told

    def digest(self) -> bytes:
        """16 bytes over all entries."""
        return self.prefix.digest

    def load(self, prefix: Prefix) -> None:
        """Become a log that holds exactly this."""
        self.prefix, self._told = prefix, _Told()
        for entry in prefix.entries:
            self._told.take(entry)

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
            for index, command in _pairs(rows):
                last = self.prefix.entries[-1].index if self.prefix.entries else -1
                if index <= last:
                    raise InvalidInput(
                        f"a piece of a policy log begins at {index}, where {last} is known already",
                        remedy="Ask for what follows the last entry that is known",
                    )
                if not self._check(command):
                    raise InvalidInput(f"entry {index} says nothing new: it is of another log")
                self._extend(index, command)
        except InvalidInput:
            self.load(before)
            raise


def _pairs(rows: object) -> Iterator[tuple[int, bytes]]:
    if not isinstance(rows, list):
        raise InvalidInput("not entries of a policy log")
    for row in rows:
        match row:
            case [int(index), bytes(command)] if type(index) is int and 0 <= index < 1 << 63:
                yield index, command
            case _:
                raise InvalidInput("an entry of a policy log is its index and its command")


def _chunks(prefix: Prefix) -> Iterator[bytes]:
    rows = [[entry.index, entry.command] for entry in prefix.entries]
    yield _SNAPSHOT_MAGIC
    yield bytes(msgpack.packb([rows, prefix.digest]))

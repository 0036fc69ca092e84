"""What a replica knows of the policy log: a beginning of it, and what that adds up to.

This module exists so that "how much of the log is known here" is a value that can be kept, compared
and joined. It is immutable to those who hold it; the entries that successive beginnings share are
held once. It must never decide whether a command is in order.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import msgpack

from mcpcore.crdt import CausalContext
from mcpcore.errors import InvalidInput
from mcpcore.policy.edits import Edit, decode
from mcpcore.policy.engine import Owner

EVERYTHING: Final = "*"
"""As a namespace: all that nobody owns by name."""


@dataclass(frozen=True, slots=True)
class Ordered:
    """One entry of the log.

    Args:
        epoch: its number, from 1: what ``Edit.epoch`` counts in. Gaps are what was compacted.
        index: the Raft index that it was committed at.
        command: its bytes.
        digest: over this and all that ever was before it.
    """

    epoch: int
    index: int
    command: bytes
    digest: bytes


class Prefix:
    """What a replica knows of the log: a beginning of it. Immutable."""

    __slots__ = ("_chain", "_length", "_own")

    def __init__(self, entries: tuple[Ordered, ...] = ()) -> None:
        self._chain = _Chain(list(entries))
        self._length = len(entries)
        self._own: _Told | None = None

    @property
    def entries(self) -> tuple[Ordered, ...]:
        """All entries that are kept."""
        return tuple(self._chain.entries[: self._length])

    @property
    def last(self) -> Ordered | None:
        """The newest entry; None if nothing is known."""
        return self._chain.entries[self._length - 1] if self._length else None

    @property
    def epoch(self) -> int:
        """How many entries are known, compacted ones included."""
        return self.last.epoch if self.last else 0

    @property
    def digest(self) -> bytes:
        """Over all entries."""
        return self.last.digest if self.last else bytes(16)

    def since(self, epoch: int) -> tuple[Ordered, ...]:
        """The entries after that one."""
        start = bisect_left(self._chain.entries, epoch + 1, hi=self._length, key=_epoch)
        return tuple(self._chain.entries[start : self._length])

    def extended(self, index: int, command: bytes) -> Prefix:
        """With one more entry. One that compacts takes out what it names."""
        digest = self.digest_with(index, command)
        return self.with_entry(Ordered(self.epoch + 1, index, command, digest))

    def digest_with(self, index: int, command: bytes) -> bytes:
        """The digest that one more entry would have."""
        return blake2b(self.digest + index.to_bytes(8, "big") + command, digest_size=16).digest()

    def with_entry(self, entry: Ordered) -> Prefix:
        """With one more entry, whose number and digest are known."""
        match read_command(entry.command):
            case ["compact", wire]:
                gone = CausalContext.from_wire(wire)
                kept = [each for each in self.entries if not _goes(each, gone)]
                return Prefix((*kept, entry))
        longer = Prefix.__new__(Prefix)
        fits = self._length == len(self._chain.entries)
        longer._chain = self._chain if fits else _Chain(list(self.entries))
        longer._chain.entries.append(entry)
        longer._length = self._length + 1
        longer._own = None
        return longer

    def join(self, other: Prefix) -> Prefix:
        """The longer one: of two prefixes of one log, one begins the other.

        Raises:
            InvalidInput: they are not of one log.
        """
        longer, shorter = (self, other) if self.epoch >= other.epoch else (other, self)
        if longer._chain is not shorter._chain and longer._differs(shorter.epoch, shorter.digest):
            raise InvalidInput(
                f"two logs that differ at or before entry {shorter.epoch} cannot be joined",
                where="policy log",
                remedy="These replicas follow different groups; a policy has one",
            )
        return longer

    def _differs(self, epoch: int, digest: bytes) -> bool:
        """Whether an entry has another digest here; one that was compacted cannot tell."""
        entries = self._chain.entries
        at = bisect_left(entries, epoch, hi=self._length, key=_epoch)
        return at < self._length and entries[at].epoch == epoch and entries[at].digest != digest

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prefix):
            return NotImplemented
        return self.entries == other.entries

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Prefix({self.epoch} entries, {self.digest.hex()[:8]})"

    # --- what it says ---------------------------------------------------------------------------

    @property
    def _told(self) -> _Told:
        """Kept for the longest prefix asked, and brought forward; others have their own."""
        chain = self._chain
        if chain.told_of > self._length:
            if self._own is None:
                self._own = _Told()
                for entry in self.entries:
                    self._own.take(entry)
            return self._own
        while chain.told_of < self._length:
            chain.told.take(chain.entries[chain.told_of])
            chain.told_of += 1
        return chain.told

    def owner(self, namespace: str) -> Owner | None:
        """Who owns a namespace, and since which entry."""
        owners = self._told.owners
        return owners.get(namespace) or owners.get(EVERYTHING)

    def owner_by_name(self, namespace: str) -> Owner | None:
        """The same, not counting who owns everything else."""
        return self._told.owners.get(namespace)

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
        """Every edit that was ordered and is kept, in that order."""
        return self._told.edits

    def place(self, edit: Edit) -> int | None:
        """The epoch at which this very edit was ordered; None if it was not."""
        return self._told.encoded.get(edit.encode())

    @property
    def compacted(self) -> CausalContext:
        """The edits, by dot, that all replicas have let go of."""
        return self._told.compacted


class _Chain:
    """Entries that successive prefixes share, and what the first ``told_of`` of them say."""

    __slots__ = ("entries", "told", "told_of")

    def __init__(self, entries: list[Ordered]) -> None:
        self.entries = entries
        self.told = _Told()
        self.told_of = 0


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
        self.compacted = CausalContext()

    def take(self, entry: Ordered) -> None:
        match read_command(entry.command):
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
            case ["compact", wire]:
                self.compacted = CausalContext.from_wire(wire)


def _goes(entry: Ordered, gone: CausalContext) -> bool:
    """Whether a compaction takes an entry out: the edits it names, and earlier compactions, of
    which each names all that the ones before it did.
    """
    match read_command(entry.command):
        case ["loosen", bytes(data)]:
            return decode(data).dot in gone
        case ["compact", _]:
            return True
    return False


def read_command(command: bytes) -> list[object]:
    """A command that was checked when it was applied."""
    wire: list[object] = msgpack.unpackb(command)
    return wire


def _epoch(entry: Ordered) -> int:
    return entry.epoch

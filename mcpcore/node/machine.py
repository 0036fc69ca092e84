"""The seam between a Raft group and whatever it replicates.

This module exists so that a group can drive any state machine, and a state machine can be tested
without a group. It holds the contract and its one composition with client sessions. Machines are
deterministic: what they become depends on the commands and their indexes alone. No clock, no
random source, no file and no task may ever come in here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Final, Protocol, runtime_checkable

from mcpcore.errors import InvalidInput
from mcpcore.raft.sessions import SessionTable
from mcpcore.raft.types import Entry, EntryKind

_COMMAND: Final = int(EntryKind.COMMAND)
_SESSION: Final = int(EntryKind.SESSION)
_HEAD: Final = struct.Struct(">8sQ")
_MAGIC: Final = b"mcpstat1"
_CHANGES_MAGIC: Final = b"mcpchng1"


class StateMachine(Protocol):
    """What a group replicates. Every member applies the same commands at the same indexes."""

    def apply(self, index: int, command: bytes) -> bytes:
        """Carry out one committed command and return its encoded result.

        Must be deterministic and must not raise: a command that makes no sense, or that a limit
        forbids, changes nothing and returns an encoded refusal, the same on every member.

        Args:
            index: the log index of the command; rises from call to call, with gaps.
        """
        ...

    def query(self, request: bytes) -> bytes:
        """Answer a read from the applied state, changing nothing. Refusals as in ``apply``."""
        ...

    def snapshot(self) -> Iterator[bytes]:
        """The whole state as it is now, as chunks of bytes; equal states give equal bytes.

        The call itself must be quick. The iterator is a view: it goes on giving the state of the
        moment of the call, whatever is applied meanwhile, and it may be consumed in another
        thread. Where one chunk ends and the next begins means nothing to ``restore``.
        """
        ...

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Become the state that a snapshot holds.

        Raises:
            InvalidInput: the bytes are no whole, sound snapshot. The old state stands.
        """
        ...

    def digest(self) -> bytes:
        """Up to 16 bytes that differ, but for bad luck, wherever two states differ.

        Cheap, since members compare it often at equal index. It finds accidents, not attackers.
        """
        ...


@runtime_checkable
class LeaderDuties(Protocol):
    """A machine with work that only the leader's copy does, such as counting leases.

    Times are readings of one monotonic clock, handed in.
    """

    def lead(self, now_ns: int) -> None:
        """This member leads from now on, and has applied everything of earlier leaders."""
        ...

    def follow(self) -> None:
        """This member leads no more."""
        ...

    def next_duty_ns(self) -> int | None:
        """When to ask for the next ``duty``; None means no need."""
        ...

    def duty(self, now_ns: int) -> bytes | None:
        """A command to propose now, in the term in which ``lead`` was called, or None."""
        ...

    def leader_query(self, request: bytes, now_ns: int) -> bytes | None:
        """The answer to a request that only a leader can answer; None if it is none of those.

        The caller delivers it only once a quorum has confirmed, after this call, that we lead.
        """
        ...


@runtime_checkable
class Incremental(Protocol):
    """A machine that can say what changed, so that a member that was away gets only that."""

    def changes_since(self, index: int) -> Iterator[bytes] | None:
        """What turns the state that ``index`` led to into the present one; None if not known.

        Like ``StateMachine.snapshot``: a quick call, and a view that stays as it was.
        """
        ...

    def apply_changes(self, chunks: Iterable[bytes]) -> None:
        """Become what ``changes_since`` described, byte for byte.

        Called on a copy that nobody else sees, so it may stop half-way.

        Raises:
            InvalidInput: the bytes are no whole, sound changes, or do not fit this state.
        """
        ...


@runtime_checkable
class Adopting(Protocol):
    """A machine that can take over the state of another one at once, however large.

    Without this, a received snapshot is restored on the event loop.
    """

    def adopt(self, other: StateMachine) -> None:
        """Become what ``other``, of our own class and used by nobody else, is; keep what is this
        node's own (watchers, timers)."""
        ...


class Watching(Protocol):
    """One client's view of a machine's changes."""

    def take(self) -> tuple[list[bytes], bool]:
        """Encoded events that are waiting, some at a time, and whether the last one was the end."""
        ...

    def cancel(self) -> None:
        """Hear no more. Cancelling twice is harmless."""
        ...


@runtime_checkable
class Watchable(Protocol):
    """A machine whose changes can be followed."""

    def watching(self, request: bytes, wake: Callable[[], None]) -> Watching:
        """Begin to follow.

        Args:
            wake: called when there is something to take; must be quick and not call back.

        Raises:
            InvalidInput: the request is none.
        """
        ...


class ReplicatedState:
    """A state machine together with the client sessions of its group: all that a group replicates.

    The two must travel in one snapshot. A machine restored without its sessions would apply a
    retried command twice.
    """

    __slots__ = ("machine", "sessions")

    def __init__(self, machine: StateMachine, sessions: SessionTable | None = None) -> None:
        self.machine = machine
        self.sessions = SessionTable() if sessions is None else sessions

    def apply(self, entry: Entry) -> bytes:
        """Apply one committed entry and return what its proposer is to be told.

        A COMMAND entry gives the machine's own result. A SESSION entry gives an encoded
        ``SessionAnswer``. Other kinds do not concern the machine and give no bytes.
        """
        return next(self.apply_each((entry,)))

    def apply_each(self, entries: Iterable[Entry]) -> Iterator[bytes]:
        """``apply`` one entry after the other, as the results are asked for."""
        apply, apply_session = self.machine.apply, self.sessions.apply
        for term, index, kind, data in entries:
            if kind == _COMMAND:
                yield apply(index, data)
            elif kind == _SESSION:
                yield apply_session(index, data, apply, term)
            else:
                yield b""

    def snapshot(self) -> Iterator[bytes]:
        """Both states of this moment, as chunks; the promise of ``StateMachine.snapshot``."""
        sessions = self.sessions.encode()
        return _prefixed(_HEAD.pack(_MAGIC, len(sessions)) + sessions, self.machine.snapshot())

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Become the two states that a snapshot holds.

        Raises:
            InvalidInput: the bytes are no whole, sound snapshot. Both old states stand.
        """
        source = iter(chunks)
        encoded, rest = _take_sessions(source, _MAGIC, "snapshot")
        sessions = SessionTable.decode(encoded)
        self.machine.restore(_prefixed(rest, source))
        self.sessions = sessions

    def changes_since(self, index: int) -> Iterator[bytes] | None:
        """What changed since ``index`` was applied, sessions included; None if not known."""
        if not isinstance(self.machine, Incremental):
            return None
        changes = self.machine.changes_since(index)
        if changes is None:
            return None
        sessions = self.sessions.encode()
        return _prefixed(_HEAD.pack(_CHANGES_MAGIC, len(sessions)) + sessions, changes)

    def apply_changes(self, chunks: Iterable[bytes]) -> None:
        """Become what ``changes_since`` described; see ``Incremental.apply_changes``.

        Raises:
            InvalidInput: the bytes are no changes, or do not fit. Use this state no more.
        """
        source = iter(chunks)
        encoded, rest = _take_sessions(source, _CHANGES_MAGIC, "changes")
        if not isinstance(self.machine, Incremental):
            raise InvalidInput("this machine knows no changes, only whole states", where="changes")
        sessions = SessionTable.decode(encoded)
        self.machine.apply_changes(_prefixed(rest, source))
        self.sessions = sessions

    def adopt(self, other: ReplicatedState) -> None:
        """Become what ``other``, which nobody uses any more, is."""
        if isinstance(self.machine, Adopting):
            self.machine.adopt(other.machine)
        else:
            self.machine.restore(other.machine.snapshot())
        self.sessions = other.sessions

    def digest(self) -> bytes:
        """16 bytes over both states, to be compared between members at equal applied index."""
        both = self.machine.digest() + self.sessions.digest()
        return blake2b(both, digest_size=16).digest()


def _prefixed(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _take_sessions(source: Iterator[bytes], magic: bytes, what: str) -> tuple[bytes, bytes]:
    """The encoded sessions that follow the head, and what was read beyond them."""
    head, rest = _take(_HEAD.size, b"", source)
    found, length = _HEAD.unpack(head)
    if found != magic:
        raise InvalidInput(
            f"not a {what} of a replicated state, or of a version this one cannot read",
            where=f"{what}, byte 0",
            remedy="take a new snapshot from a member of the group",
        )
    return _take(length, rest, source)


def _take(length: int, have: bytes, source: Iterator[bytes]) -> tuple[bytes, bytes]:
    """Exactly ``length`` bytes, and what was read beyond them."""
    parts, total = [have], len(have)
    while total < length:
        chunk = next(source, None)
        if chunk is None:
            raise InvalidInput(
                f"ends after {total} bytes where at least {length} were announced",
                where="snapshot",
                remedy="fetch it again",
            )
        parts.append(chunk)
        total += len(chunk)
    joined = b"".join(parts)
    return joined[:length], joined[length:]

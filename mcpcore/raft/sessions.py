"""Client sessions: a retried command is applied once (thesis section 6.3).

This module exists so that "exactly once" is one small table that every member computes alike from
the log. It decides; the machine is handed in as a function. Sessions expire by the order of the
log, never by time, since members would disagree about time. It must never import a clock, a random
source or anything that acts.

The promise to a client is that *an answer is final*: once a sequence number was answered, whatever
the answer, no later copy of it is ever applied.

HAZARD: ``SESSION_EXPIRED`` and ``ANSWER_NOT_KEPT`` say that *this* copy of the command was not
applied and none will be. Whether an earlier copy was, they cannot say: to a first attempt they mean
"nothing happened", to a retry they mean "outcome unknown".

HAZARD: the limits decide which session expires, so they must be equal on all members of a group.
They are part of the snapshot and of the digest: a member that was configured differently is
found by the first comparison of digests.
"""

from __future__ import annotations

import struct
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Final, NamedTuple

import msgpack

from mcpcore.errors import InvalidInput
from mcpcore.raft.types import MAX_UINT, LogPosition

_REGISTER: Final = 0
_CLOSE: Final = 1
_COMMAND: Final = 2
_REGISTER_BYTES: Final = b"\x00"
_CLOSE_HEAD: Final = struct.Struct(">BQ")
_COMMAND_HEAD: Final = struct.Struct(">BQQQ")
_COMMAND_SIZE: Final = _COMMAND_HEAD.size
_ID: Final = struct.Struct(">Q")
_APPLIED_HEAD: Final = struct.Struct(">BQQ")


class SessionStatus(IntEnum):
    """What became of a session entry."""

    APPLIED = 0
    """The machine's result follows: of this copy of the command, or of the first one."""
    REGISTERED = 1
    """The id of the new session follows."""
    CLOSED = 2
    """The session is closed, or was before."""
    SESSION_EXPIRED = 3
    """No such session (any more); not applied. Register a new one."""
    ANSWER_NOT_KEPT = 4
    """The sequence lies below what is still remembered; not applied now."""
    MALFORMED = 5
    """The entry's bytes are no session entry; not applied. The proposer has a bug."""


class SessionAnswer(NamedTuple):
    """The decoded answer to a SESSION entry."""

    status: SessionStatus
    result: bytes = b""
    """The machine's result if ``APPLIED``, else empty."""
    session: int = 0
    """The new session's id if ``REGISTERED``, else 0."""
    position: LogPosition = LogPosition(0, 0)
    """Of the copy that was applied, if ``APPLIED``: a retry's own entry changed nothing."""

    @classmethod
    def decode(cls, data: bytes) -> SessionAnswer:
        """Read an answer that came from a node.

        Raises:
            InvalidInput: the bytes are no answer.
        """
        if not data or data[0] > SessionStatus.MALFORMED:
            raise InvalidInput(f"not an answer to a session entry: {data[:16]!r}")
        status = SessionStatus(data[0])
        if status is SessionStatus.APPLIED:
            if len(data) < _APPLIED_HEAD.size:
                raise InvalidInput(f"an applied command has a position, not {len(data)} bytes")
            _, term, index = _APPLIED_HEAD.unpack_from(data)
            return cls(status, data[_APPLIED_HEAD.size :], position=LogPosition(term, index))
        if status is SessionStatus.REGISTERED:
            if len(data) != 1 + _ID.size:
                raise InvalidInput(f"a session id has 8 bytes, not {len(data) - 1}")
            return cls(status, session=_ID.unpack_from(data, 1)[0])
        if len(data) != 1:
            raise InvalidInput(f"{len(data) - 1} bytes too many after {status.name}")
        return cls(status)


_REGISTERED: Final = bytes([SessionStatus.REGISTERED])
_CLOSED: Final = bytes([SessionStatus.CLOSED])
_EXPIRED: Final = bytes([SessionStatus.SESSION_EXPIRED])
_NOT_KEPT: Final = bytes([SessionStatus.ANSWER_NOT_KEPT])
_MALFORMED: Final = bytes([SessionStatus.MALFORMED])


def register_session() -> bytes:
    """The data of a SESSION entry that opens a session; its id is the entry's log index."""
    return _REGISTER_BYTES


def close_session(session: int) -> bytes:
    """The data of a SESSION entry that ends a session and forgets its answers.

    Raises:
        InvalidInput: the id is no log index.
    """
    if not 0 < session <= MAX_UINT:
        raise InvalidInput(f"{session!r} is no session id", remedy="use the id of a registration")
    return _CLOSE_HEAD.pack(_CLOSE, session)


def session_command(session: int, sequence: int, acknowledged_below: int, command: bytes) -> bytes:
    """The data of a SESSION entry that carries a command.

    Args:
        session: the id that the registration answered.
        sequence: the client's own number for this command; the same for every retry of it.
        acknowledged_below: the client has the answers to all sequences below this one and will
            not ask for them again.

    Raises:
        InvalidInput: a number is out of range, or the command acknowledges itself.
    """
    if not (0 < session <= MAX_UINT and 0 <= acknowledged_below <= sequence <= MAX_UINT):
        raise InvalidInput(
            f"session {session!r}, sequence {sequence!r}, acknowledged {acknowledged_below!r}",
            where="session command",
            remedy="a client acknowledges only sequences below the one it sends",
        )
    return _COMMAND_HEAD.pack(_COMMAND, session, sequence, acknowledged_below) + command


class SessionCommand(NamedTuple):
    """What the data of a SESSION entry that carries a command says."""

    session: int
    sequence: int
    acknowledged_below: int
    command: bytes


def command_of(data: bytes) -> SessionCommand | None:
    """The command in the data of a SESSION entry; None if it carries none."""
    if len(data) < _COMMAND_SIZE or data[0] != _COMMAND:
        return None
    _, session, sequence, acknowledged_below = _COMMAND_HEAD.unpack_from(data)
    return SessionCommand(session, sequence, acknowledged_below, data[_COMMAND_SIZE:])


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """How much the table remembers; equal on all members of a group (see HAZARD above).

    Args:
        sessions: beyond this many, a registration expires the least recently used session.
        window: how far apart the sequences in flight of one session may be. A higher sequence
            makes those that fall out of the window unanswerable.
        answer_bytes: answers kept per session, in bytes, the latest one not counted: it is kept
            whatever its size.
    """

    sessions: int = 4096
    window: int = 1024
    answer_bytes: int = 1 << 16

    def __post_init__(self) -> None:
        for name in ("sessions", "window", "answer_bytes"):
            value = getattr(self, name)
            if type(value) is not int or not 0 < value <= MAX_UINT:
                raise InvalidInput(
                    f"must be a positive whole number, not {value!r}",
                    where=f"SessionLimits.{name}",
                )


class _Session:
    """One client: the answers to sequences at or above its floor, in the order of application."""

    __slots__ = ("answer_bytes", "answers", "floor")

    def __init__(self) -> None:
        self.floor = 0
        self.answers: dict[int, bytes | None] = {}  # None: applied, the answer was too much to keep
        self.answer_bytes = 0

    def raise_floor(self, floor: int) -> None:
        """Forget every sequence below ``floor``, for good."""
        answers = self.answers
        if floor - self.floor <= len(answers):
            gone = [answers.pop(sequence, None) for sequence in range(self.floor, floor)]
        else:  # a wide jump costs what is kept, not what is skipped
            gone = [answers.pop(sequence) for sequence in list(answers) if sequence < floor]
        for answer in gone:
            if answer is not None:
                self.answer_bytes -= len(answer)
        self.floor = floor

    def keep(self, sequence: int, answer: bytes, answer_bytes_max: int) -> None:
        """Remember an answer; the oldest ones make room, but stay known as applied."""
        if self.answer_bytes > answer_bytes_max:
            for old, kept in self.answers.items():
                if kept is not None:
                    self.answers[old] = None
                    self.answer_bytes -= len(kept)
                    if self.answer_bytes <= answer_bytes_max:
                        break
        self.answers[sequence] = answer
        self.answer_bytes += len(answer)


class SessionTable:
    """All sessions of a group: a pure function of the group's log.

    Args:
        limits: how much to remember.
    """

    __slots__ = ("_history", "_limits", "_sessions")

    def __init__(self, limits: SessionLimits | None = None) -> None:
        self._limits = SessionLimits() if limits is None else limits
        self._sessions: OrderedDict[int, _Session] = OrderedDict()  # least recently used first
        self._history = zlib.crc32(repr(astuple(self._limits)).encode())

    @property
    def limits(self) -> SessionLimits:
        """How much this table remembers."""
        return self._limits

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, session: object) -> bool:
        return session in self._sessions

    def foresee(self, session: int, sequence: int) -> SessionStatus | None:
        """How a command would be answered now without being applied; None if it would be."""
        known = self._sessions.get(session)
        if known is None:
            return SessionStatus.SESSION_EXPIRED
        if sequence < known.floor:
            return SessionStatus.ANSWER_NOT_KEPT
        if sequence not in known.answers:
            return None
        kept = known.answers[sequence] is not None
        return SessionStatus.APPLIED if kept else SessionStatus.ANSWER_NOT_KEPT

    def apply(
        self, index: int, data: bytes, apply: Callable[[int, bytes], bytes], term: int = 0
    ) -> bytes:
        """Apply one committed SESSION entry and return the encoded answer. Never raises.

        Args:
            index: the entry's log index, above that of every entry before.
            data: the entry's bytes, believed in nothing.
            apply: the machine: called with the index and the command, at most once.
            term: the entry's term, which the answer repeats.
        """
        if len(data) >= _COMMAND_SIZE and data[0] == _COMMAND:
            answer = self._apply_command(index, data, apply, term)
        elif data == _REGISTER_BYTES:
            answer = self._register(index)
        elif len(data) == _CLOSE_HEAD.size and data[0] == _CLOSE:
            self._sessions.pop(_CLOSE_HEAD.unpack(data)[1], None)
            answer = _CLOSED
        else:
            answer = _MALFORMED
        self._history = zlib.crc32(answer, self._history)
        return answer

    def _register(self, index: int) -> bytes:
        sessions = self._sessions
        assert index not in sessions, "one entry, one session"
        if len(sessions) >= self._limits.sessions:
            sessions.popitem(last=False)
        sessions[index] = _Session()
        return _REGISTERED + _ID.pack(index)

    def _apply_command(
        self, index: int, data: bytes, apply: Callable[[int, bytes], bytes], term: int
    ) -> bytes:
        _, session_id, sequence, acknowledged_below = _COMMAND_HEAD.unpack_from(data)
        if not acknowledged_below <= sequence <= MAX_UINT:
            return _MALFORMED
        session = self._sessions.get(session_id)
        if session is None:
            return _EXPIRED
        self._sessions.move_to_end(session_id)

        floor = max(acknowledged_below, sequence - self._limits.window + 1)
        if floor > session.floor:
            session.raise_floor(floor)
        if sequence < session.floor:
            return _NOT_KEPT
        if sequence in session.answers:
            kept = session.answers[sequence]
            return _NOT_KEPT if kept is None else kept
        head = _APPLIED_HEAD.pack(SessionStatus.APPLIED, term, index)
        answer = head + apply(index, data[_COMMAND_SIZE:])
        session.keep(sequence, answer, self._limits.answer_bytes)
        return answer

    def digest(self) -> bytes:
        """4 bytes over every answer ever given and over the limits: equal logs, equal digests."""
        return self._history.to_bytes(4, "big")

    def encode(self) -> bytes:
        """The whole table; equal tables give equal bytes."""
        rows = [
            (session_id, session.floor, tuple(session.answers.items()))
            for session_id, session in self._sessions.items()
        ]
        encoded: bytes = msgpack.packb((astuple(self._limits), self._history, rows))
        return encoded

    @classmethod
    def decode(cls, data: bytes) -> SessionTable:
        """Read a table, limits included: the group's limits win over the local configuration.

        Raises:
            InvalidInput: the bytes are no sound table.
        """
        try:
            limits, history, rows = msgpack.unpackb(data, use_list=False, strict_map_key=False)
            table = cls(SessionLimits(*limits))
            table._history = history
            for session_id, floor, answers in rows:
                session = _Session()
                session.floor = floor
                session.answers.update(answers)
                session.answer_bytes = sum(len(kept) for _, kept in answers if kept is not None)
                table._sessions[session_id] = session
            fault = table._fault() or ("" if table.encode() == data else "something stands twice")
        except Exception as error:  # msgpack raises several unrelated classes
            raise _unreadable(str(error) or type(error).__name__) from error
        if fault:
            raise _unreadable(fault)
        return table

    def check(self) -> None:
        """Every promise that the table makes about itself."""
        fault = self._fault()
        assert not fault, fault

    def _fault(self) -> str:
        """The first promise that does not hold, in words; empty if all do."""
        limits = self._limits
        if len(self._sessions) > limits.sessions:
            return f"{len(self._sessions)} sessions where {limits.sessions} are allowed"
        if not (_is_number(self._history) and self._history < 1 << 32):
            return f"{self._history!r} is no 32-bit history"
        for session_id, session in self._sessions.items():
            where = f"session {session_id!r}"
            if not (_is_number(session_id) and session_id and _is_number(session.floor)):
                return f"{where}: the id or the floor {session.floor!r} is no log number"
            if len(session.answers) > limits.window:
                return f"{where}: {len(session.answers)} answers exceed the window"
            kept_bytes = latest_bytes = 0
            for sequence, answer in session.answers.items():
                if not (_is_number(sequence) and sequence >= session.floor):
                    return f"{where}: an answer is kept for {sequence!r}, below the floor"
                if answer is not None and type(answer) is not bytes:
                    return f"{where}: the answer to {sequence} is no bytes"
                latest_bytes = 0 if answer is None else len(answer)
                kept_bytes += latest_bytes
            if kept_bytes != session.answer_bytes:
                return f"{where}: {kept_bytes} bytes kept, {session.answer_bytes} counted"
            if kept_bytes - latest_bytes > limits.answer_bytes:
                return f"{where}: {kept_bytes} bytes kept, too many"
        return ""

    def __repr__(self) -> str:
        kept = sum(len(session.answers) for session in self._sessions.values())
        return f"SessionTable({len(self._sessions)} sessions, {kept} answers kept)"


def _unreadable(fault: str) -> InvalidInput:
    return InvalidInput(
        f"not a table of sessions: {fault}",
        where="snapshot, sessions",
        remedy="fetch the snapshot again",
    )


def _is_number(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_UINT


def describe_entry(data: bytes) -> dict[str, int | bytes | str]:
    """What a SESSION entry says, for people who look at a log: ``op`` and its fields."""
    if data == _REGISTER_BYTES:
        return {"op": "register"}
    if len(data) == _CLOSE_HEAD.size and data[0] == _CLOSE:
        return {"op": "close", "session": _CLOSE_HEAD.unpack(data)[1]}
    if len(data) >= _COMMAND_HEAD.size and data[0] == _COMMAND:
        _, session, sequence, below = _COMMAND_HEAD.unpack_from(data)
        return {
            "op": "command",
            "session": session,
            "sequence": sequence,
            "acknowledged_below": below,
            "command": data[_COMMAND_HEAD.size :],
        }
    return {"op": "unreadable"}

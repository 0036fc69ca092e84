"""What clients ask a node, and what it answers, as frames.

This module exists so that both ends agree on the bytes, and so that an error raised on a node is
raised again, with its class and its facts, at the client. It must never act on what it decodes.

A request is (id, op, group, ...arguments), a reply (id, status, body). Ids are the client's own;
several requests may be under way on one connection, and replies come in any order. A watch sends
EVENT replies under its id, and END or ERROR when it is over.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import msgpack

from mcpcore import errors
from mcpcore.errors import CoordinationError, InvalidInput, OutcomeUnknown, Rejected
from mcpcore.node.tracing import is_traceparent
from mcpcore.raft.types import MAX_UINT

MAX_WORDS = 4000
"""Characters of an error's message, and of each of its facts, that travel."""

_ANSWERS = (Rejected, OutcomeUnknown, InvalidInput)


class Op(IntEnum):
    """What is asked. Numbers are part of the protocol."""

    PROPOSE = 1
    """(kind, data): answered with (term, index, result)."""
    QUERY = 2
    """(request, consistency): answered with (applied index, answer)."""
    STATUS = 3
    """(): the node and all its groups, as a map."""
    TRANSFER = 4
    """(target): administrators only; answered at once, None."""
    WATCH = 5
    """(request): events follow until CANCEL or the end of the connection."""
    CANCEL = 6
    """(id of the watch): answered with None."""
    CREATE_GROUP = 20
    """(voters, settings by name): administrators only; None once it is durable on this node."""
    RETIRE_GROUP = 21
    """(): administrators only; None once the group's log is dropped on this node."""
    GROUPS = 22
    """(): the groups of this node in brief, as a map."""
    BACKUP = 40
    """(0): begins; answered with (handle, description). (handle): the next bytes of the state, or
    none at its end. Administrators only; one at a time on a connection."""
    QUARANTINE = 45
    """(every): administrators only, as the next four; what this node has in quarantine, as a map;
    ``every``: with what was decided."""
    QUARANTINE_SHOW = 46
    """(number): one entry, all its bytes, and why it may not be proposed again."""
    QUARANTINE_DECIDE = 47
    """(number, "discarded" or "reproposed", by, note): put on record."""
    REUNION = 48
    """(): what waits for an operator on this node, and the reports of past cuts, as a map."""
    REUNITE = 49
    """(episode, by): the reunion that waits may go ahead; None once that is durable."""
    POLICY = 50
    """(verb, body): a question to the policy that the group orders, or an edit of it, as
    ``mcpcore.node.policies.door`` reads them."""
    VERDICTS = 51
    """(b""): events follow, one for each change of this node's verdict on a group, until CANCEL."""
    VERDICT = 52
    """(): the node's verdict on a group with all its evidence, and its history, as a map."""
    CHANGE = 30
    """(changes, force): administrators only; answered with (term, index) once the change of
    membership is committed. What a change looks like is in ``changes``."""

    SURVEY = 60
    """(): as STATUS, with what costs nothing only; for whoever asks often."""
    TRACED = 61
    """(traceparent, op, ...arguments): any other request, as a part of that trace. Only for nodes
    that said in their handshake that they trace."""


_TRACED = int(Op.TRACED)  # every request is compared with it
_ARGUMENTS: dict[int, tuple[type, ...]] = {
    Op.PROPOSE: (int, bytes),
    Op.QUERY: (bytes, str),
    Op.STATUS: (),
    Op.VERDICTS: (bytes,),
    Op.VERDICT: (),
    Op.SURVEY: (),
    Op.TRANSFER: (str,),
    Op.WATCH: (bytes,),
    Op.CANCEL: (int,),
    Op.CREATE_GROUP: (tuple, dict),
    Op.RETIRE_GROUP: (),
    Op.GROUPS: (),
    Op.BACKUP: (int,),
    Op.QUARANTINE: (bool,),
    Op.QUARANTINE_SHOW: (int,),
    Op.QUARANTINE_DECIDE: (int, str, str, str),
    Op.REUNION: (),
    Op.REUNITE: (str, str),
    Op.POLICY: (str, bytes),
    Op.CHANGE: (tuple, bool),
}


class Status(IntEnum):
    """How a request ended."""

    OK = 0
    ERROR = 1
    EVENT = 2
    END = 3


class Request(NamedTuple):
    """A decoded request."""

    number: int
    op: Op
    group: str
    arguments: tuple[Any, ...]
    traceparent: str = ""
    """Of the caller; empty if there is none, or none that makes sense."""


class Reply(NamedTuple):
    """A decoded reply; ``body`` of an ERROR is the exception itself."""

    number: int
    status: Status
    body: Any


def encode_request(number: int, op: Op, group: str, *arguments: object) -> bytes:
    """The frame of a request."""
    packed: bytes = msgpack.packb((number, op, group, *arguments))
    return packed


def encode_traced(traceparent: str, number: int, op: Op, group: str, *arguments: object) -> bytes:
    """The frame of a request that is part of a trace."""
    packed: bytes = msgpack.packb((number, Op.TRACED, group, traceparent, op, *arguments))
    return packed


def decode_request(payload: bytes) -> Request:
    """The request in a frame, believed in nothing.

    Raises:
        InvalidInput: there is none.
    """
    row = _row(payload, "a request")
    traceparent = ""
    if len(row) > 4 and row[1] == _TRACED and type(row[3]) is str:
        number, _, group, traceparent, *rest = row
        row = (number, rest[0], group, *rest[1:])
        if not is_traceparent(traceparent):
            traceparent = ""
    if (
        len(row) < 3
        or type(row[1]) is not int
        or row[1] not in _ARGUMENTS
        or type(row[2]) is not str
    ):
        raise InvalidInput("a request must be (id, op, group, ...)")
    wanted = _ARGUMENTS[row[1]]
    if len(row) != 3 + len(wanted) or any(
        type(value) is not kind for value, kind in zip(row[3:], wanted, strict=True)
    ):
        names = ", ".join(kind.__name__ for kind in wanted)
        raise InvalidInput(f"{Op(row[1]).name} takes ({names}), not {len(row) - 3} such arguments")
    return Request(row[0], Op(row[1]), row[2], row[3:], traceparent)


def encode_reply(number: int, status: Status, body: object) -> bytes:
    """The frame of a reply."""
    packed: bytes = msgpack.packb((number, status, body))
    return packed


def encode_error(number: int, error: CoordinationError) -> bytes:
    """The frame of a reply that raises ``error`` again at the client.

    Always possible, and short: long words are cut, and a fact that is no plain value is left out.
    """
    facts: dict[str, object] = {}
    for name, value in vars(error).items():
        if isinstance(value, str):
            facts[name] = _words(value)
        elif value is None or type(value) in (bool, float) or _is_small(value):
            facts[name] = value
    return encode_reply(number, Status.ERROR, (type(error).__name__, _words(str(error)), facts))


def _is_small(value: object) -> bool:
    return type(value) is int and abs(value) <= MAX_UINT


def _words(text: str) -> str:
    """Text that fits a frame and survives it, whatever a stranger's name or a bug put into it."""
    if len(text) > MAX_WORDS:
        text = text[:MAX_WORDS] + "..."
    return text.encode("utf-8", "backslashreplace").decode()


def decode_reply(payload: bytes) -> Reply:
    """The reply in a frame.

    Raises:
        InvalidInput: there is none.
    """
    row = _row(payload, "a reply")
    if len(row) != 3 or type(row[1]) is not int or not 0 <= row[1] <= Status.END:
        raise InvalidInput("a reply must be (id, status, body)")
    status = Status(row[1])
    return Reply(row[0], status, _error(row[2]) if status is Status.ERROR else row[2])


def _row(payload: bytes, what: str) -> tuple[Any, ...]:
    try:
        row = msgpack.unpackb(payload, use_list=False)
    except Exception as error:  # msgpack raises several unrelated classes
        raise InvalidInput(f"not {what}: {error}") from error
    if type(row) is not tuple or not row or type(row[0]) is not int or not 0 <= row[0] <= MAX_UINT:
        raise InvalidInput(f"{what} must be an array that starts with its id")
    return row


def _error(body: object) -> CoordinationError:
    """Rebuild an error: a class of ``mcpcore.errors`` and its facts, without its constructor.

    A class that answers "may I retry?" is taken at its word. Any other (a newer node's, or one that
    makes no sense here) becomes ``OutcomeUnknown``, which promises nothing.
    """
    match body:
        case (str(name), str(text), dict(facts)):
            kind = getattr(errors, name, None)
            if not (isinstance(kind, type) and issubclass(kind, _ANSWERS)):
                kind, text = OutcomeUnknown, f"{name}: {text}"
            error: CoordinationError = kind.__new__(kind)
            error.args = (text,)
            for fact, value in facts.items():
                if type(fact) is str and fact.isidentifier() and not fact.startswith("_"):
                    error.__dict__[fact] = value
            return error
    raise InvalidInput("an error reply must be (class, message, facts)")

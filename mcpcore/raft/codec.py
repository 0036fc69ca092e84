"""Messages as plain rows for the wire, and back, believing nothing.

This module exists so that a hostile or broken peer meets one wall: a row that decodes is a message
whose every field has the right type and range. It must never look at what a message means.

A row is a tag and the message's fields in order; entries travel as one byte string, the very bytes
that the leader's disk holds. Packing rows into frames is the transport's business.
"""

from __future__ import annotations

from typing import Any, get_type_hints

from mcpcore.errors import InvalidInput
from mcpcore.raft.messages import (
    Append,
    AppendReply,
    Awake,
    Heartbeat,
    HeartbeatReply,
    Message,
    PreVote,
    PreVoteReply,
    ReadIndex,
    ReadIndexReply,
    Recall,
    RecallReply,
    Rest,
    ReunionHeld,
    ReunionNeeded,
    SnapshotAsk,
    SnapshotChunk,
    SnapshotOffer,
    SnapshotReply,
    SnapshotStatus,
    TimeoutNow,
    Vote,
    VoteReply,
)
from mcpcore.raft.types import EMPTY_BLOCK, MAX_UINT, Block

# Tags are part of the protocol: never reuse one, never renumber. Append and RecallReply carry a
# block; the fields of all others are integers or truth values.
_CLASSES: dict[int, type[Message]] = {
    1: Append,
    2: AppendReply,
    3: Heartbeat,
    4: HeartbeatReply,
    5: PreVote,
    6: PreVoteReply,
    7: Vote,
    8: VoteReply,
    9: TimeoutNow,
    10: ReadIndex,
    11: ReadIndexReply,
    28: ReunionHeld,
    29: ReunionNeeded,
    30: SnapshotOffer,
    31: SnapshotChunk,
    32: SnapshotReply,
    33: SnapshotAsk,
    20: Rest,
    21: Awake,
    22: Recall,
    23: RecallReply,
}
_SNAPSHOT_TAGS = frozenset({30, 32})
_STATUSES = frozenset(int(status) for status in SnapshotStatus)
_TAGS = {kind: tag for tag, kind in _CLASSES.items()}
_BLOCK_AT = 1 + Append._fields.index("block")
_SHAPES: dict[int, tuple[type, ...]] = {
    tag: tuple(bytes if hint is Block else hint for hint in get_type_hints(kind).values())
    for tag, kind in _CLASSES.items()
}

Row = tuple[object, ...]
"""A tag and the fields of a message: integers, truth values, bytes."""


def to_row(message: Message) -> Row:
    """The row of a message."""
    tag = _TAGS[type(message)]
    if tag == 1:
        row = (1, *message)
        block = message[_BLOCK_AT - 1]
        assert isinstance(block, Block)
        return (*row[:_BLOCK_AT], block.encoded, *row[_BLOCK_AT + 1 :])
    if type(message) is RecallReply:
        return (tag, *message[:-1], message.block.encoded)
    return (tag, *message)


def from_row(row: object) -> Message:
    """The message of a row.

    Raises:
        InvalidInput: it is no row, or a field has the wrong type or range.
    """
    if type(row) is not tuple or not row or type(row[0]) is not int:
        raise InvalidInput("a message must be an array that starts with its tag")
    tag = row[0]
    shape = _SHAPES.get(tag)
    if shape is None:
        raise InvalidInput(
            f"unknown message tag {tag}",
            remedy="The peer speaks a newer protocol than it agreed to in the handshake.",
        )
    kind = _CLASSES[tag]
    if len(row) != len(shape) + 1:
        raise InvalidInput(f"{kind.__name__} needs {len(shape)} fields, not {len(row) - 1}")
    fields: tuple[Any, ...] = row[1:]
    for value, wanted in zip(fields, shape, strict=True):
        if type(value) is not wanted or (type(value) is int and not 0 <= value <= MAX_UINT):
            raise InvalidInput(f"{kind.__name__} holds a field that is no {wanted.__name__} >= 0")
    if tag == 1:
        return _append(fields)
    if kind is RecallReply:
        return RecallReply._make((*fields[:-1], _block(fields[-1])))
    message = kind(*fields)
    if tag in _SNAPSHOT_TAGS:
        _check_snapshot(message)
    return message


def _check_snapshot(message: Message) -> None:
    match message:
        case SnapshotOffer() if not 0 < message.last_term <= message.term or not message.last_index:
            raise InvalidInput(
                f"a snapshot up to {message.last_index} (term {message.last_term}) cannot be "
                f"offered in term {message.term}"
            )
        case SnapshotReply() if message.status not in _STATUSES:
            raise InvalidInput(f"unknown status {message.status} of a snapshot")
        case _:
            pass


def _block(encoded: bytes) -> Block:
    return EMPTY_BLOCK if encoded == EMPTY_BLOCK.encoded else Block.decode(encoded)


def _append(fields: tuple[Any, ...]) -> Append:
    block = _block(fields[_BLOCK_AT - 1])
    message = Append._make((*fields[: _BLOCK_AT - 1], block, *fields[_BLOCK_AT:]))
    if block.entries:
        first = block.entries[0]
        if first.index != message.prev_index + 1 or first.term < message.prev_term:
            raise InvalidInput(
                f"entries from {first.index} (term {first.term}) cannot follow "
                f"{message.prev_index} (term {message.prev_term})"
            )
        if block.entries[-1].term > message.term:
            raise InvalidInput(f"entries of a term beyond the sender's own, {message.term}")
    return message

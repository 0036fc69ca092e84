"""What nodes say to each other for all their groups at once, as rows for the wire and back.

This module exists so that a beat of a thousand groups is one row of columns and not a thousand
messages, and so that what a peer sends is believed in nothing before it is used. It must never look
at what a message means.

Such a row stands among the messages of groups in a frame, under the empty name, which no group can
have: ("", tag, ...). Heartbeats that share their times travel as columns: one of names, and one for
each number that differs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from mcpcore.errors import InvalidInput
from mcpcore.node.liveness import Beat
from mcpcore.raft.codec import Row
from mcpcore.raft.messages import Heartbeat, HeartbeatReply
from mcpcore.raft.types import MAX_UINT

NODE = ""
"""The name under which a row concerns the node and not a group."""

# Tags are part of the protocol: never reuse one, never renumber.
_BEAT, _HEARTBEATS, _REPLIES, _ROUSE = 1, 2, 3, 4


class Rouse(NamedTuple):
    """Wake every group that you lead and that I am a member of: our books disagree."""


Beats = list[tuple[str, Heartbeat]]
Replies = list[tuple[str, HeartbeatReply]]
Words = Beat | Rouse | Beats | Replies


def beat_row(beat: Beat) -> Row:
    """The row of a node's beat."""
    return (NODE, _BEAT, *beat)


def rouse_row() -> Row:
    """The row of a ``Rouse``."""
    return (NODE, _ROUSE)


def heartbeat_row(sent_ns: int, promise_ns: int, beats: Iterable[tuple[str, Heartbeat]]) -> Row:
    """The row of heartbeats that share ``sent_ns`` and ``promise_ns``."""
    columns = zip(*[(n, b.term, b.session, b.commit, b.round) for n, b in beats], strict=True)
    return (NODE, _HEARTBEATS, sent_ns, promise_ns, *columns)


def reply_row(sent_ns: int, replies: Iterable[tuple[str, HeartbeatReply]]) -> Row:
    """The row of answers to heartbeats of one moment."""
    columns = zip(*[(n, r.term, r.session, r.round) for n, r in replies], strict=True)
    return (NODE, _REPLIES, sent_ns, *columns)


def from_row(row: Row) -> Words:
    """What a row says to the node.

    Raises:
        InvalidInput: nothing that a correct node says.
    """
    tag: Any = row[1] if len(row) > 1 and type(row[1]) is int else None
    fields: tuple[Any, ...] = row[2:]
    match tag:
        case 1 if len(fields) == len(Beat._fields):
            _check_numbers(fields)
            return Beat(*fields)
        case 2 if len(fields) == 7:
            sent_ns, promise_ns, *columns = fields
            _check_numbers((sent_ns, promise_ns))
            return [
                (name, Heartbeat(term, session, commit, round_, sent_ns, promise_ns))
                for name, term, session, commit, round_ in _rows(columns)
            ]
        case 3 if len(fields) == 5:
            sent_ns, *columns = fields
            _check_numbers((sent_ns,))
            return [
                (name, HeartbeatReply(term, session, round_, sent_ns))
                for name, term, session, round_ in _rows(columns)
            ]
        case 4 if not fields:
            return Rouse()
    raise InvalidInput(
        f"a row for the node with tag {tag} and {len(fields)} fields",
        remedy="The peer speaks a newer protocol than it agreed to in the handshake.",
    )


def _rows(columns: list[Any]) -> Iterable[tuple[Any, ...]]:
    """Columns of one length, the first of names and the others of numbers, row by row."""
    names = columns[0]
    if type(names) is not tuple or not names or set(map(type, names)) != {str}:
        raise InvalidInput("the first column must be names of groups")
    for column in columns[1:]:
        if type(column) is not tuple or len(column) != len(names):
            raise InvalidInput(f"columns must all have {len(names)} fields, like that of names")
        _check_numbers(column)
    return zip(*columns, strict=True)


def _check_numbers(values: tuple[Any, ...]) -> None:
    if set(map(type, values)) != {int} or min(values) < 0 or max(values) > MAX_UINT:
        raise InvalidInput(f"numbers must be integers in [0, {MAX_UINT}]")

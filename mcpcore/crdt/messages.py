"""What replicas say to each other, and its bytes.

This module exists so that every message is read in one place, with every field checked, before
anything decides on it. It must never act on a message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import msgpack

from mcpcore.crdt.causal import Causal
from mcpcore.crdt.cells import Cells
from mcpcore.crdt.codec import lattice_code, read_lattice
from mcpcore.crdt.context import CausalContext, wire_list
from mcpcore.crdt.repair import Span
from mcpcore.crdt.values import parse
from mcpcore.errors import InvalidInput

FORMAT = 1
SPANS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Delta:
    """Deltas ``first`` to ``last`` of the sender's buffer, joined."""

    session: int
    first: int
    last: int
    state: Cells | Causal


@dataclass(frozen=True, slots=True)
class Ack:
    """Deltas ``first`` to ``last`` have been joined."""

    session: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Digest:
    """All that the sender knows, in short: what it has seen, and a fingerprint of what it has."""

    context: CausalContext
    whole: Span
    answer: bool


@dataclass(frozen=True, slots=True)
class Probe:
    """Ranges of keys and what the sender has there; the receiver looks where it differs."""

    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What the sender has in a range; with ``answer`` it wants what it lacks there."""

    low: bytes
    high: bytes | None
    answer: bool
    state: Cells | Causal


Message: TypeAlias = Delta | Ack | Digest | Probe | Part


def encode_message(message: Message) -> bytes:
    """A message as bytes."""
    match message:
        case Delta(session, first, last, state):
            body: list[object] = [
                "delta",
                session,
                first,
                last,
                lattice_code(state),
                state.to_wire(),
            ]
        case Ack(session, first, last):
            body = ["ack", session, first, last]
        case Digest(context, whole, answer):
            body = ["digest", context.to_wire(), whole.to_wire(), answer]
        case Probe(spans):
            body = ["probe", [span.to_wire() for span in spans]]
        case Part(low, high, answer, state):
            body = ["part", low, high, answer, lattice_code(state), state.to_wire()]
    return bytes(msgpack.packb([FORMAT, *body]))


def decode_message(data: bytes, *, size_bytes_max: int) -> Message:
    """Read a message.

    Raises:
        InvalidInput: too large, another version, or not a message of ours.
    """
    if len(data) > size_bytes_max:
        raise InvalidInput(f"{len(data)} bytes, at most {size_bytes_max} allowed", where="message")
    version, name, *fields = wire_list(parse(data), "message", least=2)
    if version != FORMAT:
        raise InvalidInput(
            f"format {version!r} is unknown, this one reads {FORMAT}", where="message"
        )
    match name, fields:
        case "delta", [int(session), int(first), int(last), lattice, wire] if 0 < first <= last:
            return Delta(session, first, last, read_lattice(lattice, wire))
        case "ack", [int(session), int(first), int(last)]:
            return Ack(session, first, last)
        case "digest", [context, whole, bool(answer)]:
            return Digest(CausalContext.from_wire(context), Span.from_wire(whole), answer)
        case "probe", [(list() | tuple()) as spans] if len(spans) <= SPANS_MAX:
            return Probe(tuple(Span.from_wire(span) for span in spans))
        case "part", [bytes(low), (bytes() | None) as high, bool(answer), lattice, wire]:
            return Part(low, high, answer, read_lattice(lattice, wire))
    raise InvalidInput(
        f"no message of ours begins {str(name)[:20]!r} and goes on so", where="message"
    )

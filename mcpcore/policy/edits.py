"""Edits: everything that anybody ever said about a policy, each as one signed, immutable record.

This module exists so that the merge can be a union of sets. A replica's state is a set of edits;
what they add up to is worked out by :mod:`mcpcore.policy.view`, the same everywhere. An edit names
itself by its dot, and says what its author had seen, so that any two edits can be told to be
concurrent or ordered without asking a clock. It must never judge whether an edit is in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Final, TypeAlias

import msgpack

from mcpcore.clock import Reading, Timestamp
from mcpcore.crdt import CausalContext, Dot
from mcpcore.crdt.context import check_replica
from mcpcore.errors import InvalidInput
from mcpcore.policy.model import Statement
from mcpcore.policy.roles import check_edge

EDIT_BYTES_MAX: Final = 256 * 1024
FORMAT: Final = 1
_MAGIC: Final = "mcpcore policy edit"


@dataclass(frozen=True, slots=True)
class Add:
    """A statement joins a document. ``name`` is its place there, such as ``web-deploy``."""

    TAG: ClassVar[str] = "add"
    statement: Statement
    name: str = ""

    @property
    def loosens(self) -> bool:
        """Whether it may allow more."""
        return not self.statement.effect.tightens

    @property
    def tightens(self) -> bool:
        """Whether it may allow less."""
        return self.statement.effect.tightens

    def to_wire(self) -> list[object]:
        """Plain values."""
        return [self.statement.to_wire(), self.name]


@dataclass(frozen=True, slots=True)
class Drop:
    """A statement leaves a document.

    What gives (a permit) goes with this, and with every addition of it that has not seen this. What
    takes (a forbid) goes only as far as it was seen: ``targets`` are the dots of its additions.
    """

    TAG: ClassVar[str] = "drop"
    statement: Statement
    targets: tuple[Dot, ...]

    @property
    def loosens(self) -> bool:
        """Whether it may allow more."""
        return self.statement.effect.tightens

    @property
    def tightens(self) -> bool:
        """Whether it may allow less."""
        return not self.statement.effect.tightens

    def to_wire(self) -> list[object]:
        """Plain values."""
        return [self.statement.to_wire(), [list(dot) for dot in self.targets]]


@dataclass(frozen=True, slots=True)
class Enrol:
    """A member gets a role. For forbids it has it at once, for permits once that is ordered."""

    TAG: ClassVar[str] = "enrol"
    member: str
    role: str
    loosens: ClassVar[bool] = True
    tightens: ClassVar[bool] = True

    def to_wire(self) -> list[object]:
        """Plain values."""
        return [self.member, self.role]


@dataclass(frozen=True, slots=True)
class Expel:
    """A member loses a role. For permits at once, for forbids once that is ordered."""

    TAG: ClassVar[str] = "expel"
    member: str
    role: str
    targets: tuple[Dot, ...]
    loosens: ClassVar[bool] = True
    tightens: ClassVar[bool] = True

    def to_wire(self) -> list[object]:
        """Plain values."""
        return [self.member, self.role, [list(dot) for dot in self.targets]]


@dataclass(frozen=True, slots=True)
class Note:
    """A setting of a document, such as whom to call. Decides nothing; concurrent ones all stay.

    ``replaces`` are the dots of the notes that its author saw.
    """

    TAG: ClassVar[str] = "note"
    key: str
    value: str
    replaces: tuple[Dot, ...] = ()
    loosens: ClassVar[bool] = False
    tightens: ClassVar[bool] = False

    def to_wire(self) -> list[object]:
        """Plain values."""
        return [self.key, self.value, [list(dot) for dot in self.replaces]]


@dataclass(frozen=True, slots=True)
class Settle:
    """A conflict was looked at and decided. ``choice`` says how, ``reason`` why."""

    TAG: ClassVar[str] = "settle"
    conflict: str
    choice: str
    reason: str = ""
    loosens: ClassVar[bool] = False
    tightens: ClassVar[bool] = False

    def to_wire(self) -> list[object]:
        """Plain values."""
        return [self.conflict, self.choice, self.reason]


Body: TypeAlias = Add | Drop | Enrol | Expel | Note | Settle


@dataclass(frozen=True)
class Edit:
    """One edit.

    Args:
        dot: (replica, number): which event this is. The replica's name says which cloud.
        tenant: who says so.
        document: in which of the tenant's documents.
        epoch: up to where its author knew the log; ownership is judged by it.
        at: when, on the hybrid clock, with the uncertainty.
        seen: what its author had seen, as replica to highest number, without gaps.
        body: what is said.
        signature: Ed25519 over everything else, by the tenant's key; empty if unsigned.
    """

    dot: Dot
    tenant: str
    document: str
    epoch: int
    at: Reading
    seen: tuple[tuple[str, int], ...]
    body: Body
    signature: bytes = b""

    @property
    def cloud(self) -> str:
        """Where it was made: the replica's lasting name."""
        return self.dot[0].partition("/")[0]

    @cached_property
    def _seen(self) -> dict[str, int]:
        return dict(self.seen)

    def saw(self, other: Edit) -> bool:
        """Whether its author had seen the other edit, or made it before."""
        replica, number = other.dot
        if replica == self.dot[0]:
            return number < self.dot[1]
        return number <= self._seen.get(replica, 0)

    def concurrent(self, other: Edit) -> bool:
        """Whether neither author had seen the other's edit."""
        return self.dot != other.dot and not self.saw(other) and not other.saw(self)

    def signed_part(self) -> bytes:
        """The bytes that the signature covers."""
        return bytes(msgpack.packb([_MAGIC, *self._fields()]))

    def _fields(self) -> list[object]:
        return [
            FORMAT,
            list(self.dot),
            self.tenant,
            self.document,
            self.epoch,
            self.at.timestamp.to_bytes12(),
            self.at.uncertainty_ns,
            [list(pair) for pair in self.seen],
            self.body.TAG,
            self.body.to_wire(),
        ]

    def encode(self) -> bytes:
        """As bytes; equal edits give equal ones."""
        return self._encoded

    @cached_property
    def _encoded(self) -> bytes:
        return bytes(msgpack.packb([*self._fields(), self.signature]))

    def __str__(self) -> str:
        return f"{self.cloud}: {describe(self.body)}"


def describe(body: Body) -> str:
    """What an edit says, in words."""
    match body:
        case Add(statement, name):
            return f"adds {name + ': ' if name else ''}{statement}"
        case Drop(statement):
            return f"drops {statement}"
        case Enrol(member, role):
            return f"makes {member} a member of {role}"
        case Expel(member, role):
            return f"takes {member} out of {role}"
        case Note(key, value):
            return f"sets {key} to {value}"
        case Settle(conflict, choice):
            return f"settles {conflict}: {choice}"


def decode(data: bytes) -> Edit:
    """Read an edit back.

    Raises:
        InvalidInput: anything that :meth:`Edit.encode` does not produce.
    """
    if len(data) > EDIT_BYTES_MAX:
        raise InvalidInput(f"{len(data)} bytes, at most {EDIT_BYTES_MAX}", where="edit")
    try:
        wire = msgpack.unpackb(data)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise InvalidInput(f"cannot be read: {error}", where="edit") from error
    match wire:
        case [
            int(version), [str(replica), int(number)], str(tenant), str(document), int(epoch),
            bytes(stamp), int(uncertainty_ns), [*seen], str(tag), [*body], bytes(signature),
        ] if version == FORMAT:  # fmt: skip
            check_replica(replica)
            if number < 1 or epoch < 0 or uncertainty_ns < 0 or len(stamp) != 12:
                raise InvalidInput("a number is out of range", where="edit")
            at = Reading(Timestamp.from_wire(stamp), uncertainty_ns)
            edit = Edit(
                (replica, number), tenant, document, epoch, at, _vector(seen), _body(tag, body),
                signature,
            )  # fmt: skip
            if edit.encode() != data:
                raise InvalidInput("not the one form that this edit has", where="edit")
            return edit
    raise InvalidInput("not an edit, or of another version", where="edit")


def _body(tag: str, wire: list[object]) -> Body:
    match [tag, *wire]:
        case ["add", statement, str(name)]:
            return Add(Statement.from_wire(statement), name)
        case ["drop", statement, [*targets]]:
            return Drop(Statement.from_wire(statement), _dots(targets))
        case ["enrol", member, role]:
            return Enrol(*check_edge(member, role))
        case ["expel", member, role, [*targets]]:
            return Expel(*check_edge(member, role), _dots(targets))
        case ["note", str(key), str(value), [*replaces]]:
            return Note(key, value, _dots(replaces))
        case ["settle", str(conflict), str(choice), str(reason)]:
            return Settle(conflict, choice, reason)
    raise InvalidInput(f"{tag!r} is no edit", where="edit")


def _dots(wire: list[object]) -> tuple[Dot, ...]:
    return tuple(_pair(item) for item in wire)


def _vector(wire: list[object]) -> tuple[tuple[str, int], ...]:
    vector = tuple(_pair(item) for item in wire)
    if [replica for replica, _ in vector] != sorted({replica for replica, _ in vector}):
        raise InvalidInput("replicas out of order, or twice", where="edit")
    return vector


def _pair(item: object) -> Dot:
    match item:
        case [str(replica), int(number)] if number >= 1:
            return check_replica(replica), number
    raise InvalidInput(f"{item!r} names no event", where="edit")


def vector_of(context: CausalContext) -> tuple[tuple[str, int], ...]:
    """What is known without gaps, as edits carry it.

    Events beyond a gap are left out: an edit then counts as concurrent with them, which is the
    careful reading.
    """
    return tuple(sorted((replica, n) for replica, n in context.vector().items() if n))

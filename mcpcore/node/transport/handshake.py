"""The first frame of each side: who I am, what I speak, what I want.

The caller says ``Hello``; the called answers with its own, or with a goodbye that says why not.
This module exists so that everything that is decided about a stranger sits on one screen. It
decides; it does not do: no socket, no clock, no asyncio. What TLS has proven comes in as an
``Identity``; without TLS it is None, and a stranger's own words are all there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgpack

from mcpcore.errors import HandshakeRefused, InvalidInput
from mcpcore.node.transport.identity import (
    MAY_ASK,
    CertifiedRole,
    Identity,
    Role,
    check_incarnation,
    check_name,
)

MAGIC: Final = "mcpcore"
GOODBYE: Final = 0xC1
"""The first byte of a goodbye: the one byte that no msgpack value begins with."""
_GOODBYE_BYTE: Final = bytes([GOODBYE])


class Parting(StrEnum):
    """Why a connection was refused or ended, in one word."""

    VERSION = "version"
    """No protocol version in common."""
    CLUSTER = "cluster"
    """The other side belongs to another cluster."""
    IDENTITY = "identity"
    """The certificate does not say what the handshake says."""
    ROLE = "role"
    """The certificate does not allow the role asked for."""
    STRANGER = "stranger"
    """A node that is not among our peers."""
    DIRECTION = "direction"
    """The node with the smaller id dials; this was the other one."""
    STALE = "stale"
    """An attempt that was overtaken by a newer one."""
    BUSY = "busy"
    """Too many clients."""
    MALFORMED = "malformed"
    """Bytes that mean nothing here."""
    REPLACED = "replaced"
    """The same peer has connected anew."""
    SLOW = "slow"
    """It does not read what is sent to it."""
    REMOVED = "removed"
    """The peer is not one any more."""
    SHUTDOWN = "shutdown"
    """The other side is closing down."""
    DONE = "done"
    """Whoever used the connection needs it no longer."""
    LOST = "lost"
    """The network, or silence, ended it."""


class Versions(NamedTuple):
    """The protocol versions one side speaks, both ends included."""

    oldest: int
    newest: int

    def __str__(self) -> str:
        return f"{self.oldest} to {self.newest}"


SPOKEN: Final = Versions(1, 2)
"""What this release speaks. Version 2 added notes to the frames between nodes (see ``notes``) and
configurations that say where members are. A connection speaks the highest version that both sides
know, so nodes are upgraded one by one, in any order; what needs all members of a group is refused
until the last of them is upgraded.
"""


@dataclass(frozen=True, slots=True)
class Hello:
    """What one side says first. Only nodes are called, so an answer's role is always PEER.

    This encoding, and that of ``Goodbye``, stay readable to every version for ever: two versions
    that have nothing else in common must still be able to tell each other so.

    ``dial`` counts the caller's attempts within one ``life``, so that an attempt which the network
    has delayed cannot displace a newer one. A process draws its ``life`` when it starts; an
    incarnation may outlive many, since it is as old as the disk.

    A node whose calls are traced says that it ``traces``; no caller tells any other node of traces.
    """

    versions: Versions
    cluster: str
    name: str
    incarnation: str
    role: Role
    dial: int = 0
    life: int = 0
    traces: bool = False

    def encode(self) -> bytes:
        """A msgpack map. Readers skip keys they don't know, which later versions may add."""
        words: dict[str, object] = {
            "magic": MAGIC,
            "versions": self.versions,
            "cluster": self.cluster,
            "name": self.name,
            "incarnation": self.incarnation,
            "role": self.role.value,
            "dial": self.dial,
            "life": self.life,
        }
        if self.traces:
            words["traces"] = True
        payload: bytes = msgpack.packb(words)
        return payload

    @classmethod
    def decode(cls, payload: bytes) -> Hello:
        """Read a first frame.

        Raises:
            InvalidInput: it is no hello; the error says what is wrong with it.
        """
        fields = _unpack(payload)
        if not isinstance(fields, dict) or fields.get("magic") != MAGIC:
            raise InvalidInput(
                "the first frame is no mcpcore handshake",
                remedy="Is something else pointed at this port?",
            )
        role = fields.get("role")
        if not isinstance(role, str) or role not in Role.__members__.values():
            raise InvalidInput(
                f"the unknown role {role!r} is asked for",
                where="handshake",
                remedy="Roles are peer, client and admin",
            )
        return cls(
            versions=_versions(fields.get("versions")),
            cluster=check_name(fields.get("cluster"), "handshake, cluster"),
            name=check_name(fields.get("name"), "handshake, name"),
            incarnation=check_incarnation(fields.get("incarnation"), "handshake, incarnation"),
            role=Role(role),
            dial=_count(fields.get("dial", 0), "dial"),
            life=_count(fields.get("life", 0), "life"),
            traces=fields.get("traces") is True,
        )


class Goodbye(NamedTuple):
    """The last words on a connection."""

    code: str
    why: str

    def encode(self) -> bytes:
        """A payload that no msgpack value looks like."""
        # A reason may quote what the other side sent; it must fit a first frame all the same.
        words = (str(self.code)[:32], self.why[:500])
        return _GOODBYE_BYTE + bytes(msgpack.packb(words))

    @classmethod
    def decode(cls, payload: bytes) -> Goodbye:
        """Read a goodbye. A garbled one is a goodbye all the same, without a reason."""
        try:
            code, why = _unpack(payload[1:])
        except (InvalidInput, TypeError, ValueError):
            return cls(Parting.MALFORMED, "a goodbye that cannot be read")
        if not isinstance(code, str) or not isinstance(why, str):
            return cls(Parting.MALFORMED, "a goodbye that cannot be read")
        # Words of a stranger on their way into a log: one line, and nothing that moves a cursor.
        return cls(_printable(code[:32]), _printable(why[:500]))


def agree(ours: Hello, theirs: Hello, certified: Identity | None) -> int:
    """Judge the other side's hello, whichever side called. Returns the version both will speak.

    Args:
        ours: what we say; on the called side its ``role`` does not count, for the caller asks.
        theirs: what they say; on the calling side this is a node's answer.
        certified: who the certificate says they are; None on a connection without TLS.

    Raises:
        HandshakeRefused: there is no agreement; ``code`` says on what.
    """
    version = min(ours.versions.newest, theirs.versions.newest)
    if version < max(ours.versions.oldest, theirs.versions.oldest):
        raise HandshakeRefused(
            Parting.VERSION,
            f"{theirs.name} speaks protocol versions {theirs.versions}, {ours.name} speaks "
            f"{ours.versions}: upgrade the older one step by step",
        )
    if theirs.cluster != ours.cluster:
        raise HandshakeRefused(
            Parting.CLUSTER,
            f"{theirs.name} is of cluster {theirs.cluster}, {ours.name} of {ours.cluster}",
        )
    if certified is not None:
        _compare_with_certificate(theirs, certified)
    return version


def _compare_with_certificate(theirs: Hello, certified: Identity) -> None:
    if certified.cluster != theirs.cluster:
        raise HandshakeRefused(
            Parting.CLUSTER,
            f"the certificate {certified} is of cluster {certified.cluster}, and its owner claims "
            f"to be of {theirs.cluster}",
        )
    if theirs.role not in MAY_ASK[certified.role]:
        allowed = " or ".join(sorted(MAY_ASK[certified.role]))
        raise HandshakeRefused(
            Parting.ROLE,
            f"the certificate {certified} allows the role {allowed}, not {theirs.role}",
        )
    if certified.name != theirs.name:
        raise HandshakeRefused(
            Parting.IDENTITY,
            f"the certificate {certified} is of {certified.name}, and its owner claims to be "
            f"{theirs.name}",
        )


def expect_node(answer: Hello, certified: Identity | None, name: str | None) -> None:
    """Judge, as the calling side, whether we reached whom we called.

    Args:
        answer: the called side's hello.
        certified: who its certificate says it is; None without TLS.
        name: the node we meant; None if any node of the cluster will do.

    Raises:
        HandshakeRefused: somebody else answered.
    """
    if answer.role is not Role.PEER or (certified and certified.role is not CertifiedRole.NODE):
        who = certified or f"{answer.name} (a {answer.role})"
        raise HandshakeRefused(Parting.ROLE, f"{who} answers in a node's place")
    if name is not None and answer.name != name:
        raise HandshakeRefused(
            Parting.IDENTITY,
            f"{answer.name} answers where {name} is expected: is the address in the configuration "
            "that of another node?",
        )


def _unpack(payload: bytes) -> Any:
    try:
        return msgpack.unpackb(payload)
    except ValueError as error:  # which all of msgpack's own errors are
        raise InvalidInput(f"not msgpack: {error}", where="handshake") from None


def _count(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise InvalidInput(f"{value!r} is no count", where=f"handshake, {where}")
    return value


def _versions(value: object) -> Versions:
    if not isinstance(value, list) or len(value) != 2:
        raise InvalidInput(f"{value!r} is no range of versions", where="handshake, versions")
    oldest, newest = _count(value[0], "versions"), _count(value[1], "versions")
    if oldest > newest:
        raise InvalidInput(f"{value!r} is no range of versions", where="handshake, versions")
    return Versions(oldest, newest)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)

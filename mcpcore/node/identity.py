"""Who somebody is: a cluster, a role and a name, as a certificate states them.

This module exists so that identity has one spelling, ``mcpcore://<cluster>/<role>/<name>``, and one
place that reads it. Pure text work: it must never import ssl, asyncio or a cryptographic library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mcpcore.errors import InvalidInput

URI_SCHEME: Final = "mcpcore://"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_INCARNATION: Final = re.compile(r"[0-9a-f]{16}\Z")


class CertifiedRole(StrEnum):
    """What a certificate says its owner is."""

    NODE = "node"
    CLIENT = "client"
    ADMIN = "admin"


class Role(StrEnum):
    """What the caller of a connection asks to be on it."""

    PEER = "peer"
    """Another node of the cluster: speaks the peer protocol, and only that."""
    CLIENT = "client"
    """Reads and writes through the groups' state machines."""
    ADMIN = "admin"
    """May also change the cluster: members, leaders, recovery."""


MAY_ASK: Final[dict[CertifiedRole, frozenset[Role]]] = {
    CertifiedRole.NODE: frozenset({Role.PEER}),
    CertifiedRole.CLIENT: frozenset({Role.CLIENT}),
    CertifiedRole.ADMIN: frozenset({Role.CLIENT, Role.ADMIN}),
}
"""The whole of authorisation at the door. A node's key opens no client's door: a stolen one must
not do more than its owner ever did."""


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """One party of one cluster.

    Raises:
        InvalidInput: the cluster or the name is no name.
    """

    cluster: str
    role: CertifiedRole
    name: str

    def __post_init__(self) -> None:
        check_name(self.cluster, "cluster")
        check_name(self.name, "name")

    @property
    def uri(self) -> str:
        """The spelling that stands in the certificate's subject alternative name."""
        return f"{URI_SCHEME}{self.cluster}/{self.role}/{self.name}"

    def __str__(self) -> str:
        return self.uri

    @classmethod
    def parse(cls, uri: str) -> Identity:
        """Read what ``uri`` wrote.

        Raises:
            InvalidInput: it is no such URI.
        """
        parts = uri.removeprefix(URI_SCHEME).split("/")
        if not uri.startswith(URI_SCHEME) or len(parts) != 3:
            raise InvalidInput(
                f"{uri!r} is no identity", remedy="It looks like mcpcore://<cluster>/<role>/<name>"
            )
        cluster, role, name = parts
        if role not in CertifiedRole.__members__.values():
            raise InvalidInput(
                f"{uri!r} has the unknown role {role!r}", remedy="Roles are node, client and admin"
            )
        return cls(cluster, CertifiedRole(role), name)

    @classmethod
    def among(cls, uris: list[str], *, where: str) -> Identity:
        """The one identity among a certificate's URIs; other schemes are none of our business.

        Raises:
            InvalidInput: there is none, more than one, or a malformed one.
        """
        ours = [uri for uri in uris if uri.startswith(URI_SCHEME)]
        if len(ours) != 1:
            found = ", ".join(ours) if ours else "none"
            raise InvalidInput(
                f"the certificate needs exactly one {URI_SCHEME} URI among its subject alternative "
                f"names; found: {found}",
                where=where,
                remedy="`mcpctl certs init` makes such certificates",
            )
        return cls.parse(ours[0])


def check_name(name: object, where: str) -> str:
    """Return ``name`` if it can name a cluster, a node or a client.

    Raises:
        InvalidInput: it cannot. Names end up in URIs, file names, tables and metrics.
    """
    if not isinstance(name, str) or not _NAME.match(name):
        raise InvalidInput(
            f"{name!r} is no name",
            where=where,
            remedy="Use 1 to 63 letters, digits, dots, dashes and underscores; a letter or a digit "
            "comes first",
        )
    return name


def check_incarnation(incarnation: object, where: str) -> str:
    """Return ``incarnation`` if it is one: 64 random bits, written as 16 hexadecimal digits.

    Raises:
        InvalidInput: it is not.
    """
    if not isinstance(incarnation, str) or not _INCARNATION.match(incarnation):
        raise InvalidInput(
            f"{incarnation!r} is no incarnation",
            where=where,
            remedy="It is 16 lower-case hexadecimal digits, drawn anew for every life",
        )
    return incarnation

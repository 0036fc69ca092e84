"""Where a node can be reached: ``host:port``.

This module exists so that an address is judged once, when it is read, and never again. Pure text
work: it must never resolve a name, open a socket or import asyncio.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

from mcpcore.errors import InvalidInput

_REMEDY: Final = 'Write it like "10.0.0.1:7400", "db1.example.net:7400" or "[::1]:7400"'
_LABEL: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
LOOPBACK: Final = ("127.0.0.0/8", "::1/128")


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """A host and a TCP port. ``str()`` gives back what ``parse`` reads.

    ``host`` is an IPv4 or IPv6 literal (without brackets) or a DNS name.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, *, where: str = "", listening: bool = False) -> Address:
        """Read ``host:port``; an IPv6 host stands in brackets.

        Args:
            where: what the text was read from, for the error message.
            listening: also take port 0, which means "any free port".

        Raises:
            InvalidInput: the text is no address. It says why and how to write one.
        """
        if not isinstance(text, str):
            raise InvalidInput(f"{text!r} is no address", where=where, remedy=_REMEDY)
        host, colon, port_text = text.rpartition(":")
        if not colon:
            raise InvalidInput(f"{text!r} has no port", where=where, remedy=_REMEDY)
        if host.startswith("[") and host.endswith("]"):
            host = _ipv6(host[1:-1], text, where)
        elif ":" in host:
            raise InvalidInput(
                f"{text!r} has an IPv6 host without brackets, so that its port cannot be told",
                where=where,
                remedy=_REMEDY,
            )
        else:
            host = _name_or_ipv4(host, text, where)
        return cls(host, _port(port_text, text, where, listening))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host is a literal of 127.0.0.0/8 or ::1. A name never is: it may resolve
        to anything, tomorrow if not today.
        """
        return self.is_within(LOOPBACK)

    def is_within(self, networks: tuple[str, ...]) -> bool:
        """Whether the host is a literal inside one of these networks (``10.0.0.0/8``)."""
        literal = _literal(self.host)
        return literal is not None and any(literal in ip_network(net) for net in networks)


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _ipv6(host: str, text: str, where: str) -> str:
    literal = _literal(host)
    if not isinstance(literal, IPv6Address):
        raise InvalidInput(
            f"{text!r}: {host!r} is no IPv6 address, and only those stand in brackets",
            where=where,
            remedy=_REMEDY,
        )
    return str(literal)


def _name_or_ipv4(host: str, text: str, where: str) -> str:
    if not host:
        raise InvalidInput(
            f"{text!r} has no host",
            where=where,
            remedy='Write "0.0.0.0" or "[::]" to listen on every interface',
        )
    if isinstance(_literal(host), IPv4Address):
        return host
    labels = host.removesuffix(".").split(".")
    # A last label of digits alone is a mistyped IPv4 address; no top-level domain looks like that.
    if labels[-1].isdigit() or len(host) > 253 or not all(map(_LABEL.match, labels)):
        raise InvalidInput(
            f"{text!r}: {host!r} is neither an IPv4 address nor a host name",
            where=where,
            remedy=_REMEDY,
        )
    return host


def _port(digits: str, text: str, where: str, listening: bool) -> int:
    lowest = 0 if listening else 1
    # isascii: other scripts have digits too, and int() would read them.
    if digits.isascii() and digits.isdigit() and len(digits) <= 5:
        port = int(digits)
        if lowest <= port <= 65535:
            return port
    raise InvalidInput(
        f"{text!r}: {digits!r} is no port between {lowest} and 65535", where=where, remedy=_REMEDY
    )


def check_networks(networks: tuple[str, ...]) -> None:
    """Refuse what is no network in CIDR form.

    Raises:
        InvalidInput: one of ``networks`` cannot be read.
    """
    for text in networks:
        try:
            ip_network(text)
        except ValueError as error:
            raise InvalidInput(
                f"{text!r} is no network: {error}", remedy='Write it like "10.0.0.0/8"'
            ) from None

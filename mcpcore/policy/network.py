"""Who may talk to whom: rules about connections between endpoints.

This module exists because a network policy is a set and never an order. Selecting an endpoint
isolates it in one direction; permits are united; a forbid beats them. So "deny all" and "allow the
front end" mean one thing in whatever order they arrive, and no rule needs a priority. (Kubernetes
users are often told to order their policies; there is no order to give.)

Isolation is a statement of its own here, apart from what is let through: adding an isolation only
takes away, adding a permit only gives, and the two must be told apart when clouds are cut off.

Source: the Kubernetes documentation, "Network Policies"; the API reference of networking.k8s.io/v1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final

from mcpcore.errors import InvalidInput
from mcpcore.policy.operators import Mismatch, address, network
from mcpcore.policy.patterns import check_pattern, matcher, overlap
from mcpcore.policy.selectors import Selector

PORT_MAX: Final = 65_535
PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
NAMESPACE_NAME_LABEL: Final = "kubernetes.io/metadata.name"
EVERY: Final = Selector()


class Direction(StrEnum):
    """Seen from the endpoint that a rule is about."""

    INGRESS = "ingress"
    EGRESS = "egress"


@dataclass(frozen=True)
class Endpoint:
    """One end of a connection.

    Args:
        namespace: where the pod lives; empty for what is outside.
        name: the pod's name; two ends of equal namespace and name are one pod.
        labels: of the pod.
        namespace_labels: of its namespace; the namespace's name is among them always.
        ip: its address; empty if unknown.
        ports: named ports, as name to (protocol, number).
    """

    namespace: str = ""
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    ip: str = ""
    ports: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    @cached_property
    def all_namespace_labels(self) -> Mapping[str, str]:
        """The namespace's labels with its name, as the API server sets it."""
        return {**self.namespace_labels, NAMESPACE_NAME_LABEL: self.namespace}

    def __str__(self) -> str:
        where = f"{self.namespace}/{self.name}".strip("/")
        return where or self.ip or "somebody"


@dataclass(frozen=True)
class Connection:
    """May the source connect to this port of the target?"""

    source: Endpoint
    target: Endpoint
    port: int
    protocol: str = "TCP"

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}:{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end: pods, or a range of addresses.

    Args:
        pods: labels of the pod; None does not ask.
        namespaces: labels of its namespace; None means the namespace of the rule's subject.
        cidr: a range of addresses; then the other two are None.
        but: ranges inside ``cidr`` that do not count.
    """

    pods: Selector | None = None
    namespaces: Selector | None = None
    cidr: str = ""
    but: tuple[str, ...] = ()

    def matches(self, endpoint: Endpoint, home: str) -> bool:
        """Whether this end is meant, by a rule about an endpoint of the namespace ``home``."""
        if self.cidr:
            return self._holds_address(endpoint.ip)
        if not endpoint.namespace:
            return False
        if self.namespaces is None:
            if endpoint.namespace != home:
                return False
        elif not self.namespaces.matches(endpoint.all_namespace_labels):
            return False
        return self.pods is None or self.pods.matches(endpoint.labels)

    def _holds_address(self, ip: str) -> bool:
        try:
            found = address(ip)
        except Mismatch:
            return False
        inside = found in network(self.cidr)
        return inside and not any(found in network(each) for each in self.but)

    def to_wire(self) -> list[object]:
        """Plain lists."""
        pods = None if self.pods is None else self.pods.to_wire()
        namespaces = None if self.namespaces is None else self.namespaces.to_wire()
        return [pods, namespaces, self.cidr, list(self.but)]

    @classmethod
    def from_wire(cls, wire: object) -> Peer:
        """Read :meth:`to_wire` back.

        Raises:
            InvalidInput: not that shape, selectors beside a range, or a range that is none.
        """
        match wire:
            case [pods, namespaces, str(cidr), [*but]]:
                peer = cls(
                    None if pods is None else Selector.from_wire(pods),
                    None if namespaces is None else Selector.from_wire(namespaces),
                    cidr,
                    tuple(str(each) for each in but),
                )
                peer.check()
                return peer
        raise InvalidInput("not a peer", where="network rule")

    def check(self) -> None:
        """Refuse what cannot mean anything.

        Raises:
            InvalidInput: selectors beside a range, nothing at all, or a range that is none.
        """
        if self.cidr:
            if self.pods is not None or self.namespaces is not None:
                raise InvalidInput(
                    "a range of addresses stands alone", where="peer", remedy="Make two peers of it"
                )
            whole = _checked_range(self.cidr)
            for each in self.but:
                part = _checked_range(each)
                if part.version != whole.version or not _inside(part, whole):
                    raise InvalidInput(f"{each} does not lie in {self.cidr}", where="peer")
        elif self.pods is None and self.namespaces is None:
            raise InvalidInput("selects by nothing", where="peer", remedy="Give an empty selector")
        elif self.but:
            raise InvalidInput("exceptions need a range of addresses", where="peer")

    def __str__(self) -> str:
        if self.cidr:
            return f"{self.cidr} except {', '.join(self.but)}" if self.but else self.cidr
        pods = "" if self.pods is None else f"pods {self.pods}"
        namespaces = "" if self.namespaces is None else f"namespaces {self.namespaces}"
        return " in ".join(part for part in (pods, namespaces) if part)


def _checked_range(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise InvalidInput(f"{text!r} is no range of addresses", where="peer") from None


def _inside(part: IPv4Network | IPv6Network, whole: IPv4Network | IPv6Network) -> bool:
    if isinstance(part, IPv4Network) and isinstance(whole, IPv4Network):
        return part.subnet_of(whole)
    if isinstance(part, IPv6Network) and isinstance(whole, IPv6Network):
        return part.subnet_of(whole)
    return False


@dataclass(frozen=True, slots=True)
class Ports:
    """Some ports of one protocol.

    Args:
        protocol: TCP, UDP or SCTP.
        port: a number, a name that the target gives to one of its ports, or None for all.
        end: the last port of a range that begins at ``port``.
    """

    protocol: str = "TCP"
    port: int | str | None = None
    end: int | None = None

    def matches(self, connection: Connection) -> bool:
        """Whether the connection goes to one of these."""
        if connection.protocol != self.protocol:
            return False
        if self.port is None:
            return True
        if isinstance(self.port, str):
            return connection.target.ports.get(self.port) == (self.protocol, connection.port)
        return self.port <= connection.port <= (self.port if self.end is None else self.end)

    def overlaps(self, other: Ports) -> bool:
        """Whether some connection may match both; named ports may be any."""
        if self.protocol != other.protocol:
            return False
        if not isinstance(self.port, int) or not isinstance(other.port, int):
            return True
        return self.port <= (other.end or other.port) and other.port <= (self.end or self.port)

    def to_wire(self) -> list[object]:
        """A plain list."""
        return [self.protocol, self.port, self.end]

    @classmethod
    def from_wire(cls, wire: object) -> Ports:
        """Read :meth:`to_wire` back.

        Raises:
            InvalidInput: an unknown protocol, or numbers that are no range of ports.
        """
        match wire:
            case [str(protocol), int() | str() | None as port, int() | None as end]:
                ports = cls(protocol, port, end)
                ports.check()
                return ports
        raise InvalidInput(f"{wire!r} is no port", where="network rule")

    def check(self) -> None:
        """Refuse what is no range of ports.

        Raises:
            InvalidInput: an unknown protocol, or numbers that are no range of ports.
        """
        if self.protocol not in PROTOCOLS:
            raise InvalidInput(
                f"{self.protocol!r} is no protocol", where="ports", remedy="TCP, UDP or SCTP"
            )
        numbers = [n for n in (self.port, self.end) if isinstance(n, int)]
        if any(isinstance(n, bool) or not 1 <= n <= PORT_MAX for n in numbers):
            raise InvalidInput(f"{numbers} lie outside 1..{PORT_MAX}", where="ports")
        if self.end is not None and (not isinstance(self.port, int) or self.end < self.port):
            raise InvalidInput("a range begins at a number not above its end", where="ports")
        if self.port == "":
            raise InvalidInput("a port's name is not empty", where="ports")

    def __str__(self) -> str:
        if self.port is None:
            return f"all {self.protocol}"
        last = "" if self.end is None else f"-{self.end}"
        return f"{self.port}{last}/{self.protocol}"


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """What may (not) reach some endpoints, or be reached from them.

    Args:
        direction: seen from the subject.
        namespace: a pattern; where the subjects live.
        subject: labels of the pods that the rule is about.
        peers: the other ends; empty means nobody. An isolation has none and needs none.
        ports: empty means every port of every protocol.
        everybody: every other end, also such as have neither namespace nor address.
    """

    direction: Direction
    namespace: str
    subject: Selector = EVERY
    peers: tuple[Peer, ...] = ()
    ports: tuple[Ports, ...] = ()
    everybody: bool = False

    def about(self, endpoint: Endpoint) -> bool:
        """Whether the rule is about this endpoint."""
        return (
            bool(endpoint.namespace)
            and matcher(self.namespace)(endpoint.namespace)
            and self.subject.matches(endpoint.labels)
        )

    def covers(self, connection: Connection) -> bool:
        """Whether peers and ports match; :meth:`about` is asked before."""
        inward = self.direction is Direction.INGRESS
        here, there = (
            (connection.target, connection.source)
            if inward
            else (connection.source, connection.target)
        )
        if self.ports and not any(ports.matches(connection) for ports in self.ports):
            return False
        return self.everybody or any(peer.matches(there, here.namespace) for peer in self.peers)

    def overlaps(self, other: NetworkRule) -> bool:
        """Whether one connection may concern both; peers are not looked at."""
        if self.direction is not other.direction or not overlap(self.namespace, other.namespace):
            return False
        if not self.subject.overlaps(other.subject):
            return False
        return (
            not self.ports
            or not other.ports
            or any(a.overlaps(b) for a in self.ports for b in other.ports)
        )

    def to_wire(self) -> list[object]:
        """Plain lists."""
        return [
            str(self.direction),
            self.namespace,
            self.subject.to_wire(),
            [peer.to_wire() for peer in self.peers],
            [ports.to_wire() for ports in self.ports],
            self.everybody,
        ]

    @classmethod
    def from_wire(cls, wire: object) -> NetworkRule:
        """Read :meth:`to_wire` back.

        Raises:
            InvalidInput: not that shape, or a part that means nothing.
        """
        match wire:
            case [str(direction), namespace, subject, [*peers], [*ports], bool(everybody)]:
                if direction not in ("ingress", "egress"):
                    raise InvalidInput(
                        f"{direction!r} is no direction", remedy="Use ingress or egress"
                    )
                return cls(
                    Direction(direction),
                    check_pattern(namespace, "namespace"),
                    Selector.from_wire(subject),
                    tuple(Peer.from_wire(peer) for peer in peers),
                    tuple(Ports.from_wire(each) for each in ports),
                    everybody,
                )
        raise InvalidInput("not a rule about the network", where="statement")

    def __str__(self) -> str:
        who = "everybody" if self.everybody else ", ".join(map(str, self.peers)) or "nobody"
        word = "from" if self.direction is Direction.INGRESS else "to"
        ports = f" on {', '.join(map(str, self.ports))}" if self.ports else ""
        return f"{self.direction} of {self.namespace}/{self.subject} {word} {who}{ports}"

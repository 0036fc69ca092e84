"""Nodes on loopback, and a handler that remembers what it heard."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcpcore.errors import InvalidInput
from mcpcore.node.addresses import Address
from mcpcore.node.connection import Connection
from mcpcore.node.limits import Limits
from mcpcore.node.security import Plaintext, Security, Tls
from mcpcore.node.transport import Transport, TransportConfig, new_incarnation

# Short waits, so that a test of a timeout takes a moment; long enough for a busy machine.
SHORT = Limits(
    ping_interval_s=0.1,
    idle_timeout_s=0.4,
    connect_timeout_s=2.0,
    handshake_timeout_s=0.5,
    tls_handshake_timeout_s=0.5,
    linger_s=0.3,
    backoff_min_s=0.01,
    backoff_max_s=0.05,
)


class Recorder:
    """A handler that writes down everything it hears."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.frames: list[tuple[str, int, bytes]] = []
        self.clients: list[Connection] = []
        self.client_frames: list[tuple[str, bytes]] = []

    def on_connected(self, peer: str, session: int, incarnation: str) -> None:
        self.events.append(("connected", peer, session, incarnation))

    def on_disconnected(self, peer: str, session: int, reason: str) -> None:
        self.events.append(("disconnected", peer, session, reason))

    def on_frame(self, peer: str, session: int, payload: bytes) -> None:
        if payload == b"malformed":
            raise InvalidInput("this payload is malformed")
        self.frames.append((peer, session, payload))

    def on_client(self, connection: Connection) -> None:
        self.clients.append(connection)
        connection.on_frame = lambda payload: self.client_frames.append((connection.name, payload))

    @property
    def kinds(self) -> list[str]:
        return [event[0] for event in self.events]

    @property
    def reasons(self) -> list[str]:
        return [event[3] for event in self.events if event[0] == "disconnected"]


@dataclass
class Node:
    transport: Transport
    heard: Recorder

    @property
    def address(self) -> Address:
        return self.transport.address


@dataclass
class Town:
    """Makes nodes, and closes them when the test is over."""

    certificates: Path
    nodes: list[Node] = field(default_factory=list)
    lives: int = 0

    def tls(self, who: str) -> Tls:
        """``who`` is a file of certificates without its ending: node-a, client-app, ..."""
        folder = self.certificates / who.rpartition("/")[0]
        name = who.rpartition("/")[2]
        return Tls(folder / "ca.crt", folder / f"{name}.crt", folder / f"{name}.key")

    async def node(
        self,
        name: str,
        *,
        tls: bool = False,
        security: Security | None = None,
        listen: Address | None = None,
        limits: Limits = SHORT,
        **config: Any,
    ) -> Node:
        self.lives += 1
        heard = Recorder()
        if security is None:
            security = self.tls(f"node-{name}") if tls else Plaintext(allow_plaintext=True)
        transport = Transport(
            TransportConfig(
                **{"cluster": "north", "incarnation": new_incarnation(random.Random(self.lives))}
                | config,
                node=name,
                listen=listen or Address("127.0.0.1", 0),
                limits=limits,
            ),
            security,
            heard,
            random.Random(self.lives),
        )
        node = Node(transport, heard)
        self.nodes.append(node)
        await transport.start()
        return node

    async def pair(self, **how: Any) -> tuple[Node, Node]:
        """Nodes a and b, connected."""
        a, b = await self.node("a", **how), await self.node("b", **how)
        introduce(a, b)
        await until(lambda: a.heard.kinds == b.heard.kinds == ["connected"])
        return a, b


def introduce(a: Node, b: Node) -> None:
    a.transport.add_peer(b.transport.config.node, b.address)
    b.transport.add_peer(a.transport.config.node, a.address)


async def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 -- what is waited for has no event of its own
            await asyncio.sleep(0.005)

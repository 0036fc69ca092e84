"""The transport of a node: one connection to each peer, one door for peers and clients.

This module exists so that the rest of a node can say ``send(peer, payload)`` and never wait, and
hears of payloads, sessions and clients through plain calls. It knows nothing of what the payloads
mean. Everything goes through the running loop (``create_server``, ``create_connection``, timers),
so that a simulated loop can stand in for the network; it must never touch a socket or a thread.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from dataclasses import dataclass, field
from typing import Final, Protocol

from mcpcore.errors import HandshakeRefused, InvalidInput
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.connection import Agreement, Connection, Counters
from mcpcore.node.transport.handshake import SPOKEN, Goodbye, Hello, Parting, Versions, agree
from mcpcore.node.transport.identity import (
    CertifiedRole,
    Identity,
    Role,
    check_incarnation,
    check_name,
)
from mcpcore.node.transport.limits import Limits
from mcpcore.node.transport.peer_link import LOUD, PeerHandler, PeerLink, PeerStats
from mcpcore.node.transport.security import Security
from mcpcore.node.transport.sendqueue import SendQueue

logger = logging.getLogger("mcpcore.node.transport")

ADMIN_RESERVE: Final = 16
"""Administrators get in when clients have taken every place; so many of them."""

_QUIET_S: Final = 60.0
"""The same complaint about the same stranger goes to the log once in so many seconds."""
_COMPLAINTS_KEPT: Final = 256


class TransportHandler(PeerHandler, Protocol):
    """Who hears of peers and of clients."""

    def on_client(self, connection: Connection) -> None:
        """A client or an administrator (``connection.role``) has connected. Set its
        ``on_frame``, and ``on_close`` if its end matters, before returning.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportConfig:
    """Who we are and where we listen.

    Raises:
        InvalidInput: a name or the incarnation is none.
    """

    cluster: str
    node: str
    incarnation: str
    """16 hexadecimal digits, kept as long as the disk remembers: see ``new_incarnation``."""
    listen: Address
    versions: Versions = SPOKEN
    limits: Limits = field(default_factory=Limits)
    traces: bool = False
    """Whether to tell callers that we trace calls."""

    def __post_init__(self) -> None:
        check_name(self.cluster, "transport, cluster")
        check_name(self.node, "transport, node")
        check_incarnation(self.incarnation, "transport, incarnation")


def new_incarnation(rng: random.Random) -> str:
    """64 random bits as 16 hexadecimal digits."""
    return f"{rng.getrandbits(64):016x}"


class Transport:
    """The network as a node sees it.

    Args:
        config: who we are.
        security: ``Tls``, or ``Plaintext`` on loopback.
        handler: who hears of peers and clients.
        rng: where the jitter of reconnecting comes from.

    Raises:
        InvalidInput: the certificate is of another node, or plaintext is not allowed there.
    """

    def __init__(
        self,
        config: TransportConfig,
        security: Security,
        handler: TransportHandler,
        rng: random.Random,
    ) -> None:
        ours = Identity(config.cluster, CertifiedRole.NODE, config.node)
        if security.identity not in (None, ours):
            raise InvalidInput(
                f"the certificate is of {security.identity}, and this node is {ours}",
                where="transport",
                remedy="Give each node the certificate that bears its own name",
            )
        security.admit(config.listen, "transport, listen")
        self.config = config
        self._security = security
        self._handler = handler
        self._rng = rng
        self._hello = Hello(
            config.versions,
            config.cluster,
            config.node,
            config.incarnation,
            Role.PEER,
            life=rng.getrandbits(62),
            traces=config.traces,
        )
        self._links: dict[str, PeerLink] = {}
        self._dials: dict[str, int] = {}
        self._clients: set[Connection] = set()
        self._connections: set[Connection] = set()
        self._complaints: dict[str, float] = {}
        self._server: asyncio.Server | None = None
        self._address = config.listen
        self._server_context: ssl.SSLContext | None = None
        self._client_context: ssl.SSLContext | None = None
        self._closed = False
        self.tls_failures = 0
        """Callers that did not get through TLS."""
        self.refused_calls = 0
        """Callers that got through TLS, and whom we refused then."""

    # --- life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Listen, and begin to call the peers that are for us to call.

        Raises:
            InvalidInput: we cannot listen there; it says why.
        """
        listen, limits = self.config.listen, self.config.limits
        loop = asyncio.get_running_loop()
        self._server_context = context = self._security.server_context(self._note_tls_failure)
        self._client_context = self._security.client_context()
        try:
            if context is None:
                self._server = await loop.create_server(self._answer, listen.host, listen.port)
            else:
                self._server = await loop.create_server(
                    self._answer,
                    listen.host,
                    listen.port,
                    ssl=context,
                    ssl_handshake_timeout=limits.tls_handshake_timeout_s,
                )
        except OSError as error:
            raise InvalidInput(
                f"cannot listen on {listen}: {error.strerror or error}",
                where="transport, listen",
                remedy="Is another process listening there, or is the address not this machine's?",
            ) from None
        if listen.port == 0:
            self._address = Address(listen.host, self._server.sockets[0].getsockname()[1])
        own = {"node": self.config.node, "address": str(self.address)}
        logger.info("node %s: listening on %s", self.config.node, self.address, extra=own)
        for link in self._links.values():
            link.start(self._client_context)

    @property
    def address(self) -> Address:
        """Where we listen; with the port that was found, if any free one was asked for."""
        return self._address

    async def close(self) -> None:
        """Say goodbye to everybody and return when all is closed, within ``linger_s`` or so."""
        if self._closed:
            return
        self._closed = True
        if self._server is not None:
            self._server.close()
        why = f"{self.config.node} is closing down"
        await asyncio.gather(*(link.stop(Parting.SHUTDOWN, why) for link in self._links.values()))
        for connection in list(self._connections):
            connection.close(why, Parting.SHUTDOWN)
        waiting = [c.gone for c in self._connections if not c.gone.done()]
        if waiting:
            await asyncio.wait(waiting, timeout=self.config.limits.linger_s + 1)
        if self._server is not None:
            await self._server.wait_closed()
        logger.info("node %s: closed", self.config.node, extra={"node": self.config.node})

    def renew_certificates(self) -> None:
        """Read the certificate files again. Connections that are open stay as they are.

        Raises:
            InvalidInput: the files are not usable, or name another node; nothing has changed.
        """
        for context in (self._server_context, self._client_context):
            self._security.renew(context)
        logger.info("node %s: certificates renewed", self.config.node)

    # --- peers ----------------------------------------------------------------------------------

    def add_peer(self, name: str, address: Address) -> None:
        """Make a node our peer: accept its calls, or call it, as the order of the ids demands.

        Adding it again is harmless; with another address, see ``remove_peer`` first.

        Raises:
            InvalidInput: it is ourselves, no name, another address than before, or plaintext is
                not allowed there.
        """
        check_name(name, "add_peer")
        if name == self.config.node:
            raise InvalidInput(f"{name} is this node itself", where="add_peer")
        self._security.admit(address, f"add_peer, {name}")
        known = self._links.get(name)
        if known is not None and known.address != address:
            raise InvalidInput(
                f"{name} is at {known.address} already, not at {address}",
                where="add_peer",
                remedy="Remove the peer before adding it with another address",
            )
        if known is None:
            self._links[name] = link = PeerLink(
                self._hello,
                name,
                address,
                self._security,
                self.config.limits,
                self._connections,
                self._handler,
                self._rng,
                self._dials.pop(name, 0),
            )
            if self._server is not None:
                link.start(self._client_context)

    async def remove_peer(self, name: str) -> None:
        """Have nothing more to do with a node. Removing an unknown one is harmless."""
        link = self._links.pop(name, None)
        if link is not None:
            self._dials[name] = link.dials
            await link.stop(Parting.REMOVED, f"{name} is no peer of {self.config.node} any more")

    def version(self, name: str) -> int:
        """The protocol version spoken with a peer; 0 while there is no connection to it."""
        link = self._links.get(name)
        return 0 if link is None or link.connection is None else link.connection.version

    def address_of(self, name: str) -> Address | None:
        """Where a peer is called; None if it is none."""
        link = self._links.get(name)
        return None if link is None else link.address

    @property
    def peers(self) -> tuple[str, ...]:
        """The names of our peers, connected or not, sorted."""
        return tuple(sorted(self._links))

    def send(
        self, peer: str, payload: bytes, *, droppable: bool = False, flush: bool = False
    ) -> bool:
        """Queue one payload for a peer; it leaves at the end of this loop turn. Never blocks.

        All that is queued for a peer within one turn leaves in one write. Returns False, and
        counts it, if the peer is unknown or not connected, or if its queue is full and holds
        nothing droppable to make room. True promises no delivery: a session may end at any time.

        Args:
            payload: a msgpack value.
            droppable: may give way to newer payloads when the queue is full (a heartbeat).
            flush: hand over what is queued for this peer now, not at the end of the loop turn.

        Raises:
            InvalidInput: ``payload`` is empty, or longer than the largest frame.
        """
        link = self._links.get(peer)
        if link is None:
            return False
        connection = link.connection
        if connection is None:
            link.counters.refused += 1
            return False
        return connection.send(payload, droppable, flush)

    def end_session(self, peer: str, why: str) -> None:
        """End the session with a peer that broke the rules; it may connect anew."""
        link = self._links.get(peer)
        if link is not None and link.connection is not None:
            link.connection.close(why, Parting.MALFORMED)

    def flush(self) -> None:
        """Hand over what is queued now, not at the end of the loop turn: for whoever is about to
        wait for something else, and wants the peers to work meanwhile.
        """
        for link in self._links.values():
            if link.connection is not None:
                link.connection.flush()

    def stats(self) -> dict[str, PeerStats]:
        """One line for each peer, sorted by name."""
        now = asyncio.get_running_loop().time()
        return {name: self._links[name].stats(now) for name in self.peers}

    @property
    def clients(self) -> tuple[Connection, ...]:
        """The clients and administrators that are connected, in no particular order."""
        return tuple(self._clients)

    # --- the door -------------------------------------------------------------------------------

    def _answer(self) -> Connection:
        return Connection(_Caller(self), self._security, self.config.limits, self._connections)

    def _judge_call(self, theirs: Hello, certified: Identity | None) -> tuple[int, PeerLink | None]:
        """Judge a caller; return the version and, for a peer, its link.

        Raises:
            HandshakeRefused: we don't want to talk to it.
        """
        version = agree(self._hello, theirs, certified)
        if self._closed:
            raise HandshakeRefused(Parting.SHUTDOWN, f"{self.config.node} is closing down")
        if theirs.role is Role.PEER:
            link = self._links.get(theirs.name)
            if link is None:
                raise HandshakeRefused(
                    Parting.STRANGER,
                    f"{theirs.name} is no peer of {self.config.node}: has it been added here?",
                )
            link.admit_call(theirs)
            return version, link
        places = self.config.limits.max_clients
        if theirs.role is Role.ADMIN:
            places += ADMIN_RESERVE
        if len(self._clients) >= places:
            raise HandshakeRefused(
                Parting.BUSY, f"{self.config.node} serves {len(self._clients)} clients already"
            )
        return version, None

    def _note_refusal(self, connection: Connection, parting: Goodbye) -> None:
        self.refused_calls += 1
        host = connection.remote.rpartition(":")[0]
        self._complain(f"a call from {connection.certified or host} came to nothing: {parting.why}")

    def _note_tls_failure(self, why: str) -> None:
        self.tls_failures += 1
        self._complain(f"a caller failed TLS: {why}")

    def _complain(self, text: str) -> None:
        """Log a stranger's fault, but not at the stranger's pace."""
        now = asyncio.get_running_loop().time()
        if now < self._complaints.get(text, now):
            return
        if len(self._complaints) >= _COMPLAINTS_KEPT:
            self._complaints.clear()
        self._complaints[text] = now + _QUIET_S
        logger.warning("node %s: %s", self.config.node, text, extra={"node": self.config.node})


class _Caller:
    """The owner of one connection that somebody else has made to us."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._link: PeerLink | None = None

    def judge(self, theirs: Hello, certified: Identity | None) -> tuple[Agreement, Hello | None]:
        version, self._link = self._transport._judge_call(theirs, certified)
        agreement = Agreement(version, theirs.role, theirs.name, theirs.incarnation)
        return agreement, self._transport._hello

    def opened(self, connection: Connection) -> None:
        transport = self._transport
        if self._link is not None:
            self._link.opened(connection)
            return
        limits = transport.config.limits
        queue = SendQueue(limits.max_client_queue_frames, limits.max_client_queue_bytes)
        connection.carry(queue, Counters())
        transport._clients.add(connection)
        logger.info(
            "%s %s: connected from %s",
            connection.role,
            connection.name,
            connection.remote,
            extra=_facts(transport.config.node, connection),
        )
        transport._handler.on_client(connection)

    def ended(self, connection: Connection, parting: Goodbye) -> None:
        transport = self._transport
        if connection.agreement is None:
            transport._note_refusal(connection, parting)
        elif self._link is not None:
            self._link.ended(connection, parting)
        else:
            transport._clients.discard(connection)
            logger.log(
                logging.WARNING if parting.code in LOUD else logging.INFO,
                "%s %s: the connection from %s is over: %s",
                connection.role,
                connection.name,
                connection.remote,
                parting.why,
                extra=_facts(transport.config.node, connection),
            )


def _facts(node: str, connection: Connection) -> dict[str, str]:
    """Of a client's connection, for the log."""
    return {
        "node": node,
        "client": connection.name,
        "client_role": connection.role.value,
        "remote": str(connection.remote),
    }

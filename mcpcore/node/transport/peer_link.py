"""Our side of one peer: the connection of the moment, its session, and the calling if we call.

This module exists so that "one connection per pair, the newest one counts, and every life has its
own number" is kept in one class, whichever side called. The node with the smaller id calls. It
starts one task, the caller's, and owns it until ``stop``.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from mcpcore.errors import HandshakeRefused, Unreachable
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.connection import Agreement, Connection, Counters
from mcpcore.node.transport.dialing import backoff_s, dial
from mcpcore.node.transport.handshake import Goodbye, Hello, Parting, agree, expect_node
from mcpcore.node.transport.identity import Identity, Role
from mcpcore.node.transport.limits import Limits
from mcpcore.node.transport.security import Security
from mcpcore.node.transport.sendqueue import SendQueue

logger = logging.getLogger("mcpcore.node.transport")


LOUD: Final = (Parting.MALFORMED, Parting.SLOW)
"""Ends that should not happen between healthy nodes, and are logged as warnings."""


class PeerHandler(Protocol):
    """Who hears of peers. All calls are synchronous, in the loop, in order for each peer.

    A session is one connection's life, numbered upwards for each peer from 1. An answer to what
    was sent in an older session belongs to a life that is over. Frames of one session arrive in
    the order they were sent, with none missing in between; between sessions anything may be lost.
    """

    def on_connected(self, peer: str, session: int, incarnation: str) -> None:
        """A session begins. Another ``incarnation`` means that the peer has lost its memory."""
        ...

    def on_disconnected(self, peer: str, session: int, reason: str) -> None:
        """The session is over; nothing more of it will arrive."""
        ...

    def on_frame(self, peer: str, session: int, payload: bytes) -> None:
        """A payload arrived.

        Raises:
            InvalidInput: it is malformed. The session ends, with that reason in the log.
        """
        ...


@dataclass(frozen=True, slots=True)
class PeerStats:
    """One peer as ``status`` and the metrics show it. Counts are since it was added."""

    peer: str
    address: str
    connected: bool
    session: int
    """The current or, when not connected, the last session; 0 if there was none."""
    incarnation: str
    """Of the last session; empty if there was none."""
    version: int
    """The protocol version spoken; 0 while not connected."""
    connected_for_s: float | None
    """How long the session has lasted; None while not connected."""
    received_age_s: float | None
    """How long ago the last byte arrived; None if none ever did."""
    bytes_in: int
    bytes_out: int
    frames_in: int
    frames_out: int
    queued_frames: int
    queued_bytes: int
    dropped: int
    """Droppable frames that gave way in a full queue."""
    refused: int
    """Frames that ``send`` did not accept: no connection, or a queue full of better things."""
    lost: int
    """Frames that were accepted and still queued when a session ended."""
    reconnects: int
    """Sessions after the first."""
    problem: str
    """Why there is no connection; empty while there is one."""


class PeerLink:
    """One peer. Made by the transport; ``ours`` is what we say in every handshake.

    ``dials`` is how often we have called it in this life, under an earlier link: the peer refuses
    a number that it has seen overtaken.
    """

    def __init__(
        self,
        ours: Hello,
        name: str,
        address: Address,
        security: Security,
        limits: Limits,
        registry: set[Connection],
        handler: PeerHandler,
        rng: random.Random,
        dials: int = 0,
    ) -> None:
        self.name = name
        self.address = address
        self.connection: Connection | None = None
        self.counters = Counters()
        self.queue = SendQueue(limits.max_queue_frames, limits.max_queue_bytes)
        self._ours = ours
        self._security = security
        self._limits = limits
        self._registry = registry
        self._handler = handler
        self._rng = rng
        self._session = 0
        self._incarnation = ""
        self._their_life = 0
        self._their_dial = 0
        self.dials = dials
        self._opened_at = 0.0
        self._received_at: float | None = None
        self._problem = "not connected yet"
        self._caller: asyncio.Task[None] | None = None

    @property
    def we_call(self) -> bool:
        """Whether it is for us to call this peer: the smaller id does."""
        return self._ours.name < self.name

    def start(self, context: ssl.SSLContext | None) -> None:
        """Begin to call, if that is for us to do."""
        if self.we_call and self._caller is None:
            self._caller = asyncio.get_running_loop().create_task(
                self._keep_calling(context), name=f"call peer {self.name}"
            )

    async def stop(self, code: Parting, why: str) -> None:
        """End the session and the calling; return when the task is done."""
        if self.connection is not None:
            self.connection.close(why, code)
        if self._caller is not None:
            self._caller.cancel()
            await asyncio.wait([self._caller])

    def stats(self, now: float) -> PeerStats:
        """What there is to tell; ``now`` is loop time in seconds."""
        connection, counters, queue = self.connection, self.counters, self.queue
        received_at = connection.received_at if connection else self._received_at
        return PeerStats(
            peer=self.name,
            address=str(self.address),
            connected=connection is not None,
            session=self._session,
            incarnation=self._incarnation,
            version=connection.version if connection else 0,
            connected_for_s=now - self._opened_at if connection else None,
            received_age_s=None if received_at is None else now - received_at,
            bytes_in=counters.bytes_in,
            bytes_out=counters.bytes_out,
            frames_in=counters.frames_in,
            frames_out=counters.frames_out,
            queued_frames=len(queue),
            queued_bytes=queue.queued_bytes,
            dropped=queue.dropped,
            refused=counters.refused + queue.refused,
            lost=counters.lost,
            reconnects=max(0, self._session - 1),
            problem="" if connection else self._problem,
        )

    # --- as the owner of connections we have called ---------------------------------------------

    def judge(self, theirs: Hello, certified: Identity | None) -> tuple[Agreement, Hello | None]:
        """Judge the answer of the peer we called."""
        version = agree(self._ours, theirs, certified)
        expect_node(theirs, certified, self.name)
        return Agreement(version, Role.PEER, theirs.name, theirs.incarnation), None

    def opened(self, connection: Connection) -> None:
        """A session begins, whoever called; one that is under way ends first."""
        if self.connection is not None:
            self.connection.close("the same peer has connected anew", Parting.REPLACED)
        self.connection = connection
        connection.carry(self.queue, self.counters)
        self._session += 1
        self._incarnation = connection.incarnation
        self._opened_at = asyncio.get_running_loop().time()
        connection.on_frame = partial(self._handler.on_frame, self.name, self._session)
        logger.info(
            "peer %s: connected to %s, session %d, incarnation %s, protocol version %d",
            self.name,
            connection.remote,
            self._session,
            connection.incarnation,
            connection.version,
            extra=self._facts(session=self._session, protocol=connection.version),
        )
        self._handler.on_connected(self.name, self._session, connection.incarnation)

    def ended(self, connection: Connection, parting: Goodbye) -> None:
        """A connection is over. Only the current one's end is the session's."""
        if connection.agreement is None:
            self._note_problem(parting.why)
        elif connection is self.connection:
            self.connection = None
            self._received_at = connection.received_at
            self._problem = parting.why
            logger.log(
                logging.WARNING if parting.code in LOUD else logging.INFO,
                "peer %s: session %d with %s is over: %s",
                self.name,
                self._session,
                connection.remote,
                parting.why,
                extra=self._facts(session=self._session, code=str(parting.code)),
            )
            self._handler.on_disconnected(self.name, self._session, parting.why)

    # --- as the called side ---------------------------------------------------------------------

    def admit_call(self, theirs: Hello) -> None:
        """Judge a call of this peer, beyond what holds for every caller.

        Raises:
            HandshakeRefused: it is not for that side to call, or a newer call has overtaken it.
        """
        if self.we_call:
            raise HandshakeRefused(
                Parting.DIRECTION,
                f"{self._ours.name} calls {self.name}, not the other way: the smaller id calls",
            )
        if theirs.life == self._their_life and theirs.dial < self._their_dial:
            raise HandshakeRefused(
                Parting.STALE,
                f"call {theirs.dial} of {self.name} was overtaken by its call {self._their_dial}",
            )
        self._their_life, self._their_dial = theirs.life, theirs.dial

    # --- calling --------------------------------------------------------------------------------

    async def _keep_calling(self, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began_at = loop.time()
            opened = await self._call_once(context)
            # A session too short to be worth the name counts as a failure: otherwise two processes
            # that claim the same id would throw each other out as fast as the network allows.
            if opened and loop.time() - began_at > self._limits.backoff_max_s:
                failures = 0
            await asyncio.sleep(backoff_s(failures, self._rng, self._limits))
            failures += 1

    async def _call_once(self, context: ssl.SSLContext | None) -> bool:
        """Call, and stay until the connection is over. Returns whether it was ever open."""
        self.dials += 1
        hello = Hello(
            versions=self._ours.versions,
            cluster=self._ours.cluster,
            name=self._ours.name,
            incarnation=self._ours.incarnation,
            role=Role.PEER,
            dial=self.dials,
            life=self._ours.life,
        )

        def make() -> Connection:
            return Connection(self, self._security, self._limits, self._registry, first_words=hello)

        try:
            connection = await dial(make, self.address, context, self._limits)
        except Unreachable as unreachable:
            self._note_problem(unreachable.why)
            return False
        try:
            # Shielded: to stop waiting for the end must not be the end.
            await asyncio.shield(connection.over)
        finally:
            connection.close("not needed any more")
        return connection.agreement is not None

    def _note_problem(self, why: str) -> None:
        if why != self._problem:  # said once, not at every attempt
            text = "peer %s: no connection to %s: %s"
            logger.warning(text, self.name, self.address, why, extra=self._facts())
            self._problem = why

    def _facts(self, **more: str | int) -> dict[str, str | int]:
        """For the log."""
        own = self._ours.name
        return {"node": own, "peer": self.name, "address": str(self.address), **more}

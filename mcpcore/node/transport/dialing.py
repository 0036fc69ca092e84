"""Calling: one attempt to connect, the wait before the next, and a client's way in.

This module exists so that what can go wrong between an address and an open connection is turned
into one error with a reason, in one place. No sockets: only the running loop's own connecting.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Callable

from mcpcore.errors import HandshakeRefused, InvalidInput, Unreachable
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.connection import Agreement, Connection
from mcpcore.node.transport.handshake import (
    SPOKEN,
    Goodbye,
    Hello,
    Parting,
    Versions,
    agree,
    expect_node,
)
from mcpcore.node.transport.identity import Identity, Role, check_name
from mcpcore.node.transport.limits import Limits
from mcpcore.node.transport.security import Security, explain

NO_INCARNATION = "0" * 16
"""What clients give: no state of theirs depends on telling their lives apart."""


def backoff_s(failures: int, rng: random.Random, limits: Limits) -> float:
    """How long to wait after the given number of failures in a row, counted from 0.

    The ceiling doubles with each; the wait is drawn from its upper half, so that nodes that lost
    the same peer at the same moment don't come back at the same moment.
    """
    ceiling_s = min(limits.backoff_max_s, limits.backoff_min_s * 2.0 ** min(failures, 60))
    return ceiling_s * (0.5 + 0.5 * rng.random())


async def dial(
    make: Callable[[], Connection], address: Address, context: ssl.SSLContext | None, limits: Limits
) -> Connection:
    """Bring about a byte stream to ``address``, TLS included. The handshake of ours comes after.

    Raises:
        Unreachable: nobody answered in time, or TLS failed; it says which and why.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(limits.connect_timeout_s):
            if context is None:
                _, connection = await loop.create_connection(make, address.host, address.port)
            else:
                _, connection = await loop.create_connection(
                    make,
                    address.host,
                    address.port,
                    ssl=context,
                    server_hostname="",  # identity is the certificate's URI, see security.py
                    ssl_handshake_timeout=limits.connect_timeout_s,
                )
    except (OSError, UnicodeError) as error:  # ssl.SSLError and TimeoutError are OSErrors
        raise Unreachable(str(address), explain(error)) from None
    return connection


async def connect_client(
    address: Address,
    security: Security,
    *,
    cluster: str,
    name: str,
    role: Role = Role.CLIENT,
    on_frame: Callable[[bytes], object] | None = None,
    versions: Versions = SPOKEN,
    limits: Limits | None = None,
    registry: set[Connection] | None = None,
) -> Connection:
    """Connect to a node as a client, or as an administrator.

    Args:
        cluster: the cluster the node must belong to.
        name: ours; with TLS it is the certificate's.
        role: CLIENT or ADMIN.
        on_frame: called for each payload that arrives; it may also be set on the connection
            before the first request is sent.
        registry: holds the connection for as long as its byte stream exists, refused or not: for
            whoever must see it closed before the loop ends.

    Raises:
        Unreachable: nobody answered, or TLS failed, or the connection broke before it was open.
        HandshakeRefused: we or the node refused; ``code`` and the text say why.
        InvalidInput: the arguments contradict each other, or plaintext is not allowed there.
    """
    limits = limits or Limits()
    if role is Role.PEER:
        raise InvalidInput("a client cannot ask to be a peer", where="connect_client")
    security.admit(address, "connect_client")
    ours = Hello(
        versions=versions,
        cluster=check_name(cluster, "connect_client, cluster"),
        name=check_name(name, "connect_client, name"),
        incarnation=NO_INCARNATION,
        role=role,
    )
    caller = _ClientCaller(ours)

    streams: set[Connection] = set() if registry is None else registry

    def make() -> Connection:
        return Connection(caller, security, limits, streams, first_words=ours, on_frame=on_frame)

    connection = await dial(make, address, security.client_context(), limits)
    try:
        await caller.settled
    except asyncio.CancelledError:
        connection.abort("whoever asked for it has given up")
        raise
    if (parting := connection.parting) is not None:
        if parting.code == Parting.LOST:
            raise Unreachable(str(address), parting.why)
        raise HandshakeRefused(parting.code, f"{address}: {parting.why}")
    return connection


class _ClientCaller:
    """A client's side of the handshake. ``settled`` is done when it is open, or over."""

    def __init__(self, ours: Hello) -> None:
        self._ours = ours
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def judge(self, theirs: Hello, certified: Identity | None) -> tuple[Agreement, None]:
        version = agree(self._ours, theirs, certified)
        expect_node(theirs, certified, None)
        agreement = Agreement(
            version, self._ours.role, theirs.name, theirs.incarnation, theirs.traces
        )
        return agreement, None

    def opened(self, connection: Connection) -> None:
        self._settle()

    def ended(self, connection: Connection, parting: Goodbye) -> None:
        self._settle()

    def _settle(self) -> None:
        if not self.settled.done():
            self.settled.set_result(None)

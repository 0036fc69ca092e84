"""The networking half of the loop: the calls by which asyncio programs reach each other.

This module exists so that ``open_connection``, ``start_server`` and everything built on them run
unmodified: it translates asyncio's arguments into dials, servers, streams and datagrams. How these
behave is decided elsewhere.
"""

from __future__ import annotations

import asyncio
import errno
import socket as real
import ssl as ssl_module
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mcpcore.errors import NotSimulated
from mcpcore.sim import tls
from mcpcore.sim.datagram import SimDatagrams
from mcpcore.sim.server import Dial, SimServer
from mcpcore.sim.sockets import SimSocket
from mcpcore.sim.stream import SimStream

if TYPE_CHECKING:
    from mcpcore.sim.host import Host

_Factory = Callable[[], asyncio.BaseProtocol]


class Endpoints:
    """asyncio's connection calls, for one life of one host."""

    host: Host

    # --- names ------------------------------------------------------------------------------------

    async def getaddrinfo(
        self: Any,
        host: str | bytes | None,
        port: str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        """Resolve a host's name in this world.

        Raises:
            socket.gaierror: no host of that name.
        """
        return self.host.addresses(host, port, family, type, proto)  # type: ignore[no-any-return]

    async def getnameinfo(self: Any, sockaddr: tuple[Any, ...], flags: int = 0) -> tuple[str, str]:
        """Return the name of the host that has an address, and the port as text."""
        found = self.host.find(sockaddr[0])
        return (found.name if found is not None else str(sockaddr[0])), str(sockaddr[1])

    # --- streams: dialling ------------------------------------------------------------------------

    async def create_connection(
        self: Any,
        protocol_factory: _Factory,
        host: str | None = None,
        port: int | None = None,
        *,
        ssl: Any = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: Any = None,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
        """Connect to a server, as asyncio does.

        Raises:
            OSError: refused, unreachable, reset, or nobody answered.
            NotSimulated: ``sock`` is a real socket.
        """
        if server_hostname is None and ssl:
            if not host:
                raise ValueError("You must set server_hostname when using ssl without a host")
            server_hostname = host
        if sock is not None:
            stream = _taken_over(sock)
        elif host is None and port is None:
            raise ValueError("host and port was not specified and no sock specified")
        else:
            stream = await self._dial(host, port, local_addr)
        protocol = protocol_factory()
        if not ssl:
            stream.start(protocol)
            return stream, protocol
        waiter = self.create_future()
        wrapped = tls.wrap(
            self,
            stream,
            protocol,
            _context(ssl, server_side=False, checked=bool(server_hostname)),
            server_side=False,
            server_hostname=server_hostname,
            handshake_timeout_s=ssl_handshake_timeout,
            shutdown_timeout_s=ssl_shutdown_timeout,
            waiter=waiter,
        )
        stream.start(wrapped)
        try:
            await waiter
        except BaseException:
            stream.abort()
            raise
        return wrapped._get_app_transport(), protocol  # type: ignore[attr-defined]

    async def _dial(
        self: Any, host: str | None, port: int | str | None, local_addr: tuple[str, int] | None
    ) -> SimStream:
        here: Host = self.host
        address = here.resolve(host)
        number = int(port or 0)
        there = here.find(address)
        if there is None:
            raise OSError(errno.EHOSTUNREACH, f"No route to host: {address}")
        local_port = local_addr[1] if local_addr is not None and local_addr[1] else 0
        local = (address if there is here else here.address, local_port or here.next_port())
        dial = Dial(self, there, address, number, local)
        dial.begin()
        try:
            return await dial.future
        except asyncio.CancelledError:
            if dial.future.done() and not dial.future.cancelled():
                dial.future.result().abort()
            raise

    async def sock_connect(self: Any, sock: Any, address: tuple[Any, ...]) -> None:
        """Connect a simulated socket; hand it to ``create_connection(sock=...)`` afterwards.

        Raises:
            OSError: refused, unreachable, or nobody answered.
            NotSimulated: ``sock`` is a real socket.
        """
        if not isinstance(sock, SimSocket):
            raise NotSimulated("loop.sock_connect() on a real socket")
        stream = await self._dial(address[0], address[1], sock.local)
        sock.stream = stream
        sock.local = stream.get_extra_info("sockname")
        sock.remote = stream.get_extra_info("peername")

    async def start_tls(
        self: Any,
        transport: Any,
        protocol: asyncio.BaseProtocol,
        sslcontext: ssl_module.SSLContext,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> asyncio.Transport:
        """Turn an open connection into a TLS one.

        Raises:
            TypeError: not a context, or not a transport of this loop (TLS in TLS is not simulated).
        """
        if not isinstance(sslcontext, ssl_module.SSLContext):
            raise TypeError(
                f"sslcontext is expected to be an instance of ssl.SSLContext, got {sslcontext!r}"
            )
        if not isinstance(transport, SimStream):
            raise TypeError(f"transport {transport!r} is not supported by start_tls()")
        waiter = self.create_future()
        wrapped = tls.wrap(
            self,
            transport,
            protocol,
            sslcontext,
            server_side=server_side,
            server_hostname=server_hostname,
            handshake_timeout_s=ssl_handshake_timeout,
            shutdown_timeout_s=ssl_shutdown_timeout,
            waiter=waiter,
            call_connection_made=False,
        )
        # What already arrived must go to TLS, so nothing is handed over until it is in place.
        transport.pause_reading()
        transport.set_protocol(wrapped)
        self.call_soon(wrapped.connection_made, transport)
        self.call_soon(transport.resume_reading)
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return wrapped._get_app_transport()  # type: ignore[attr-defined,no-any-return]

    # --- streams: listening -----------------------------------------------------------------------

    async def create_server(
        self: Any,
        protocol_factory: _Factory,
        host: str | Sequence[str] | None = None,
        port: int | None = None,
        *,
        family: int = 0,
        flags: int = 0,
        sock: Any = None,
        backlog: int = 100,
        ssl: Any = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> SimServer:
        """Listen, as asyncio does.

        Raises:
            OSError: the port is taken, or the address is not ours.
            NotSimulated: ``sock`` is a real socket.
        """
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        if sock is not None:
            if not isinstance(sock, SimSocket):
                raise NotSimulated("create_server(sock=...) with a real socket")
            host, port = sock.local

        def accept(stream: SimStream) -> None:
            protocol = protocol_factory()
            if ssl:
                protocol = tls.wrap(
                    self,
                    stream,
                    protocol,
                    ssl,
                    server_side=True,
                    server_hostname=None,
                    handshake_timeout_s=ssl_handshake_timeout,
                    shutdown_timeout_s=ssl_shutdown_timeout,
                    waiter=None,
                )
            stream.start(protocol)

        here: Host = self.host
        number = int(port or 0) or here.next_port()
        hosts = [host] if host is None or isinstance(host, str) else list(host)
        addresses = list(dict.fromkeys((here.bindable(each), number) for each in hosts))
        if number in here.listeners:
            raise OSError(
                errno.EADDRINUSE, f"error while attempting to bind on port {number}: in use"
            )
        server = SimServer(self, addresses, accept)
        here.listeners[number] = server
        if start_serving:
            await server.start_serving()
        return server

    # --- datagrams --------------------------------------------------------------------------------

    async def create_datagram_endpoint(
        self: Any,
        protocol_factory: Callable[[], asyncio.DatagramProtocol],
        local_addr: tuple[str, int] | None = None,
        remote_addr: tuple[str, int] | None = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: Any = None,
    ) -> tuple[SimDatagrams, asyncio.DatagramProtocol]:
        """Open a datagram endpoint, as asyncio does.

        Raises:
            OSError: the port is taken, or the address is not ours.
            NotSimulated: a real socket, or broadcast.
        """
        if sock is not None:
            raise NotSimulated("create_datagram_endpoint(sock=...)", remedy="Pass local_addr.")
        if allow_broadcast:
            raise NotSimulated("create_datagram_endpoint(allow_broadcast=True)")
        here: Host = self.host
        number = (local_addr[1] if local_addr is not None else 0) or here.next_port()
        if local_addr is not None:
            here.bindable(local_addr[0])
        if number in here.datagram_ports:
            raise OSError(errno.EADDRINUSE, f"port {number} is in use")
        remote = None
        address = here.address
        if remote_addr is not None:
            remote = (here.resolve(remote_addr[0]), remote_addr[1])
            if here.find(remote[0]) is here:
                address = remote[0]
        elif local_addr is not None and local_addr[0].startswith("127."):
            address = local_addr[0]
        protocol = protocol_factory()
        endpoint = SimDatagrams(self, (address, number), remote, protocol)
        here.datagram_ports[number] = endpoint
        self.call_soon(protocol.connection_made, endpoint)
        # One turn, so that the protocol knows its transport before the caller goes on.
        ready = self.create_future()
        self.call_soon(ready.set_result, None)
        await ready
        return endpoint, protocol


def _taken_over(sock: Any) -> SimStream:
    if not isinstance(sock, SimSocket):
        raise NotSimulated("create_connection(sock=...) with a real socket")
    stream, sock.stream = sock.stream, None
    if stream is None:
        raise ValueError("the socket is not connected; await loop.sock_connect() first")
    assert isinstance(stream, SimStream)
    return stream


def _context(ssl: Any, *, server_side: bool, checked: bool) -> ssl_module.SSLContext:
    if isinstance(ssl, ssl_module.SSLContext):
        return ssl
    context = ssl_module.create_default_context(
        ssl_module.Purpose.CLIENT_AUTH if server_side else ssl_module.Purpose.SERVER_AUTH
    )
    context.check_hostname = checked
    return context


def numeric(host: str) -> str | None:
    """Return the IPv4 address that ``host`` spells, or ``None`` if it is a name."""
    try:
        return real.inet_ntoa(real.inet_aton(host)) if host[:1].isdigit() else None
    except OSError:
        return None

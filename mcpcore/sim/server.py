"""Listening and dialling.

This module exists so that the handshake of TCP is played in full: an attempt is repeated while
nobody answers, refused when nobody listens, and a connection is accepted only when the third packet
arrives, so that a path cut in one direction behaves as it does in a data centre.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mcpcore.sim.sockets import SimSocket
from mcpcore.sim.stream import SimStream

if TYPE_CHECKING:
    from mcpcore.sim.host import Host
    from mcpcore.sim.loop import HostLoop

_S = 1_000_000_000


class SimServer(asyncio.AbstractServer):
    """A listening server.

    Args:
        loop: the host's life that listens.
        addresses: where, one entry for each address and port.
        accept: called on this host, with the new end, for each connection.
    """

    def __init__(
        self,
        loop: HostLoop,
        addresses: list[tuple[str, int]],
        accept: Callable[[SimStream], None],
    ) -> None:
        self._loop = loop
        self.addresses = addresses
        self._accept = accept
        self._serving = False
        self._closed = False
        self._streams: dict[SimStream, None] = {}
        self._waiters: list[asyncio.Future[None]] = []
        self._forever: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<SimServer {self._loop.host.name} {self.addresses}>"

    @property
    def sockets(self) -> tuple[SimSocket, ...]:
        """One stand-in for each address; empty once closed."""
        return () if self._closed else tuple(SimSocket(local=each) for each in self.addresses)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop that serves."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._serving

    async def start_serving(self) -> None:
        """Accept connections from now on."""
        if not self._closed:
            self._serving = True

    async def serve_forever(self) -> None:
        """Serve until cancelled, then close.

        Raises:
            RuntimeError: already closed, or somebody else serves for ever.
        """
        if self._closed:
            raise RuntimeError(f"server {self!r} is closed")
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        self._serving = True
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise
        finally:
            self._forever = None

    def close(self) -> None:
        """Listen no more; open connections go on."""
        if self._closed:
            return
        self._closed = True
        self._serving = False
        for _, port in self.addresses:
            self._loop.host.listeners.pop(port, None)
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        self._wake()

    def close_clients(self) -> None:
        """Close every open connection."""
        for stream in list(self._streams):
            stream.close()

    def abort_clients(self) -> None:
        """Reset every open connection."""
        for stream in list(self._streams):
            stream.abort()

    async def wait_closed(self) -> None:
        """Wait until the server is closed and all its connections are gone."""
        if self._closed and not self._streams:
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def detach(self, stream: SimStream) -> None:
        """Hear that a connection is gone."""
        self._streams.pop(stream, None)
        self._wake()

    def _wake(self) -> None:
        if self._closed and not self._streams:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)

    def serves(self, address: str) -> bool:
        """Whether a connection to ``address`` is for us."""
        if not self._serving or self._loop.is_closed():
            return False
        return any(bound in ("0.0.0.0", address) for bound, _ in self.addresses)

    def incoming(self, stream: SimStream) -> None:
        """Take a connection whose handshake is complete; runs as the kernel, not as the host."""
        if not self._loop.is_closed():
            self._loop.call_soon(self._take, stream)

    def _take(self, stream: SimStream) -> None:
        if self._closed:
            stream.abort()
            return
        stream.server = self
        self._streams[stream] = None
        self._accept(stream)


class Dial:
    """One attempt to connect, from the first SYN to the last.

    Args:
        loop: the host's life that dials.
        there: the host dialled.
        address: the address dialled, as its servers know it.
        port: its port.
        local: our address and port.
    """

    def __init__(
        self, loop: HostLoop, there: Host, address: str, port: int, local: tuple[str, int]
    ) -> None:
        self._loop = loop
        self._there = there
        self._address = address
        self._port = port
        self._local = local
        self._network = loop.host.network
        self._out = self._network.path(loop.host, there)
        self._back = self._network.path(there, loop.host)
        self._stream: SimStream | None = None
        self.future: asyncio.Future[SimStream] = loop.create_future()

    def begin(self) -> None:
        """Send the first SYN."""
        limit_ns = int(self._network.limits.connect_s * _S)
        self._loop.timeline.after(limit_ns, self._fail, TimeoutError(errno.ETIMEDOUT, "timed out"))
        self._syn(_S)

    def _over(self) -> bool:
        return self.future.done() or self._loop.is_closed()

    def _syn(self, again_ns: int) -> None:
        if self._over():
            return
        self._loop.timeline.after(again_ns, self._syn, again_ns * 2)
        self._send(self._out, self._arrive)

    def _send(self, path: Any, act: Callable[[], None]) -> None:
        """Send a packet of the handshake; what is lost is lost, the next SYN repeats it."""
        if path.is_cut or path.loses():
            path.touched += 1
            return
        self._loop.timeline.after(path.delay_ns(), act)

    def _arrive(self) -> None:
        there = self._there
        if self._out.is_cut or not there.is_powered:
            self._out.touched += 1
            return
        server = there.listeners.get(self._port)
        if server is None or not server.serves(self._address):
            self._send(self._back, self._refused)
            return
        if self._stream is None:
            self._stream = self._make_ends(server)
        self._send(self._back, self._established)

    def _make_ends(self, server: SimServer) -> SimStream:
        remote = (self._address, self._port)
        ours = SimStream(self._loop, self._out, self._local, remote)
        theirs = SimStream(server._loop, self._back, remote, self._local)
        ours.peer, theirs.peer = theirs, ours
        theirs.on_open = server.incoming
        return ours

    def _refused(self) -> None:
        if not self._back.is_cut:
            where = f"{self._address}:{self._port}"
            self._fail(ConnectionRefusedError(errno.ECONNREFUSED, f"Connect call failed ({where})"))

    def _established(self) -> None:
        if not self._over() and not self._back.is_cut and self._stream is not None:
            self._stream.open_peer()
            self.future.set_result(self._stream)

    def _fail(self, error: OSError) -> None:
        if not self._over():
            self.future.set_exception(error)

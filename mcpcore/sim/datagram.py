"""Datagrams, as an asyncio transport.

This module exists so that loss, duplication, reordering and the MTU hole are visible where a real
network shows them. Nothing is repeated, ordered or confirmed here.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any
from zlib import crc32

from mcpcore.sim.sockets import SimSocket

if TYPE_CHECKING:
    from mcpcore.sim.host import Host
    from mcpcore.sim.loop import HostLoop
    from mcpcore.sim.network import Path

_MAX_BYTES = 65_507
_MS = 1_000_000


class SimDatagrams(asyncio.DatagramTransport):
    """A datagram endpoint.

    Args:
        loop: the host's life that owns it.
        local: our address and port.
        remote: the only peer, for a connected endpoint.
        protocol: who hears of what arrives.
    """

    def __init__(
        self,
        loop: HostLoop,
        local: tuple[str, int],
        remote: tuple[str, int] | None,
        protocol: asyncio.DatagramProtocol,
    ) -> None:
        extra: dict[str, Any] = {
            "sockname": local,
            "peername": remote,
            "socket": SimSocket(local=local, remote=remote),
        }
        super().__init__(extra)
        self.loop = loop
        self.local = local
        self._remote = remote
        self._protocol = protocol
        self._closing = False

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send one datagram; whether it arrives is the network's affair.

        Raises:
            ValueError: a connected endpoint was given another address, or none is known.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(
                f"data argument must be a bytes-like object, not {type(data).__name__!r}"
            )
        if self._remote is not None and addr not in (None, self._remote):
            raise ValueError(f"Invalid address: must be None or {self._remote}")
        target = self._remote if addr is None else addr
        if target is None:
            raise ValueError("no address to send to: the endpoint is not connected")
        if self._closing:
            return
        payload = bytes(data)
        if len(payload) > _MAX_BYTES:
            self._tell(OSError(errno.EMSGSIZE, "Message too long"))
            return
        here = self.loop.host
        there = here.find(here.resolve(target[0]))
        trace = self.loop.timeline.trace
        to = f"{target[0]}:{target[1]}"
        event = trace.note(here.name, "datagram", to, len(payload), crc32(payload))
        if there is None:
            return
        before, trace.cause = trace.cause, event
        self._pass_on(here.network.path(here, there), there, int(target[1]), payload)
        trace.cause = before

    def _pass_on(self, path: Path, there: Host, port: int, payload: bytes) -> None:
        timeline = self.loop.timeline
        link, draw = path.link, path.draw
        now_ns = timeline.now_ns + timeline.lead_ns
        lost = (
            path.cuts > 0
            or len(payload) > link.mtu
            or path.queue_is_full(now_ns, len(payload))
            or path.loses()
        )
        if lost:
            path.touched += 1
            timeline.trace.note(self.loop.host.name, "lost", there.name, len(payload))
            return
        if path.held:
            path.touched += 1
            path.stalled.append((self._arrive, (path, there, port, payload)))
            return
        delay_ns = path.queue_ns(now_ns, len(payload)) + path.delay_ns()
        if link.reorder and draw.random() < link.reorder:
            path.touched += 1
            delay_ns += int(draw.random() * link.reorder_ms * _MS)
        timeline.after(delay_ns, self._arrive, path, there, port, payload)
        if link.duplicate and draw.random() < link.duplicate:
            path.touched += 1
            again_ns = delay_ns + path.delay_ns()
            timeline.after(again_ns, self._arrive, path, there, port, payload)

    def _arrive(self, path: Path, there: Host, port: int, payload: bytes) -> None:
        timeline = self.loop.timeline
        if path.cuts or not there.is_powered:
            path.touched += 1
            timeline.trace.note(there.name, "lost", self.loop.host.name, len(payload))
            return
        target = there.datagram_ports.get(port)
        if target is None or target.loop.is_closed():
            if self._remote is not None:
                refused = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
                timeline.after(path.delay_ns(), self._tell, refused)
            return
        if target._remote is not None and target._remote != self.local:
            return
        trace = timeline.trace
        trace.cause = trace.note(there.name, "datagram_in", self.loop.host.name, len(payload))
        target.loop.call_soon(target._receive, payload, self.local)

    def _receive(self, payload: bytes, source: tuple[str, int]) -> None:
        if not self._closing:
            self._protocol.datagram_received(payload, source)

    def _tell(self, error: OSError) -> None:
        if not self._closing and not self.loop.is_closed():
            self.loop.call_soon(self._protocol.error_received, error)

    def close(self) -> None:
        """Close; what is under way still arrives."""
        if not self._closing:
            self._closing = True
            self.loop.host.datagram_ports.pop(self.local[1], None)
            self.loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        """Same as :meth:`close`: nothing waits here."""
        self.close()

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self._closing

    def get_write_buffer_size(self) -> int:
        """Return 0: datagrams never wait here."""
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return what asyncio's own endpoints have by default."""
        return 16 * 1024, 64 * 1024

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Accept and ignore: datagrams never wait here."""

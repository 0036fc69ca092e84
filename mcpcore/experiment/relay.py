"""One shaped connection: bytes in at one end, out at the other when the link lets them.

This module exists so that what a bad network does to one TCP connection stands in one place: it
keeps the order, holds back what a cut cable would hold back, and pushes back on a fast sender when
its window is full. It must never look at the bytes: they may be TLS.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from typing import Final, cast

from mcpcore.errors import ToolFailed
from mcpcore.experiment.links import Link
from mcpcore.node.transport.addresses import Address

WINDOW_BYTES: Final = 1 << 20
"""How much may be under way in one direction of one connection, like TCP's window: with a long
delay this bounds the speed of one connection (1 MiB over 110 ms: 9.5 MB/s)."""

Dial = Callable[[], Awaitable[socket.socket]]
"""Makes the socket that calls on, so that it can call from another network."""

_ONE_READ_BYTES: Final = 256 * 1024
"""What a loop may still hand over after it was told to read no more."""


class _End(Enum):
    """How a stream ends."""

    DONE = "done"
    """The sender has finished; the other direction may go on."""
    BROKEN = "broken"
    """The connection is gone."""


class Pipe:
    """One direction: from a transport that is read, over a link, to one that is written."""

    def __init__(self, link: Link, window_bytes: int, ended: Callable[[Pipe, bool], None]) -> None:
        self.link = link
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._window_bytes = window_bytes
        self._ended = ended
        self._queue: deque[tuple[float, bytes | _End]] = deque()
        self.queued_bytes = 0
        """What was read and not yet written: under way, or held back."""
        self._not_before_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._sink_is_full = False
        self._over = False

    def feed(self, data: bytes) -> None:
        """Bytes were read."""
        self._push(data, len(data))
        self._steer()

    def finish(self, *, broken: bool) -> None:
        """No more will be read; the other end hears of it when a byte sent now would arrive."""
        self._push(_End.BROKEN if broken else _End.DONE, 0)

    def cut(self) -> None:
        """Hold everything back from now on."""
        self._steer()

    def healed(self) -> None:
        """Send what was held back, from now on: it arrives one delay later."""
        self._not_before_s = self._loop.time() + self.link.delay_s()
        self.pump()

    def fill(self, sink_is_full: bool) -> None:
        """The receiver reads too slowly, or reads again."""
        self._sink_is_full = sink_is_full
        if not sink_is_full:
            self.pump()

    def pump(self) -> None:
        """Write what is due, and have one timer stand for what comes next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        queue, sink = self._queue, self.sink
        while (
            queue
            and sink is not None
            and not (self.link.is_cut or self._sink_is_full or self._over)
        ):
            due_s = max(queue[0][0], self._not_before_s)
            if due_s > self._loop.time():
                self._timer = self._loop.call_at(due_s, self.pump)
                break
            _, item = queue.popleft()
            if isinstance(item, _End):
                self._ended(self, item is _End.BROKEN)
                continue
            self.queued_bytes -= len(item)
            self.link.bytes_delivered += len(item)
            if not sink.is_closing():  # else its owner hears in this turn that it is gone
                sink.write(item)
        self._steer()

    def close(self) -> None:
        """Forget what is queued and stop."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self._queue.clear()
        self.queued_bytes = 0

    def check(self) -> None:
        """What a pipe promises about itself."""
        assert self.queued_bytes == sum(
            len(item) for _, item in self._queue if isinstance(item, bytes)
        )
        assert self.queued_bytes < self._window_bytes + _ONE_READ_BYTES, "memory is bounded"

    def _push(self, item: bytes | _End, size_bytes: int) -> None:
        if self._over:
            return
        arrival_s = self.link.arrival_s(self._loop.time(), size_bytes)
        # What jitter would let overtake waits behind what was sent before, as in TCP.
        self._queue.append((arrival_s, item))
        self.queued_bytes += size_bytes
        if self._timer is None:
            self.pump()

    def _steer(self) -> None:
        """Read on, or stop reading: nothing is read over a cut link or beyond the window.

        While nobody has answered yet (no sink) reading goes on, so that a caller who gives up is
        noticed; the window bounds that, too.
        """
        source = self.source
        if source is None or source.is_closing():
            return
        held = self.link.is_cut and self.sink is not None
        if held or self.queued_bytes >= self._window_bytes:
            source.pause_reading()
        else:
            source.resume_reading()


class Relay:
    """A caller, a called and the two links between them; a ``Carrier`` for both links.

    A call takes one trip there and one back, like TCP's own handshake; only then is the called
    side dialled. While either direction is cut the call just waits, as with a lost SYN.

    Args:
        there: the link from the caller's site.
        back: the link to it.
        to: whom to dial.
        window_bytes: see ``WINDOW_BYTES``.
        forget: called once, when all is over.
        dial: see ``Dial``; None: any socket of ours will do.
    """

    def __init__(
        self,
        there: Link,
        back: Link,
        to: Address,
        window_bytes: int,
        forget: Callable[[Relay], None],
        dial: Dial | None = None,
    ) -> None:
        self._to = to
        self._dial = dial
        self._forget = forget
        self._there = Pipe(there, window_bytes, self._stream_ended)
        self._back = Pipe(back, window_bytes, self._stream_ended)
        self._healed = asyncio.Event()
        self._opening: asyncio.Task[None] | None = None
        self._finished: set[Pipe] = set()
        self._sides_lost = 0
        self._over = False
        self.caller = _Side(self, self._there, self._back)
        self._called = _Side(self, self._back, self._there)
        there.join(self)
        back.join(self)

    @property
    def pipes(self) -> tuple[Pipe, Pipe]:
        """There and back."""
        return self._there, self._back

    def link_cut(self, link: Link) -> None:
        """See ``Carrier``."""
        self._pipe_of(link).cut()

    def link_healed(self, link: Link) -> None:
        """See ``Carrier``."""
        self._healed.set()
        self._pipe_of(link).healed()

    def link_reset(self) -> None:
        """See ``Carrier``."""
        self.abort()

    def side_made(self, side: _Side) -> None:
        """One of the two sockets stands. The caller's is the first."""
        if side is self.caller:
            self._opening = asyncio.get_running_loop().create_task(self._open())
        else:
            self._there.healed()  # what waited for the answer leaves now

    def side_done(self, outgoing: Pipe) -> None:
        """One of the two has said all it had to say."""
        if self._there.sink is None and any(pipe.link.is_cut for pipe in self.pipes):
            self.abort()  # it tired of waiting for an answer; else these would pile up
        else:
            outgoing.finish(broken=False)

    def side_lost(self, outgoing: Pipe, incoming: Pipe) -> None:
        """One of the two sockets is gone; the other hears of it when the news has travelled."""
        self._sides_lost += 1
        if self._sides_lost == 2 or self._there.sink is None:
            self.abort()
        else:
            outgoing.finish(broken=True)
            incoming.close()

    def abort(self) -> None:
        """Break both sockets and be forgotten. Twice is harmless."""
        if self._over:
            return
        self._over = True
        for pipe in self.pipes:
            pipe.link.leave(self)
            pipe.close()
            if pipe.source is not None:
                pipe.source.abort()
        if self._opening is not None:
            self._opening.cancel()
        self._forget(self)

    def _pipe_of(self, link: Link) -> Pipe:
        return self._there if link is self._there.link else self._back

    async def _open(self) -> None:
        for pipe in self.pipes:
            await self._cross(pipe.link)
        loop = asyncio.get_running_loop()
        try:
            if self._dial is None:
                await loop.create_connection(lambda: self._called, self._to.host, self._to.port)
                return
            dialled = await self._dial()
            try:
                await loop.sock_connect(dialled, (self._to.host, self._to.port))
            except BaseException:
                dialled.close()
                raise
            await loop.create_connection(lambda: self._called, sock=dialled)
        except (OSError, ToolFailed):
            self.abort()  # nobody listens there: the caller sees a reset

    async def _cross(self, link: Link) -> None:
        """One trip of a packet that is sent again until it gets through."""
        while True:
            while link.is_cut:
                self._healed.clear()
                await self._healed.wait()
            await asyncio.sleep(link.delay_s())
            if not link.is_cut:
                return

    def _stream_ended(self, pipe: Pipe, broken: bool) -> None:
        self._finished.add(pipe)
        if broken or len(self._finished) == 2:
            self.abort()
        elif pipe.sink is not None and not pipe.sink.is_closing():
            with suppress(OSError):  # reset a moment ago, which the loop tells us next
                pipe.sink.write_eof()


class _Side(asyncio.Protocol):
    """One of the two sockets of a relay."""

    def __init__(self, relay: Relay, outgoing: Pipe, incoming: Pipe) -> None:
        self._relay = relay
        self._outgoing = outgoing
        self._incoming = incoming

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = cast(asyncio.Transport, transport)
        self._outgoing.source = stream
        self._incoming.sink = stream
        self._relay.side_made(self)

    def data_received(self, data: bytes) -> None:
        self._outgoing.feed(data)

    def eof_received(self) -> bool:
        self._relay.side_done(self._outgoing)
        return True  # the other direction may still be in use

    def connection_lost(self, exc: Exception | None) -> None:
        self._relay.side_lost(self._outgoing, self._incoming)

    def pause_writing(self) -> None:
        self._incoming.fill(True)

    def resume_writing(self) -> None:
        self._incoming.fill(False)

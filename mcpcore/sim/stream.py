"""One end of a simulated TCP connection, as an asyncio transport.

This module exists so that protocols see what TCP shows them under trouble, and nothing else: bytes
in order, exactly once, late when packets are lost, stalled when a path is cut, reset when the other
side forgot, half-open when it lost its power. Pieces are numbered and put in order at the receiver,
so a path may delay each piece as it likes. Only *accounted* sizes enter the trace and the timing:
what TLS encrypts is accounted by its plain text, since key material and signatures are not ours to
seed.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from zlib import crc32

from mcpcore.sim.flow import WaterMarks
from mcpcore.sim.sockets import SimSocket

if TYPE_CHECKING:
    from mcpcore.sim.loop import HostLoop
    from mcpcore.sim.network import Path
    from mcpcore.sim.timeline import Wire

SEGMENT_BYTES = 64 * 1024
_RECORDS_AT_ONCE = 8
_RECORD_HEADER = 5
_LOG_LOST_WRITES = 5

# What travels: (bytes, or None for FIN; accounted size; opaque). A connection's first piece is the
# last packet of its handshake, which only tells the listening side that it is open.
_Piece = tuple["bytes | None", int, bool]
_OPEN: _Piece = (None, -1, False)


class SimStream(WaterMarks):
    """One end of a connection.

    Args:
        loop: the host's life that owns this end.
        path: the direction from here to the other end.
        local: our address and port.
        remote: theirs.
    """

    _start_tls_compatible = True

    def __init__(
        self, loop: HostLoop, path: Path, local: tuple[str, int], remote: tuple[str, int]
    ) -> None:
        super().__init__(
            {
                "sockname": local,
                "peername": remote,
                "socket": SimSocket(local=local, remote=remote),
            }
        )
        self.loop = loop
        self.path = path
        self.peer: SimStream = self
        self.name = f"{local[0]}:{local[1]}>{remote[0]}:{remote[1]}"
        self.server: Any = None
        self.on_open: Callable[[SimStream], None] | None = None
        self._window = loop.host.network.limits.window_bytes
        self._sent = 0
        self._expected = 0
        self._early: dict[int, _Piece] = {}
        self._received: deque[_Piece] = deque()
        self._waiting: deque[_Piece] = deque()
        self._waiting_size = 0
        self._under_way = 0
        self._reading = False
        self._feeding = False
        self._closing = False
        self._eof_sent = False
        self._eof_due = False
        self._gone = False
        self._lost_writes = 0
        self._give_up: Wire | None = None

    def __repr__(self) -> str:
        state = "closed" if self._gone else "closing" if self._closing else "open"
        return f"<SimStream {self.loop.host.name} {self.name} {state}>"

    # --- life -------------------------------------------------------------------------------------

    def open_peer(self) -> None:
        """Complete the handshake: the listening side accepts when this arrives."""
        self._put_on_wire(_OPEN)

    def start(self, protocol: asyncio.BaseProtocol) -> None:
        """Begin: tell ``protocol`` that the connection is made, then read."""
        self._protocol = protocol
        self.loop.host.streams[self] = None
        self._reading = True
        protocol.connection_made(self)
        self._schedule_feed()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._closing

    def close(self) -> None:
        """Send what is waiting, then close."""
        if self._closing:
            return
        self._closing = True
        self._reading = False
        if not self._waiting:
            self._finish()

    def _finish(self) -> None:
        self._send_fin()
        self._gone = True
        self.loop.call_soon(self._lost, None)

    def abort(self) -> None:
        """Close at once; the other side is reset."""
        self._force_close(None)

    def _force_close(self, error: BaseException | None) -> None:
        if self._gone:
            return
        self._reset_peer()
        self._close_with(error)

    def _close_with(self, error: BaseException | None) -> None:
        self._waiting.clear()
        self._waiting_size = 0
        self._reading = False
        if not self._gone:
            self._gone = self._closing = True
            self.loop.call_soon(self._lost, error)

    def _lost(self, error: BaseException | None) -> None:
        self._gone = True
        self._cancel_give_up()
        self.loop.host.streams.pop(self, None)
        protocol, self._protocol = self._protocol, None
        if self.server is not None:
            self.server.detach(self)
        if protocol is not None:
            protocol.connection_lost(error if isinstance(error, Exception) else None)

    def die(self, *, silently: bool) -> None:
        """Forget the connection because the process is gone.

        Args:
            silently: the power went: nobody hears of it. Otherwise the kernel closes the socket.
        """
        if not silently and not self._gone:
            self._send_fin()
        self._gone = self._closing = True
        self._cancel_give_up()

    # --- writing ----------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes."""
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(
                f"data argument must be a bytes-like object, not {type(data).__name__!r}"
            )
        if self._eof_due:
            raise RuntimeError("Cannot call write() after write_eof()")
        whole = bytes(data)
        if not whole:
            return
        if len(whole) <= SEGMENT_BYTES:
            self._write((whole, len(whole), False))
            return
        for start in range(0, len(whole), SEGMENT_BYTES):
            part = whole[start : start + SEGMENT_BYTES]
            self._write((part, len(part), False))

    def write_opaque(self, data: bytes, accounted: int) -> None:
        """Send whole TLS records, accounted as ``accounted`` bytes whatever their length."""
        if not self._eof_due:
            self._write((data, accounted, True))

    def _write(self, piece: _Piece) -> None:
        if self._gone or self._closing:
            self._lost_writes += 1
            if self._lost_writes >= _LOG_LOST_WRITES:
                self.loop.timeline.trace.note(self.loop.host.name, "write_lost", self.name)
            return
        if not self._waiting and self._under_way < self._window:
            self._transmit(piece)
            return
        self._waiting.append(piece)
        self._waiting_size += piece[1]
        self._mark()

    def _transmit(self, piece: _Piece) -> None:
        data, size, opaque = piece
        link = self.path.link
        if link.fragment and data is not None and size > 1 and not opaque:
            draw = self.path.draw
            if draw.random() < link.fragment:
                self.path.touched += 1
                cut = draw.randrange(1, size)
                self._put_on_wire((data[:cut], cut, False))
                piece = data[cut:], size - cut, False
        self._put_on_wire(piece)

    def _put_on_wire(self, piece: _Piece) -> None:
        data, size, opaque = piece
        loop, path = self.loop, self.path
        timeline = loop.timeline
        number = self._sent
        self._sent += 1
        self._under_way += max(0, size)
        seen = 0 if data is None or opaque else crc32(data)
        event = timeline.trace.note(loop.host.name, "send", self.name, number, size, seen)
        if path.is_cut:
            self._stall(number, piece)
        else:
            true_ns = timeline.now_ns + timeline.lead_ns
            delay_ns = path.stream_delay_ns(true_ns, max(0, size))
            timeline.after(delay_ns, self.peer._arrive, number, piece).cause = event

    def _stall(self, number: int, piece: _Piece) -> None:
        """Keep a piece that cannot pass until the path is mended or the kernel gives up."""
        path = self.path
        path.touched += 1
        path.stalled.append((self.peer._arrive, (number, piece)))
        if self._give_up is None and not self._gone:
            limit_ns = int(self.loop.host.network.limits.give_up_s * 1e9)
            self._give_up = self.loop.timeline.after(limit_ns, self._timed_out)

    def _timed_out(self) -> None:
        self._give_up = None
        if not self._gone and not self.loop.is_closed():
            self._close_with(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))

    def _cancel_give_up(self) -> None:
        if self._give_up is not None:
            self._give_up.cancelled = True
            self._give_up = None

    def _credit(self, size: int) -> None:
        """Learn that the other side has read ``size`` accounted bytes."""
        self._under_way -= size
        self._cancel_give_up()
        if self._gone or self.loop.is_closed():
            return
        while self._waiting and self._under_way < self._window:
            piece = self._waiting.popleft()
            self._waiting_size -= piece[1]
            self._transmit(piece)
        if self._paused:
            self.loop.call_soon(self._mark)
        if self._eof_due and not self._waiting:
            self._send_fin()
        if self._closing and not self._waiting:
            self._finish()

    def can_write_eof(self) -> bool:
        """Half-close works."""
        return True

    def write_eof(self) -> None:
        """Close our direction once everything is sent."""
        if self._closing or self._eof_due:
            return
        self._eof_due = True
        if not self._waiting:
            self._send_fin()

    def _send_fin(self) -> None:
        if not self._eof_sent:
            self._eof_sent = True
            self._put_on_wire((None, 0, False))

    def _reset_peer(self) -> None:
        """Tell the other side that this connection does not exist. A lost RST stays lost."""
        path = self.path
        if not path.is_cut:
            delay_ns = path.delay_ns()
            self.loop.timeline.after(delay_ns, self.peer._reset)

    def reset_by_network(self) -> None:
        """Break the connection as a middlebox does; this end hears of it."""
        self._reset()

    def _reset(self) -> None:
        if self.loop.host.is_powered and not self.loop.is_closed() and not self._gone:
            self.loop.timeline.trace.note(self.loop.host.name, "reset", self.name)
            self._close_with(ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"))

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for the window, as accounted."""
        return self._waiting_size

    # --- reading ----------------------------------------------------------------------------------

    def _arrive(self, number: int, piece: _Piece) -> None:
        """Take a piece off the wire: the kernel's half, which works while the process is paused."""
        loop = self.loop
        host = loop.host
        sender = self.peer
        if sender.path.is_cut or not host.is_powered:
            sender._stall(number, piece)
            return
        trace = loop.timeline.trace
        if self._gone or loop.is_closed():
            if piece[0] is not None:
                self._reset_peer()
            return
        trace.cause = trace.note(host.name, "deliver", self.name, number, piece[1])
        if number != self._expected:
            self._early[number] = piece
            return
        self._expected += 1
        if piece is _OPEN:
            assert self.on_open is not None, "only a listening end is opened by its peer"
            self.on_open(self)
        else:
            self._received.append(piece)
        while self._early and self._expected in self._early:
            self._received.append(self._early.pop(self._expected))
            self._expected += 1
        self._schedule_feed()

    def _schedule_feed(self) -> None:
        if self._reading and self._received and not self._feeding:
            self._feeding = True
            self.loop.call_soon(self._feed)

    def _feed(self) -> None:
        """Hand over what has arrived; what arrived together is handed over together."""
        self._feeding = False
        while self._received and self._reading and self._protocol is not None:
            data, size, opaque = self._received.popleft()
            if data is None:
                self._feed_eof()
                return
            if not opaque and self._received:
                data, size = self._join(data, size)
            try:
                rest = self._hand_over(data, opaque)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - a protocol's failure ends its connection
                self._fatal(error)
                return
            if rest:
                self._received.appendleft((rest, size, opaque))
                return
            self._acknowledge(size)

    def _join(self, data: bytes, size: int) -> tuple[bytes, int]:
        parts = [data]
        received = self._received
        while received and size < SEGMENT_BYTES:
            following, more, opaque = received[0]
            if following is None or opaque:
                break
            received.popleft()
            parts.append(following)
            size += more
        return b"".join(parts), size

    def _hand_over(self, data: bytes, opaque: bool) -> bytes:
        """Give ``data`` to the protocol; return what it had no more room for."""
        protocol = self._protocol
        if not isinstance(protocol, asyncio.BufferedProtocol):
            assert isinstance(protocol, asyncio.Protocol), "only stream protocols get here"
            protocol.data_received(data)
            return b""
        view = memoryview(data)
        while view:
            if not self._reading or self._protocol is not protocol:
                return bytes(view)
            room = memoryview(protocol.get_buffer(-1))
            count = min(len(room), _records(view) if opaque else len(view))
            if count == 0:
                raise RuntimeError("get_buffer() returned an empty buffer")
            room[:count] = view[:count]
            protocol.buffer_updated(count)
            view = view[count:]
        return b""

    def _acknowledge(self, size: int) -> None:
        if self.path.is_cut:
            self.path.stalled.append((self.peer._credit, (size,)))
        else:
            self.peer._credit(size)

    def _feed_eof(self) -> None:
        protocol = self._protocol
        assert protocol is not None, "end of file is fed to somebody"
        try:
            keep_open = protocol.eof_received()  # type: ignore[attr-defined]
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a protocol's failure ends its connection
            self._fatal(error)
            return
        if not keep_open:
            self.close()

    def _fatal(self, error: BaseException) -> None:
        self.loop.call_exception_handler(
            {
                "message": f"Fatal error: protocol of {self.name} failed",
                "exception": error,
                "transport": self,
                "protocol": self._protocol,
            }
        )
        self._force_close(error)

    def is_reading(self) -> bool:
        """Whether data is handed over as it arrives."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Hand nothing over until :meth:`resume_reading`; the sender will have to wait."""
        if not self._closing:
            self._reading = False

    def resume_reading(self) -> None:
        """Hand data over again."""
        if not self._closing and not self._reading:
            self._reading = True
            self._schedule_feed()

    # --- asyncio's accessors ----------------------------------------------------------------------

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Let another protocol take over."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol in charge."""
        assert self._protocol is not None, "the connection is closed"
        return self._protocol


def _records(view: memoryview) -> int:
    """Length of the first few whole TLS records: a count of records, never of bytes, decides."""
    end = 0
    for _ in range(_RECORDS_AT_ONCE):
        if len(view) - end < _RECORD_HEADER:
            break
        end += _RECORD_HEADER + int.from_bytes(view[end + 3 : end + 5], "big")
    return min(end, len(view)) or len(view)

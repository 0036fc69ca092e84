"""One connection: frames in, frames out, and the signs of life.

This module exists so that everything that happens between two ends of one byte stream is in one
class, the same for peers and clients, for caller and called. Who the other side may be is not
decided here: an *owner* (``Greeter``) judges its hello. It touches the world only through the
running loop's transport, timers and clock; it must never open a socket, start a task or a thread.

Life: greeting (until the first frame has been judged), open, over. ``close`` makes it over at
once, for everybody; the bytes that were queued, and a goodbye, may still leave for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, cast

from mcpcore.errors import HandshakeRefused, InvalidInput
from mcpcore.node.transport.framing import FIRST_FRAME_BYTES, FrameReader, encode_frame
from mcpcore.node.transport.handshake import GOODBYE, Goodbye, Hello, Parting
from mcpcore.node.transport.identity import Identity, Role
from mcpcore.node.transport.limits import Limits
from mcpcore.node.transport.security import Security, explain
from mcpcore.node.transport.sendqueue import SendQueue

SLICE_BYTES: Final = 256 * 1024
"""At most so much goes to the loop's transport in one write, so that what is still in our queue
when the other side stops reading can give way to something newer."""

_PING: Final = encode_frame(b"")


class Agreement(NamedTuple):
    """What a handshake settled."""

    version: int
    role: Role
    """What the *caller* is on this connection."""
    name: str
    """Who the other side is."""
    incarnation: str
    """Which life of the other side this is."""
    traces: bool = False
    """Whether the other side is a node that traces calls."""


class Greeter(Protocol):
    """Who owns a connection: judges its hello, hears of its beginning and its end."""

    def judge(self, theirs: Hello, certified: Identity | None) -> tuple[Agreement, Hello | None]:
        """Agree to talk; return on what, and the answer if the other side called.

        Raises:
            HandshakeRefused: we don't want to talk.
        """
        ...

    def opened(self, connection: Connection) -> None:
        """The handshake is done on our side; ``on_frame`` must be set when this returns."""
        ...

    def ended(self, connection: Connection, parting: Goodbye) -> None:
        """It is over, opened or not. Called once, and nothing comes after it."""
        ...


class Counters:
    """What went over a connection, or over all connections to one peer."""

    __slots__ = ("bytes_in", "bytes_out", "frames_in", "frames_out", "lost", "refused")

    def __init__(self) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.frames_in = 0
        self.frames_out = 0
        self.lost = 0
        """Payloads that were still queued when a connection ended."""
        self.refused = 0
        """Payloads that were refused because there was no open connection."""


class Connection(asyncio.Protocol):
    """Made by a transport or by ``connect_client``, never directly.

    A plain ``Protocol``: a ``BufferedProtocol`` was measured and made no difference beyond noise.

    Attributes that the owner, or a client's handler, sets: ``on_frame(payload)`` is called for
    each payload, synchronously, in order; ``on_close(why)`` once, when an opened connection is
    over. If ``on_frame`` raises ``InvalidInput``, the payload was malformed: the connection is
    closed, and nothing else is harmed.
    """

    def __init__(
        self,
        owner: Greeter,
        security: Security,
        limits: Limits,
        registry: set[Connection],
        *,
        first_words: Hello | None = None,
        on_frame: Callable[[bytes], object] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._security = security
        self._limits = limits
        self._registry = registry  # those whose byte stream exists, for whoever must close them
        self._first_words = first_words
        self._reader = FrameReader(limits.max_frame_bytes, FIRST_FRAME_BYTES)
        self._queue = SendQueue(limits.max_queue_frames, limits.max_queue_bytes)
        self.counters = Counters()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._flush_is_due = False
        self._paused_since: float | None = None  # writing, by the loop, as the other side lags
        self._serves = False  # a client or an administrator, who called us
        self._holds_back = False  # reading, by us, as a client does not read either
        self._sent_at = self._received_at = self._loop.time()
        self.over: asyncio.Future[Goodbye] = self._loop.create_future()
        """Why it is over, once it is."""
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """Done when the loop has let go of the byte stream, a moment after ``over``."""
        self.parting: Goodbye | None = None
        """Why it is over; None while it is not."""
        self.agreement: Agreement | None = None
        self.certified: Identity | None = None
        """Who TLS has proven the other side to be; None without TLS."""
        self.remote = "an unknown address"
        self.on_frame: Callable[[bytes], object] = on_frame or _nobody_listens
        self.on_close: Callable[[str], object] | None = None

    # --- what the user sees ---------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the handshake is done and the connection is not over."""
        return self.agreement is not None and self.parting is None

    @property
    def role(self) -> Role:
        """What the caller is on this connection. Only an opened connection has one."""
        return self._agreed.role

    @property
    def name(self) -> str:
        """Who the other side is. Only an opened connection knows."""
        return self._agreed.name

    @property
    def version(self) -> int:
        """The protocol version both sides speak. Only an opened connection has one."""
        return self._agreed.version

    @property
    def incarnation(self) -> str:
        """Which life of the other side this is. Only an opened connection knows."""
        return self._agreed.incarnation

    @property
    def received_at(self) -> float:
        """Loop time, in seconds, of the last byte that arrived."""
        return self._received_at

    @property
    def is_congested(self) -> bool:
        """Whether the other side reads more slowly than we send."""
        return self._paused_since is not None

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait for the other side to read."""
        return self._queue.queued_bytes

    def send(self, payload: bytes, droppable: bool = False, flush: bool = False) -> bool:
        """Queue one payload for the end of this loop turn. Never blocks.

        Returns False, and counts it, if the connection is not open or its queue is full. A
        *client's* connection whose queue is full is closed: what it misses cannot be sent again.

        Args:
            payload: a msgpack value, not empty.
            droppable: may give way to newer payloads while the other side does not read.
            flush: hand over what is queued now, not at the end of the loop turn.

        Raises:
            InvalidInput: ``payload`` is empty, or longer than the largest frame.
        """
        if not 0 < len(payload) <= self._limits.max_frame_bytes:
            raise InvalidInput(
                f"a payload of {len(payload)} bytes; 1 to {self._limits.max_frame_bytes} can be "
                "sent",
                where="send",
                remedy="Cut it into parts, or raise max_frame_bytes on every node",
            )
        if self.parting is not None or self.agreement is None:
            self.counters.refused += 1
            return False
        if not self._queue.push(payload, droppable):
            if self._serves:
                self.close("its queue is full: it does not read what is sent to it", Parting.SLOW)
            return False
        if flush:
            self.flush()
        elif not self._flush_is_due:
            self._flush_is_due = True
            self._loop.call_soon(self.flush)
        return True

    def flush(self) -> None:
        """Hand to the loop what is queued, now instead of at the end of the loop turn."""
        self._flush_is_due = False
        transport = self._transport
        if transport is None or self.parting is not None:
            return
        queue, counters = self._queue, self.counters
        waiting = len(queue)
        while waiting and self._paused_since is None:
            data = queue.take(SLICE_BYTES)
            counters.bytes_out += len(data)
            counters.frames_out += waiting - (left := len(queue))
            waiting = left
            transport.write(data)
            self._sent_at = self._loop.time()

    def close(self, why: str = "done", code: str = Parting.DONE) -> None:
        """End it: say goodbye, forget what is queued, call back ``ended``. Twice is harmless.

        What was sent in this loop turn and before still leaves if the other side reads.
        """
        if self.parting is not None:
            return
        self.flush()
        transport = self._transport
        if transport is not None and not transport.is_closing():
            transport.write(encode_frame(Goodbye(code, why).encode()))
        self._over(Goodbye(code, why))

    def abort(self, why: str, code: str = Parting.LOST) -> None:
        """End it without a word: nobody is there to hear one."""
        if self._transport is not None:
            self._transport.abort()
        self._over(Goodbye(code, why))

    def carry(self, queue: SendQueue, counters: Counters) -> None:
        """Use these from now on: its owner's, while nothing has been sent yet."""
        counters.bytes_in += self.counters.bytes_in
        self._queue, self.counters = queue, counters

    # --- what the loop calls --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The stream is there, TLS included. The caller speaks first."""
        self._transport = cast(asyncio.Transport, transport)
        self._registry.add(self)
        self.remote = _peer_address(transport)
        self._received_at = self._loop.time()
        if self.parting is not None:  # given up while the loop was still connecting
            self._transport.abort()
            return
        self._timer = self._loop.call_later(
            self._limits.handshake_timeout_s, self._handshake_is_overdue
        )
        if self._first_words is not None:
            self._transport.write(encode_frame(self._first_words.encode()))

    def data_received(self, data: bytes) -> None:
        """Bytes arrived: cut them into payloads and hand those on."""
        counters = self.counters
        counters.bytes_in += len(data)
        self._received_at = self._loop.time()
        if self.parting is not None:
            return  # still lingering over a goodbye
        reader = self._reader
        frames = reader.feed(data)
        try:
            if self.agreement is None and frames:
                self._greet(frames.pop(0))
            for payload in frames:
                if self.over.done():  # by what the payload before it said or led to
                    return
                if not payload:
                    continue  # a ping; that it arrived is all it says
                if payload[0] == GOODBYE:
                    self._hear_goodbye(Goodbye.decode(payload))
                    return
                counters.frames_in += 1
                self.on_frame(payload)
        except HandshakeRefused as refusal:
            self.close(refusal.what, refusal.code)
        except InvalidInput as error:
            self.close(str(error), Parting.MALFORMED)
        if reader.fault is not None:
            self.close(str(reader.fault), Parting.MALFORMED)

    def pause_writing(self) -> None:
        """The other side reads too slowly: keep what comes in our own queue, where it is bounded.

        A client that does not read what it asked for may not ask for more.
        """
        self._paused_since = self._loop.time()
        if self._serves and self._transport is not None and not self._transport.is_closing():
            self._holds_back = True
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The other side has caught up."""
        self._paused_since = None
        if self._holds_back and self._transport is not None:
            self._holds_back = False
            self._received_at = self._loop.time()  # its silence was our doing
            if not self._transport.is_closing():
                self._transport.resume_reading()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The loop has let go of the stream."""
        if self.agreement is None and exc is None:
            why = "closed by the other side before the handshake was over"
            if self._security.identity is not None:
                # asyncio does not send the TLS alert that would say so.
                why += "; its log will tell if it refuses our certificate"
        else:
            why = explain(exc)
        self._over(Goodbye(Parting.LOST, why))
        if self._timer is not None:
            self._timer.cancel()
        self._registry.discard(self)
        self.gone.set_result(None)

    # --- inside ---------------------------------------------------------------------------------

    @property
    def _agreed(self) -> Agreement:
        if self.agreement is None:
            raise InvalidInput(
                "the connection has not been opened, so nobody knows who is at the other end",
                where="connection",
                remedy="Wait until its owner's `opened` is called",
            )
        return self.agreement

    def _greet(self, payload: bytes) -> None:
        assert self._transport is not None
        if payload[:1] == bytes([GOODBYE]):
            self._hear_goodbye(Goodbye.decode(payload))
            return
        self.certified = self._security.certified(self._transport)
        agreement, answer = self._owner.judge(Hello.decode(payload), self.certified)
        if answer is not None:
            self._transport.write(encode_frame(answer.encode()))
        self.agreement = agreement
        self._serves = self._first_words is None and agreement.role is not Role.PEER
        self._sent_at = self._loop.time()
        if self._timer is not None:
            self._timer.cancel()
        self._watch()
        self._owner.opened(self)

    def _hear_goodbye(self, goodbye: Goodbye) -> None:
        self._over(Goodbye(goodbye.code, f"the other side says: {goodbye.why}"))

    def _handshake_is_overdue(self) -> None:
        self.abort(f"no handshake within {self._limits.handshake_timeout_s:g} s")

    def _watch(self) -> None:
        """Ping if we were silent, give up if they were; then sleep until either may be due."""
        if self.parting is not None:
            return
        limits, now = self._limits, self._loop.time()
        if self._holds_back:
            dead_at = now + limits.idle_timeout_s
        else:
            dead_at = self._received_at + limits.idle_timeout_s
        if now >= dead_at:
            self.abort(f"nothing was received for {now - self._received_at:.1f} s")
            return
        if self._paused_since is not None and self._holds_back:
            stalled_s = now - self._paused_since
            if stalled_s >= limits.client_stall_timeout_s:
                self.abort(f"it has read nothing for {stalled_s:.1f} s", Parting.SLOW)
                return
        if now >= self._sent_at + limits.ping_interval_s:
            self._sent_at = now
            if self._paused_since is None and self._transport is not None:
                self._transport.write(_PING)
        wake_at = min(dead_at, self._sent_at + limits.ping_interval_s)
        self._timer = self._loop.call_at(wake_at, self._watch)

    def _over(self, parting: Goodbye) -> None:
        if self.parting is not None:
            return
        self.parting = parting
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.close()
            # Whoever reads nothing would keep a closing transport open for ever.
            self._timer = self._loop.call_later(self._limits.linger_s, self._transport.abort)
        self.counters.lost += len(self._queue)
        self._queue.clear()
        self.over.set_result(parting)
        self._owner.ended(self, parting)
        if self.agreement is not None and self.on_close is not None:
            self.on_close(parting.why)


def _peer_address(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    if isinstance(peer, tuple) and len(peer) >= 2:
        host, port = peer[0], peer[1]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    return "an unknown address"


def _nobody_listens(payload: bytes) -> None:
    raise AssertionError("on_frame must be set before the handshake's `opened` returns")

"""As much HTTP/2 as unary gRPC calls need, and no more: one connection, many streams.

This module exists so that etcd is measured through a client that costs it next to nothing. The
header block of a method is encoded once; answers' headers are not decoded, because a call that
succeeded carries a message and one that failed carries none (gRPC over HTTP/2, "Responses").
Frames as in RFC 9113, header fields as in RFC 7541. It is no general client.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
WIDE_OPEN = (1 << 31) - 1
FIRST_WINDOW = 65_535
REFILL = 1 << 30

Ended = Callable[[bytes | BaseException], None]
"""Called with the message that came, or with why none did."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One frame (RFC 9113, section 4.1)."""
    head = len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4)
    return head + payload


def header_block(path: str, authority: str) -> bytes:
    """The header fields of a gRPC call, none of them added to a dynamic table."""

    def text(value: str) -> bytes:
        assert len(value) < 127, "longer strings need another length"
        return bytes((len(value),)) + value.encode()

    return (
        b"\x83\x86"  # :method POST, :scheme http
        + (b"\x04" + text(path))
        + (b"\x01" + text(authority))
        + (b"\x0f\x10" + text("application/grpc"))
        + (b"\x00" + text("te") + text("trailers"))
    )


class Connection(asyncio.Protocol):
    """A connection to a gRPC server. Make it with ``connect``."""

    def __init__(self, authority: str) -> None:
        self._authority = authority
        self._blocks: dict[str, bytes] = {}
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._stream = -1
        self._calls: dict[int, tuple[Ended, bytearray]] = {}
        self._waiting: deque[tuple[bytes, int]] = deque()
        self._window = FIRST_WINDOW
        self._taken = 0
        self._out: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def call(self, path: str, message: bytes, ended: Ended) -> None:
        """Begin a unary call. What is begun in one turn of the loop leaves in one write."""
        block = self._blocks.get(path)
        if block is None:
            block = self._blocks[path] = header_block(path, self._authority)
        self._stream += 2
        self._calls[self._stream] = (ended, bytearray())
        body = b"\0" + len(message).to_bytes(4) + message
        request = frame(HEADERS, END_HEADERS, self._stream, block) + frame(
            DATA, END_STREAM, self._stream, body
        )
        self._waiting.append((request, len(body)))
        self._send_what_fits()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    # --- asyncio's side -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by name
        # no push; and the server may send as much as it likes
        settings = b"\x00\x02" + (0).to_bytes(4) + b"\x00\x04" + WIDE_OPEN.to_bytes(4)
        refill = frame(WINDOW_UPDATE, 0, 0, (WIDE_OPEN - FIRST_WINDOW).to_bytes(4))
        self._transport.write(PREFACE + frame(SETTINGS, 0, 0, settings) + refill)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        at, size = 0, len(received)
        while size - at >= 9:
            length = int.from_bytes(received[at : at + 3])
            if size - at < 9 + length:
                break
            kind, flags = received[at + 3], received[at + 4]
            stream = int.from_bytes(received[at + 5 : at + 9])
            self._take(kind, flags, stream, received[at + 9 : at + 9 + length])
            at += 9 + length
        del received[:at]

    def connection_lost(self, error: Exception | None) -> None:
        why = error or ConnectionError("the server hung up")
        calls, self._calls = self._calls, {}
        for ended, _ in calls.values():
            ended(why)

    # --- inside ---------------------------------------------------------------------------------

    def _take(self, kind: int, flags: int, stream: int, payload: bytearray) -> None:
        if kind == DATA:
            if stream in self._calls:
                self._calls[stream][1].extend(payload)
            self._taken += len(payload)
            if self._taken > REFILL:
                self._write(frame(WINDOW_UPDATE, 0, 0, self._taken.to_bytes(4)))
                self._taken = 0
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload)
            self._send_what_fits()
        elif kind == SETTINGS and not flags & ACK:
            self._write(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self._write(frame(PING, ACK, 0, bytes(payload)))
        elif kind == RST_STREAM:
            self._end(stream, ConnectionError(f"stream reset, code {int.from_bytes(payload)}"))
        elif kind == GOAWAY:
            self.connection_lost(ConnectionError(f"going away: {bytes(payload[8:])!r}"))
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self._end(stream, None)

    def _end(self, stream: int, error: BaseException | None) -> None:
        call = self._calls.pop(stream, None)
        if call is None:
            return
        ended, body = call
        if error is None and len(body) < 5:
            error = ConnectionError("the call failed: its answer has no message")
        ended(bytes(body[5:]) if error is None else error)

    def _write(self, data: bytes) -> None:
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _send_what_fits(self) -> None:
        while self._waiting and self._waiting[0][1] <= self._window:
            request, size = self._waiting.popleft()
            self._window -= size
            self._write(request)

    def _flush(self) -> None:
        if self._out and self._transport is not None:
            self._transport.write(b"".join(self._out))
        self._out.clear()


async def connect(host: str, port: int) -> Connection:
    """A new connection.

    Raises:
        OSError: nobody listens there.
    """
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(f"{host}:{port}"), host, port)
    return connection

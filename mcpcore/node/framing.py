"""Frames: how a stream of bytes is cut into payloads, and back.

A frame is a length of four bytes, most significant first, and as many bytes of payload. A payload
is msgpack. Two payloads are the transport's own: the empty one says only "I am alive", and one
that begins with 0xC1, the single byte no msgpack value can start with, is a goodbye.

This module exists so that hostile bytes meet a parser that nothing else hides in. Pure: it must
never import asyncio, a socket or a clock, and never trust a length before comparing it.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from mcpcore.errors import MalformedFrame

MAX_FRAME_BYTES: Final = 32 * 1024 * 1024
"""The longest payload, unless a node is configured otherwise."""

FIRST_FRAME_BYTES: Final = 4096
"""The longest payload of a connection's first frame, sent when nobody knows the sender yet."""

HEADER_BYTES: Final = 4
_HEADER: Final = Struct(">I")
pack_header = _HEADER.pack
_unpack_header = _HEADER.unpack_from


def encode_frame(payload: bytes) -> bytes:
    """One frame, ready for the wire."""
    return pack_header(len(payload)) + payload


class FrameReader:
    """Cuts a byte stream into payloads, however the network has split it.

    The outcome depends on the bytes alone, never on how they were divided between calls. It holds
    at most one unfinished frame, and only bytes that have really arrived: a length announces, it
    does not allocate.

    Args:
        max_bytes: the longest payload to accept.
        first_max_bytes: the longest *first* payload to accept.
    """

    __slots__ = ("_limit", "_max_bytes", "_need", "_partial", "fault")

    def __init__(
        self, max_bytes: int = MAX_FRAME_BYTES, first_max_bytes: int | None = None
    ) -> None:
        self._max_bytes = max_bytes
        self._limit = max_bytes if first_max_bytes is None else first_max_bytes
        self._partial = bytearray()  # the frame that has begun and not ended, header included
        self._need = HEADER_BYTES  # how long ``_partial`` must grow before we know more
        self.fault: MalformedFrame | None = None
        """Why no further byte can be understood; None while all is well."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes held of a frame that has not ended."""
        return len(self._partial)

    def feed(self, data: bytes) -> list[bytes]:
        """Take what arrived; return the payloads that are now whole, in order.

        A length beyond the limit sets ``fault``. The frames before it are returned all the same,
        and from then on every call returns nothing: there is no way back into step.
        """
        frames: list[bytes] = []
        if self.fault is not None:
            return frames
        start, end = 0, len(data)
        if self._partial:
            start = self._continue(data, frames)
        limit = self._limit
        while end - start >= HEADER_BYTES:
            (length,) = _unpack_header(data, start)
            if length > limit:
                self._refuse(data[start : start + HEADER_BYTES], length)
                return frames
            stop = start + HEADER_BYTES + length
            if stop > end:
                self._need = HEADER_BYTES + length
                break
            frames.append(data[start + HEADER_BYTES : stop])
            start = stop
            limit = self._limit = self._max_bytes
        if start < end:
            self._partial += data[start:]
        return frames

    def _continue(self, data: bytes, frames: list[bytes]) -> int:
        """Grow the unfinished frame; return how many bytes of ``data`` it took."""
        partial, taken, end = self._partial, 0, len(data)
        view = memoryview(data)
        while taken < end:
            step = view[taken : taken + self._need - len(partial)]
            partial += step
            taken += len(step)
            if len(partial) < self._need:
                break  # data is used up
            if self._need == HEADER_BYTES:
                (length,) = _unpack_header(partial)
                if length > self._limit:
                    self._refuse(bytes(partial), length)
                    return end
                self._need += length
                if length:
                    continue
            frames.append(bytes(memoryview(partial)[HEADER_BYTES:]))
            self._partial = bytearray()
            self._need = HEADER_BYTES
            self._limit = self._max_bytes
            break
        return taken

    def _refuse(self, header: bytes, length: int) -> None:
        self._partial = bytearray()
        self.fault = MalformedFrame(header, length, self._limit)

    def check(self) -> None:
        """Every promise this reader makes about itself."""
        assert self._need >= HEADER_BYTES
        assert self._need <= HEADER_BYTES + self._limit, "an accepted length is within the limit"
        assert len(self._partial) < self._need, "a whole frame is handed out, never held"
        assert self.fault is None or not self._partial, "nothing is kept after a fault"

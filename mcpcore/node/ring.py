"""Durable writes without a thread: Linux's io_uring, as much of it as a log needs.

This module exists so that a write and its sync cost the loop one system call and one wake-up. A
thread must first get the interpreter lock, twice for each write, and a busy loop lets go of it only
every few milliseconds: with 2 ms callbacks in the loop, 512 bytes written and synced took 5 to 19
ms through a thread and 2.6 to 8 ms so; in an idle loop 0.28 and 0.25 ms (medians; ext4, virtual
disk, uvloop). It knows one operation, and nothing of what files mean. Where the kernel has no
io_uring, or forbids it, ``Ring.open`` gives None and ``file_disk`` does everything in its thread.

The kernel shares two rings of memory with us. Requests go into the first, and one system call,
which also orders memory on every machine, tells of them. The kernel puts results into the second
and rings an eventfd, which the loop watches. All of it happens in the loop's thread.

Source: io_uring(7), io_uring_setup(2), io_uring_enter(2), io_uring_register(2).
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import mmap
import os
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

_SETUP, _ENTER, _REGISTER = 425, 426, 427  # the same on every architecture
_REGISTER_EVENTFD = 4
_ONE_MAPPING, _NO_DROP = 1, 2
_RINGS_AT, _REQUESTS_AT = 0, 0x10000000
_MAP_POPULATE = 0x8000
_WRITE, _FSYNC = 23, 3
_LINK = 4  # the next request begins only once this one has done all of its work
_DATASYNC = 1

_PARAMS: Final = struct.Struct("<10I8IQ8IQ")
_REQUEST: Final = struct.Struct("<BBHiQQIIQ24x")
"""Operation, flags, priority, file, offset, address, length, the operation's flags, our number."""
_RESULT: Final = struct.Struct("<QiI")
"""Our number, what the system call would have returned, flags."""
_NUMBER: Final = struct.Struct("<I")

_U32: Final = 0xFFFFFFFF  # the rings' positions count modulo 2^32

WRITES_MAX: Final = 4
"""Under way at a time; each takes two requests."""


_MAYBE_LATER: Final = frozenset(
    {errno.EAGAIN, errno.EINTR, errno.ECANCELED, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}
)
"""What a write may end with although a plain ``pwrite`` might succeed, or say better why not."""


class _Write:
    """A write under way. The kernel reads ``data`` until both results are there."""

    __slots__ = ("apart", "data", "over", "synced", "written")

    def __init__(self, data: bytes, over: Callable[[bool | OSError], None]) -> None:
        self.data = data
        self.over = over
        self.written: int | None = None
        self.synced: int | None = None
        self.apart = False  # the sync was not bound to wait for the write


class Ring:
    """One io_uring, watched by one event loop. Made by ``open``."""

    def __init__(self, fd: int, params: bytes, loop: asyncio.AbstractEventLoop) -> None:
        fields = _PARAMS.unpack(params)
        asked, answered = fields[10:19], fields[19:28]
        self._tail_at, self._slots_at = asked[1], asked[6]
        self._head_at, self._answered_at, self._results_at = answered[0], answered[1], answered[5]
        size = max(
            self._slots_at + _NUMBER.size * fields[0], self._results_at + _RESULT.size * fields[1]
        )
        flags = mmap.MAP_SHARED | _MAP_POPULATE
        both = mmap.PROT_READ | mmap.PROT_WRITE
        self._fd = fd
        self._rings = mmap.mmap(fd, size, flags, both, offset=_RINGS_AT)
        self._requests = mmap.mmap(fd, _REQUEST.size * fields[0], flags, both, offset=_REQUESTS_AT)
        self._mask, self._results_mask = self._read(asked[2]), self._read(answered[2])
        self._tail = self._read(self._tail_at)
        self._head = self._read(self._head_at)
        self._next = 0
        self._under_way: dict[int, _Write] = {}
        self._closing = False
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.loop = loop
        """The loop that watches it."""

    @classmethod
    def open(cls) -> Ring | None:
        """A ring for the running loop; None where there can be none."""
        loop = asyncio.get_running_loop()
        if _system_call is None or not hasattr(os, "eventfd"):
            return None
        params = ctypes.create_string_buffer(_PARAMS.size)
        fd = _call(_SETUP, 2 * WRITES_MAX, params)
        if fd < 0:
            return None
        if ~_PARAMS.unpack(params.raw)[5] & (_ONE_MAPPING | _NO_DROP):
            os.close(fd)
            return None
        try:
            ring = cls(fd, params.raw, loop)
        except OSError:
            os.close(fd)
            return None
        bell = ctypes.c_int(ring._bell)
        try:
            if _call(_REGISTER, fd, _REGISTER_EVENTFD, ctypes.byref(bell), 1) < 0:
                raise NotImplementedError
            loop.add_reader(ring._bell, ring._rung)
        except NotImplementedError:  # a loop that watches no files, or a kernel that rings no bell
            ring._release()
            return None
        return ring

    @property
    def full(self) -> bool:
        """Whether no further write can be taken now."""
        return self._closing or len(self._under_way) >= WRITES_MAX

    def write(
        self, fd: int, offset: int, data: bytes, over: Callable[[bool | OSError], None]
    ) -> bool:
        """Write and sync. The file must stay open until it is over.

        Args:
            over: called from the loop with True when all is durable, with False when it may be in
                part or not at all, so that it must be written again, and with an error if writing
                or syncing failed.

        Returns:
            Whether the kernel took the request; if not, nothing happens.
        """
        number = self._next
        tail = self._tail
        address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
        self._ask(tail, (_WRITE, _LINK, 0, fd, offset, address, len(data), 0, number))
        self._ask(tail + 1, (_FSYNC, 0, 0, fd, 0, 0, 0, _DATASYNC, number + 1))
        _NUMBER.pack_into(self._rings, self._tail_at, tail + 2 & _U32)
        taken = _call(_ENTER, self._fd, 2, 0, 0, None, 0)
        if taken <= 0:
            _NUMBER.pack_into(self._rings, self._tail_at, tail & _U32)
            return False
        write = self._under_way[number] = _Write(data, over)
        write.apart = taken == 1
        if write.apart and _call(_ENTER, self._fd, 1, 0, 0, None, 0) != 1:
            write.synced = -errno.ECANCELED
            _NUMBER.pack_into(self._rings, self._tail_at, tail + 1 & _U32)
            self._tail = tail + 1 & _U32
        else:
            self._tail = tail + 2 & _U32
        self._next = number + 2
        return True

    def close(self) -> None:
        """Take nothing more, and let go of everything once the writes under way are over."""
        self._closing = True
        if not self._under_way:
            self._release()
        else:
            _closing.append(self)

    # --- inside ---------------------------------------------------------------------------------

    def _read(self, at: int) -> int:
        number: int = _NUMBER.unpack_from(self._rings, at)[0]
        return number

    def _ask(self, tail: int, fields: tuple[int, ...]) -> None:
        slot = tail & self._mask
        _REQUEST.pack_into(self._requests, slot * _REQUEST.size, *fields)
        _NUMBER.pack_into(self._rings, self._slots_at + slot * _NUMBER.size, slot)

    def _rung(self) -> None:
        """Results are there, or were when the bell was rung."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        end = self._read(self._answered_at)
        while self._head != end:
            at = self._results_at + (self._head & self._results_mask) * _RESULT.size
            number, result, _ = _RESULT.unpack_from(self._rings, at)
            self._head = self._head + 1 & _U32
            write = self._under_way[number & ~1]
            if number & 1:
                write.synced = result
            else:
                write.written = result
            if write.written is not None and write.synced is not None:
                del self._under_way[number & ~1]
                write.over(_outcome(write, write.written, write.synced))
        _NUMBER.pack_into(self._rings, self._head_at, self._head)
        if self._closing and not self._under_way:
            _closing.remove(self)
            self._release()

    def _release(self) -> None:
        if not self.loop.is_closed():
            self.loop.remove_reader(self._bell)
        os.close(self._bell)
        self._requests.close()
        self._rings.close()
        os.close(self._fd)


_closing: list[Ring] = []
"""Closed, with writes under way: the kernel reads their bytes even if their loop has ended."""


def _outcome(write: _Write, written: int, synced: int) -> bool | OSError:
    if written == len(write.data) and not write.apart:
        return True if synced >= 0 else OSError(-synced, os.strerror(-synced))
    if written >= 0 or -written in _MAYBE_LATER:
        return False
    return OSError(-written, os.strerror(-written))


def _system_calls() -> Callable[..., int] | None:
    try:
        call: Callable[..., int] = ctypes.CDLL(None).syscall
    except (OSError, AttributeError, TypeError):  # no C library that could be asked
        return None
    return call if sys.platform == "linux" else None


_system_call: Final = _system_calls()


def _call(number: int, *arguments: Any) -> int:
    assert _system_call is not None, "no ring is made without it"
    return _system_call(number, *arguments)

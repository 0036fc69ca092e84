"""The kernel's ring: durable writes without a thread. Skipped where the kernel offers none."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mcpcore.node import ring as ring_module
from mcpcore.node.file_disk import FileDisk
from mcpcore.node.ring import WRITES_MAX, Ring


def open_ring() -> Ring:
    ring = Ring.open()
    if ring is None:
        pytest.skip("this kernel has no io_uring, or does not let us use it")
    return ring


async def outcome(ring: Ring, fd: int, at: int, data: bytes) -> bool | OSError:
    over: asyncio.Future[bool | OSError] = asyncio.get_running_loop().create_future()
    assert ring.write(fd, at, data, over.set_result)
    return await asyncio.wait_for(over, 60)


async def test_what_the_ring_has_written_stands_in_the_file(tmp_path: Path) -> None:
    ring, draw = open_ring(), random.Random(5)
    fd = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    kept = bytearray(20_000)
    for _ in range(3 * 2 * WRITES_MAX):  # round and round the ring
        data = draw.randbytes(draw.randrange(1, 5_000))
        at = draw.randrange(15_000)
        kept[at : at + len(data)] = data
        assert await outcome(ring, fd, at, data) is True
    assert os.pread(fd, 20_000, 0) == bytes(kept).rstrip(b"\0")
    ring.close()
    os.close(fd)


async def test_several_writes_are_under_way_at_once_and_no_more_than_fit(tmp_path: Path) -> None:
    ring = open_ring()
    fd = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    loop = asyncio.get_running_loop()
    overs: list[asyncio.Future[bool | OSError]] = []
    for number in range(WRITES_MAX):
        overs.append(loop.create_future())
        assert not ring.full
        assert ring.write(fd, number, b"%d" % number, overs[-1].set_result)
    assert ring.full
    assert await asyncio.wait_for(asyncio.gather(*overs), 60) == [True] * WRITES_MAX
    assert not ring.full
    assert os.pread(fd, 9, 0) == b"0123"
    ring.close()
    os.close(fd)


async def test_a_full_disk_is_an_os_error_and_a_closed_file_too() -> None:
    ring = open_ring()
    fd = os.open("/dev/full", os.O_RDWR)
    refused = await outcome(ring, fd, 0, b"x")
    os.close(fd)
    assert isinstance(refused, OSError)
    assert refused.errno == errno.ENOSPC
    refused = await outcome(ring, fd, 0, b"x")
    assert isinstance(refused, OSError)
    assert refused.errno == errno.EBADF
    ring.close()


@pytest.mark.parametrize(
    ("written", "synced", "apart", "told"),
    [
        (5, 0, False, True),
        (5, -errno.EIO, False, errno.EIO),  # a failed sync is final: never written again
        (5, -errno.EINTR, False, errno.EINTR),
        (-errno.EIO, -errno.ECANCELED, False, errno.EIO),
        (-errno.ENOSPC, -errno.ECANCELED, False, errno.ENOSPC),
        (3, -errno.ECANCELED, False, False),  # a short write breaks the link to its sync
        (-errno.EAGAIN, -errno.ECANCELED, False, False),
        (-errno.EINVAL, -errno.ECANCELED, False, False),  # an old kernel; or say it the plain way
        (5, 0, True, False),  # synced, but perhaps before it was written
    ],
)
def test_a_write_is_durable_only_if_all_of_it_was_written_and_then_synced(
    written: int, synced: int, apart: bool, told: bool | int
) -> None:
    write = ring_module._Write(b"12345", lambda outcome: None)
    write.apart = apart
    found = ring_module._outcome(write, written, synced)
    assert (found.errno if isinstance(found, OSError) else found) == told


async def test_what_the_ring_leaves_unfinished_the_thread_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_ring().close()
    monkeypatch.setattr(ring_module, "_outcome", lambda *_: False)
    disk = FileDisk()
    file = disk.open(str(tmp_path / "x"), create=True)
    synced = threading.Event()
    plain = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (plain(fd), synced.set()))
    await file.write(2, b"hello", sync=True)
    assert synced.is_set()
    assert file.read(0, 9) == b"\0\0hello"
    file.close()
    disk.close()


class SlowRing:
    """A ring whose writes are over when the test says so."""

    full = False

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.under_way: list[tuple[int, int, bytes, Callable[[bool | OSError], None]]] = []

    def write(
        self, fd: int, offset: int, data: bytes, over: Callable[[bool | OSError], None]
    ) -> bool:
        self.under_way.append((fd, offset, data, over))
        return True

    def finish(self) -> None:
        for fd, offset, data, over in self.under_way:
            os.pwrite(fd, data, offset)
            over(True)

    def close(self) -> None:
        """Nothing is held."""


async def test_what_is_asked_of_a_file_in_the_ring_comes_after_and_its_closing_last(
    tmp_path: Path,
) -> None:
    disk, ring = FileDisk(), SlowRing()
    disk._ring = ring  # type: ignore[assignment]
    file = disk.open(str(tmp_path / "x"), create=True)
    asked = [
        asyncio.ensure_future(each)
        for each in (
            file.write(0, b"first", sync=True),
            file.write(1, b"later", sync=True),
            file.truncate(3),
        )
    ]
    await asyncio.sleep(0)
    file.close()
    await disk.sync_dir(str(tmp_path))  # through the thread: whatever it was given before is done
    assert len(ring.under_way) == 1, "one write of a file at a time"
    assert (tmp_path / "x").read_bytes() == b"", "nothing overtakes it"
    ring.finish()
    await asyncio.wait_for(asyncio.gather(*asked), 60)
    assert (tmp_path / "x").read_bytes() == b"fla"
    disk.close()


async def test_a_file_closed_under_a_write_in_the_ring_keeps_its_number_until_that_is_over(
    tmp_path: Path,
) -> None:
    """Else the sync could meet whatever file is opened next."""
    disk, ring = FileDisk(), SlowRing()
    disk._ring = ring  # type: ignore[assignment]
    file = disk.open(str(tmp_path / "x"), create=True)
    write = asyncio.ensure_future(file.write(0, b"x", sync=True))
    await asyncio.sleep(0)
    number = ring.under_way[0][0]
    file.close()
    os.fstat(number)
    ring.finish()
    await write
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    disk.close()


async def test_a_disk_closed_under_a_write_lets_go_of_everything_once_it_is_over(
    tmp_path: Path,
) -> None:
    ring = open_ring()
    fd = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    over: asyncio.Future[bool | OSError] = asyncio.get_running_loop().create_future()
    assert ring.write(fd, 0, b"x" * 100_000, over.set_result)
    ring.close()
    assert ring.full, "it takes nothing more"
    assert await asyncio.wait_for(over, 60) is True
    await asyncio.sleep(0)
    assert ring not in ring_module._closing
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(ring._fd)
    os.close(fd)


def test_a_disk_used_in_a_second_loop_works_there_too(tmp_path: Path) -> None:
    disk = FileDisk()
    file = disk.open(str(tmp_path / "x"), create=True)
    asyncio.run(file.write(0, b"one", sync=True))
    asyncio.run(file.write(3, b"two", sync=True))
    assert file.read(0, 9) == b"onetwo"
    file.close()
    disk.close()


def test_where_the_kernel_refuses_a_ring_the_disk_works_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_module, "_call", lambda *_: -1)

    async def live() -> None:
        assert Ring.open() is None
        disk = FileDisk()
        file = disk.open(str(tmp_path / "x"), create=True)
        await file.write(0, b"one", sync=True)
        assert file.read(0, 9) == b"one"
        file.close()
        disk.close()

    asyncio.run(live())

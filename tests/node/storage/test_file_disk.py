"""The disk seam on real files."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcpcore.node import file_disk
from mcpcore.node.disk import Disk, DiskFile
from mcpcore.node.file_disk import FileDisk


@pytest.fixture(params=[True, False], ids=["ring", "thread"])
def disk(request: pytest.FixtureRequest) -> Iterator[FileDisk]:
    """Both ways of making a write durable; where there is no ring, the same way twice."""
    made = FileDisk(ring=request.param)
    yield made
    made.close()


@pytest.fixture
def plain_disk() -> Iterator[FileDisk]:
    """The way on which a test can put itself between the disk and the system."""
    made = FileDisk(ring=False)
    yield made
    made.close()


def test_it_keeps_the_seam(disk: FileDisk, tmp_path: Path) -> None:
    as_disk: Disk = disk
    file: DiskFile = as_disk.open(str(tmp_path / "x"), create=True)
    file.close()


async def test_what_is_written_can_be_read(disk: FileDisk, tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    file = disk.open(path, create=True)
    await file.write(3, b"hello", sync=True)
    await file.write(4, b"E", sync=False)

    assert file.size() == 8
    assert file.read(0, 100) == b"\0\0\0hEllo"
    assert file.read(7, 100) == b"o"
    assert file.read(8, 100) == b""
    await file.truncate(4)
    assert file.read(0, 100) == b"\0\0\0h"
    file.close()
    file.close()


async def test_directories(disk: FileDisk, tmp_path: Path) -> None:
    top = str(tmp_path / "a" / "b")
    assert disk.list_dir(top) == []
    disk.make_dirs(top)
    disk.make_dirs(top)
    for name in ("z", "m"):
        disk.open(f"{top}/{name}", create=True).close()
    assert disk.list_dir(top) == ["m", "z"]
    disk.rename(f"{top}/z", f"{top}/m")
    assert disk.list_dir(top) == ["m"]
    assert disk.exists(f"{top}/m")
    disk.remove(f"{top}/m")
    assert not disk.exists(f"{top}/m")
    await disk.sync_dir(top)


async def test_errors_reach_whoever_waits(disk: FileDisk, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        disk.open(str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError):
        await disk.sync_dir(str(tmp_path / "absent"))
    file = disk.open(str(tmp_path / "x"), create=True)
    with pytest.raises(OSError, match="Invalid argument"):
        await file.write(-1, b"x", sync=False)
    file.close()
    with pytest.raises(ValueError, match="closed"):
        await file.write(0, b"x", sync=False)


async def test_a_short_write_is_finished(
    plain_disk: FileDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: plain(fd, bytes(data[:7]), at))
    file = plain_disk.open(str(tmp_path / "x"), create=True)
    await file.write(0, bytes(range(100)), sync=True)
    assert file.read(0, 200) == bytes(range(100))
    file.close()


async def test_the_loop_runs_while_a_sync_does_not_return(
    plain_disk: FileDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    returns = threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda fd: returns.wait(10))
    file = plain_disk.open(str(tmp_path / "x"), create=True)
    write = asyncio.ensure_future(file.write(0, b"x", sync=True))
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not write.done()
    returns.set()
    await write
    file.close()


async def test_a_failed_sync_is_an_os_error(
    plain_disk: FileDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(fd: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    file = plain_disk.open(str(tmp_path / "x"), create=True)
    with pytest.raises(OSError, match="input/output error"):
        await file.write(0, b"x", sync=True)
    file.close()


async def test_without_sync_nothing_is_synced(
    plain_disk: FileDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    file = plain_disk.open(str(tmp_path / "x"), create=True)
    await file.write(0, b"x", sync=False)
    assert synced == []
    await file.write(0, b"x", sync=True)
    assert len(synced) == 1
    file.close()


async def test_cuts_and_directories_are_synced_too(
    disk: FileDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(stat.S_ISDIR(os.fstat(fd).st_mode)))
    file = disk.open(str(tmp_path / "x"), create=True)
    await file.truncate(0)
    assert synced == [False]
    await disk.sync_dir(str(tmp_path))
    assert synced == [False, True]
    file.close()


async def test_a_file_closed_under_a_write_keeps_its_number_until_the_write_is_over(
    plain_disk: FileDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the write could land in whatever file is opened next."""
    returns = threading.Event()
    monkeypatch.setattr(os, "fdatasync", lambda fd: returns.wait(10))
    file = plain_disk.open(str(tmp_path / "x"), create=True)
    blocker = asyncio.ensure_future(file.write(0, b"first", sync=True))
    late = asyncio.ensure_future(file.write(0, b"later", sync=False))
    await asyncio.sleep(0)
    file.close()
    other = plain_disk.open(str(tmp_path / "y"), create=True)
    returns.set()
    await blocker
    await late

    assert (tmp_path / "x").read_bytes() == b"later"
    assert (tmp_path / "y").read_bytes() == b""
    other.close()


async def test_a_cancelled_wait_harms_nothing(disk: FileDisk, tmp_path: Path) -> None:
    file = disk.open(str(tmp_path / "x"), create=True)
    write = asyncio.ensure_future(file.write(0, b"x", sync=True))
    await asyncio.sleep(0)
    write.cancel()
    await file.write(1, b"y", sync=True)
    assert file.read(0, 9) == b"xy"
    file.close()


async def test_two_processes_never_write_the_same_file(disk: FileDisk, tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    file = disk.open(path, create=True)
    await file.write(0, b"mine", sync=True)
    program = (
        "import asyncio, sys\n"
        "from mcpcore.node.file_disk import FileDisk\n"
        "file = FileDisk().open(sys.argv[1])\n"
        "print(file.read(0, 9))\n"
        "asyncio.run(file.write(0, b'theirs', sync=True))\n"
    )

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, path],
            cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    refused = await asyncio.to_thread(run)
    assert refused.stdout == "b'mine'\n", "readers are welcome"
    assert "BlockingIOError" in refused.stderr
    file.close()
    await asyncio.to_thread(run)
    assert (disk.open(path)).read(0, 9) == b"theirs"


def test_the_thread_ends_when_the_disk_is_closed(tmp_path: Path) -> None:
    disk = FileDisk()
    asyncio.run(disk.sync_dir(str(tmp_path)))
    thread = disk._thread
    assert thread is not None
    disk.close()
    thread.join(5)
    assert not thread.is_alive()
    disk.close()
    asyncio.run(disk.sync_dir(str(tmp_path)))
    disk.close()


def test_a_loop_that_is_gone_does_not_trouble_the_thread(
    disk: FileDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    returns = threading.Event()
    monkeypatch.setattr(file_disk, "_sync_dir", lambda path: returns.wait(10))

    async def leave() -> None:
        task = asyncio.ensure_future(disk.sync_dir("x"))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    returns.set()
    monkeypatch.undo()
    asyncio.run(disk.sync_dir(str(tmp_path)))

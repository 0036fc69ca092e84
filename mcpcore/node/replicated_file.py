"""One replicated state on a disk: the whole of it once, and behind it what came since.

This module exists so that a change is acknowledged only when a crash cannot take it back, and so
that a replica knows whether it remembers everything it ever said. It must never look into a state.

The file is replaced as a whole now and then (written beside, synced, renamed), and appended to in
between, all that waits in one write. Each record has a checksum. What is torn off at the end was
never acknowledged.

A replica id is used again only after a *clean* stop, when the file was written whole as the last
thing of that life. After a crash, on a lying disk or without the file, the replica may have said
what it does not remember, and takes a new id (see ``mcpcore.crdt.context``). So a change may leave
for the peers before it is durable here.

A disk that fails takes nothing down: changes are refused as long as it does, and the whole file is
written anew until that works. After a failed sync nothing that was written before is relied upon.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

import msgpack

from mcpcore.crdt import decode, encode
from mcpcore.crdt.anti_entropy import State
from mcpcore.errors import InvalidInput, StorageFailed
from mcpcore.node.disk import Disk, DiskFile

logger = logging.getLogger("mcpcore.node.replicated")

PENDING_BYTES_MAX: Final = 8 << 20
"""What may wait for the disk before changes are refused."""
TAIL_BYTES_MIN: Final = 1 << 20
RETRY_S: Final = 1.0
CLOSE_S: Final = 5.0
"""How long a node that stops waits for a disk that does not answer."""
_MAGIC: Final = b"MCPDATA1"
_RECORD: Final = Struct(">II")


class Recovered(NamedTuple):
    """What a file holds.

    Args:
        state: the state; None if there is no file, or nothing in it can be read.
        replica: the id that it was written under; empty if not known.
        clean: whether that id remembers all that it ever said.
    """

    state: State | None
    replica: str
    clean: bool


class ReplicaFile:
    """The file of one state.

    Args:
        path: where, without directories that are not there.
        whole: gives the state as it is now, encoded.
    """

    def __init__(self, disk: Disk, path: str, whole: Callable[[], bytes]) -> None:
        self._disk = disk
        self._path = path
        self._whole = whole
        self._replica = ""
        self._file: DiskFile | None = None
        self._end = 0
        self._base = 0
        self._records: list[bytes] = []
        self._waiting: list[asyncio.Future[None]] = []
        self._pending_bytes = 0
        self._anew = False
        self._task: asyncio.Task[None] | None = None
        self._work = asyncio.Event()
        self.problem = ""
        """Why the disk takes nothing at the moment; empty if it does."""

    @property
    def full(self) -> bool:
        """Whether more waits for the disk than may."""
        return self._pending_bytes >= PENDING_BYTES_MAX

    # --- life -----------------------------------------------------------------------------------

    def recover(self) -> Recovered:
        """Read what is there. Damage is reported in the log, and never raised: peers have it all.

        Raises:
            OSError: the disk does not work.
        """
        if not self._disk.exists(self._path):
            return Recovered(None, "", False)
        file = self._disk.open(self._path)
        try:
            data = file.read(0, file.size())
        finally:
            file.close()
        found, why = read_file(data)
        if why:
            logger.warning("%s: %s; what is missing comes back from the peers", self._path, why)
        return found

    async def begin(self, replica: str) -> None:
        """Write the file for a life that begins, and take changes from now on.

        Raises:
            OSError: the disk does not work.
        """
        self._replica = replica
        await self._write_whole(clean=False)
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"file {self._path}")

    async def close(self) -> None:
        """Make everything durable, and say that this life ends clean. A disk that fails is
        reported in the log; the next life then begins with another id.
        """
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait({task})
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._write_whole(clean=True)
            self._settle(None)
        except OSError as error:
            logger.warning("%s: not closed clean: %r", self._path, error)
            self._settle(StorageFailed(f"{self._path}: {error}"))
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """Remove the file, which is closed.

        Raises:
            OSError: the disk does not work.
        """
        self._disk.remove(self._path)

    # --- changes --------------------------------------------------------------------------------

    def append(self, delta: State) -> asyncio.Future[None]:
        """Have a change written. The future is done when it is durable.

        It fails with ``StorageFailed`` if the disk does not take it; the change is in memory and on
        its way to the peers all the same.
        """
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        if self.full or self._anew:
            self._anew = True  # the whole state costs no more than what waits already
            self._records.clear()
        else:
            record = _record(encode(delta))
            self._records.append(record)
            self._pending_bytes += len(record)
        self._work.set()
        return done

    def rewrite(self, replica: str) -> asyncio.Future[None]:
        """Have the whole file written anew, under this replica id. Done when that is durable."""
        self._replica = replica
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self._anew = True
        self._records.clear()
        self._work.set()
        return done

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            waiting, self._waiting = self._waiting, []
            try:
                if self._anew or self._end - self._base > max(TAIL_BYTES_MIN, 2 * self._base):
                    await self._write_whole(clean=False)
                else:
                    await self._write_records()
            except OSError as error:
                self._anew, self.problem = True, str(error)
                self._waiting = waiting + self._waiting
                self._settle(StorageFailed(f"{self._path}: {error}"))
                logger.warning("%s: %s; changes are refused meanwhile", self._path, error)
                await asyncio.sleep(RETRY_S)
                self._work.set()
                continue
            except BaseException:
                self._waiting = waiting + self._waiting
                raise
            self.problem = ""
            for done in waiting:
                if not done.done():
                    done.set_result(None)

    async def _write_records(self) -> None:
        if not self._records:
            return
        assert self._file is not None
        data = b"".join(self._records)
        self._records.clear()
        self._pending_bytes = 0
        await self._file.write(self._end, data, sync=True)
        self._end += len(data)

    async def _write_whole(self, *, clean: bool) -> None:
        """Replace the file by the state as it is at this moment."""
        self._records.clear()
        self._pending_bytes, self._anew = 0, False
        head: bytes = msgpack.packb([self._replica, clean, self._whole()])
        data = _MAGIC + _record(head)
        fresh = self._disk.open(f"{self._path}.new", create=True)
        try:
            await fresh.truncate(0)
            await fresh.write(0, data, sync=True)
        except BaseException:
            fresh.close()
            raise
        if self._file is not None:
            self._file.close()
        self._file = fresh
        self._disk.rename(f"{self._path}.new", self._path)
        await self._disk.sync_dir(self._path.rpartition("/")[0])
        self._base = self._end = len(data)

    def _settle(self, error: Exception | None) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)
                done.exception()  # whoever dropped it shall not be told when it is collected


def _record(payload: bytes) -> bytes:
    return _RECORD.pack(len(payload), crc32(payload)) + payload


def read_file(data: bytes) -> tuple[Recovered, str]:
    """What the bytes of a file hold, and what is wrong with them, in words; empty if nothing is."""
    nothing = Recovered(None, "", False)
    if data[: len(_MAGIC)] != _MAGIC:
        return nothing, "not a file of replicated data, or of a newer version"
    payload, at = _payload(data, len(_MAGIC))
    if payload is None:
        return nothing, "its beginning cannot be read"
    try:
        replica, clean, encoded = msgpack.unpackb(payload)
        state = decode(encoded, size_bytes_max=len(encoded))
        if type(replica) is not str or type(clean) is not bool:
            return nothing, "its first record is none"
        count = 0
        while at < len(data):
            payload, at = _payload(data, at)
            if payload is None:
                why = f"{len(data) - at} bytes at its end are torn or damaged"
                return Recovered(state, replica, False), why
            _join(state, decode(payload))
            count += 1
    except (InvalidInput, ValueError, TypeError, msgpack.UnpackException) as error:
        return nothing, f"it cannot be read: {error}"
    return Recovered(state, replica, clean and not count), ""


def _join(state: State, delta: State) -> None:
    if type(state) is not type(delta):
        raise InvalidInput("a change of another kind of state", where="file")
    state.join(delta)  # type: ignore[arg-type]


def _payload(data: bytes, at: int) -> tuple[bytes | None, int]:
    """The record at a place and where the next one begins; None and the same place if torn."""
    start = at + _RECORD.size
    if start > len(data):
        return None, at
    length, check = _RECORD.unpack_from(data, at)
    payload = data[start : start + length]
    if len(payload) < length or crc32(payload) != check:
        return None, at
    return payload, start + length

"""The file of a quarantine on a disk that refuses now and then, and callers that go away."""

from __future__ import annotations

import asyncio

import pytest

from mcpcore.node.quarantine_disk import QuarantineFile
from tests.node.storage.ram_disk import RamDisk

PATH = "data/quarantine/main"


class Refusing(RamDisk):
    """Refuses the next sync of the directory in which quarantines lie."""

    refuses = False

    async def sync_dir(self, path: str) -> None:
        if self.refuses and path == "data/quarantine":
            self.refuses = False
            raise OSError(5, "input/output error")
        await super().sync_dir(path)


async def test_what_follows_a_replacement_that_was_not_confirmed_goes_to_the_new_file() -> None:
    """The old one has no name any more: what is written there is nowhere."""
    disk = Refusing()
    file = QuarantineFile(disk, PATH)
    file.append(b"one")
    await file.flush()
    disk.refuses = True
    with pytest.raises(OSError, match="input/output"):
        await file.replace(b"whole")
    assert file.waits, "the name is not durable yet"

    file.append(b"two")
    await file.flush()

    assert not file.waits
    file.close()
    assert QuarantineFile(disk, PATH).read() == b"wholetwo"


async def test_what_a_caller_did_not_wait_for_is_written_with_what_comes_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    disk = RamDisk()
    file = QuarantineFile(disk, PATH)
    file.append(b"one")
    await file.flush()

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as stalled:
        stalled.setattr(type(file._file), "write", never)
        file.append(b"two")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await file.flush()
    file.append(b"three")
    await file.flush()

    file.close()
    assert QuarantineFile(disk, PATH).read() == b"onetwothree"

"""A real process that is killed while it writes: nothing that it acknowledged is lost."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcpcore.node.file_disk import FileDisk
from mcpcore.node.storage import RecoveredGroup
from mcpcore.node.wal import WriteAheadLog
from tests.node.storage.world import WE

ROOT = Path(__file__).parents[3]

WRITER = """
import asyncio, sys, time
from mcpcore.node.file_disk import FileDisk
from mcpcore.node.wal import WriteAheadLog
from mcpcore.raft.types import HardState, LogPosition
from tests.node.storage.world import TRIO, WE, block

async def main():
    log = await WriteAheadLog.open(
        FileDisk(), sys.argv[1], identity=WE, monotonic_ns=time.monotonic_ns, segment_bytes=65536
    )
    if "g" not in log.groups():
        await log.create_group("g", TRIO)
        last, base, term = 0, 0, 0
    else:
        group = log.groups()["g"]
        last, base, term = group.last.index, group.base.index, group.hard_state.term
    term += 1
    start = last
    while True:
        done = [log.submit("g", HardState(term, "n1"), [])]
        for _ in range(20):
            last += 1
            done.append(log.submit("g", None, [block(last, last, term, size=last % 500)]))
        if last - max(base, start) > 500:  # so that the entry at the new base is of our term
            base = last - 100
            done.append(log.compact("g", LogPosition(term, base), TRIO))
        await asyncio.gather(*done)
        print(term, last, base, flush=True)

asyncio.run(main())
"""


def write_until_killed(directory: str, lines: int) -> tuple[int, int, int]:
    """Start a writer, let it acknowledge ``lines`` rounds, kill it; the last it told us."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, directory], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        told = list(itertools.islice(process.stdout, lines))
        process.send_signal(signal.SIGKILL)
        told += [line for line in process.stdout if line.endswith("\n")]
    assert told, "the writer wrote nothing"
    term, last, base = map(int, told[-1].split())
    return term, last, base


async def recover(directory: str) -> tuple[RecoveredGroup, int]:
    disk = FileDisk()
    log = await WriteAheadLog.open(
        disk, directory, identity=WE, monotonic_ns=time.monotonic_ns, segment_bytes=65536
    )
    await log.close()
    disk.close()
    return log.groups()["g"], log.report.segments


def run(directory: str, kills: int) -> None:
    for kill in range(kills):
        term, last, base = write_until_killed(directory, lines=5 + kill * 7 % 40)
        group, segments = asyncio.run(recover(directory))
        group.check()
        assert group.hard_state.term == term
        assert group.last.index >= last
        assert group.base.index >= base
        assert segments < 20, "old segments go"
        for entry in group.entries:
            assert entry.data.startswith(f"{entry.index}@{entry.term}".encode())


@pytest.mark.processes
def test_nothing_acknowledged_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    run(str(tmp_path / "log"), kills=4)


@pytest.mark.processes
@pytest.mark.soak
def test_nothing_acknowledged_is_lost_in_two_hundred_kills(tmp_path: Path) -> None:
    run(str(tmp_path / "log"), kills=200)

"""One page of memory that an experiment and one node share, kept in a file.

This module exists so that a fault takes hold at the node's very next reading or write, survives the
node's restarts, and is seen to have taken hold: the experiment writes what is to be wrong, the node
writes what it met. A file, because a node that is killed and started again finds it where it was.

One writer for each half. The upper half carries a counter that is odd while it is being written, so
that a reader never takes half of one state for a state.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Final, Self

from mcpcore.errors import InvalidInput
from mcpcore.experiment.steering.wrong_clock import WrongClock

_SIZE_BYTES: Final = 4096
_MAGIC: Final = b"mcpcore steering 1"
_COUNTER: Final = struct.Struct("<Q")
_COUNTER_AT: Final = 64
_STATE: Final = struct.Struct(f"<{len(fields(WrongClock))}q3q")
_STATE_AT: Final = 128
_MET: Final = struct.Struct("<6q")
_MET_AT: Final = 2048
_TRIES: Final = 1000


@dataclass(frozen=True, slots=True)
class Wrongs:
    """What is wrong with a node's clocks and disk. The default is nothing.

    Args:
        clock: of both its clocks.
        sync_delay_ns: how much longer every sync takes.
        stalled: no sync returns while this is so.
        errno: what writes and syncs fail with; 0: they do not.
    """

    clock: WrongClock = field(default_factory=WrongClock)
    sync_delay_ns: int = 0
    stalled: bool = False
    errno: int = 0


@dataclass(slots=True)
class Met:
    """What a node has met, over all its lives.

    Args:
        readings: of its clocks. wall_ahead_ns: what its wall clock was ahead at the latest one.
        syncs: that returned. slowed: that took longer. stalled: that had to wait.
        failed: writes and syncs that failed.
    """

    readings: int = 0
    wall_ahead_ns: int = 0
    syncs: int = 0
    slowed: int = 0
    stalled: int = 0
    failed: int = 0


class Page:
    """See above.

    Args:
        path: of the file, as ``create`` made it.

    Raises:
        InvalidInput: it is no such file.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("r+b") as file:
                self._memory = mmap.mmap(file.fileno(), _SIZE_BYTES)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"cannot be used: {error}", where=str(path)) from error
        if not self._memory[:].startswith(_MAGIC):
            self._memory.close()
            raise InvalidInput(
                "is no page of steering",
                where=str(path),
                remedy="Only experiments use --steering; leave it out",
            )

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make the file, with nothing wrong."""
        path.write_bytes(_MAGIC.ljust(_SIZE_BYTES, b"\0"))
        page = cls(path)
        page.write(Wrongs())
        return page

    def write(self, wrongs: Wrongs) -> None:
        """Say what is wrong from now on. Only the experiment does."""
        (counter,) = _COUNTER.unpack_from(self._memory, _COUNTER_AT)
        _COUNTER.pack_into(self._memory, _COUNTER_AT, counter + 1)
        _STATE.pack_into(
            self._memory,
            _STATE_AT,
            *astuple(wrongs.clock),
            wrongs.sync_delay_ns,
            int(wrongs.stalled),
            wrongs.errno,
        )
        _COUNTER.pack_into(self._memory, _COUNTER_AT, counter + 2)

    @property
    def version(self) -> int:
        """A number that changes with what is wrong."""
        (counter,) = _COUNTER.unpack_from(self._memory, _COUNTER_AT)
        return int(counter)

    def read(self) -> Wrongs:
        """What is wrong now."""
        for _ in range(_TRIES):
            before = self.version
            state = _STATE.unpack_from(self._memory, _STATE_AT)
            if before % 2 == 0 and self.version == before:
                *clock, delay_ns, stalled, errno = state
                return Wrongs(WrongClock(**_named(clock)), delay_ns, bool(stalled), errno)
        raise InvalidInput("whoever wrote it has died over it", where="page of steering")

    def report(self, met: Met) -> None:
        """Say what was met so far. Only the node does."""
        _MET.pack_into(self._memory, _MET_AT, *astuple(met))

    def met(self) -> Met:
        """What the node has met so far."""
        return Met(*_MET.unpack_from(self._memory, _MET_AT))

    def close(self) -> None:
        """Let go of it; the file stays."""
        self._memory.close()


def _named(values: list[int]) -> dict[str, int]:
    return dict(zip((each.name for each in fields(WrongClock)), values, strict=True))

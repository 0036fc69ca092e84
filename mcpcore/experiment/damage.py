"""Damage to the files of a node that is not running: what rots, what is torn, what is lost.

This module exists so that a real node's recovery meets what a disk does to a log, at places drawn
by seed. Each function returns how much it changed, so that no damage is claimed that was not done.

HAZARD: only a write that nobody was told of may be torn. Cutting off a tail that was synced would
make the node forget a vote or an acknowledged entry, and Raft promises nothing then; that is what
``rot`` is for, which the checksums must find.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Final

from mcpcore.node.file_disk import FileDisk
from mcpcore.node.storage.wal_format import encode_batch, encode_record
from mcpcore.node.storage.wal_recovery import LogEnd, LogScan, segment_path

_SECTOR_BYTES: Final = 512


def rot(data: Path, flips: int, draw: random.Random) -> int:
    """Flip single bits in what was written to a log; return how many."""
    found = _end_of(data)
    if found is None or found.tail <= _SECTOR_BYTES:
        return 0
    path = Path(segment_path(str(data), found.header.number))
    written = bytearray(path.read_bytes())
    # Not in the header: a segment whose name nobody can read is another kind of damage. And not
    # among zeros, which may be padding: no checksum covers that.
    places = [at for at in range(_SECTOR_BYTES, found.tail) if written[at]]
    struck = draw.sample(places, min(flips, len(places)))
    for at in struck:
        written[at] ^= 1 << draw.randrange(8)
    path.write_bytes(written)
    return len(struck)


def tear(data: Path, draw: random.Random) -> int:
    """Leave part of a batch behind the log's end, as a write cut by a power failure does.

    Returns:
        How many bytes of it got to the disk.
    """
    found = _end_of(data)
    if found is None or not found.last_records:
        return 0
    rows = [encode_record(record) for record in found.last_records]
    batch = encode_batch(found.sequence, rows, found.seed)
    got = draw.randrange(1, len(batch.rstrip(b"\0")))  # with all but padding it would be whole
    path = Path(segment_path(str(data), found.header.number))
    with path.open("r+b") as file:
        file.seek(found.tail)
        file.write(batch[:got])
    return got


def wipe(data: Path) -> int:
    """Lose everything; return how many files that were."""
    files = [path for path in data.rglob("*") if path.is_file()]
    for each in data.iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        else:
            each.unlink()
    return len(files)


def _end_of(data: Path) -> LogEnd | None:
    disk = FileDisk()
    try:
        scan = LogScan(disk, str(data))
        for _ in scan:
            pass
        return scan.end
    finally:
        disk.close()

"""Writing a damaged log anew, and keeping the damaged files.

This module exists so that the one place where a log is replaced is short, and safe at every
instant: the new segment exists whole or not at all, and says in its header that the log begins with
it. Until it has its name, the damaged log is what there is; from then on the old files are
leftovers, which are moved aside, never removed. It does not judge what is kept (``salvage`` does).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mcpcore.node.disk import Disk
from mcpcore.node.storage.contract import Identity
from mcpcore.node.storage.log_image import EntriesAppended, GroupRecorded, Record, RunKept
from mcpcore.node.storage.salvage import Salvage, begin_again
from mcpcore.node.storage.salvage_scan import SalvageScan
from mcpcore.node.storage.wal_format import BEGINS, LOST_NAMES, SegmentHeader, encode_record
from mcpcore.node.storage.wal_recovery import segment_path
from mcpcore.node.storage.wal_segment import SegmentWriter
from mcpcore.raft.types import Block, Entry

ASIDE = "damaged"
"""The directory, beside the log, where damaged files are kept."""

_ENTRIES_IN_A_RECORD = 1_000


async def write_anew(
    disk: Disk, directory: str, scan: SalvageScan, found: Salvage, identity: Identity
) -> list[str]:
    """Replace a damaged log by what it still proves.

    Args:
        identity: whose log it becomes; with another incarnation if anything was forgotten.

    Returns:
        Where the old files are kept now.

    Raises:
        OSError: the disk does not work. Either the old log or the new one stands, never both.
    """
    records = list(_retired(found))
    for finding in found.findings:
        state, entries, doubt = begin_again(finding)
        mark = None if doubt is None else doubt._replace(runs=())
        records.append(GroupRecorded(finding.number, state._replace(doubt=mark)))
        records += (EntriesAppended(finding.number, block) for block in _blocks(entries))
        for run in doubt.runs if doubt is not None else ():
            records.append(RunKept(finding.number, Block(run)))
    number = 1 + max(scan.segments, default=0)
    origin = LOST_NAMES if found.names_lost else BEGINS
    header = SegmentHeader(identity, number, scan.next_sequence + 1, origin)
    rows = [encode_record(record) for record in records]
    segment = await SegmentWriter.create(disk, directory, header, rows, reserve_bytes=1)
    segment.close()
    return await put_aside(disk, directory, scan.segments)


async def put_aside(disk: Disk, directory: str, segments: Iterable[int]) -> list[str]:
    """Move segments out of the log, and keep them; returns where they are.

    Raises:
        OSError: the disk does not work.
    """
    moved: list[str] = []
    for number in segments:
        if not moved:
            disk.make_dirs(f"{directory}/{ASIDE}")
        place = segment_path(f"{directory}/{ASIDE}", number)
        disk.rename(segment_path(directory, number), place)
        moved.append(place)
    if moved:
        await disk.sync_dir(f"{directory}/{ASIDE}")
        await disk.sync_dir(directory)
    return moved


def _retired(found: Salvage) -> Iterator[Record]:
    for number, state in found.retired:
        yield GroupRecorded(number, state)


def _blocks(entries: tuple[Entry, ...]) -> Iterator[Block]:
    for at in range(0, len(entries), _ENTRIES_IN_A_RECORD):
        yield Block(entries[at : at + _ENTRIES_IN_A_RECORD])

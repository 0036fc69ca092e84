"""A log in plain values, for people and for programs that look for something.

This module exists so that what `mcpctl log` shows can be tested without a screen. It reads what a
``SalvageScan`` found, damage included, and changes nothing.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from mcpcore.errors import InvalidInput
from mcpcore.node.disk import Disk
from mcpcore.node.kv.commands import decode_command
from mcpcore.node.storage.log_image import (
    BaseMoved,
    DoubtEnded,
    Echo,
    EntriesAppended,
    EntriesNoted,
    GroupRecorded,
    GroupRetired,
    HardStateSaved,
    RunKept,
)
from mcpcore.node.storage.salvage_scan import Item, LostBatches, Piece, SalvageScan
from mcpcore.node.storage.wal_format import Unreadable
from mcpcore.node.storage.wal_recovery import segment_numbers
from mcpcore.raft.sessions import describe_entry
from mcpcore.raft.types import Block, Configuration, Entry, EntryKind


def require_log(disk: Disk, directory: str) -> None:
    """Make sure that there is a log to look at.

    Raises:
        InvalidInput: there is none.
    """
    if not segment_numbers(disk, directory):
        raise InvalidInput(
            "holds no log: no file like 00000001.log",
            where=directory,
            remedy="Name a node's data directory, as `data` in its node.toml",
        )


def dump(
    disk: Disk, directory: str, *, group: str = "", first_index: int = 0
) -> Iterator[dict[str, Any]]:
    """Everything a log says, in order, one plain value for each record, entry and damage.

    Args:
        group: only this group's; empty for all.
        first_index: no entries before this one.

    Raises:
        OSError: the disk cannot be read.
    """
    names: dict[int, str] = {}
    for piece in SalvageScan(disk, directory):
        if piece.damage is not None:
            yield {"what": "damage", **_place(piece), "problem": piece.damage.problem}
        for item in piece.items:
            if isinstance(item, GroupRecorded):
                names[item.group] = item.state.name
            for told in _told(item):
                number = told.pop("number", None)
                if number is not None:
                    told["group"] = names.get(number, f"number {number}")
                if group and told.get("group") != group:
                    continue
                if told.get("index", first_index) < first_index:
                    continue
                yield {"segment": piece.segment, "batch": piece.sequence, **told}


def _place(piece: Piece) -> dict[str, Any]:
    damage = piece.damage
    assert damage is not None
    return {"segment": piece.segment, "batch": piece.sequence, "offset": damage.offset}


def _told(item: Item) -> Iterator[dict[str, Any]]:
    match item:
        case EntriesAppended(group, block):
            for entry in block.entries:
                yield {"what": "entry", "number": group, **entry_as_data(entry)}
        case RunKept(group, block):
            yield {"what": "run behind a hole", "number": group, **_range(block)}
        case EntriesNoted(group, first, last):
            yield {"what": "lost entries", "number": group, "first": first, "last": last}
        case HardStateSaved(group, hard_state):
            yield {"what": "term and vote", "number": group, **hard_state._asdict()}
        case GroupRecorded(group, state):
            told = {"what": "group", "number": group, "live": state.live}
            told |= {"term": state.hard_state.term, "voted_for": state.hard_state.voted_for}
            told |= {"base": list(state.base), "configuration": str(state.configuration)}
            yield told | ({"in_doubt": True} if state.doubt is not None else {})
        case BaseMoved(group, base, configuration, suffix_kept):
            told = {"what": "base moved", "number": group, "base": list(base)}
            yield told | {"configuration": str(configuration), "suffix_kept": suffix_kept}
        case GroupRetired(group):
            yield {"what": "group retired", "number": group}
        case DoubtEnded(group):
            yield {"what": "doubt ended", "number": group}
        case Unreadable(_, group, _, problem):
            yield {"what": "lost record", "number": group, "problem": problem}
        case LostBatches(count):
            yield {"what": "lost batches", "count": count}
        case Echo():
            return  # what the batch before said


def _range(block: Block) -> dict[str, int]:
    return {"first": block.entries[0].index, "last": block.entries[-1].index}


def entry_as_data(entry: Entry) -> dict[str, Any]:
    """An entry in plain values; what is known about its bytes is spelled out."""
    told: dict[str, Any] = {
        "index": entry.index,
        "term": entry.term,
        "kind": EntryKind(entry.kind).name.lower(),
        "bytes": len(entry.data),
    }
    if entry.kind == EntryKind.CONFIG:
        told["configuration"] = str(Configuration.decode(entry.data))
    elif entry.kind == EntryKind.COMMAND:
        told |= _command(entry.data)
    elif entry.kind == EntryKind.SESSION:
        said = describe_entry(entry.data)
        command = said.pop("command", None)
        told["session"] = said
        if isinstance(command, bytes):
            told |= _command(command)
    return told


def _command(data: bytes) -> dict[str, Any]:
    """A command of the key-value machine by name and fields; anything else as it is."""
    try:
        command = decode_command(data)
    except InvalidInput:
        return {"data_base64": b64encode(data[:64]).decode()}
    fields = {name: _plain(value) for name, value in command._asdict().items()}
    return {"command": {"op": type(command).__name__, **fields}}


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return list(value) if isinstance(value, tuple) else value

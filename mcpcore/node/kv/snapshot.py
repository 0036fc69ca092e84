"""A store as a stream of bytes, and back, believing nothing.

This module exists so that a snapshot can be written off the loop while the machine goes on, and
read without ever leaving a half-made state behind. Layout, one msgpack value after the other: a
head (magic, version, revision, limits, numbers of leases and records), the leases by id, the
records by key, the digest. It must never touch a file or a socket: chunks come and go by iterator.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple
from typing import Final, NoReturn

import msgpack

from mcpcore.errors import InvalidInput
from mcpcore.node.kv.gone import Gone
from mcpcore.node.kv.records import KEY_BYTES_MAX, KeyValue, KeyValueLimits
from mcpcore.node.kv.store import Store
from mcpcore.node.kv.wire import RECORD
from mcpcore.raft.types import MAX_UINT

_MAGIC: Final = "mcpcore.kv"
_VERSION: Final = 1
CHUNK_BYTES: Final = 1 << 18
"""About how much is handed out at a time."""


def write_snapshot(store: Store) -> Iterator[bytes]:
    """The store as it is now, in chunks of about 256 KiB.

    The call copies pointers, no data: records never change in place. The iterator then works on
    these copies alone, so the store may change, and another thread may do the reading.
    """
    head = (
        _MAGIC,
        _VERSION,
        store.revision,
        astuple(store.limits),
        len(store.leases),
        len(store),
    )
    # Ids are log indexes, so leases stand in order as they were granted.
    leases = [(lease, facts.ttl_ms) for lease, facts in store.leases.items()]
    keys, entries = store.view()
    return _chunks(head, leases, keys, entries, store.digest())


def _chunks(
    head: tuple[object, ...],
    leases: list[tuple[int, int]],
    keys: list[bytes],
    entries: dict[bytes, tuple[KeyValue, int]],
    digest: bytes,
) -> Iterator[bytes]:
    pack = msgpack.Packer().pack
    parts: list[bytes] = [pack(head)]
    parts.extend(map(pack, leases))
    size = sum(map(len, parts))
    for key in keys:
        part = pack(entries[key][0])
        parts.append(part)
        size += len(part)
        if size >= CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    parts.append(pack(digest))
    yield b"".join(parts)


def read_snapshot(chunks: Iterable[bytes]) -> Store:
    """The store that ``write_snapshot`` wrote, wherever the chunks were cut since.

    Raises:
        InvalidInput: the bytes are no whole, sound snapshot, or of an unknown version.
    """
    items = items_of(chunks)
    head = next(items, None)
    if type(head) is not tuple or len(head) != 6 or head[0] != _MAGIC:
        _refuse("these bytes are no snapshot of a key-value machine")
    _, version, revision, limits, lease_count, record_count = head
    if version != _VERSION:
        _refuse(
            f"version {version!r} of the format; this release reads {_VERSION}",
            remedy="restore it with the release that wrote it, or a later one",
        )
    if tuple(map(type, (revision, lease_count, record_count))) != (int, int, int):
        _refuse("the head holds something else than numbers")
    if not 0 <= revision <= MAX_UINT:
        _refuse(f"{revision} is no revision")
    try:
        store = Store(KeyValueLimits(*limits))
    except (TypeError, InvalidInput) as error:
        _refuse(f"limits that make no sense: {error}")
    store.revision = revision
    store.gone = Gone(revision)
    _read_leases(store, items, lease_count)
    store.adopt(_records(store, items, record_count))
    if next(items, None) != store.digest():
        _refuse("the digest at the end does not fit the contents")
    if next(items, None) is not None:
        _refuse("something follows the end")
    return store


def _read_leases(store: Store, items: Iterator[object], count: int) -> None:
    last = 0
    for position in range(count):
        row = next(items, None)
        if type(row) is not tuple or tuple(map(type, row)) != (int, int):
            _refuse(f"item {position} of the leases is no lease")
        lease, ttl_ms = row
        if not (last < lease <= MAX_UINT and 0 < ttl_ms <= store.limits.lease_ttl_ms):
            _refuse(f"lease {lease} with {ttl_ms} ms is out of order or range")
        store.add_lease(lease, ttl_ms)
        last = lease


def _records(store: Store, items: Iterator[object], count: int) -> Iterator[KeyValue]:
    last = b""
    for position in range(count):
        row = next(items, None)
        if type(row) is not tuple or tuple(map(type, row)) != RECORD:
            _refuse(f"item {position} of the records is no record")
        record = KeyValue(*row)
        if not (
            last < record.key
            and len(record.key) <= KEY_BYTES_MAX
            and len(record.value) <= store.limits.value_bytes
            and 0 < record.create_revision <= record.mod_revision <= store.revision
            and 0 < record.version <= record.mod_revision - record.create_revision + 1
            and (record.lease == 0 or record.lease in store.leases)
        ):
            _refuse(f"record {position} ({record.key[:40]!r}) breaks the rules of the store")
        yield record
        last = record.key


def items_of(chunks: Iterable[bytes]) -> Iterator[object]:
    """The msgpack values in a stream, cut anywhere."""
    unpacker = msgpack.Unpacker(use_list=False, max_buffer_size=0)
    for chunk in chunks:
        try:
            unpacker.feed(chunk)
            items = list(unpacker)
        except Exception as error:  # msgpack raises several unrelated classes
            raise InvalidInput(
                f"damaged: {error}", where="snapshot", remedy="fetch it again"
            ) from error
        yield from items


def _refuse(what: str, *, remedy: str = "fetch it again") -> NoReturn:
    raise InvalidInput(what, where="snapshot", remedy=remedy)

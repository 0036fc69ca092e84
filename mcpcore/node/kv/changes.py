"""What changed in a store since an index, as a stream of bytes, and back.

This module exists so that a member that was away for a while gets what changed and not everything
(see ``Incremental``). Records say themselves when they changed last; what is *gone* says nothing,
so a store remembers its latest deletions, up to a bound. Layout, one msgpack value after the other:
a head, deleted keys, ended leases, new leases, changed records, the digest of the whole store. It
must never touch a file or a socket.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import astuple
from typing import Final, NoReturn

import msgpack

from mcpcore.errors import InvalidInput
from mcpcore.node.kv.gone import Gone
from mcpcore.node.kv.records import KEY_BYTES_MAX, KeyValue
from mcpcore.node.kv.snapshot import CHUNK_BYTES, items_of
from mcpcore.node.kv.store import Store
from mcpcore.node.kv.wire import RECORD
from mcpcore.raft.types import MAX_UINT

_MAGIC: Final = "mcpcore.kv changes"
_VERSION: Final = 1


def write_changes(store: Store, since: int) -> Iterator[bytes] | None:
    """What turns the store that log index ``since`` led to into the present one.

    None if deletions since then are forgotten. The call copies pointers, no data; the iterator goes
    on giving the changes up to the moment of the call.
    """
    gone = store.gone.since(since)
    if gone is None:
        return None
    keys, leases_ended = gone
    leases = [(id_, facts.ttl_ms) for id_, facts in store.leases.items() if id_ > since]
    order, entries = store.view()
    head = (_MAGIC, _VERSION, since, store.revision, astuple(store.limits))
    return _chunks(head, keys, leases_ended, leases, order, entries, since, store.digest())


def _chunks(
    head: tuple[object, ...],
    keys: list[bytes],
    ended: list[int],
    leases: list[tuple[int, int]],
    order: list[bytes],
    entries: dict[bytes, tuple[KeyValue, int]],
    since: int,
    digest: bytes,
) -> Iterator[bytes]:
    changed = [record for record in (entries[key][0] for key in order) if record[3] > since]
    counts = (len(keys), len(ended), len(leases), len(changed))
    pack = msgpack.Packer().pack
    parts: list[bytes] = [pack(head + counts)]
    size = 0
    for row in (*keys, *ended, *leases, *changed, digest):
        part = pack(row)
        parts.append(part)
        size += len(part)
        if size >= CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)


def apply_changes(store: Store, chunks: Iterable[bytes]) -> None:
    """Carry out on ``store`` what ``write_changes`` wrote. Afterwards it is believed or dropped.

    Raises:
        InvalidInput: the bytes are no whole, sound changes, or not those of this store.
    """
    items = items_of(chunks)
    head = next(items, None)
    if type(head) is not tuple or len(head) != 9 or head[:2] != (_MAGIC, _VERSION):
        _refuse("these bytes are no changes of a key-value machine")
    _, _, since, revision, limits, *counts = head
    if not all(type(n) is int and 0 <= n <= MAX_UINT for n in (since, revision, *counts)):
        _refuse("the head holds something else than numbers")
    if not store.revision <= since or revision < store.revision:
        _refuse(f"changes from {since} to {revision} do not follow revision {store.revision}")
    if limits != astuple(store.limits):
        _refuse("the limits differ")
    for _ in range(counts[0]):
        key = next(items, None)
        if type(key) is not bytes or not 0 < len(key) <= KEY_BYTES_MAX:
            _refuse("a deleted key is no key")
        if store.get(key) is not None:
            store.delete(revision, key)
    for _ in range(counts[1]):
        lease = next(items, None)
        if type(lease) is not int:
            _refuse("an ended lease is no lease")
        held = store.leases.get(lease)
        if held is not None:
            if held.keys:
                _refuse(f"lease {lease} ended, and keys hang on it")
            store.remove_lease(revision, lease)
    last = max(store.leases, default=0)
    for _ in range(counts[2]):
        row = next(items, None)
        if type(row) is not tuple or tuple(map(type, row)) != (int, int):
            _refuse("a new lease is no lease")
        lease, ttl_ms = row
        if not (last < lease <= MAX_UINT and 0 < ttl_ms <= store.limits.lease_ttl_ms):
            _refuse(f"lease {lease} with {ttl_ms} ms is out of order or range")
        store.add_lease(lease, ttl_ms)
        last = lease
    _put_records(store, items, counts[3], since, revision)
    store.revision = revision
    store.gone = Gone(revision)
    if next(items, None) != store.digest():
        _refuse("the digest at the end does not fit the result")
    if next(items, None) is not None:
        _refuse("something follows the end")


def _put_records(
    store: Store, items: Iterator[object], count: int, since: int, revision: int
) -> None:
    for position in range(count):
        row = next(items, None)
        if type(row) is not tuple or tuple(map(type, row)) != RECORD:
            _refuse(f"item {position} of the records is no record")
        record = KeyValue(*row)
        if not (
            0 < len(record.key) <= KEY_BYTES_MAX
            and len(record.value) <= store.limits.value_bytes
            and 0 < record.create_revision <= record.mod_revision <= revision
            and since < record.mod_revision
            and 0 < record.version <= record.mod_revision - record.create_revision + 1
            and (record.lease == 0 or record.lease in store.leases)
        ):
            _refuse(f"record {position} ({record.key[:40]!r}) breaks the rules of the store")
        store.put_record(record)


def _refuse(what: str) -> NoReturn:
    raise InvalidInput(what, where="changes", remedy="fetch the whole snapshot")

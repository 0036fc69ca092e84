"""The key-value client: arguments that make no sense, scans, watches that outlive everything."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from mcpcore.errors import (
    CommandRefused,
    ConnectionLost,
    InvalidInput,
    WatchCompacted,
    WatchOverrun,
)
from mcpcore.node.group import ReadResult
from mcpcore.node.kv.client import KeyValueClient
from mcpcore.node.kv.commands import Compare, Get, Put, decode_request
from mcpcore.node.kv.records import Event, EventKind, KeyValue
from mcpcore.node.kv.results import Changes, Compacted, Found, TooSlow, encode_result
from tests.node.local_cluster import LocalCluster, kv


class Nobody:
    """A client that must not be asked anything."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


@pytest.mark.parametrize("value", [5, True, 1.5, None, ["a"], "\ud800"], ids=repr)
async def test_a_key_or_a_value_that_is_no_bytes_and_no_text_is_refused(value: Any) -> None:
    """``bytes(5)`` is five zeros, and nobody who puts 5 wants that."""
    store = KeyValueClient(Nobody())  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        await store.put("k", value)
    with pytest.raises(InvalidInput):
        await store.get(value)
    with pytest.raises(InvalidInput):
        await store.put(value, "v")


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, float("nan"), float("inf"), 0.0004])
async def test_a_time_to_live_that_is_none_is_refused(ttl_s: float) -> None:
    with pytest.raises(InvalidInput, match="time to live"):
        await KeyValueClient(Nobody()).lease_grant(ttl_s)  # type: ignore[arg-type]


async def test_a_transaction_moves_money_once(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, "a") as cluster, cluster.client() as client:
        store = kv(client)
        ann, bob = await store.put("ann", "10"), await store.put("bob", "0")
        unchanged = [Compare.unchanged(b"ann", ann), Compare.unchanged(b"bob", bob)]
        then = [Put(b"ann", b"7"), Put(b"bob", b"3")]

        first = await store.txn(unchanged, then, [Get(b"ann")])
        again = await store.txn(unchanged, then, [Get(b"ann")])

        assert first.succeeded
        assert not again.succeeded
        assert again.answers[0].record.value == b"7"
        with pytest.raises(CommandRefused, match="128"):
            await store.txn([], [Get(b"a")] * 129)


async def test_a_scan_brings_what_has_the_prefix_wherever_it_starts(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, "a") as cluster, cluster.client() as client:
        store = kv(client)
        for key in ("a", "p/1", "p/2", "p/3", "q"):
            await store.put(key, bytearray(b"v"))

        async def keys(**options: Any) -> list[bytes]:
            return [record.key async for record in store.scan("p/", **options)]

        assert await keys() == [b"p/1", b"p/2", b"p/3"]
        assert await keys(start="a") == [b"p/1", b"p/2", b"p/3"]
        assert await keys(start="p/2", limit=1) == [b"p/2"]
        assert await keys(start="q") == []
        assert await keys(limit=0) == []
        with pytest.raises(InvalidInput, match="limit"):
            await keys(limit=-1)


class Interrupted:
    """A client whose watches end as a script says; the history is 1, 2, 3, ... ten."""

    def __init__(self, script: list[tuple[int, Any]]) -> None:
        self.script = script
        self.asked_after: list[int] = []

    async def query(self, request: bytes, **options: Any) -> ReadResult:
        return ReadResult(0, encode_result(Found(0, None)))

    async def watch(self, request: bytes, **options: Any) -> Any:
        after = decode_request(request).after_revision  # type: ignore[union-attr]
        self.asked_after.append(after)  # type: ignore[arg-type]
        count, end = self.script.pop(0) if self.script else (10, None)
        for revision in range(after + 1, min(after + count, 10) + 1):  # type: ignore[operator]
            record = KeyValue(b"k", b"%d" % revision, 1, revision, revision)
            yield encode_result(Changes(revision, (Event(EventKind.PUT, record, 0),)))
        if isinstance(end, Exception):
            raise end
        if end is not None:
            yield encode_result(end)


async def heard(client: Interrupted, count: int = 10) -> list[int]:
    found: list[int] = []
    async for event in KeyValueClient(client).watch("k", after_revision=0):  # type: ignore[arg-type]
        found.append(event.record.mod_revision)
        if len(found) == count:
            break
    return found


async def test_a_watch_goes_on_exactly_where_it_was_whatever_ended_it() -> None:
    ends = [
        (2, ConnectionLost("a", "cut")),
        (0, WatchOverrun(1)),
        (3, WatchOverrun(1)),
        (1, TooSlow(6)),
        (1, None),
    ]
    client = Interrupted(list(ends))
    async with asyncio.timeout(5):
        assert await heard(client) == list(range(1, 11))
    assert client.asked_after == [0, 2, 2, 5, 6, 7]


async def test_a_change_that_comes_twice_is_told_once() -> None:
    class Stutters(Interrupted):
        async def watch(self, request: bytes, **options: Any) -> Any:
            async for encoded in super().watch(request, **options):
                yield encoded
                yield encoded

    assert await heard(Stutters([]), 10) == list(range(1, 11))


async def test_a_watch_that_cannot_go_on_says_from_where() -> None:
    with pytest.raises(WatchCompacted) as ended:
        await heard(Interrupted([(3, Compacted(9))]))
    assert (ended.value.after_revision, ended.value.oldest_revision) == (3, 9)


async def test_a_program_that_takes_events_slowly_hears_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "mcpcore.node.client.event_buffer.EventBuffer.__init__.__defaults__", (4_000,)
    )
    async with LocalCluster(tmp_path, "a") as cluster, cluster.client() as client:
        store, found = kv(client), []
        writing = asyncio.create_task(_write(store, 60))
        async with asyncio.timeout(15):
            async for event in store.watch("k", after_revision=0):
                found.append(event.record.value[:2])
                if len(found) == 60:
                    break
                await asyncio.sleep(0.002 if len(found) % 20 else 0.2)
        assert found == [b"%02d" % number for number in range(60)]
        await writing


async def _write(store: KeyValueClient, count: int) -> None:
    for number in range(count):
        await store.put("k", b"%02d" % number + b"x" * 500)

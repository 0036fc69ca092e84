"""The bytes of the log, and what they refuse."""

from __future__ import annotations

import struct
from zlib import crc32

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput, StorageVersion
from mcpcore.node.storage.contract import Identity
from mcpcore.node.storage.log_image import (
    BaseMoved,
    EntriesAppended,
    GroupRecorded,
    GroupRetired,
    GroupState,
    HardStateSaved,
    LogImage,
    Record,
)
from mcpcore.node.storage.wal_format import (
    SECTOR_BYTES,
    SegmentHeader,
    batch_bytes,
    decode_record,
    encode_batch,
    encode_record,
    encode_seal,
    find_later_head,
    read_head,
    read_records,
    segment_seed,
)
from mcpcore.node.storage.wal_recovery import verify
from mcpcore.raft.doubt import Doubt
from mcpcore.raft.types import Block, Configuration, Entry, HardState, LogPosition
from tests.node.storage.ram_disk import RamDisk
from tests.node.storage.world import TRIO, WE, block

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
numbers = st.integers(0, 2**62)
groups = st.integers(0, 2**32 - 1)
positions = st.builds(LogPosition, numbers, numbers)
configurations = st.builds(
    lambda voters, outgoing, learners: Configuration(
        voters, outgoing if voters else frozenset(), learners - voters - outgoing
    ),
    st.frozensets(names),
    st.frozensets(names),
    st.frozensets(names),
)
hard_states = st.builds(HardState, numbers, names)
blocks = st.builds(
    lambda first, term, data: Block(
        tuple(Entry(term, first + at, 1, each) for at, each in enumerate(data))
    ),
    st.integers(1, 2**61),
    numbers,
    st.lists(st.binary(max_size=40), min_size=1, max_size=6),
)
doubts = st.none() | st.builds(Doubt, numbers, numbers, st.booleans(), st.just(()))
states = st.builds(GroupState, names, st.booleans(), hard_states, positions, configurations, doubts)
any_record = st.one_of(
    st.builds(GroupRecorded, groups, states),
    st.builds(HardStateSaved, groups, hard_states),
    st.builds(EntriesAppended, groups, blocks),
    st.builds(BaseMoved, groups, positions, configurations, st.booleans()),
    st.builds(GroupRetired, groups),
)


@settings(deadline=None)
@given(st.lists(any_record, max_size=12), numbers, st.integers(0, 2**32 - 1))
def test_what_is_written_is_what_is_read(records: list[Record], sequence: int, seed: int) -> None:
    rows = [encode_record(record) for record in records]
    data = encode_batch(sequence, rows, seed)

    head = read_head(b"?" * SECTOR_BYTES + data, SECTOR_BYTES, seed)

    assert head is not None
    assert (head.sequence, head.seal, head.end) == (sequence, False, SECTOR_BYTES + len(data))
    assert len(data) == batch_bytes(len(rows), sum(len(row.data) for row in rows))
    assert len(data) % SECTOR_BYTES == 0
    assert read_records(b"?" * SECTOR_BYTES + data, head) == records


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 9), groups, st.binary(max_size=60))
def test_bytes_that_mean_nothing_are_refused_clearly(kind: int, group: int, data: bytes) -> None:
    try:
        record = decode_record(kind, group, data)
    except InvalidInput:
        return
    assert decode_record(*_kind_group_data(record)) == record


@settings(deadline=None, max_examples=300)
@given(
    st.integers(0, 9),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary() | st.text(),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=2),
        max_leaves=12,
    ),
)
def test_values_of_the_wrong_shape_are_refused_clearly(kind: int, value: object) -> None:
    try:
        record = decode_record(kind, 1, msgpack.packb(value))
    except InvalidInput:
        return
    assert decode_record(*_kind_group_data(record)) == record


def _kind_group_data(record: Record) -> tuple[int, int, bytes]:
    row = encode_record(record)
    return row.kind, row.group, row.data


def test_entries_are_stored_as_the_very_bytes_that_came_from_the_leader() -> None:
    odd = msgpack.packb([[1, 1, 1, b"x"]], use_bin_type=True)
    came = Block.decode(odd)
    assert odd in encode_batch(1, [encode_record(EntriesAppended(1, came))], 0)


def test_a_batch_is_not_sound_under_the_seed_of_another_segment() -> None:
    data = encode_batch(7, [encode_record(EntriesAppended(1, block(1, 2)))], seed=1)
    assert read_head(data, 0, seed=1) is not None
    assert read_head(data, 0, seed=2) is None


def test_every_segment_has_its_own_seed() -> None:
    seeds = {
        segment_seed(SegmentHeader(Identity("c", node, f"{life:016x}"), number, first).encode())
        for node in ("a", "b")
        for life in range(10)
        for number in range(20)
        for first in range(10)
    }
    assert len(seeds) > 3990  # 4000 draws of 32 bits


def test_a_seal_is_no_batch_and_a_batch_no_seal() -> None:
    seal, batch = encode_seal(5, 9), encode_batch(5, [], 9)
    assert len(seal) == len(batch) == SECTOR_BYTES
    for data, is_seal in ((seal, True), (batch, False)):
        head = read_head(data, 0, 9)
        assert head is not None
        assert head.seal is is_seal
    for ours, theirs in ((seal, batch), (batch, seal)):
        assert read_head(theirs[:4] + ours[4:], 0, 9) is None, "the sum covers the magic, too"


def test_only_a_later_sequence_proves_that_a_batch_was_durable() -> None:
    buffer = bytes(SECTOR_BYTES) + encode_batch(8, [], 3)
    assert find_later_head(buffer, 0, 3, 7) is not None
    assert find_later_head(buffer, 0, 3, 8) is None
    assert find_later_head(buffer, 0, 4, 7) is None
    assert find_later_head(b"?" + buffer, 0, 3, 7) is None, "batches start on sector boundaries"


def test_a_segment_header_comes_back() -> None:
    header = SegmentHeader(WE, 3, 77)
    assert SegmentHeader.decode(header.encode()) == header
    longest = SegmentHeader(Identity("é" * 60, "n" * 120, "0" * 16), 10**7, 2**62)
    assert SegmentHeader.decode(longest.encode()) == longest


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([1, 1, 1, "c", "n"], "malformed"),
        ([1, "1", 1, "c", "n", "0" * 16], "malformed"),
        ([1, 1, 1, "c", "n", "short"], "16 hex digits"),
        ([], "malformed"),
        (17, "malformed"),
    ],
)
def test_a_segment_header_that_cannot_be_read_says_why(body: object, says: str) -> None:
    packed = msgpack.packb(body)
    data = struct.pack("<8sII", b"mcpcWAL\n", crc32(packed), len(packed)) + packed
    with pytest.raises(InvalidInput, match=says):
        SegmentHeader.decode(data.ljust(SECTOR_BYTES, b"\0"))


def test_a_log_of_a_newer_version_is_not_called_corrupt() -> None:
    """Its advice would be to wipe it."""
    packed = msgpack.packb([2, {"anything": 1}])
    data = struct.pack("<8sII", b"mcpcWAL\n", crc32(packed), len(packed)) + packed
    disk = RamDisk().with_file("log/00000001.log", data.ljust(2 * SECTOR_BYTES, b"\0"))
    with pytest.raises(StorageVersion, match="format version 2, this program reads 1"):
        verify(disk, "log")


def test_what_is_no_segment_is_refused() -> None:
    for data in (b"", b"x" * 511, b"x" * 512, bytes(512)):
        with pytest.raises(InvalidInput):
            SegmentHeader.decode(data)


# --- What records add up to ---------------------------------------------------------------------


def state(base: int = 0, **changes: object) -> GroupState:
    return GroupState("g", True, HardState(), LogPosition(1, base), TRIO)._replace(**changes)


def test_records_of_an_unknown_group_are_refused() -> None:
    for record in (HardStateSaved(1, HardState()), EntriesAppended(1, block(1, 1)),
                   BaseMoved(1, LogPosition(1, 1), TRIO, True), GroupRetired(1)):  # fmt: skip
        with pytest.raises(InvalidInput, match="does not exist"):
            LogImage().apply(record)


def test_a_group_recorded_again_must_be_as_it_was() -> None:
    image = LogImage()
    image.apply(GroupRecorded(1, state()))
    image.apply(GroupRecorded(1, state()))
    with pytest.raises(InvalidInput, match="recorded twice"):
        image.apply(GroupRecorded(1, state(hard_state=HardState(4, "x"))))


def test_a_gap_in_the_entries_is_refused_unless_a_later_base_covers_it() -> None:
    image = LogImage()
    image.apply(GroupRecorded(1, state()))
    image.apply(EntriesAppended(1, block(1, 3)))
    image.apply(EntriesAppended(1, block(9, 10)))
    with pytest.raises(InvalidInput, match="entries at 9: those between are missing"):
        image.recovered()
    image.apply(BaseMoved(1, LogPosition(1, 8), TRIO, suffix_kept=True))
    assert image.recovered()["g"].entries == block(9, 10).entries


def test_an_empty_record_of_entries_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no entries"):
        decode_record(3, 1, b"\x90")

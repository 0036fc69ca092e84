"""The promises of ``LogDevice``, kept by memory, by a disk that loses what is not synced, and by
files. Whatever is said here holds for all three."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcpcore.errors import InvalidInput, StorageBusy, StorageClosed, StorageInUse, WrongIdentity
from mcpcore.node.storage import Identity, LogDevice
from mcpcore.raft.types import Configuration, HardState, LogPosition
from tests.node.storage.world import PAIR, TRIO, WE, FileWorld, MemoryWorld, RamWorld, block

World = MemoryWorld | RamWorld | FileWorld


@pytest.fixture(params=["memory", "ram", "files"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    made: World
    if request.param == "memory":
        made = MemoryWorld()
    elif request.param == "ram":
        made = RamWorld()
    else:
        made = FileWorld(tmp_path)
    yield made
    made.end()


async def test_a_new_log_is_empty_and_has_the_identity_given(world: World) -> None:
    log: LogDevice = await world.open()

    assert log.identity == WE
    assert log.groups() == {}
    assert log.report.batches == 0
    assert log.oldest_pending_since_ns is None
    await log.close()


async def test_what_was_acknowledged_is_there_after_a_crash(world: World) -> None:
    log = await world.open()
    log.create_group("g", TRIO)
    await log.submit("g", HardState(3, "n2"), [block(1, 4), block(5, 5, term=3)])
    world.crash()

    group = (await world.open()).groups()["g"]

    group.check()
    assert group.hard_state == HardState(3, "n2")
    assert group.configuration == TRIO
    assert group.base == LogPosition(0, 0)
    assert group.last == LogPosition(3, 5)
    assert group.entries == block(1, 4).entries + block(5, 5, term=3).entries


async def test_term_and_vote_are_durable_before_the_answer_may_leave(world: World) -> None:
    """Hunt: a full restart resets the term and overwrites committed data."""
    log = await world.open()
    await log.create_group("g", TRIO)
    for term in range(1, 6):
        await log.submit("g", HardState(term, "n1"), [])
        world.crash()
        log = await world.open()
        assert log.groups()["g"].hard_state == HardState(term, "n1")
        assert log.hard_state("g") == HardState(term, "n1")


async def test_a_voter_without_entries_or_snapshot_remembers_its_vote(world: World) -> None:
    """Hunt: a voter that has no snapshot yet forgets its vote on restart."""
    log = await world.open()
    log.create_group("g", TRIO)
    await log.submit("g", HardState(9, "n3"), [])
    await log.close()

    log = await world.open()

    assert log.groups()["g"].hard_state == HardState(9, "n3")
    assert log.groups()["g"].entries == ()


async def test_the_later_record_wins_where_a_block_overlaps(world: World) -> None:
    log = await world.open()
    log.create_group("g", TRIO)
    log.submit("g", None, [block(1, 10)])
    await log.submit("g", None, [block(4, 5, term=2)])
    world.crash()

    entries = (await world.open()).groups()["g"].entries

    assert entries == block(1, 3).entries + block(4, 5, term=2).entries


async def test_groups_do_not_touch_each_other(world: World) -> None:
    log = await world.open()
    for name in ("a", "b", "c"):
        log.create_group(name, TRIO)
    log.submit("a", HardState(1, "n1"), [block(1, 3)])
    log.submit("b", HardState(2, "n2"), [block(1, 1, term=2)])
    await log.submit("a", None, [block(2, 2, term=2)])
    await log.close()

    groups = (await world.open()).groups()

    assert list(groups) == ["a", "b", "c"]
    assert groups["a"].entries == block(1, 1).entries + block(2, 2, term=2).entries
    assert groups["b"].entries == block(1, 1, term=2).entries
    assert groups["c"].entries == ()


async def test_compacting_drops_the_prefix_and_keeps_the_rest(world: World) -> None:
    log = await world.open()
    log.create_group("g", TRIO)
    log.submit("g", None, [block(1, 10)])
    await log.compact("g", LogPosition(1, 7), PAIR)
    world.crash()

    log = await world.open()
    group = log.groups()["g"]
    assert (group.base, group.configuration) == (LogPosition(1, 7), PAIR)
    assert group.entries == block(8, 10).entries

    await log.submit("g", None, [block(9, 9, term=2)])
    await log.close()
    again = (await world.open()).groups()["g"]
    assert again.entries == block(8, 8).entries + block(9, 9, term=2).entries


async def test_an_installed_snapshot_takes_the_place_of_the_whole_log(world: World) -> None:
    log = await world.open()
    log.create_group("g", TRIO)
    log.submit("g", HardState(2, ""), [block(1, 10)])
    log.replace_log("g", LogPosition(2, 50), PAIR)
    await log.submit("g", None, [block(51, 52, term=2)])
    world.crash()

    group = (await world.open()).groups()["g"]

    assert group.base == LogPosition(2, 50)
    assert group.configuration == PAIR
    assert group.entries == block(51, 52, term=2).entries
    assert group.hard_state == HardState(2, "")


async def test_an_installed_snapshot_inside_a_conflicting_log_drops_its_suffix(
    world: World,
) -> None:
    log = await world.open()
    log.create_group("g", TRIO)
    log.submit("g", None, [block(1, 10)])
    await log.replace_log("g", LogPosition(4, 5), TRIO)
    world.crash()

    group = (await world.open()).groups()["g"]

    assert (group.base, group.entries) == (LogPosition(4, 5), ())


async def test_a_retired_group_is_gone_but_its_promises_are_not(world: World) -> None:
    """A group that comes back must not vote twice in a term that it has voted in."""
    log = await world.open()
    log.create_group("g", TRIO)
    log.submit("g", HardState(7, "n2"), [block(1, 3)])
    await log.retire_group("g")
    with pytest.raises(InvalidInput, match="no group 'g'"):
        log.submit("g", None, [])
    world.crash()

    log = await world.open()
    assert log.groups() == {}
    await log.create_group("g", PAIR)
    assert log.hard_state("g") == HardState(7, "n2")
    await log.close()

    group = (await world.open()).groups()["g"]
    assert (group.hard_state, group.entries) == (HardState(7, "n2"), ())
    assert group.configuration == PAIR


async def test_everything_submitted_in_one_turn_goes_out_in_one_sync(world: World) -> None:
    log = await world.open()
    await log.create_group("g", TRIO)
    before = log.stats.syncs

    futures = [log.submit("g", None, [block(at, at)]) for at in range(1, 101)]
    await asyncio.gather(*futures)

    assert log.stats.syncs == before + 1
    assert log.stats.submissions == 101
    assert log.stats.bytes_written > 0
    await log.close()


async def test_futures_resolve_in_the_order_of_the_calls(world: World) -> None:
    log = await world.open()
    log.create_group("g", TRIO)
    order: list[int] = []
    futures = []
    for at in range(1, 31):
        future = log.submit("g", None, [block(at, at)])
        future.add_done_callback(lambda _, at=at: order.append(at))
        futures.append(future)
        if at % 7 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*futures)

    assert order == list(range(1, 31))
    await log.close()


async def test_a_cancelled_future_changes_nothing(world: World) -> None:
    log = await world.open()
    log.create_group("g", TRIO)
    log.submit("g", None, [block(1, 1)]).cancel()
    await log.submit("g", None, [block(2, 2)])
    world.crash()

    assert (await world.open()).groups()["g"].entries == block(1, 2).entries


async def test_a_hole_is_a_bug_found_at_the_call(world: World) -> None:
    log = await world.open()
    log.create_group("g", TRIO)
    log.submit("g", None, [block(1, 3)])
    with pytest.raises(AssertionError, match="leave a hole"):
        log.submit("g", None, [block(5, 6)])
    with pytest.raises(AssertionError, match="leave a hole"):
        log.submit("g", None, [block(4, 5), block(7, 7)])

    await log.submit("g", None, [block(4, 4)])
    await log.close()
    assert (await world.open()).groups()["g"].entries == block(1, 4).entries


async def test_entries_at_or_below_the_base_are_a_bug(world: World) -> None:
    log = await world.open()
    log.create_group("g", TRIO)
    log.submit("g", None, [block(1, 3)])
    log.compact("g", LogPosition(1, 2), TRIO)
    with pytest.raises(AssertionError, match="below the base"):
        log.submit("g", None, [block(2, 5)])
    with pytest.raises(AssertionError, match="never goes back"):
        log.compact("g", LogPosition(1, 1), TRIO)
    with pytest.raises(AssertionError, match="beyond the last entry"):
        log.compact("g", LogPosition(1, 9), TRIO)
    await log.close()


async def test_a_term_that_goes_back_or_a_second_vote_is_a_bug(world: World) -> None:
    log = await world.open()
    log.create_group("g", TRIO)
    log.submit("g", HardState(5, "n1"), [])
    with pytest.raises(AssertionError, match="terms never go back"):
        log.submit("g", HardState(4, "n1"), [])
    with pytest.raises(AssertionError, match="one vote in a term"):
        log.submit("g", HardState(5, "n2"), [])
    await log.submit("g", HardState(6, "n2"), [])
    await log.close()


async def test_a_group_is_created_once(world: World) -> None:
    log = await world.open()
    log.create_group("g", TRIO)
    with pytest.raises(InvalidInput, match="exists already"):
        log.create_group("g", TRIO)
    with pytest.raises(InvalidInput, match="1 to 120 bytes"):
        log.create_group("x" * 121, TRIO)
    with pytest.raises(InvalidInput, match="no group 'h'"):
        log.submit("h", HardState(1, ""), [])
    await log.close()


async def test_the_log_of_another_node_or_cluster_is_refused(world: World) -> None:
    await (await world.open()).close()

    for other in (Identity("cluster", "n2", WE.incarnation), Identity("c2", "n1", WE.incarnation)):
        with pytest.raises(WrongIdentity, match="own"):
            await world.open(other)
    await (await world.open()).close()


async def test_the_incarnation_is_made_once_and_kept(world: World) -> None:
    """Hunt: identity is id plus an incarnation kept on disk."""
    await (await world.open()).close()

    log = await world.open(Identity("cluster", "n1", "ffffffffffffffff"))

    assert log.identity == WE
    await log.close()


async def test_one_directory_has_one_user(world: World) -> None:
    if isinstance(world, RamWorld):
        pytest.skip("the disk of this test has no locks")
    log = await world.open()
    with pytest.raises(StorageInUse):
        await world.open()
    await log.close()
    await (await world.open()).close()


async def test_a_full_device_refuses_entries_but_never_a_vote(world: World) -> None:
    log = await world.open(pending_bytes_max=1000)
    await log.create_group("g", TRIO)
    assert not log.full
    log.submit("g", None, [block(1, 1, size=5000)])
    assert log.full

    with pytest.raises(StorageBusy) as refusal:
        log.submit("g", None, [block(2, 2)])
    vote = log.submit("g", HardState(1, "n1"), [])

    assert refusal.value.pending_bytes_max == 1000
    await vote
    assert not log.full
    await log.submit("g", None, [block(2, 2)])
    await log.close()
    assert (await world.open()).groups()["g"].last.index == 2


async def test_the_age_of_what_is_pending_is_known(world: World) -> None:
    log = await world.open()
    done = log.create_group("g", TRIO)
    assert log.oldest_pending_since_ns is not None
    await done
    assert log.oldest_pending_since_ns is None
    await log.close()


async def test_a_probe_answers_and_leaves_nothing_that_grows(world: World) -> None:
    log = await world.open()
    log.create_group("g", TRIO)
    await log.submit("g", None, [block(1, 3)])
    written = log.stats.bytes_written
    for _ in range(10):
        await log.probe()
    assert log.stats.bytes_written == written
    await log.submit("g", None, [block(4, 4)])
    world.crash()

    assert (await world.open()).groups()["g"].entries == block(1, 4).entries


async def test_close_finishes_what_is_pending_and_then_refuses(world: World) -> None:
    log = await world.open()
    log.create_group("g", TRIO)
    last = log.submit("g", None, [block(1, 2)])
    await log.close()
    await log.close()

    assert last.done()
    assert last.exception() is None
    with pytest.raises(StorageClosed):
        log.submit("g", None, [block(3, 3)])
    log = await world.open()
    assert log.report.sealed
    assert log.groups()["g"].entries == block(1, 2).entries
    await log.close()


async def test_what_was_recovered_can_be_forgotten(world: World) -> None:
    log = await world.open()
    await log.create_group("g", TRIO)
    await log.close()
    log = await world.open()
    assert set(log.groups()) == {"g"}
    log.release_recovered()
    assert log.groups() == {}
    await log.submit("g", None, [block(1, 1)])
    await log.close()


@pytest.mark.parametrize("bad", ["", "0" * 15, "0" * 17, "G" * 16, "A" * 16])
def test_an_incarnation_is_sixteen_hex_digits(bad: str) -> None:
    with pytest.raises(InvalidInput, match="16 hex digits"):
        Identity("c", "n", bad)


@pytest.mark.parametrize("bad", ["", "x" * 121, "\ud800", 7])
def test_a_name_must_be_storable(bad: str) -> None:
    with pytest.raises(InvalidInput):
        Identity(bad, "n", "0" * 16)


def test_empty_configurations_are_possible_for_a_group_that_waits_for_a_snapshot() -> None:
    assert Configuration.decode(Configuration.of([]).encode()) == Configuration.of([])

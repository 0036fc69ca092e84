"""What a damaged log still proves: never less than it could know, never more than it does.

Hunt: "rot means 'I no longer know', and the entries come back from peers" (Alagappan et al., FAST
2018). Real logs on a disk in memory, damaged at every place.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcpcore.errors import StorageFailed
from mcpcore.node.repair import open_log
from mcpcore.node.storage.contract import Identity, RecoveredGroup
from mcpcore.node.storage.log_image import EntriesAppended
from mcpcore.node.storage.salvage import Salvage, Verdict, salvage
from mcpcore.node.storage.salvage_scan import SalvageScan
from mcpcore.node.storage.wal import WriteAheadLog
from mcpcore.node.storage.wal_recovery import records, verify
from mcpcore.raft.types import Entry, HardState
from tests.node.storage.ram_disk import SECTOR, RamDisk
from tests.node.storage.world import TRIO, WE, block

NEW = Identity(WE.cluster, WE.node, "00000000000000bb")


@dataclass
class Truth:
    """What the log of a group really was."""

    entries: list[Entry] = field(default_factory=list)
    hard_state: HardState = field(default_factory=HardState)

    @property
    def last(self) -> int:
        return len(self.entries)


@dataclass
class Story:
    """A log that several groups wrote, and what is true of each."""

    disk: RamDisk
    truth: dict[str, Truth]


async def open_strictly(disk: RamDisk, **options: int) -> WriteAheadLog:
    return await WriteAheadLog.open(
        disk, "log", identity=WE, monotonic_ns=time.monotonic_ns, **options
    )


async def tell(steps: list[tuple[str, int, int]], *, segment_bytes: int = 1 << 20) -> Story:
    """Steps (group, entries appended, entries replaced before that); 0 and 0 is an election."""
    disk = RamDisk()
    log = await open_strictly(disk, segment_bytes=segment_bytes, reserve_bytes=4 * SECTOR)
    truth: dict[str, Truth] = {}
    for group, count, replaced in steps:
        if group not in truth:
            truth[group] = Truth()
            await log.create_group(group, TRIO)
        now = truth[group]
        if replaced or not count:
            now.hard_state = HardState(now.hard_state.term + 1, "n2")
            await log.submit(group, now.hard_state, [])
        if count:
            first = max(1, now.last - replaced + 1)
            new = block(first, first + count - 1, term=max(1, now.hard_state.term), size=40)
            if not now.hard_state.term:
                now.hard_state = HardState(1, "n1")
            await log.submit(group, now.hard_state, [new])
            now.entries[first - 1 :] = new.entries
    await log.close()
    return Story(disk.after_process_death(), truth)


def look(disk: RamDisk) -> Salvage:
    scan = SalvageScan(disk, "log")
    return salvage(list(scan), names_lost=scan.identity is None)


def spoil(disk: RamDisk, path: str, at: int, length: int = 1) -> RamDisk:
    data = bytearray(disk.open(path).read(0, 1 << 24))
    for each in range(at, min(at + length, len(data))):
        data[each] ^= 0x55
    return disk.with_file(path, bytes(data))


def restore(disk: RamDisk, sound: RamDisk, path: str, at: int) -> RamDisk:
    data = bytearray(disk.open(path).read(0, 1 << 24))
    data[at : at + SECTOR] = sound.open(path).read(at, SECTOR)
    return disk.with_file(path, bytes(data))


def logs(disk: RamDisk) -> list[str]:
    return [f"log/{name}" for name in disk.list_dir("log") if name.endswith(".log")]


async def recover(disk: RamDisk) -> tuple[WriteAheadLog, dict[str, RecoveredGroup]]:
    log, _ = await open_log(
        disk, "log", identity=NEW, monotonic_ns=time.monotonic_ns, on_failure=lambda error: None
    )
    return log, log.groups()


def judge(group: RecoveredGroup, truth: Truth) -> None:
    """Never a wrong entry as if it were right; never certain without being right."""
    group.check()
    if group.doubt is None:
        assert list(group.entries) == truth.entries
        assert group.hard_state == truth.hard_state
        return
    if group.doubt.forgotten:
        assert not group.entries
        return
    assert group.hard_state == truth.hard_state, "in doubt about entries, never about its vote"
    assert group.doubt.until >= truth.last, "it may have acknowledged more than it says"
    assert group.doubt.term >= truth.hard_state.term
    for run in group.doubt.runs:
        assert list(run) == truth.entries[run[0].index - 1 : run[-1].index], "a run is what it was"
    if not group.doubt.open:
        assert group.doubt.runs[-1][-1].index == truth.last == group.doubt.until


USUAL = [("g", 2, 0), ("h", 1, 0), ("g", 3, 0), ("h", 0, 0), ("g", 2, 1), ("h", 2, 0), ("g", 2, 0)]


async def test_a_sound_log_is_found_sound() -> None:
    story = await tell(USUAL, segment_bytes=4 * SECTOR)
    found = look(story.disk)
    assert not found.damages
    assert not found.forgotten
    for finding in found.findings:
        truth = story.truth[finding.state.name]
        assert finding.verdict is Verdict.SOUND
        assert (list(finding.prefix), finding.state.hard_state) == (
            truth.entries,
            truth.hard_state,
        )


@pytest.mark.parametrize("segment_bytes", [1 << 20, 4 * SECTOR])
async def test_one_damaged_sector_anywhere_leaves_every_term_and_vote_certain(
    segment_bytes: int,
) -> None:
    """Two copies of each: what a batch said of terms and votes, the next one says again.

    Only the header of a log's only segment has no second copy: then the node is a new one.
    """
    story = await tell(USUAL, segment_bytes=segment_bytes)
    verdicts = set()
    for path in logs(story.disk):
        size = story.disk.open(path).size()
        for at in range(0, size, SECTOR):
            disk = spoil(story.disk, path, at, SECTOR)
            if verify(disk, "log").corrupt is None:
                continue  # zeros behind the end
            found = look(disk)
            if at == 0 and len(logs(story.disk)) == 1:
                assert found.names_lost
                continue
            assert not found.forgotten, (path, at, [d.problem for d in found.damages])
            for finding in found.findings:
                verdicts.add(finding.verdict)
                assert finding.state.hard_state == story.truth[finding.state.name].hard_state
    assert verdicts == {Verdict.SOUND, Verdict.IN_DOUBT}


async def test_a_group_that_was_not_hit_is_served_as_if_nothing_had_happened() -> None:
    story = await tell(USUAL)
    place = next(
        batch
        for batch in records(story.disk, "log")
        for record in batch.records
        if isinstance(record, EntriesAppended) and record.group == 1 and batch.sequence > 4
    )
    log, groups = await recover(spoil(story.disk, place.path, place.offset, SECTOR))
    assert groups["h"].doubt is None
    assert list(groups["h"].entries) == story.truth["h"].entries
    assert groups["g"].doubt is not None
    assert log.identity == WE, "it forgot no promise, so it is who it was"
    await log.close()


async def test_what_is_missing_is_told_to_the_index() -> None:
    story = await tell([("g", 2, 0), ("g", 3, 0), ("g", 2, 0)])
    spans = list(records(story.disk, "log"))
    [finding] = look(spoil(story.disk, spans[3].path, spans[3].offset, SECTOR)).findings
    assert finding.missing() == [(3, 5)]
    assert (finding.open, finding.until, finding.last_known.index) == (False, 7, 7)
    [finding] = look(spoil(story.disk, spans[4].path, spans[4].offset, SECTOR)).findings
    assert finding.missing() == [(6, 7)], "the seal repeats which entries the last batch held"
    assert (finding.open, finding.until) == (True, 7)


async def test_lost_entries_that_were_replaced_later_are_no_loss() -> None:
    story = await tell([("g", 5, 0), ("g", 2, 0), ("g", 3, 4)])
    spans = list(records(story.disk, "log"))
    [finding] = look(spoil(story.disk, spans[3].path, spans[3].offset, SECTOR)).findings
    assert finding.verdict is Verdict.SOUND
    assert list(finding.prefix) == story.truth["g"].entries


async def test_runs_that_touch_are_not_joined_if_what_lies_before_may_have_changed() -> None:
    """Two batches are gone: they may have replaced entry 2, and then 3 follows another 2."""
    story = await tell([("g", 2, 0), ("g", 0, 0), ("g", 0, 0), ("g", 2, 0), ("g", 0, 0)])
    spans = list(records(story.disk, "log"))
    [finding] = look(spoil(story.disk, spans[3].path, spans[3].offset, 2 * SECTOR)).findings
    assert finding.verdict is Verdict.IN_DOUBT
    assert [len(run) for run in finding.runs] == [2]
    assert len(finding.prefix) == 2
    assert finding.missing() == []


async def test_a_lost_vote_without_its_echo_is_forgotten_and_the_node_a_new_one() -> None:
    story = await tell([("g", 2, 0), ("h", 1, 0), ("g", 0, 0), ("h", 1, 0)])
    spans = list(records(story.disk, "log"))
    at = next(n for n, batch in enumerate(spans) if batch.sequence == 6)
    disk = spoil(story.disk, spans[at].path, spans[at].offset, 2 * SECTOR)
    found = look(disk)
    verdicts = {finding.state.name: finding.verdict for finding in found.findings}
    assert verdicts["g"] is Verdict.FORGOTTEN
    log, groups = await recover(disk)
    assert log.identity == NEW
    assert groups["g"].doubt is not None
    assert groups["g"].doubt.forgotten
    assert groups["g"].entries == ()
    await log.close()


async def test_groups_lost_by_name_make_every_unknown_group_begin_forgotten() -> None:
    story = await tell(USUAL)
    disk = spoil(story.disk, logs(story.disk)[0], 0, SECTOR)
    log, groups = await recover(disk)
    assert groups == {}
    assert log.report.amnesia
    assert log.identity == NEW
    await log.close()
    again = await open_strictly(disk)
    assert again.report.amnesia, "a crash before they are made again changes nothing"
    await again.close()


async def test_the_damaged_files_are_kept_and_a_report_beside_them() -> None:
    story = await tell(USUAL, segment_bytes=4 * SECTOR)
    broken = spoil(story.disk, logs(story.disk)[1], SECTOR + 30)
    before = {path: broken.open(path).read(0, 1 << 20) for path in logs(broken)}
    log, _ = await recover(broken)
    for path, data in before.items():
        kept = path.replace("log/", "log/damaged/")
        assert broken.open(kept).read(0, 1 << 20) == data
    assert any(name.endswith(".json") for name in broken.list_dir("log/damaged"))
    await log.close()


async def test_whenever_the_power_fails_while_a_log_is_written_anew_it_opens_alike() -> None:
    story = await tell(USUAL, segment_bytes=4 * SECTOR)
    broken = spoil(story.disk, logs(story.disk)[1], SECTOR + 30)
    log, expected = await recover(broken.after_process_death())
    await log.close()
    for number in range(1, 12):
        disk = broken.after_process_death()
        disk.fail_sync_number = number
        with suppress(StorageFailed):
            log, groups = await recover(disk)
            await log.close()
        log, groups = await recover(disk.after_power_failure())
        assert groups == expected
        await log.close()


async def test_a_doubt_stays_on_the_disk_until_it_is_ended() -> None:
    story = await tell([("g", 2, 0), ("g", 3, 0), ("g", 2, 0)])
    spans = list(records(story.disk, "log"))
    disk = spoil(story.disk, spans[3].path, spans[3].offset, SECTOR)
    log, groups = await recover(disk)
    doubt = groups["g"].doubt
    assert doubt is not None
    await log.submit("g", None, [block(3, 4, term=1, size=40)])
    for number in range(5, 40):  # segments come and go: the runs stay
        await log.submit("g", HardState(number, ""), [])
    await log.close()
    log = await open_strictly(disk, segment_bytes=2 * SECTOR)
    assert log.groups()["g"].doubt == doubt
    await log.submit("g", None, [block(5, 6, term=1, size=40)])
    await log.close()
    log = await open_strictly(disk)
    again = log.groups()["g"].doubt
    assert again is not None
    assert again.runs == (), "the log has reached the run"
    assert again.until == doubt.until
    await log.end_doubt("g")
    await log.close()
    log = await open_strictly(disk)
    assert log.groups()["g"].doubt is None
    await log.close()


steps = st.lists(
    st.tuples(st.sampled_from("gh"), st.integers(0, 3), st.integers(0, 2)), min_size=3, max_size=14
)
damages = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.sampled_from([1, 1, 9, SECTOR, 3 * SECTOR])),
    min_size=1,
    max_size=4,
)


# fmt: off
STALE_RUN = [("h", 1, 1),
     ("h", 2, 0), ("h", 3, 2), ("h", 2, 0), ("h", 3, 0), ("h", 2, 0), ("h", 2, 1),
     ("h", 3, 2), ("g", 0, 2), ("h", 0, 1), ("g", 1, 0), ("h", 2, 2), ("h", 3, 0), ("h", 1, 1)]
LOST_HOLE = [("g", 0, 0),
     ("g", 3, 0), ("g", 3, 1), ("h", 3, 1), ("g", 1, 2), ("h", 0, 1), ("h", 2, 0),
     ("g", 3, 1), ("g", 3, 0), ("g", 0, 2), ("h", 0, 1), ("g", 0, 2), ("h", 1, 2), ("g", 0, 1)]
# fmt: on


@settings(deadline=None, max_examples=80)
@example(  # a run from before a loss was taken for what the loss may have replaced
    STALE_RUN,
    [(0.1117, 0.6162, 9), (0.0, 0.4668, 512), (0.7075, 0.421, 9), (0.8854, 0.2, 1)],
    3 * 1024,
    True,
)
@example(  # a hole was forgotten when the run behind it was replaced
    LOST_HOLE,
    [(0.93, 1.0, 9), (0.93, 1.0, 9)],
    3 * 1024,
    True,
)
@given(steps, damages, st.sampled_from([1 << 20, 3 * SECTOR, 6 * SECTOR]), st.booleans())
async def test_wherever_bytes_rot_opening_never_fails_and_never_claims_what_it_does_not_know(
    steps: list[tuple[str, int, int]],
    damages: list[tuple[float, float, int]],
    segment_bytes: int,
    remove: bool,
) -> None:
    story = await tell(steps, segment_bytes=segment_bytes)
    disk = story.disk
    for which, where, length in damages:
        paths = logs(disk)
        path = paths[int(which * (len(paths) - 1))]
        disk = spoil(disk, path, int(where * disk.open(path).size()), length)
    # The seal survives: without it, rot in the last batch is a torn tail to whoever looks.
    last = list(records(story.disk, "log"))[-1]
    disk = restore(disk, story.disk, last.path, last.end)
    paths = logs(disk)
    if remove and len(paths) > 2:
        disk.remove(paths[1])

    sound = verify(disk, "log").corrupt is None
    log, groups = await recover(disk)

    for name, truth in story.truth.items():
        if name not in groups:
            assert log.report.amnesia, f"{name} is gone and nobody says so"
        elif not sound:  # a torn tail is another story, told in test_torn_or_rotten
            judge(groups[name], truth)
    forgot = any(g.doubt is not None and g.doubt.forgotten for g in groups.values())
    assert (log.identity == NEW) == (forgot or log.report.amnesia)
    await log.close()
    again = await open_strictly(disk)
    assert again.groups() == groups, "the log written anew is sound"
    await again.close()

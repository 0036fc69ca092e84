"""Wrong clocks, bad disks and damaged files of real nodes, without any node."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.experiment import damage
from mcpcore.experiment.steering.page import Met, Page, Wrongs
from mcpcore.experiment.steering.seams import SteeredClocks, SteeredDisk, Steering
from mcpcore.experiment.steering.wrong_clock import WrongClock
from mcpcore.node.file_disk import FileDisk
from mcpcore.node.storage.contract import Identity, RecoveryReport
from mcpcore.node.storage.wal import WriteAheadLog
from mcpcore.node.storage.wal_recovery import verify
from mcpcore.raft.types import Configuration, HardState
from mcpcore.sim.clock import BOOT_NS, HostClock

S = 1_000_000_000
EPOCH_NS = 1_700_000_000 * S

verbs = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.integers(-300 * S, 300 * S)),
        st.tuples(st.just("drift"), st.integers(-500, 500)),
        st.tuples(st.just("slew"), st.integers(-500, 500)),
        st.tuples(st.just("strobe"), st.integers(0, 200 * S)),
        st.tuples(st.just("freeze"), st.just(0)),
        st.tuples(st.just("thaw"), st.just(0)),
    ).flatmap(lambda verb: st.tuples(st.just(verb), st.integers(0, 3600 * S))),
    max_size=12,
)


@settings(deadline=None)
@given(verbs)
def test_real_clocks_go_wrong_to_the_nanosecond_as_simulated_ones_do(
    script: list[tuple[tuple[str, int], int]],
) -> None:
    """The law of two worlds: the same verbs, the same readings."""
    simulated, real = HostClock(EPOCH_NS), WrongClock()
    now_ns = drift = 0
    frozen = False
    for (verb, value), pause_ns in script:
        now_ns += pause_ns
        match verb:
            case "step":
                simulated.step(now_ns, value)
                real = real.stepped(value)
            case "drift":
                drift += value
                simulated.drift(now_ns, drift)
                real = real.drifting(now_ns, value)
            case "slew":
                simulated.slew(now_ns, value)
                real = real.slewed(now_ns, value - real.slew_ppb / 1000)
            case "strobe":
                simulated.strobe(now_ns, swing_ns=value, period_ns=S)
                real = real.strobing(now_ns, value, S)
            case "freeze" if not frozen:
                frozen = True
                simulated.freeze(now_ns)
                real = real.frozen(now_ns, EPOCH_NS + now_ns)
            case "thaw":
                frozen = False
                simulated.thaw()
                real = real.thawed()
        for later_ns in (0, 1, 700_000_001, 3600 * S):
            at_ns = now_ns + later_ns
            wall_ns = real.wall_ns(at_ns, EPOCH_NS + at_ns)
            # Each rebasing rounds down, in either; not always in the same nanosecond.
            assert abs(wall_ns - simulated.wall_ns(at_ns)) <= len(script)
            shown_ns = real.monotonic_ns(at_ns) + BOOT_NS
            assert abs(shown_ns - simulated.monotonic_ns(at_ns)) <= len(script)


class Truth:
    """Clocks that stand where they are put."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return EPOCH_NS + self.now_ns


def page(tmp_path: Path) -> Page:
    return Page.create(tmp_path / "steering")


def test_what_is_written_on_one_side_is_read_on_the_other(tmp_path: Path) -> None:
    ours = page(tmp_path)
    theirs = Page(tmp_path / "steering")
    wrongs = Wrongs(WrongClock(wall_ahead_ns=-5, drift_ppb=7, frozen_wall_ns=9), 3, True, 28)
    ours.write(wrongs)
    assert theirs.read() == wrongs
    met = Met(readings=3, wall_ahead_ns=-2, failed=4)
    theirs.report(met)
    assert ours.met() == met


def test_what_is_no_page_is_refused_in_words(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"x" * 5000)
    with pytest.raises(InvalidInput, match=r"is no page of steering.*leave it out"):
        Page(other)
    other.write_bytes(b"")
    with pytest.raises(InvalidInput, match="cannot be used"):
        Page(other)
    with pytest.raises(InvalidInput, match="No such file"):
        Page(tmp_path / "absent")


def test_a_step_takes_hold_at_the_next_reading_and_is_confirmed(tmp_path: Path) -> None:
    hand, truth = page(tmp_path), Truth()
    clocks = SteeredClocks(Steering(Page(tmp_path / "steering")), truth)
    assert clocks.wall_ns() == truth.wall_ns()
    hand.write(Wrongs(WrongClock().stepped(5 * S)))
    assert clocks.wall_ns() == truth.wall_ns() + 5 * S
    assert clocks.monotonic_ns() == truth.monotonic_ns(), "it does not notice"
    assert hand.met() == Met(readings=2, wall_ahead_ns=5 * S)


def test_the_monotonic_clock_never_goes_back_even_when_it_is_slowed(tmp_path: Path) -> None:
    hand, truth = page(tmp_path), Truth()
    clocks = SteeredClocks(Steering(hand), truth)
    fast = WrongClock().drifting(0, 500)
    hand.write(Wrongs(fast))
    truth.now_ns = 10 * S
    before_ns = clocks.monotonic_ns()
    assert before_ns == 10 * S + 5_000_000
    hand.write(Wrongs(fast.drifting(9 * S, -1000)))  # noticed a second ago, told only now
    assert clocks.monotonic_ns() >= before_ns


async def test_a_slow_sync_is_slow_a_stalled_one_waits_and_a_broken_one_fails(
    tmp_path: Path,
) -> None:
    hand = page(tmp_path)
    disk = SteeredDisk(Steering(Page(tmp_path / "steering")))
    file = disk.open(str(tmp_path / "file"), create=True)
    loop = asyncio.get_running_loop()

    hand.write(Wrongs(sync_delay_ns=50_000_000))
    began_s = loop.time()
    await file.write(0, b"slow", sync=True)
    assert loop.time() - began_s >= 0.05

    hand.write(Wrongs(stalled=True))
    writing = asyncio.create_task(file.write(4, b"late", sync=True))
    done, _ = await asyncio.wait([writing], timeout=0.2)
    assert not done
    hand.write(Wrongs())
    await asyncio.wait_for(writing, 5)

    hand.write(Wrongs(errno=errno.ENOSPC))
    with pytest.raises(OSError, match="No space left") as full:
        await file.write(8, b"more", sync=True)
    assert full.value.errno == errno.ENOSPC
    await file.write(4, b"room", sync=True)  # was made before
    assert file.read(0, 100) == b"slowroom"

    hand.write(Wrongs(errno=errno.EIO))
    with pytest.raises(OSError, match="error"):
        await file.write(0, b"x", sync=True)
    met = hand.met()
    assert (met.slowed, met.stalled, met.failed, met.syncs) == (1, 1, 2, 3)
    file.close()
    disk.close()


TRIO = Configuration(voters=frozenset({"a", "b", "c"}))


async def log_of(data: Path, writes: int) -> None:
    disk = FileDisk()
    identity = Identity("c", "a", "0" * 16)
    log = await WriteAheadLog.open(disk, str(data), identity=identity, monotonic_ns=lambda: 0)
    await log.create_group("g", TRIO)
    for term in range(1, writes + 1):
        await log.submit("g", HardState(term=term), ())
    await log.close()
    disk.close()


def check_log(data: Path) -> RecoveryReport:
    disk = FileDisk()
    try:
        return verify(disk, str(data))
    finally:
        disk.close()


@pytest.mark.parametrize("seed", range(20))
async def test_a_torn_batch_costs_nothing_that_was_synced(tmp_path: Path, seed: int) -> None:
    await log_of(tmp_path, writes=5)
    sound = check_log(tmp_path)
    assert damage.tear(tmp_path, random.Random(seed)) > 0
    torn = check_log(tmp_path)
    assert torn.torn is not None
    assert torn.corrupt is None
    assert torn.batches == sound.batches


@pytest.mark.parametrize("seed", range(5))
async def test_rot_is_found_by_the_logs_checksums(tmp_path: Path, seed: int) -> None:
    await log_of(tmp_path, writes=5)
    assert damage.rot(tmp_path, 3, random.Random(seed)) == 3
    after = check_log(tmp_path)
    assert after.corrupt is not None or after.torn is not None


async def test_a_wiped_disk_is_empty_and_an_empty_one_cannot_be_damaged(tmp_path: Path) -> None:
    await log_of(tmp_path, writes=1)
    assert damage.wipe(tmp_path) >= 1
    assert os.listdir(tmp_path) == []
    assert damage.rot(tmp_path, 3, random.Random(0)) == 0
    assert damage.tear(tmp_path, random.Random(0)) == 0

"""The one law of a log device, for any history and any crash:

after a crash it holds the first k submissions, whole and in order, where k is at least the number
of futures that were resolved.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.node.queued_log import QueuedLog
from mcpcore.node.storage import RecoveredGroup
from mcpcore.node.wal_recovery import verify
from mcpcore.raft.types import Block, Entry, HardState, LogPosition
from tests.node.storage.ram_disk import RamDisk
from tests.node.storage.world import PAIR, TRIO, MemoryWorld, RamWorld

NAMES = ("a", "b", "c")
STEPS = ("append", "append", "append", "vote", "compact", "replace", "retire", "turn", "settle",
         "probe")  # fmt: skip

State = dict[str, RecoveredGroup]


@dataclass
class Model:
    """What the log should say, in the plainest words: one dict of groups per submission."""

    states: list[State]
    promises: dict[str, HardState]

    @property
    def now(self) -> State:
        return self.states[-1]

    def put(self, group: RecoveredGroup) -> None:
        self.promises[group.name] = group.hard_state
        self.states.append({**self.now, group.name: group})


def act(step: str, random: Random, log: QueuedLog, model: Model) -> asyncio.Future[None] | None:
    """One random call to the log, and the same to the model."""
    name = random.choice(NAMES)
    group = model.now.get(name)
    if step == "probe":
        model.states.append(model.now)
        return log.probe()
    if group is None:
        hard_state = model.promises.get(name, HardState())
        model.put(RecoveredGroup(name, hard_state, LogPosition(0, 0), TRIO))
        return log.create_group(name, TRIO)
    match step:
        case "append":
            first = random.randint(group.base.index + 1, group.last.index + 1)
            term = group.last.term + random.randint(0, 1) + 1
            entries = tuple(
                Entry(term, first + at, 1, random.randbytes(random.choice((0, 9, 700))))
                for at in range(random.randint(1, 4))
            )
            kept = group.entries[: first - group.base.index - 1]
            hard_state = random.choice((None, HardState(group.hard_state.term + 1, name)))
            model.put(
                replace(group, entries=kept + entries, hard_state=hard_state or group.hard_state)
            )
            half = len(entries) // 2
            return log.submit(name, hard_state, [Block(entries[:half]), Block(entries[half:])])
        case "vote":
            hard_state = HardState(group.hard_state.term + 1, random.choice(NAMES))
            model.put(replace(group, hard_state=hard_state))
            return log.submit(name, hard_state, [])
        case "compact":
            index = random.randint(group.base.index, group.last.index)
            drop = index - group.base.index
            base = LogPosition(group.entries[drop - 1].term, index) if drop else group.base
            model.put(replace(group, base=base, configuration=PAIR, entries=group.entries[drop:]))
            return log.compact(name, base, PAIR)
        case "replace":
            index = random.randint(group.base.index, group.last.index + 20)
            base = LogPosition(group.last.term + 1, index)
            model.put(replace(group, base=base, configuration=TRIO, entries=()))
            return log.replace_log(name, base, TRIO)
        case "retire":
            rest = {key: value for key, value in model.now.items() if key != name}
            model.states.append(rest)
            return log.retire_group(name)
    return None


async def live_and_crash(world: MemoryWorld | RamWorld, seed: int, lives: list[list[str]]) -> None:
    random = Random(seed)
    model = Model([{}], {})
    for steps in lives:
        log = await world.open(segment_bytes=random.choice((1024, 4096, 65536)))
        assert log.groups() == model.now
        futures: list[asyncio.Future[None]] = []
        for step in steps:
            if step == "turn":
                for _ in range(random.randint(1, 6)):
                    await asyncio.sleep(0)
            elif step == "settle":
                await asyncio.gather(*futures)
            else:
                future = act(step, random, log, model)
                if future is not None:
                    futures.append(future)
            log.check()
        begun = len(model.states) - len(futures) - 1
        resolved = sum(future.done() for future in futures)
        assert all(future.done() for future in futures[:resolved]), "in the order of the calls"

        if isinstance(world, RamWorld):
            inodes = world.disk.durable_names.values()
            sectors = [at for inode in inodes for at in inode.dirty_sectors()]
            survivors = {at for at in sectors if random.random() < 0.6}
            world.disk = world.disk.after_power_failure(survivors)
            log._writer.cancel()
            report = verify(world.disk, "log")
            assert report.corrupt is None, "a crash is never taken for rot"
        else:
            world.crash()
        await asyncio.sleep(0)

        log = await world.open()
        found = log.groups()
        await log.close()
        for group in found.values():
            group.check()
        # The newest that matches: two submissions may lead to the same state.
        matches = [at for at, state in enumerate(model.states) if state == found]
        assert matches, "the log holds a state that never was"
        assert matches[-1] >= begun + resolved, "an acknowledged submission is gone"
        model.states = model.states[: matches[-1] + 1]
        model.promises = {
            name: log.hard_state(name) if name in found else _promise(log, name) for name in NAMES
        }


def _promise(log: QueuedLog, name: str) -> HardState:
    tail = log._tails._tails.get(name)
    return tail.hard_state if tail is not None else HardState()


histories = st.lists(
    st.lists(st.sampled_from(STEPS), min_size=5, max_size=40), min_size=1, max_size=3
)


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 2**32), lives=histories)
def test_a_crashed_disk_holds_a_prefix_with_everything_acknowledged(
    seed: int, lives: list[list[str]]
) -> None:
    asyncio.run(live_and_crash(RamWorld(), seed, lives))


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32), lives=histories)
def test_a_crashed_memory_holds_a_prefix_with_everything_acknowledged(
    seed: int, lives: list[list[str]]
) -> None:
    asyncio.run(live_and_crash(MemoryWorld(), seed, lives))


@pytest.mark.soak
@settings(deadline=None, max_examples=20_000)
@given(seed=st.integers(0, 2**32), lives=histories)
def test_a_crashed_disk_holds_a_prefix_for_twenty_thousand_histories(
    seed: int, lives: list[list[str]]
) -> None:
    asyncio.run(live_and_crash(RamWorld(), seed, lives))


def test_the_disk_of_these_tests_does_lose_what_is_not_synced() -> None:
    async def write() -> RamDisk:
        disk = RamDisk()
        file = disk.open("log/x", create=True)
        await disk.sync_dir("log")
        await file.write(0, b"a" * 1024, sync=True)
        await file.write(0, b"b" * 1024, sync=False)
        return disk

    disk = asyncio.run(write())
    assert disk.after_process_death().open("log/x").read(0, 9999) == b"b" * 1024
    assert disk.after_power_failure().open("log/x").read(0, 9999) == b"a" * 1024
    half = disk.after_power_failure({512}).open("log/x").read(0, 9999)
    assert half == b"a" * 512 + b"b" * 512

"""A node that did not run for a while doubts itself before it doubts others."""

from __future__ import annotations

import asyncio
import random
import time

from mcpcore.node.clocks import SystemClocks
from mcpcore.node.deadlines import Deadlines
from mcpcore.node.scheduler import LATE_NS, Scheduler
from mcpcore.raft.core import Raft
from mcpcore.raft.messages import Heartbeat
from mcpcore.raft.outcome import Role
from mcpcore.raft.settings import MILLISECOND, SECOND, RaftSettings
from mcpcore.raft.suspicion import LocalHealth, SuspicionSettings
from mcpcore.raft.types import Configuration, HardState

MS = MILLISECOND
SETTINGS = RaftSettings(election_timeout_ns=1000 * MS, heartbeat_ns=200 * MS)


class Neighbours:
    """A node that has just come back, or not."""

    def __init__(self) -> None:
        self.health = LocalHealth(SuspicionSettings())

    def listens_ns(self, now_ns: int) -> int:
        return self.health.listens_ns(now_ns)

    def may_stand(self, group: str, now_ns: int, hold_ns: int) -> bool:
        return True


def follower() -> tuple[Raft, Deadlines, Neighbours]:
    raft = Raft(
        "a",
        SETTINGS,
        random.Random(1),
        configuration=Configuration.of("abc"),
        hard_state=HardState(1, ""),
        now_ns=1,
    )
    raft.step("b", Heartbeat(1, 1, 0, 0, 5, 1000 * MS), 2 * SECOND)
    neighbours = Neighbours()
    return raft, Deadlines(lambda due_ns: None, neighbours), neighbours  # type: ignore[arg-type]


def test_after_an_absence_a_member_listens_before_it_doubts_its_leader() -> None:
    raft, deadlines, neighbours = follower()
    due_ns = raft.deadline_ns()
    back_ns = due_ns + 300 * MS
    neighbours.health.timer_ran(due_ns, back_ns)

    deadlines.came(raft, back_ns, busy=False)
    assert raft.state.role is Role.FOLLOWER, "what arrived meanwhile is not read yet"

    raft.step("b", Heartbeat(1, 1, 0, 0, 6, 1000 * MS), back_ns + 1)
    deadlines.came(raft, back_ns + 301 * MS, busy=False)
    assert raft.state.role is Role.FOLLOWER
    assert raft.leader == "b"


def test_a_leader_that_stays_silent_is_doubted_after_that() -> None:
    raft, deadlines, neighbours = follower()
    due_ns = raft.deadline_ns()
    neighbours.health.timer_ran(due_ns, due_ns + 300 * MS)
    deadlines.came(raft, due_ns + 300 * MS, busy=False)
    deadlines.came(raft, due_ns + 600 * MS, busy=False)
    assert raft.state.role is Role.PRE_CANDIDATE


def test_a_node_that_is_always_late_still_doubts_a_dead_leader() -> None:
    """Once for each deadline: on a loaded machine every timer is late."""
    raft, deadlines, neighbours = follower()
    now_ns = raft.deadline_ns()
    for _ in range(2):
        neighbours.health.timer_ran(now_ns, now_ns + 200 * MS)
        now_ns += 200 * MS
        deadlines.came(raft, now_ns, busy=False)
    assert raft.state.role is Role.PRE_CANDIDATE


def test_nobody_listens_for_longer_than_a_window() -> None:
    raft, deadlines, neighbours = follower()
    due_ns = raft.deadline_ns()
    neighbours.health.timer_ran(due_ns, due_ns + 60 * SECOND)
    now_ns = due_ns + 60 * SECOND
    deadlines.came(raft, now_ns, busy=False)
    deadlines.came(raft, now_ns + 1000 * MS, busy=False)
    assert raft.state.role is Role.PRE_CANDIDATE


async def test_the_scheduler_tells_of_timers_that_were_late() -> None:
    told: list[int] = []
    rung: list[int] = []

    class Sleeping:
        def rang(self, now_ns: int) -> None:
            rung.append(now_ns)

    scheduler = Scheduler(
        1 << 20,
        SystemClocks(),
        header=lambda peer: (1, 1, b"", 0, 0),
        post=lambda peer, payload, *, droppable: None,
    )
    scheduler.when_late = lambda due_ns, ran_ns: told.append(ran_ns - due_ns)
    scheduler.alarm(Sleeping(), SystemClocks().monotonic_ns() + 10 * MS)
    time.sleep(0.1)  # noqa: ASYNC251 - the loop must not run
    async with asyncio.timeout(5):
        while not rung:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert told
    assert told[0] >= LATE_NS

"""A reunion after a long cut under load: refused, shown, answered, remembered, reported.

The real node on simulated hosts. The old leader accepted hundreds of commands while it led nobody,
its verdict was ``split``, and contact is back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from mcpcore.errors import InvalidInput, ReunionRefused, StorageFailed
from mcpcore.node.group import Consistency
from mcpcore.node.kv.commands import Get, encode_request
from mcpcore.raft.split import SplitState
from mcpcore.sim import World
from tests.node import test_quarantine_in_simulator
from tests.node.test_quarantine_in_simulator import OldLeader

COMMANDS = 250
CUT_S = 8.0


@pytest.fixture(autouse=True)
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_quarantine_in_simulator, "COMMANDS", COMMANDS)


@pytest.fixture
def story() -> Iterator[OldLeader]:
    """Contact is back, and the reunion waits."""
    with World(seed=5) as world:
        yield held_up(world)


def held_up(world: World) -> OldLeader:
    story = OldLeader(world)
    story.goes_on_alone()
    world.run(CUT_S)
    assert state(story) is SplitState.SPLIT
    world.heal()
    world.run_until(lambda: story.group().reunions.held is not None, within_s=10)
    return story


def state(story: OldLeader) -> SplitState:
    verdict = story.group().verdict
    assert verdict is not None
    return verdict.state


def ask(story: OldLeader, how: Consistency) -> Callable[[], object]:
    async def read() -> object:
        async with asyncio.timeout(5):
            return await story.group().read(encode_request(Get(b"new")), how)

    return lambda: story.world.call(story.name, read(), within_s=6)


def agree(story: OldLeader, episode: str = "") -> None:
    reunions = story.group().reunions
    plan = reunions.held
    story.world.call(
        story.name, reunions.agree(episode or (plan.gap.episode if plan else "?"), "eva")
    )


def log_end(story: OldLeader) -> tuple[int, int]:
    return story.group().raft.state.log.last


def committed(story: OldLeader) -> int:
    return max(group.raft.state.commit for group in story.cluster.running().values())


def test_the_old_leader_keeps_its_log_and_says_why(story: OldLeader) -> None:
    end = log_end(story)
    story.world.run(20)
    assert log_end(story) == end, "however long nobody answers"
    assert state(story) is SplitState.INTERVENTION
    plan = story.group().reunions.held
    assert plan.gap.to_lose >= COMMANDS
    assert "an operator decides" in plan.reason
    assert story.group().status().reunion["held"] == plan.reason


def test_it_serves_stale_reads_and_refuses_others_with_the_command_to_give(
    story: OldLeader,
) -> None:
    with pytest.raises(ReunionRefused, match="`mcpctl group reunite main`"):
        ask(story, Consistency.LINEARIZABLE)()
    ask(story, Consistency.STALE)()


def test_the_majority_serves_meanwhile(story: OldLeader) -> None:
    before = committed(story)
    leader = story.cluster.leader()
    story.world.call(leader, story._put_at(leader))
    assert committed(story) > before


def test_an_answer_reunites_them_and_everything_is_in_quarantine(story: OldLeader) -> None:
    agree(story)
    story.settles()
    story.audit()
    assert story.group().quarantine.waiting == COMMANDS
    story.world.run_until(lambda: state(story) is SplitState.HEALTHY, within_s=10)
    ask(story, Consistency.LINEARIZABLE)()


def test_a_refusal_survives_a_restart_and_so_does_an_answer(story: OldLeader) -> None:
    story.host.crash()
    story.host.restart()
    story.world.run(5)
    assert story.group().reunions.held is not None, "a restart is no answer"

    agree(story)
    story.host.crash()
    story.host.restart()
    story.settles()
    story.audit()
    assert story.group().quarantine.waiting == COMMANDS


def test_an_answer_to_something_else_is_refused(story: OldLeader) -> None:
    with pytest.raises(InvalidInput, match="waits"):
        agree(story, "main/nobody/1.2.3")
    other = next(name for name in story.cluster.names if name != story.name)
    reunions = story.cluster.nodes[other].group("main").reunions
    with pytest.raises(InvalidInput, match="no reunion waits"):
        story.world.call(other, reunions.agree("x", "eva"))
    assert story.group().reunions.held is not None


def test_an_answer_that_the_disk_refuses_was_not_given(
    story: OldLeader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, *, create: bool = False):
        raise OSError(28, "no space")

    monkeypatch.setattr(story.host.disk, "open", refuse)
    with pytest.raises(StorageFailed, match="did not take the answer"):
        agree(story)
    assert story.group().reunions.held is not None


def test_the_group_needs_no_operator_to_go_on(story: OldLeader) -> None:
    leader = story.cluster.leader()
    other = next(n for n in story.cluster.names if n not in (leader, story.name))
    story.cluster.hosts[other].crash()
    story.world.call(leader, story._put_at(leader), within_s=20)
    assert story.group().reunions.held is None
    story.world.run_until(lambda: story.group().applied == committed(story), within_s=10)
    story.audit()


def test_the_report_tells_what_the_cut_did(story: OldLeader) -> None:
    [report] = story.group().reunions.reports
    assert report["open"]
    agree(story)
    story.settles()
    story.world.run(1)
    [report] = story.group().reunions.reports
    assert not report["open"]
    assert report["conflict"] == ""
    ours, theirs = report["sides"]
    assert ours["entries"] >= COMMANDS
    assert len(ours["unanswered"]) == COMMANDS
    assert ours["acknowledged"].keys() == {story.name}, "nobody else acknowledged anything"
    assert theirs["committed"] >= theirs["runs"][-1][2]
    assert report["duration_s"] > CUT_S
    assert [each["state"] for each in report["history"]][-1] in ("split", "rejoining")
    assert "split" in [each["state"] for each in report["history"]]
    assert f"{COMMANDS} commands without an answer" in report["text"]

    story.host.crash()
    story.host.restart()
    story.settles()
    assert story.group().reunions.reports == [report], "it is kept"


def test_a_member_with_nothing_to_lose_is_helped_without_asking() -> None:
    """A follower that was cut off, however long: there is nothing to ask a person."""
    with World(seed=6) as world:
        story = OldLeader(world)
        away = next(name for name in story.cluster.names if name != story.name)
        world.network.isolate(away)
        for _ in range(6):
            story.goes_on(COMMANDS // 2)
            world.run(1)
        world.heal()
        story.settles()
        assert not story.cluster.nodes[away].group("main").reunions.reports

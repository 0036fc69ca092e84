"""Members come and go under load: the real node, its log and its transport, in virtual time."""

from __future__ import annotations

import pytest

from mcpcore.errors import ChangeRefused, NotPermitted
from mcpcore.node.transport.identity import Role
from mcpcore.raft.membership import Demote, Promote, Remove, Update
from mcpcore.raft.types import Member
from mcpcore.sim import World
from tests.node.membership_world import Town, Writer


def test_a_group_grows_from_one_to_five_and_shrinks_again_under_load() -> None:
    with World(seed=1) as world:
        town = Town(world, "a", "bcde")
        writer = Writer(town)
        world.run(2)
        for name in "bcde":
            town.add(name)
        assert town.voters() == "abcde"
        for name in "edcb":
            town.change(Remove(name))
            world.run_until(lambda name=name: name not in town.voters(), within_s=30)
        assert town.voters() == "a"
        writer.finish()


def test_every_node_is_replaced_one_by_one_under_load_and_no_write_is_lost() -> None:
    with World(seed=2) as world:
        town = Town(world, "abc", "xyz")
        writer = Writer(town)
        world.run_until(lambda: town.voters() == "abc", within_s=30)
        for old, new in zip("abc", "xyz", strict=True):
            town.change(town.newcomer(new, promote=False))
            leader = town.leader()
            world.run_until(
                lambda leader=leader, new=new: (
                    new in town.state(leader).progress
                    and town.state(leader).progress[new].match > 0
                    if town.state(leader).is_leader
                    else town.leader() != ""
                ),
                within_s=30,
            )
            world.run(3)  # some rounds of catching up
            town.change(Remove(old), Promote(new))  # one joint change
            world.run_until(
                lambda old=old, new=new: old not in town.voters() and new in town.voters(),
                within_s=30,
            )
        assert town.voters() == "xyz"
        world.run(15)  # the last ones that were removed are told, and let go
        for name in "abc":
            town.hosts[name].crash()
        world.run(2)
        writer.finish()
        assert all(set(town.peers(n)) <= set("xyz") for n in "xyz")


def test_a_leader_that_is_removed_hands_over_and_the_group_goes_on() -> None:
    with World(seed=3) as world:
        town = Town(world)
        writer = Writer(town)
        world.run_until(lambda: town.voters() == "abc", within_s=30)
        leader = town.leader()
        town.change(Remove(leader))
        world.run_until(
            lambda: town.leader() not in ("", leader) and leader not in town.voters(),
            within_s=0.5,  # no election timeout passed
        )
        assert len(town.voters()) == 2
        assert "no member" in town.standing(leader)
        world.run(3)
        writer.finish()


def test_two_nodes_become_one_whichever_is_removed() -> None:
    """etcd #10563: the leader is removed before the follower learns that this was committed."""
    for seed, who in ((4, "leader"), (5, "follower")):
        with World(seed=seed) as world:
            town = Town(world, "ab")
            world.run_until(lambda town=town: town.voters() == "ab", within_s=30)
            leader = town.leader()
            goes = leader if who == "leader" else ("b" if leader == "a" else "a")
            stays = "b" if goes == "a" else "a"
            town.change(Remove(goes))
            world.run_until(lambda town=town, stays=stays: town.voters() == stays, within_s=30)
            town.put("alone", "and well")


def test_a_fresh_node_joins_nothing_by_itself_and_says_how_it_would() -> None:
    with World(seed=6) as world:
        town = Town(world, "abc", "d")
        world.run_until(lambda: town.voters() == "abc", within_s=30)
        world.run(5)
        assert "waiting to be added" in town.standing("d")
        assert "--bootstrap" in town.standing("d")
        town.add("d")
        assert town.standing("d") == ""
        assert town.voters() == "abcd"


def test_a_cluster_that_nobody_was_told_to_found_is_not_founded() -> None:
    with World(seed=7) as world:
        town = Town(world, bootstrap=False)
        world.run(10)
        assert town.leader() == ""
        assert all("waiting to be added" in town.standing(name) for name in "abc")


def test_a_cluster_is_not_founded_before_all_of_its_first_voters_are_there() -> None:
    with World(seed=8) as world:
        town = Town(world)
        town.hosts["c"].crash()
        world.run(10)
        assert town.leader() == ""
        assert "missing: c" in town.standing("a")
        town.hosts["c"].restart()
        world.run_until(lambda: town.voters() == "abc", within_s=30)


def test_a_wiped_voter_comes_back_as_a_learner_and_says_why_though_told_to_found() -> None:
    """Hunt: a wiped or reused node id votes as if it remembered."""
    with World(seed=9) as world:
        town = Town(world)
        writer = Writer(town)
        world.run_until(lambda: town.voters() == "abc", within_s=30)
        world.run(2)
        wiped = next(name for name in "abc" if name != town.leader())
        town.hosts[wiped].wipe()
        world.run(1)
        town.hosts[wiped].restart()
        world.run_until(lambda: wiped not in (town.voters() or wiped), within_s=30)
        assert wiped in town.state(town.leader()).configuration.learners
        world.run(5)
        assert wiped not in town.voters(), "only a person makes it a voter again"
        assert "a learner: this node took part with the disk" in town.standing(wiped)
        assert f"`mcpctl member promote {wiped}` lets it vote again" in town.standing(wiped)
        town.change(Promote(wiped))
        world.run_until(lambda: town.voters() == "abc", within_s=30)
        writer.finish()
        assert town.standing(wiped) == ""


def test_a_wiped_voter_does_not_vote_for_a_log_that_lacks_what_it_once_confirmed() -> None:
    """The entry is on the leader and on the one that is wiped; the third lacks it."""
    for seed in range(20, 26):
        with World(seed=seed) as world:
            town = Town(world)
            world.run_until(lambda town=town: town.voters() == "abc", within_s=30)
            world.run(1)
            leader = town.leader()
            wiped, lagging = (name for name in "abc" if name != leader)
            cut = world.inject("isolate", lagging)
            world.run(0.5)
            town.put("precious", "yes")
            town.hosts[leader].crash()
            town.hosts[wiped].wipe()
            cut.end()
            world.run(0.5)
            town.hosts[wiped].restart()
            world.run(20)
            assert town.leader() == "", "two of three forgot or lag: nobody may lead"
            assert "what it voted and stored is forgotten" in town.standing(wiped)
            town.hosts[leader].restart()
            world.run_until(lambda town=town: bool(town.leader()), within_s=40)
            world.run_until(
                lambda town=town, lagging=lagging, leader=leader: town.agreed(leader + lagging),
                within_s=40,
            )


def test_a_wiped_node_waits_when_all_know_it_by_another_disk() -> None:
    """Told to found, it asks; the answer names the disk that took part."""
    with World(seed=10) as world:
        town = Town(world)
        world.run_until(lambda: town.voters() == "abc", within_s=30)
        leader = town.leader()
        others = [name for name in "abc" if name != leader]
        known = town.state(leader).configuration.member(others[0]).incarnation
        town.hosts[leader].crash()
        town.hosts[others[0]].wipe()
        world.run(0.5)
        town.hosts[others[0]].restart()
        world.run(5)
        standing = town.standing(others[0])
        assert f"took part with the disk {known}" in standing
        assert "what it voted and stored is forgotten" in standing


def test_an_interrupted_addition_is_taken_up_by_asking_again() -> None:
    with World(seed=11) as world:
        town = Town(world, "abc", "d")
        world.run_until(lambda: town.voters() == "abc", within_s=30)
        town.hosts["d"].crash()
        town.change(town.newcomer("d"))  # and whoever asked is gone
        world.run(10)
        assert town.voters() == "abc", "a learner that is down holds nobody up"
        town.hosts["d"].restart()
        town.change(town.newcomer("d"))
        world.run_until(lambda: town.voters() == "abcd", within_s=60)


def test_a_removed_peer_is_told_and_then_let_go() -> None:
    with World(seed=12) as world:
        town = Town(world, "abc")
        world.run_until(lambda: town.voters() == "abc", within_s=30)
        gone = next(name for name in "abc" if name != town.leader())
        town.change(Remove(gone))
        world.run(1)
        assert "no member" in town.standing(gone), "it has been told"
        world.run(10)
        rest = [name for name in "abc" if name != gone]
        assert all(gone not in town.peers(name) for name in rest)


def test_a_member_that_moved_is_called_at_its_new_address() -> None:
    """What the configuration says wins over the file, which is older."""
    with World(seed=13) as world:
        town = Town(world, "abc")
        world.run_until(lambda: town.voters() == "abc", within_s=30)
        elsewhere = "10.9.9.9:7000"
        town.change(Update("c", Member(elsewhere, "zone-c")))
        world.run(5)
        seen = town.peers(town.leader()) if town.leader() != "c" else {}
        assert seen.get("c", elsewhere) == elsewhere


def test_only_an_administrator_changes_members() -> None:
    with World(seed=14) as world:
        town = Town(world)
        world.run_until(lambda: town.voters() == "abc", within_s=30)

        async def ask() -> None:
            async with town.client(role=Role.CLIENT) as client:
                await client.change_members([Remove("c")])

        with pytest.raises(NotPermitted, match="change members"):
            world.call("client", ask(), within_s=30)
        assert town.voters() == "abc"


def test_the_last_voter_cannot_go() -> None:
    with World(seed=15) as world:
        town = Town(world, "a")
        world.run_until(lambda: town.voters() == "a", within_s=30)
        for change in (Remove("a"), Demote("a")):
            with pytest.raises(ChangeRefused):
                town.change(change)

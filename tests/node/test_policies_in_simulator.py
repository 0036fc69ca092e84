"""Policies on the running node: what takes is free, what gives is ordered, and nothing lies."""

from __future__ import annotations

import pytest

from mcpcore.errors import InvalidInput, Rejected, UnknownData
from mcpcore.policy import Author, Effect, Mode, Request, TenantKey, own, trust
from mcpcore.sim import World
from tests.node.policy_world import GROUP, SHOP, PolicyCluster
from tests.node.simulated_cluster import NAMES
from tests.policy.world import access

DEPLOY = access(Effect.PERMIT, "shop", "shop/ann", "deploy", "shop/web")
FREEZE = access(Effect.FORBID, "shop", "*", "deploy", "shop/web")
ANN = Request("shop/ann", "deploy", "shop/web")


def answers(cluster: PolicyCluster) -> list[bool]:
    return [cluster.policy(name).decide(ANN).allowed for name in NAMES]


def follower(cluster: PolicyCluster) -> str:
    return next(name for name in NAMES if name != cluster.leader())


def test_a_permit_made_on_a_follower_is_ordered_by_itself_and_counts_everywhere() -> None:
    with World(seed=1) as world:
        cluster = PolicyCluster(world)
        began_s = world.now_s
        cluster.edit(follower(cluster), lambda policy: policy.add(SHOP, DEPLOY))
        world.run_until(lambda: all(answers(cluster)), within_s=5)
        assert world.now_s - began_s < 1.0


def test_on_a_side_without_quorum_taking_counts_at_once_and_giving_waits_until_the_heal() -> None:
    with World(seed=2) as world:
        cluster = PolicyCluster(world)
        cluster.edit("hangzhou", lambda policy: policy.add(SHOP, DEPLOY))
        world.run_until(lambda: all(answers(cluster)), within_s=5)
        cut = world.inject("isolate", "edge")
        world.run(8)

        cluster.edit("edge", lambda policy: policy.add(SHOP, FREEZE))
        assert not cluster.policy("edge").decide(ANN), "taking needs nobody"
        assert cluster.policy("hangzhou").decide(ANN), "and is not known beyond the cut"
        read = access(Effect.PERMIT, "shop", "shop/ann", "read", "shop/web")
        cluster.edit("edge", lambda policy: policy.add(SHOP, read))
        reading = Request("shop/ann", "read", "shop/web")
        world.run(5)
        assert not cluster.policy("edge").decide(reading), "giving waits"
        assert [str(edit.body) for edit in cluster.policy("edge").pending()]

        cut.end()

        world.run_until(cluster.settled, within_s=20)
        assert answers(cluster) == [False, False, False]
        assert all(cluster.policy(name).decide(reading) for name in NAMES)


def test_a_permit_here_and_a_lifted_forbid_there_never_meet_in_a_merge_alone() -> None:
    """The counterexample, in whole worlds: both sides deny, and only the log may join them."""

    def live(mode: Mode) -> tuple[bool, bool]:
        """Whether the merge alone allowed, and whether the log did in the end."""
        with World(seed=3) as world:
            cluster = PolicyCluster(world, mode=mode)
            cluster.edit("hangzhou", lambda policy: policy.add(SHOP, FREEZE))
            world.run_until(cluster.settled, within_s=10)
            cut = world.inject("isolate", "edge")
            world.run(8)
            cluster.edit("edge", lambda policy: policy.add(SHOP, DEPLOY))
            cluster.edit("hangzhou", lambda policy: policy.drop(SHOP, FREEZE))
            world.run(3)
            assert answers(cluster) == [False, False, False]
            ordered = cluster.policy("edge").store.prefix.epoch
            cut.end()
            merged = False

            def look() -> bool:
                nonlocal merged
                for name in NAMES:
                    store = cluster.policy(name).store
                    if store.prefix.epoch == ordered and store.decide(ANN):
                        merged = True
                return cluster.settled()

            world.run_until(look, within_s=20)
            return merged, all(answers(cluster))

    assert live(Mode.GUARDED) == (False, True)
    merged, _ = live(Mode.OPTIMISTIC)
    assert merged


def test_edits_survive_a_crash_of_all_and_the_wiped_node_gets_them_back() -> None:
    with World(seed=4) as world:
        cluster = PolicyCluster(world)
        cluster.edit("edge", lambda policy: policy.add(SHOP, DEPLOY))
        world.run_until(lambda: all(answers(cluster)), within_s=5)
        for host in cluster.hosts.values():
            host.crash()
        cluster.hosts["edge"].wipe()
        world.run(1)
        for host in cluster.hosts.values():
            host.restart()
        world.run(3)
        world.run_until(cluster.settled, within_s=20)
        assert all(answers(cluster))


def test_once_a_tenant_has_a_key_only_signed_edits_are_made_and_old_ones_still_travel() -> None:
    key = TenantKey(bytes(range(32)))
    with World(seed=5) as world:
        cluster = PolicyCluster(world)
        cluster.edit("edge", lambda policy: policy.add(SHOP, FREEZE))
        world.run_until(cluster.settled, within_s=10)
        cluster.order(trust("shop", key.public))
        world.run_until(cluster.settled, within_s=10)

        with pytest.raises(InvalidInput, match="signature"):
            cluster.edit("edge", lambda policy: policy.add(SHOP, DEPLOY))
        cluster.edit("edge", lambda policy: policy.add(Author("shop", key), DEPLOY))
        cluster.hosts["hangzhou"].crash()
        cluster.hosts["hangzhou"].wipe()
        cluster.hosts["hangzhou"].restart()
        world.run(3)
        world.run_until(cluster.settled, within_s=20)
        # The forbid was never signed: it counts for nothing, and everybody holds it all the same.
        assert all(answers(cluster))
        assert len(cluster.policy("hangzhou").store.edits()) == 2


def test_ownership_is_the_leaders_to_order_and_reaches_all() -> None:
    with World(seed=6) as world:
        cluster = PolicyCluster(world)
        other = follower(cluster)

        async def refused() -> None:
            with pytest.raises(Rejected, match=cluster.leader()):
                await cluster.policy(other).order(own("new", "shop"))

        world.call(other, refused())
        cluster.order(own("new", "shop"))
        world.run_until(cluster.settled, within_s=10)
        assert all(
            cluster.policy(name).store.prefix.owner("new").tenant == "shop" for name in NAMES
        )


def test_whoever_follows_the_changes_hears_of_every_edit_and_of_its_order() -> None:
    heard: list[tuple[int, int, int]] = []
    with World(seed=7) as world:
        cluster = PolicyCluster(world)

        async def follow() -> None:
            async for change in cluster.policy("edge").changes():
                heard.append((len(change.edits), change.epoch, change.pending))

        task = cluster.hosts["edge"].spawn(follow())
        world.run(0.1)
        cluster.edit("hangzhou", lambda policy: policy.add(SHOP, DEPLOY))
        world.run(2)
        world.call("edge", cluster.nodes["edge"].stop())
        world.run(1)
        assert task.done()
    assert sum(edits for edits, _, _ in heard) == 1
    assert heard[0][1:] == (2, 1), "first it is known, and waits"
    assert heard[-1][1:] == (3, 0), "then it is ordered"


def test_an_edit_drafted_here_and_signed_elsewhere_is_made_unless_others_were_quicker() -> None:
    key = TenantKey(bytes(range(32)))
    with World(seed=8) as world:
        cluster = PolicyCluster(world)
        cluster.order(trust("shop", key.public))
        world.run_until(cluster.settled, within_s=10)

        async def remote() -> None:
            policy = cluster.policy("edge")
            drafts = policy.draft(SHOP, lambda store, at: store.add(SHOP, DEPLOY, at))
            signed = [key.sign(edit) for edit in drafts]
            with pytest.raises(InvalidInput, match="signature"):
                policy.submit(drafts, trusted=True)
            await policy.submit(signed, trusted=False)
            with pytest.raises(Rejected, match="meanwhile"):
                policy.submit(signed, trusted=False)

        world.call("edge", remote())
        world.run_until(lambda: all(answers(cluster)), within_s=5)


def test_a_policy_ends_with_its_group() -> None:
    with World(seed=9) as world:
        cluster = PolicyCluster(world)

        async def retire() -> None:
            await cluster.nodes["edge"].retire_group(GROUP)

        world.call("edge", retire())
        with pytest.raises(UnknownData, match="policy main"):
            cluster.policy("edge")


def test_overtaken_edits_go_everywhere_and_come_back_nowhere_not_even_from_an_old_disk() -> None:
    with World(seed=10) as world:
        cluster = PolicyCluster(world)
        for _ in range(3):
            cluster.edit("edge", lambda policy: policy.add(SHOP, DEPLOY))
            world.run_until(lambda: all(answers(cluster)), within_s=5)
            cluster.edit("hangzhou", lambda policy: policy.drop(SHOP, DEPLOY))
            world.run_until(lambda: not any(answers(cluster)), within_s=5)
        cluster.edit("edge", lambda policy: policy.add(SHOP, FREEZE))
        world.run(6)  # every member tells what it knows

        async def compact() -> None:
            assert cluster.policy(cluster.leader()).compact() == 6

        cluster.hosts[follower(cluster)].suspend()
        world.run(1)
        world.heal()
        world.run(12)
        world.call(cluster.leader(), compact())
        world.run_until(
            lambda: all(len(cluster.policy(name).store.edits()) == 1 for name in NAMES),
            within_s=10,
        )
        for host in cluster.hosts.values():
            host.crash()
        cluster.hosts["edge"].wipe()
        world.run(1)
        for host in cluster.hosts.values():
            host.restart()
        world.run(3)
        world.run_until(cluster.settled, within_s=20)
        assert [len(cluster.policy(name).store.edits()) for name in NAMES] == [1, 1, 1]
        assert answers(cluster) == [False, False, False]

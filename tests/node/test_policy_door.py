"""What clients say to a policy: plain values in and out, and nothing believed."""

from __future__ import annotations

from random import Random
from typing import Any

import msgpack
import pytest

from mcpcore.errors import CoordinationError, InvalidInput, NotPermitted
from mcpcore.node.policies.door import answer
from mcpcore.policy import Effect
from mcpcore.sim import World
from tests.node.policy_world import SHOP, PolicyCluster
from tests.policy.world import access

VERBS = (
    "decide", "explain", "conflicts", "pending", "show", "documents", "status", "draft", "submit",
    "obey",
)  # fmt: skip
FREEZE = access(Effect.FORBID, "shop", "*", "deploy", "shop/web")


def nonsense(dice: Random, depth: int = 0) -> Any:
    match dice.randrange(9 if depth < 3 else 6):
        case 0:
            return None
        case 1:
            return dice.choice(
                ["shop", "main", "add", "drop", "enrol", "note", "resolve", "", "a/b"]
            )
        case 2:
            return dice.randrange(-5, 5)
        case 3:
            return dice.randbytes(dice.randrange(20))
        case 4:
            return dice.random() < 0.5
        case 5:
            return "document"
        case 6:
            return {"tenant": nonsense(dice, depth + 1), "statements": nonsense(dice, depth + 1)}
        case _:
            return [nonsense(dice, depth + 1) for _ in range(dice.randrange(6))]


def test_what_is_no_question_is_an_error_of_ours_and_changes_nothing() -> None:
    dice, told, refused = Random(5), 0, 0
    with World(seed=5) as world:
        cluster = PolicyCluster(world)

        async def ask() -> None:
            nonlocal told, refused
            policy = cluster.policy("edge")
            for _ in range(1_500):
                body = dice.randbytes(9) if dice.random() < 0.1 else msgpack.packb(nonsense(dice))
                try:
                    answer(policy, dice.choice(VERBS), body, administrator=False)
                    told += 1
                except CoordinationError:
                    refused += 1
            assert policy.store.edits() == []

        world.call("edge", ask())
    assert told > 10
    assert refused > 1_000


def test_who_is_no_administrator_edits_for_no_tenant_that_has_no_key() -> None:
    with World(seed=6) as world:
        cluster = PolicyCluster(world)

        async def ask() -> None:
            policy = cluster.policy("edge")
            wanted = msgpack.packb(["shop", "main", "add", [FREEZE.to_wire(), "freeze"]])
            drafts = answer(policy, "draft", wanted, administrator=False)
            assert policy.store.edits() == [], "a draft is no edit"
            with pytest.raises(NotPermitted, match="shop"):
                answer(policy, "submit", msgpack.packb(drafts), administrator=False)
            made = await answer(policy, "submit", msgpack.packb(drafts), administrator=True)
            assert made == {"edits": 1, "pending": 0}
            (document,) = answer(policy, "documents", msgpack.packb(None), administrator=False)
            assert document["statements"][0]["name"] == "freeze"

        world.call("edge", ask())


def test_an_edit_that_claims_more_than_its_draft_is_refused() -> None:
    with World(seed=7) as world:
        cluster = PolicyCluster(world)

        async def ask() -> None:
            policy = cluster.policy("edge")
            drafts = policy.draft(SHOP, lambda store, at: store.add(SHOP, FREEZE, at))
            drafts[0].__dict__["epoch"] = 99
            with pytest.raises(InvalidInput, match="more of the log"):
                policy.submit(drafts, trusted=True)

        world.call("edge", ask())

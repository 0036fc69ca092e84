"""The policy log takes what its group ordered, once and in order, and nothing else."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from mcpcore.clock import Reading, Timestamp
from mcpcore.errors import InvalidInput
from mcpcore.policy import Effect, own
from mcpcore.policy.edits import Add, Edit
from mcpcore.policy.log import PolicyLog, loosen
from tests.policy.world import access

MAGIC = b"mcppol01"
NO_ROWS: list[Any] = [
    5, [5], [[1]], [["1", own("a", "a")]], [[-1, own("a", "a")]], [[1 << 63, own("a", "a")]],
    [[True, own("a", "a")]], [[1, 7]], [[1, b"nonsense"]], [[2, own("a", "a")], [2, own("b", "b")]],
]  # fmt: skip


@pytest.mark.parametrize("rows", NO_ROWS)
def test_what_is_no_piece_of_a_log_is_refused_and_leaves_it_as_it_was(rows: Any) -> None:
    log = PolicyLog()
    log.apply(1, own("shop", "shop"))
    before = log.prefix

    with pytest.raises(InvalidInput):
        log.follow(bytes(msgpack.packb(rows)))
    with pytest.raises(InvalidInput):
        log.restore([MAGIC + bytes(msgpack.packb([rows, b""]))])

    assert log.prefix is before


def test_the_same_piece_taken_twice_does_not_bring_an_old_owner_back() -> None:
    """Two answers to one question: ownership that went from x to y must not go back and forth."""
    leader, follower = PolicyLog(), PolicyLog()
    leader.apply(4, own("shop", "x"))
    leader.apply(7, own("shop", "y"))
    piece = leader.query(bytes(msgpack.packb(["since", 0])))
    follower.follow(piece)

    with pytest.raises(InvalidInput, match="begins at 4"):
        follower.follow(piece)

    assert follower.prefix == leader.prefix


def test_an_edit_that_claims_to_know_entries_that_are_not_there_is_not_ordered() -> None:
    """It would outlive every later change of owner, by which older edits become stale."""
    log = PolicyLog()
    log.apply(1, own("shop", "shop"))

    def permit(epoch: int) -> bytes:
        body = Add(access(Effect.PERMIT, "shop", "shop/ann", "*", "shop/*"))
        at = Reading(Timestamp.of(1), 0)
        return loosen(Edit(("east/1", 1), "shop", "main", epoch, at, (), body))

    assert msgpack.unpackb(log.apply(2, permit(9)))[0] == "refused"
    assert msgpack.unpackb(log.apply(3, permit(1))) == ["ok", 2]

"""Judges of leases, watches and merging policies: small histories, each with one thing wrong."""

from __future__ import annotations

import pytest

from mcpcore.check import History, Operation, Outcome, judge
from mcpcore.check.leases import GONE
from mcpcore.check.policies import FORKED
from mcpcore.errors import InvalidInput

MS = 1_000_000


def history(*operations: tuple) -> History:
    """Operations as (from ms, to ms, function, value, result[, error]), all about one key."""
    made = []
    for number, (called, returned, function, value, result, *error) in enumerate(operations):
        made.append(
            Operation(
                number,
                f"client {number}",
                function,
                value,
                result,
                Outcome.FAIL if error else Outcome.OK,
                0,
                0,
                called * MS,
                returned * MS,
                key="k",
                error=error[0] if error else None,
            )
        )
    return History.timed(made)


def acquire(called: int, returned: int, lease: int, safe_ms: int = 100) -> tuple:
    return called, returned, "acquire", {"safe_ms": safe_ms}, {"lease": lease, "token": lease}


def renew(called: int, returned: int, lease: int, *error: str) -> tuple:
    return called, returned, "renew", {"lease": lease, "safe_ms": 100}, None, *error


def release(called: int, lease: int) -> tuple:
    return called, called + 5, "release", {"lease": lease}, None


def look(called: int, returned: int, lease: int | None) -> tuple:
    return called, returned, "look", None, lease


@pytest.mark.parametrize(
    ("kinds", "operations"),
    [
        (set(), [acquire(0, 10, 1), look(20, 30, 1), acquire(101, 105, 2)]),
        (set(), [acquire(0, 10, 1), release(20, 1), acquire(21, 26, 2)]),
        (set(), [acquire(0, 10, 1), renew(50, 60, 1), acquire(151, 155, 2)]),
        (set(), [acquire(0, 10, 1), look(90, 120, None)]),  # it may have run out in between
        (set(), [acquire(0, 10, 1), renew(90, 120, 1, GONE)]),
        (set(), [acquire(0, 110, 1), acquire(5, 20, 2)]),  # the first never relied on anything
        ({"held-by-two"}, [acquire(0, 10, 1), acquire(50, 60, 2)]),
        ({"held-by-two"}, [acquire(0, 10, 1), renew(50, 60, 1), acquire(130, 140, 2)]),
        ({"lost-early"}, [acquire(0, 10, 1), look(20, 30, None)]),
        ({"lost-early"}, [acquire(0, 10, 1), look(20, 30, 7)]),
        ({"lost-early"}, [acquire(0, 10, 1), renew(20, 30, 1, GONE)]),
        ({"token-not-rising"}, [acquire(0, 10, 2), acquire(200, 210, 1)]),
    ],
)
def test_whoever_relies_on_a_lock_has_it_alone_and_for_its_time(
    kinds: set[str], operations: list[tuple]
) -> None:
    assert judge(history(*operations), "leases").kinds == kinds


def put(called: int, value: str, revision: int) -> tuple:
    return called, called + 1, "put", value, revision


def watch(after: int, upto: int, *events: tuple[int, str], until: int | None = None) -> tuple:
    asked = {"after": after} if until is None else {"after": after, "until": until}
    return 50, 60, "watch", asked, {"upto": upto, "events": [list(event) for event in events]}


PUTS = [put(0, "a", 5), put(2, "b", 7), put(4, "c", 9)]


@pytest.mark.parametrize(
    ("kinds", "watches"),
    [
        (set(), [watch(0, 9, (5, "a"), (7, "b"), (9, "c"))]),
        (set(), [watch(5, 7, (7, "b")), watch(7, 9, (9, "c"))]),
        (set(), [watch(9, 9)]),
        ({"missed"}, [watch(0, 9, (5, "a"), (9, "c"))]),
        ({"missed"}, [watch(9, 9, until=11)]),
        ({"out-of-order", "missed"}, [watch(6, 9, (5, "a"), (9, "c"))]),
        ({"out-of-order"}, [watch(0, 7, (7, "b"), (5, "a"))]),
        ({"out-of-order"}, [watch(4, 4, (5, "a"))]),
        ({"invented"}, [watch(9, 11, (11, "x"))]),
        ({"repeated"}, [watch(8, 11, (9, "c"), (11, "c"))]),
        ({"disagree", "repeated"}, [watch(6, 7, (7, "a")), watch(0, 5, (5, "a"))]),
    ],
)
def test_a_watcher_hears_of_every_change_in_order_once(
    kinds: set[str], watches: list[tuple]
) -> None:
    assert judge(history(*PUTS, *watches), "watches").kinds == kinds


def join(ours: list[int], theirs: list[int], after: list[int], *error: str) -> tuple:
    return 0, 1, "join", {"ours": ours, "theirs": theirs}, after, *error


def settled(allowed: list[int], *ordered: str) -> tuple:
    return 90, 91, "settled", "a", {"allowed": allowed, "ordered": list(ordered)}


@pytest.mark.parametrize(
    ("kinds", "operations"),
    [
        (set(), [join([1], [2], [1, 2])]),
        (set(), [join([1], [2], []), (2, 3, "take", [1, 2], [2]), settled([1]), settled([1])]),
        (set(), [join([], [], []), (2, 3, "order", None, ["x"]), settled([], "x", "y")]),
        ({"allowed-by-nobody"}, [join([1], [2], [1, 2, 3])]),
        ({"allowed-by-nobody"}, [join([], [], []), (2, 3, "take", [1], [1, 2])]),
        ({"forked-log"}, [join([1], [1], [1]), join([1], [2], [], FORKED)]),
        ({"disagree"}, [join([], [], []), settled([1]), settled([2])]),
        ({"lost-order"}, [join([], [], []), (2, 3, "order", None, ["x"]), settled([], "y")]),
    ],
)
def test_a_merge_allows_nothing_that_neither_side_allowed_and_all_agree_in_the_end(
    kinds: set[str], operations: list[tuple]
) -> None:
    assert judge(history(*operations), "policies").kinds == kinds


@pytest.mark.parametrize("name", ["leases", "watches", "policies"])
def test_nothing_to_judge_is_no_ok(name: str) -> None:
    assert judge(history((0, 1, "other", None, None)), name).verdict == "unknown"


@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("leases", (0, 1, "acquire", None, {"lease": 1, "token": 1})),
        ("leases", (0, 1, "acquire", {"safe_ms": 5}, None)),
        ("leases", (0, 1, "renew", 5, None)),
        ("watches", (0, 1, "watch", {"after": 1}, None)),
        ("watches", (0, 1, "watch", {"after": "x"}, {"upto": 1, "events": []})),
        ("watches", (0, 1, "put", "a", None)),
        ("policies", (0, 1, "join", {"ours": []}, [])),
        ("policies", (0, 1, "take", None, [])),
        ("policies", (0, 1, "settled", None, [])),
    ],
)
def test_a_history_of_another_shape_is_refused_with_its_place(name: str, operation: tuple) -> None:
    with pytest.raises(InvalidInput, match="operation 0"):
        judge(history(operation), name)

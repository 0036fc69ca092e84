"""Tokens, fences, budgets, breakers, retries, claims, locks: each rule alone."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.clock import Interval
from mcpcore.errors import InvalidInput, StaleFence, StepFailed, TargetUnavailable
from mcpcore.saga import (
    FUSE_3S,
    FUSE_8S,
    POSTGRESQL,
    Breaker,
    BreakerState,
    Call,
    Cells,
    Claims,
    Fence,
    FenceGate,
    Fuse,
    LocalEffects,
    Locks,
    Mark,
    MemoryCells,
    Message,
    Received,
    RedisCells,
    Retry,
    RetryBudget,
    SqliteCells,
    TargetSettings,
    idempotency_token,
)
from mcpcore.saga.budget import is_spent, unwatched_ns
from mcpcore.saga.engine.targets import Target
from mcpcore.saga.values import settle

S = 10**9
EFFECTS = st.tuples(*[st.text("ab:", min_size=1, max_size=4)] * 3)

# --- tokens and fences ----------------------------------------------------------------------------


def test_a_token_is_saga_action_and_sixteen_digits_of_the_hash_of_the_resource_key() -> None:
    token = idempotency_token("peering-7", "release", "vpc/eu-1")

    assert token == "peering-7:release:" + hashlib.sha256(b"vpc/eu-1").hexdigest()[:16]
    assert idempotency_token("s", "a", "abc") == "s:a:ba7816bf8f01cfea"


@settings(deadline=None)
@given(EFFECTS, EFFECTS)
def test_two_different_effects_never_have_one_token(
    first: tuple[str, str, str], second: tuple[str, str, str]
) -> None:
    try:
        tokens = idempotency_token(*first), idempotency_token(*second)
    except InvalidInput:
        return
    assert (tokens[0] == tokens[1]) == (first == second)


def test_a_resource_lets_no_older_fence_pass() -> None:
    gate = FenceGate()
    gate.admit("vpc", Fence(2, 7))
    gate.admit("vpc", Fence(2, 7))
    gate.admit("vpc", Fence(3, 1))
    with pytest.raises(StaleFence, match=r"2\.9 is older than 3\.1"):
        gate.admit("vpc", Fence(2, 9))
    gate.admit("other", Fence(1, 1))


def test_token_fence_and_remaining_time_travel_in_headers() -> None:
    sent = call("x", left_s=1.5).headers()
    received = Received.parse({name.upper(): value for name, value in sent.items()})

    assert received == Received("x:do:1", Fence(1, 1), 1.5, "")
    for broken in ({}, {**sent, "saga-fence": "3"}, {**sent, "saga-budget-ms": "-1"}):
        with pytest.raises(InvalidInput):
            Received.parse(broken)


def call(saga: str, *, undo: bool = False, left_s: float = 9) -> Call:
    token = f"{saga}:do:1"
    return Call(
        saga=saga, step="do", action="do.undo" if undo else "do", resource="r",
        token=f"{saga}:do.undo:1" if undo else token, do_token=token, fence=Fence(1, 1), attempt=1,
        input=None, results={}, left_s=lambda: left_s,
    )  # fmt: skip


@pytest.mark.parametrize("value", [object(), {1: 2}, {"a": {3}}, 2**70, "\udc80", b"x" * 300_000])
def test_a_value_that_a_journal_cannot_keep_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(InvalidInput, match="result of step a"):
        settle(value, "result of step a")


# --- time ----------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    budget=st.integers(S, 1000 * S),
    steps=st.lists(st.tuples(st.integers(1, 50 * S), st.integers(-(10**13), 10**13)), max_size=30),
    radius=st.integers(0, S // 10),
)
def test_no_steps_of_the_clocks_make_a_deadline_come_early_or_more_than_a_little_late(
    budget: int, steps: list[tuple[int, int]], radius: int
) -> None:
    """The monotonic clock goes on; what claims to be the cluster's time jumps as it likes."""
    started, spent, offset = Interval.around(10**18, radius), 0, 0
    for passed, jump in [*steps, (1001 * S, 0)]:
        spent, offset = spent + passed, offset + jump
        now = Interval.around(10**18 + spent + offset, radius)
        over = is_spent(budget, spent, started=started, now=now)
        assert not (over and spent < budget), "early"
        assert over or spent <= budget + 4 * radius + spent // 1000, "late"


def test_time_that_nobody_watched_counts_only_as_far_as_the_cluster_can_prove_it() -> None:
    last = Interval(100, 200)
    assert unwatched_ns(last, Interval(1000, 1300)) == 800
    assert unwatched_ns(last, Interval(150, 900)) == 0
    assert unwatched_ns(last, None) == unwatched_ns(None, last) == 0


# --- circuit breaker, bulkhead, retries ----------------------------------------------------------


def test_the_breaker_opens_after_failures_in_a_row_lets_one_find_out_and_closes_again() -> None:
    breaker = Breaker(Fuse(timeout_s=1, failures=2, open_s=3))
    late = breaker.admit(0)
    for _ in range(2):
        passed = breaker.admit(0)
        assert passed is not None
        breaker.failed(passed, now_ns=0)
    assert breaker.state is BreakerState.OPEN
    assert breaker.admit(3 * S - 1) is None
    probe = breaker.admit(3 * S)
    assert probe is not None
    assert breaker.admit(3 * S) is None, "one finds out, the others wait"
    assert late is not None
    breaker.succeeded(late)
    assert breaker.state is BreakerState.HALF_OPEN, "a call from before says nothing about now"
    breaker.failed(probe, now_ns=4 * S)
    assert breaker.admit(6 * S) is None
    probe = breaker.admit(7 * S)
    assert probe is not None
    breaker.succeeded(probe)
    assert breaker.state is BreakerState.CLOSED


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4 * S)), max_size=60))
def test_a_breaker_keeps_its_promises_whatever_is_told_to_it(acts: list[tuple[int, int]]) -> None:
    breaker, now, passes = Breaker(Fuse(timeout_s=1, failures=3, open_s=3, probes=2)), 0, []
    for act, passed_ns in acts:
        now += passed_ns
        if act == 0 or not passes:
            passed = breaker.admit(now)
            passes += [passed] if passed else []
        elif act == 1:
            breaker.succeeded(passes.pop())
        elif act == 2:
            breaker.failed(passes.pop(0), now)
        else:
            breaker.withdrawn(passes.pop())
        breaker.check()


def test_the_presets_are_three_and_eight_seconds() -> None:
    assert (FUSE_3S.timeout_s, FUSE_8S.timeout_s) == (3.0, 8.0)


async def test_a_bulkhead_lets_so_many_in_so_many_wait_and_refuses_the_rest() -> None:
    changes: list[Any] = []
    settings = TargetSettings(calls_max=2, waiting_max=1)
    target = Target("t", settings, lambda: 0, lambda *change: changes.append(change))
    first, second = target.try_enter(), target.try_enter()
    waiting = asyncio.create_task(target.enter())
    await asyncio.sleep(0)
    with pytest.raises(TargetUnavailable, match="1 calls wait already"):
        target.try_enter()
    assert first is not None
    assert second is not None
    first.give_back(True)
    third = await waiting
    given_up = asyncio.create_task(target.enter())
    await asyncio.sleep(0)
    given_up.cancel()
    second.give_back(True)
    third.give_back(None)
    assert target.try_enter() is not None


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_up_to_a_bound_and_are_drawn_from_all_of_it(failures: int, draw: float) -> None:
    retry = Retry(first_s=0.1, factor=2, max_s=5)
    assert 0 <= retry.pause_s(failures, draw) <= min(5, 0.1 * 2 ** (failures - 1))


def test_retries_are_a_share_of_the_calls_so_that_they_cannot_become_a_storm() -> None:
    budget = RetryBudget(ratio=0.1, per_s=0, most=100)
    while budget.withdraw(1):
        pass
    for _ in range(1000):
        budget.called()
    made = sum(budget.withdraw(1) for _ in range(1000))
    budget.check()
    assert 99 <= made <= 101


# --- claims and locks, in every kind of cell ------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def cells_of(kind: str, directory: Path) -> AsyncIterator[Cells]:
    """Cells of a kind; Redis is a real server, where there is one."""
    if kind == "memory":
        yield MemoryCells()
    elif kind == "sqlite":
        cells = SqliteCells(directory / "cells.db")
        yield cells
        await cells.close()
    else:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        if program is None:
            pytest.skip("no redis-server on this machine (Debian: apt-get install redis-server)")
        from redis.asyncio import Redis

        port = free_port()
        words = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "",
                 "--dir", str(directory)]  # fmt: skip
        server = subprocess.Popen(words, stdout=subprocess.DEVNULL)  # noqa: ASYNC220
        client = Redis(host="127.0.0.1", port=port)
        try:
            for _ in range(200):
                try:
                    await client.ping()
                    break
                except OSError:
                    await asyncio.sleep(0.02)
                except Exception as error:  # redis.ConnectionError is no OSError
                    if "onnect" not in str(error):
                        raise
                    await asyncio.sleep(0.02)
            yield RedisCells(client)
        finally:
            await client.aclose()
            server.terminate()
            server.wait(10)


KINDS = pytest.mark.parametrize("kind", ["memory", "sqlite", "redis"])


@KINDS
async def test_a_cell_is_set_only_if_it_is_as_expected(kind: str, tmp_path: Path) -> None:
    async with cells_of(kind, tmp_path) as cells:
        assert await cells.swap("k", None, b"1") is None
        assert await cells.swap("k", None, b"2") == b"1"
        assert await cells.swap("k", b"0", b"2") == b"1"
        assert await cells.get("k") == b"1"
        assert await cells.swap("k", b"1", b"") == b"1"
        assert await cells.swap("k", b"", None) == b""
        assert await cells.get("k") is None
        won = await asyncio.gather(*(cells.swap("w", None, b"%d" % n) for n in range(20)))
        assert won.count(None) == 1


@KINDS
async def test_duplicates_hanging_steps_and_null_compensations_meet_a_barrier(
    kind: str, tmp_path: Path
) -> None:
    async with cells_of(kind, tmp_path) as cells:
        claims = Claims(cells)
        assert (await claims.begin("do", Fence(1, 1))).mark is Mark.NONE
        again = await claims.begin("do", Fence(1, 2))
        assert again.mark is Mark.CLAIMED
        assert again.go, "somebody died before the effect, or after it: go and see"
        with pytest.raises(StaleFence):
            await claims.begin("do", Fence(1, 1))
        assert await claims.finish("do", Fence(1, 2), {"id": 5})
        duplicate = await claims.begin("do", Fence(1, 3))
        assert (duplicate.go, duplicate.result) == (False, {"id": 5})
        assert (await claims.bar("do", Fence(1, 4))).mark is Mark.DONE

        assert (await claims.bar("null", Fence(1, 5))).mark is Mark.NONE
        assert (await claims.bar("null", Fence(1, 6))).mark is Mark.NONE, "the same, asked again"
        assert not (await claims.begin("null", Fence(1, 7))).go, "a hanging step is barred"

        await claims.begin("lost", Fence(1, 8))
        assert (await claims.bar("lost", Fence(1, 9))).mark is Mark.CLAIMED
        assert not await claims.finish("lost", Fence(1, 8), None), "it came too late"


@KINDS
async def test_a_lock_is_held_by_one_saga_and_can_be_taken_from_one_that_has_ended(
    kind: str, tmp_path: Path
) -> None:
    ended: set[str] = set()

    async def has_ended(saga: str) -> bool:
        return saga in ended

    async with cells_of(kind, tmp_path) as cells:
        locks = Locks(cells, has_ended)
        assert await locks.take(["b", "a"], "one") is None
        assert await locks.take(["a"], "one") is None
        assert await locks.take(["b", "c"], "two") == ("b", "one")
        ended.add("one")
        assert await locks.take(["b", "c"], "two") is None
        await locks.release(["a", "b"], "one")
        assert await locks.holder("b") == "two"
        assert await locks.holder("a") == ""


# --- effects in a database ------------------------------------------------------------------------


class AsPostgres:
    """SQLite that insists on being spoken to like PostgreSQL: marks, types, transactions."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection

    def cursor(self) -> Any:
        outer = self.connection.cursor()

        class Cursor:
            rowcount = property(lambda _: outer.rowcount)
            fetchone, fetchall, close = outer.fetchone, outer.fetchall, outer.close

            def execute(self, sql: str, parameters: Any = ()) -> None:
                assert "?" not in sql
                if not outer.connection.in_transaction:
                    outer.execute("BEGIN")
                sql = sql.replace("BIGSERIAL PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT")
                outer.execute(sql.replace("%s", "?").replace("BYTEA", "BLOB"), parameters)

        return Cursor()

    def commit(self) -> None:
        self.connection.commit()

    def rollback(self) -> None:
        self.connection.rollback()


@pytest.fixture(params=["SQLite", "the shape of PostgreSQL"])
def effects(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    connection = sqlite3.connect(tmp_path / "local.db", isolation_level=None)
    if request.param == "SQLite":
        found = LocalEffects(connection)
    else:
        found = LocalEffects(AsPostgres(connection), POSTGRESQL)
    found.prepare()
    with found.transaction() as cursor:
        cursor.execute("CREATE TABLE stock (left_over INTEGER)")
        cursor.execute("INSERT INTO stock VALUES (10)")
    yield found
    connection.close()


def take(cursor: Any) -> int:
    cursor.execute("UPDATE stock SET left_over = left_over - 1")
    return 7


def put_back(cursor: Any) -> None:
    cursor.execute("UPDATE stock SET left_over = left_over + 1")


def stock(effects: LocalEffects) -> int:
    with effects.transaction() as cursor:
        cursor.execute("SELECT left_over FROM stock")
        found: int = cursor.fetchone()[0]
        return found


def test_an_effect_in_a_database_happens_once_and_answers_the_same_again(
    effects: LocalEffects,
) -> None:
    assert [effects.do(call("x"), take) for _ in range(3)] == [7, 7, 7]
    assert stock(effects) == 9
    assert [effects.undo(call("x", undo=True), put_back) for _ in range(3)] == [True] * 3
    assert stock(effects) == 10


def test_a_compensation_before_its_step_does_nothing_and_bars_the_step(
    effects: LocalEffects,
) -> None:
    assert effects.undo(call("x", undo=True), put_back) is False
    with pytest.raises(StepFailed, match="compensation came first"):
        effects.do(call("x"), take)
    assert effects.undo(call("x", undo=True), put_back) is False
    assert stock(effects) == 10


def test_an_effect_that_raises_leaves_no_mark_and_no_message(effects: LocalEffects) -> None:
    def broken(cursor: Any) -> None:
        take(cursor)
        effects.send(cursor, "stock", b"taken")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        effects.do(call("x"), broken)
    assert stock(effects) == 10
    assert effects.relay(lambda message: None) == 0
    assert effects.do(call("x"), take) == 7


def test_messages_leave_in_order_once_committed_and_take_effect_once(effects: LocalEffects) -> None:
    def work(cursor: Any) -> None:
        for body in (b"one", b"two"):
            effects.send(cursor, "stock", body)

    effects.do(call("x"), work)
    heard: list[Message] = []

    def fails_after_one(message: Message) -> None:
        if heard:
            raise OSError("the broker went away")
        heard.append(message)

    with pytest.raises(OSError, match="went away"):
        effects.relay(fails_after_one)
    assert effects.relay(heard.append) == 1
    assert [message.body for message in heard] == [b"one", b"two"]
    taken = [effects.receive(f"stock/{heard[0].number}", take) for _ in range(3)]
    assert taken == [True, False, False]
    assert stock(effects) == 9


def test_a_row_under_a_lock_refuses_whoever_was_replaced(effects: LocalEffects) -> None:
    def fenced(fence: Fence) -> Callable[[Any], None]:
        return lambda cursor: effects.admit(cursor, "vpc", fence)

    effects.do(call("x"), fenced(Fence(2, 5)))
    with pytest.raises(StaleFence, match=r"2\.4 is older than 2\.5"):
        effects.do(call("y"), fenced(Fence(2, 4)))
    effects.do(call("y"), fenced(Fence(3, 1)))

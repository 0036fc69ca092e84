"""The verdict is only worth something if it finds every lie."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.experiment import verdict as promises
from mcpcore.experiment.operations import Kind, Operation, Outcome, Replica, Stored
from mcpcore.experiment.verdict import judge, longest_silence_s


def honest_run(seed: int, count: int = 40) -> tuple[list[Operation], list[Replica]]:
    """What correct nodes and clients would report: one log, every operation at one point of it."""
    rng = random.Random(seed)
    store: dict[str, Stored] = {}
    operations = []
    now_s, index = 0.0, 5
    for number in range(count):
        now_s += rng.uniform(0.01, 0.1)
        index += 1
        called_s = max(0.0, now_s - rng.uniform(0, 0.2))
        returned_s = now_s + rng.uniform(0, 0.2)
        base = Operation(
            site="s",
            lane=f"lane{number}",
            kind=Kind.PUT,
            key=f"put/{number}",
            value=f"v{number}",
            called_s=called_s,
            returned_s=returned_s,
            outcome=Outcome.OK,
            term=1,
            index=index,
            revision=index,
        )
        shape = rng.random()
        if shape < 0.5:
            store[base.key] = Stored(base.value, index, index, 1)
            if rng.random() < 0.1:
                base = replace(base, outcome=Outcome.UNKNOWN, revision=0, index=0)
        elif shape < 0.7:
            old = store.get("counter/0", Stored("0", index, 0, 0))
            new = str(int(old.value) + 1)
            store["counter/0"] = Stored(new, old.create_revision, index, old.version + 1)
            base = replace(base, kind=Kind.INCREMENT, key="counter/0", value=new, swapped=True)
        elif shape < 0.8:
            base = replace(base, outcome=Outcome.FAIL, revision=0, index=0)
        else:
            index -= 1  # a read leaves nothing in the log
            key = rng.choice(sorted(store) or ["counter/0"])
            found = store.get(key)
            base = replace(
                base,
                kind=Kind.READ,
                key=key,
                value="",
                index=index,
                revision=found.mod_revision if found else 0,
                read=found.value if found else None,
            )
        operations.append(base)
    replicas = [Replica(node, 1, index, "d", dict(store)) for node in ("a", "b", "c")]
    return sorted(operations, key=lambda op: op.returned_s), replicas


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 60))
def test_an_honest_run_is_believed(seed: int, count: int) -> None:
    verdict = judge(*honest_run(seed, count))
    assert verdict.holds, [rule for rule in verdict.rules if rule.broken]


def acknowledged_puts(operations: list[Operation]) -> list[Operation]:
    return [op for op in operations if op.kind is Kind.PUT and op.is_write]


@settings(deadline=None)
@given(st.integers(0, 10_000), st.data())
def test_a_write_missing_on_one_replica_is_lost_whichever_it_is(
    seed: int, data: st.DataObject
) -> None:
    operations, replicas = honest_run(seed)
    victim = data.draw(st.sampled_from(acknowledged_puts(operations)))
    replica = data.draw(st.sampled_from(replicas))
    del replica.records[victim.key]
    verdict = judge(operations, replicas)
    assert verdict.broken(promises.LOST) == 1
    assert not verdict.holds
    (rule,) = [rule for rule in verdict.rules if rule.name == promises.LOST]
    assert victim.key in rule.examples[0]
    assert replica.node in rule.examples[0]


@settings(deadline=None)
@given(st.integers(0, 10_000), st.data())
def test_two_writes_that_changed_places_in_the_log_are_noticed(
    seed: int, data: st.DataObject
) -> None:
    operations, replicas = honest_run(seed)
    puts = acknowledged_puts(operations)
    pairs = [(a, b) for a in puts for b in puts if a.returned_s < b.called_s]
    if not pairs:
        return
    first, second = data.draw(st.sampled_from(pairs))
    swapped = {
        first.key: replace(first, revision=second.revision),
        second.key: replace(second, revision=first.revision),
    }
    operations = [swapped.get(op.key, op) if op.is_write else op for op in operations]
    for replica in replicas:
        for op in swapped.values():
            replica.records[op.key] = Stored(op.value, op.revision, op.revision, 1)
    assert judge(operations, replicas).broken(promises.REORDERED)


LIES = {
    "another value": (promises.CHANGED, lambda s: replace(s, value="forged")),
    "another place": (promises.CHANGED, lambda s: replace(s, create_revision=4, mod_revision=4)),
    "twice applied": (promises.DUPLICATED, lambda s: replace(s, version=2)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_record_that_is_not_what_was_acknowledged_breaks_a_promise(lie: str) -> None:
    rule, forge = LIES[lie]
    operations, replicas = honest_run(7)
    key = acknowledged_puts(operations)[0].key
    for replica in replicas:
        replica.records[key] = forge(replica.records[key])
    assert judge(operations, replicas).broken(rule) == 3


def test_a_refused_write_that_stands_nevertheless_is_noticed() -> None:
    operations, replicas = honest_run(7)
    refused = next(op for op in operations if op.outcome is Outcome.FAIL)
    for replica in replicas:
        replica.records[refused.key] = Stored(refused.value, 9, 9, 1)
    assert judge(operations, replicas).broken(promises.INVENTED) == 3


def test_a_write_of_unknown_outcome_may_stand_or_not_but_alike_everywhere() -> None:
    operations, replicas = honest_run(7)
    unknown = replace(acknowledged_puts(operations)[0], outcome=Outcome.UNKNOWN)
    operations = [unknown if op.key == unknown.key and op.is_write else op for op in operations]
    operations = [op for op in operations if op.kind is not Kind.READ]
    assert judge(operations, replicas).holds
    for replica in replicas:
        del replica.records[unknown.key]
    assert judge(operations, replicas).holds
    replicas[0].records[unknown.key] = Stored(unknown.value, 9, 9, 1)
    assert judge(operations, replicas).broken(promises.IDENTICAL)


@pytest.mark.parametrize("change", [-1, +1])
def test_a_counter_that_lost_or_doubled_an_increment_is_noticed(change: int) -> None:
    operations, replicas = honest_run(7)
    for replica in replicas:
        old = replica.records["counter/0"]
        replica.records["counter/0"] = replace(old, value=str(int(old.value) + change))
    assert judge(operations, replicas).broken(promises.COUNTERS) == 3


def test_an_unknown_increment_leaves_room_for_one() -> None:
    operations, replicas = honest_run(7)
    last = max((op for op in operations if op.swapped), key=lambda op: op.revision)
    operations = [
        replace(op, outcome=Outcome.UNKNOWN, swapped=False) if op is last else op
        for op in operations
        if op.kind is not Kind.READ
    ]
    assert judge(operations, replicas).holds


def read(called_s: float, **facts: object) -> Operation:
    values: dict[str, object] = {
        "site": "s",
        "lane": "reader",
        "kind": Kind.READ,
        "key": "counter/0",
        "called_s": called_s,
        "returned_s": called_s + 0.1,
        "outcome": Outcome.OK,
        "index": 1_000,
    }
    return Operation(**(values | facts))  # type: ignore[arg-type]


def test_a_read_that_misses_what_was_acknowledged_before_it_is_stale_in_three_ways() -> None:
    operations, replicas = honest_run(7)
    total = replicas[0].records["counter/0"].value
    put = acknowledged_puts(operations)[0]
    honest = [
        read(99.0, read=total),
        read(99.0, key=put.key, revision=put.revision, read=put.value),
    ]
    assert not judge(operations + honest, replicas).broken(promises.STALE)
    for stale in (
        read(99.0, read=total, index=6),
        read(99.0, read=str(int(total) - 1)),
        read(99.0, key=put.key, revision=0, read=None),
    ):
        assert judge([*operations, stale], replicas).broken(promises.STALE) == 1


def test_replicas_that_differ_in_anything_are_not_identical() -> None:
    for change in ({"applied": 7}, {"digest": "e"}, {"records": {}}):
        operations, replicas = honest_run(7)
        replicas[2] = replace(replicas[2], **change)  # type: ignore[arg-type]
        assert judge(operations, replicas).broken(promises.IDENTICAL)


def test_silence_is_the_longest_gap_between_acknowledgements_edges_included() -> None:
    base = acknowledged_puts(honest_run(7)[0])[0]
    ops = [replace(base, returned_s=at, site=site) for at, site in ((1, "x"), (2, "y"), (5, "x"))]
    assert longest_silence_s(ops, 0, 6) == 3
    assert longest_silence_s(ops, 0, 6, site="y") == 4
    assert longest_silence_s(ops, 5.5, 6) == 0.5
    assert longest_silence_s([], 0, 6) == 6

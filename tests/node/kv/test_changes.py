"""What changed since: byte for byte the same state, or a clear refusal."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.node.kv import (
    CompareAndSet,
    Delete,
    DeletePrefix,
    KeyValueMachine,
    LeaseExpire,
    LeaseGrant,
    Put,
    encode_command,
)
from mcpcore.node.kv import gone as gone_module
from mcpcore.node.kv.gone import Gone
from mcpcore.node.machine import ReplicatedState
from mcpcore.raft.sessions import register_session, session_command
from mcpcore.raft.types import Entry, EntryKind

keys = st.sampled_from([b"a", b"ab", b"abc", b"b", b"ba", b"c"])
leases = st.integers(0, 12)
commands = st.one_of(
    st.builds(Put, keys, st.binary(max_size=8), leases),
    st.builds(Delete, keys),
    st.builds(DeletePrefix, st.sampled_from([b"a", b"b", b""])),
    st.builds(CompareAndSet, keys, st.none(), st.binary(max_size=4), leases),
    st.builds(LeaseGrant, st.integers(1, 1000)),
    st.builds(lambda lease: LeaseExpire((lease,)), leases),
)


def apply(machine: KeyValueMachine, history, first: int) -> None:
    for index, command in enumerate(history, first):
        machine.apply(index, encode_command(command))


def copy_of(machine: KeyValueMachine) -> KeyValueMachine:
    copied = KeyValueMachine()
    copied.restore(machine.snapshot())
    return copied


@settings(deadline=None, max_examples=80)
@given(st.lists(commands, max_size=20), st.lists(commands, max_size=20), st.integers(1, 9))
def test_a_member_that_applies_the_changes_is_the_same_byte_for_byte(before, after, cut) -> None:
    machine = KeyValueMachine()
    apply(machine, before, 1)
    since = len(before)
    away = copy_of(machine)
    apply(machine, after, since + 1)
    changes = machine.changes_since(since)
    assert changes is not None
    data = b"".join(changes)
    away.apply_changes(data[at : at + cut] for at in range(0, len(data), cut))
    assert b"".join(away.snapshot()) == b"".join(machine.snapshot())
    assert away.digest() == machine.digest()
    away.check()
    machine.check()
    later = [Put(b"z", b"1"), DeletePrefix(b"a"), LeaseExpire((1, 2, 3))]
    apply(machine, later, 100)
    apply(away, later, 100)
    assert away.digest() == machine.digest(), "and behaves alike from then on"
    away.check()


@settings(deadline=None, max_examples=60)
@given(st.lists(commands, min_size=1, max_size=20), st.data())
def test_damaged_changes_are_refused_or_lead_to_the_very_state(history, data) -> None:
    machine = KeyValueMachine()
    apply(machine, history, 1)
    changes = machine.changes_since(0)
    assert changes is not None
    raw = bytearray(b"".join(changes))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.sampled_from([len(raw), len(raw) - 1]))
    away = KeyValueMachine()
    try:
        away.apply_changes([bytes(raw[:cut])])
    except InvalidInput:
        return
    assert away.digest() == machine.digest()


def test_changes_for_another_state_are_refused() -> None:
    machine, other = KeyValueMachine(), KeyValueMachine()
    apply(machine, [Put(b"a", b"1"), Put(b"b", b"2")], 1)
    apply(other, [Put(b"a", b"X")], 1)
    with pytest.raises(InvalidInput, match="digest"):
        other.apply_changes(machine.changes_since(1) or ())
    with pytest.raises(InvalidInput, match="do not follow"):
        copy_of(machine).apply_changes(machine.changes_since(1) or ())


def test_deletions_are_remembered_up_to_a_bound_and_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gone_module, "ENTRIES_MAX", 3)
    gone = Gone()
    for index in range(1, 6):
        gone.add(index, b"%d" % index)
    gone.check()
    assert gone.since(1) is None
    assert gone.since(2) == ([b"5", b"4", b"3"], [])
    assert gone.since(5) == ([], [])


def test_a_restored_machine_knows_no_deletions_before_its_snapshot() -> None:
    machine = KeyValueMachine()
    apply(machine, [Put(b"a", b"1"), Put(b"b", b"1"), Delete(b"a")], 1)
    restored = copy_of(machine)
    assert restored.changes_since(2) is None
    assert restored.changes_since(3) is not None


def test_the_changes_are_a_view_of_the_moment_of_the_call() -> None:
    machine = KeyValueMachine()
    apply(machine, [Put(b"a", b"1")], 1)
    away = copy_of(machine)
    apply(machine, [Put(b"b", b"2")], 2)
    digest, changes = machine.digest(), machine.changes_since(1)
    apply(machine, [Delete(b"b"), Put(b"c", b"3")], 3)
    away.apply_changes(changes or ())
    assert away.digest() == digest


def test_sessions_travel_with_the_changes() -> None:
    ours, away = ReplicatedState(KeyValueMachine()), ReplicatedState(KeyValueMachine())
    register = Entry(1, 1, EntryKind.SESSION, register_session())
    put = encode_command(Put(b"a", b"1"))
    for state in (ours, away):
        state.apply(register)
    once = Entry(1, 2, EntryKind.SESSION, session_command(1, 0, 0, put))
    answer = ours.apply(once)
    away.apply_changes(ours.changes_since(1) or ())
    assert away.digest() == ours.digest()
    again = Entry(1, 3, EntryKind.SESSION, session_command(1, 0, 0, put))
    assert away.apply(again) == ours.apply(again) == answer, "applied once, answered twice"


def test_a_machine_that_knows_no_changes_gives_none_and_takes_none() -> None:
    class Counter:
        def apply(self, index: int, command: bytes) -> bytes:
            return b""

    state = ReplicatedState(Counter())  # type: ignore[arg-type]
    assert state.changes_since(1) is None
    with pytest.raises(InvalidInput, match="only whole states"):
        state.apply_changes(ReplicatedState(KeyValueMachine()).changes_since(0) or ())
    with pytest.raises(InvalidInput, match="not a changes"):
        state.apply_changes(ReplicatedState(KeyValueMachine()).snapshot())


def test_watchers_and_leases_follow_a_state_that_was_adopted() -> None:
    machine, newer = KeyValueMachine(), KeyValueMachine()
    history = [LeaseGrant(500), Put(b"a", b"1", 1), Put(b"b", b"2")]
    apply(machine, history[:2], 1)
    apply(newer, history, 1)
    machine.leases.lead(0)
    woken: list[bool] = []
    behind = machine.watch.subscribe(b"b", wake=lambda: woken.append(True))
    current = machine.watch.subscribe(b"z", after_revision=3)
    machine.adopt(newer)
    assert machine.digest() == newer.digest()
    assert woken, "what it missed is not kept here: it must ask again"
    assert getattr(behind, "ended", None) is not None
    assert getattr(current, "ended", None) is None, "a watcher that missed nothing goes on"
    assert machine.leases.remaining_ms(1, 0) == 500
    machine.check()

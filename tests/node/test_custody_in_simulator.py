"""Quarantined commands proposed again, by an administrator's client, over the wire.

The real node and the real client on simulated hosts. Nothing applies twice, whatever the client of
the command did meanwhile.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput, NotPermitted, StorageFailed, UnknownGroup
from mcpcore.node.client import custody
from mcpcore.node.client.client import Client
from mcpcore.node.kv.commands import Put, encode_command
from mcpcore.node.transport.identity import Role
from mcpcore.raft.quarantined import Fate
from mcpcore.raft.sessions import SessionAnswer, SessionStatus, session_command
from mcpcore.raft.types import EntryKind
from mcpcore.sim import World
from tests.node.simulated_cluster import PLAIN
from tests.node.test_quarantine_in_simulator import COMMANDS, OldLeader


class Operator(OldLeader):
    """An old leader that has come back, and somebody who looks after it."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.goes_on_alone()
        world.heal()
        self.settles()
        world.host("operator", None)

    def run(self, work, *arguments, role: Role = Role.ADMIN, **more):
        addresses = self.cluster.addresses()

        async def ask():
            client = Client(
                list(addresses.values()),
                cluster="sim",
                security=PLAIN,
                name="operator",
                role=role,
                rng=random.Random(1),
            )
            async with client:
                return await work(client, "main", *arguments, **more)

        return self.world.call("operator", ask(), within_s=60)

    def address(self) -> str:
        return str(self.cluster.addresses()[self.name])

    def repropose(self, number: int, **more):
        return self.run(custody.repropose, self.address(), number, by="eva", **more)

    def retry(self, number: int) -> SessionAnswer:
        """The client of a command tries again by itself."""
        command = encode_command(Put(b"old/%d" % number, b"v"))
        data = session_command(self.session, number, 0, command)

        async def again(client: Client, group: str):
            return await client.propose_again(data, EntryKind.SESSION, group=group)

        return SessionAnswer.decode(self.run(again, role=Role.CLIENT).result)


@pytest.fixture
def operator() -> Iterator[Operator]:
    with World(seed=11) as world:
        yield Operator(world)


def test_what_is_in_quarantine_is_listed_with_its_prospect(operator: Operator) -> None:
    accounts = operator.run(custody.quarantines)
    entries = accounts.nodes[operator.name]["entries"]
    assert len(entries) == COMMANDS
    assert {entry["prospect"] for entry in entries} == {"would apply"}
    others = [node for node in accounts.nodes if node != operator.name]
    assert len(others) == 2
    assert not any(accounts.nodes[node]["entries"] for node in others)


def test_a_command_that_is_proposed_again_applies_and_that_is_on_record(operator: Operator) -> None:
    decided = operator.repropose(1)
    assert decided["fate"] == Fate.REPROPOSED
    assert decided["note"].startswith("applied at index")
    with pytest.raises(InvalidInput, match="reproposed by eva"):
        operator.repropose(1)
    answer = operator.retry(0)
    assert answer.status is SessionStatus.APPLIED
    assert f"index {answer.position.index}," in decided["note"], "the client gets that answer"


def test_a_command_that_the_client_retried_itself_is_answered_with_the_first_result(
    operator: Operator,
) -> None:
    answer = operator.retry(0)
    shown = operator.run(custody.show, operator.address(), 1)
    assert "was applied" in shown["prospect"]
    decided = operator.repropose(1)
    assert decided["note"].startswith(f"was applied before, at index {answer.position.index}")


def test_a_command_that_was_thrown_away_stays_so(operator: Operator) -> None:
    operator.run(custody.discard, operator.address(), 2, by="eva", note="asked the customer")
    with pytest.raises(InvalidInput, match="discarded by eva"):
        operator.repropose(2)
    operator.host.crash()
    operator.host.restart()
    operator.settles()
    assert operator.group().quarantine.show(2).note == "asked the customer"


def test_only_an_administrator_looks_and_decides(operator: Operator) -> None:
    with pytest.raises(NotPermitted):
        operator.run(custody.quarantines, role=Role.CLIENT)
    with pytest.raises(NotPermitted):
        operator.run(custody.reunions, role=Role.CLIENT)


def test_what_makes_no_sense_is_refused_in_words(operator: Operator) -> None:
    with pytest.raises(InvalidInput, match="no entry 99"):
        operator.run(custody.show, operator.address(), 99)
    with pytest.raises(InvalidInput, match="none of the nodes"):
        operator.run(custody.show, "10.9.9.9:1", 1)
    with pytest.raises(InvalidInput, match="no reunion waits"):
        operator.run(custody.reunite, operator.address(), "main/x/1.2.3", by="eva")

    async def elsewhere(client: Client, group: str):
        return await custody.quarantines(client, "nowhere")

    with pytest.raises(UnknownGroup):
        operator.run(elsewhere)


@settings(
    deadline=None,
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=6), st.integers(0, 99))
def test_nothing_applies_twice_whoever_proposes_again_and_in_whatever_order(steps, seed) -> None:
    """A law of the whole: operator and client propose the same commands, again and again."""
    with World(seed=seed) as world:
        operator = Operator(world)
        applied: dict[int, set[tuple[int, int]]] = {}
        done = set()
        for by_operator, number in steps:
            if by_operator and number not in done:
                operator.repropose(number + 1)
                done.add(number)
            answer = operator.retry(number)
            if answer.status is SessionStatus.APPLIED:
                applied.setdefault(number, set()).add(tuple(answer.position))
        assert all(len(positions) == 1 for positions in applied.values()), "one copy took effect"
        operator.settles()
        for name in operator.cluster.names:
            group = operator.cluster.nodes[name].group("main")
            for number in range(4):
                assert written(group, number) == (number in applied), (name, number)


def written(group, number: int) -> int:
    """How often a key was written, as one node has it."""
    record = group.state.machine._store.get(b"old/%d" % number)
    return record.version if record is not None else 0


def test_a_quarantine_that_the_disk_does_not_give_is_refused_in_words(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(operator.group().quarantine, "_open", refuse)
    with pytest.raises(StorageFailed, match="input/output error"):
        operator.run(custody.show, operator.address(), 1)

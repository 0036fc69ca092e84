"""Policies that several clouds edit at once; the group orders what gives.

This module exists to put the promise of policies under faults: a merge never allows what no author
allowed, however late a cloud hears of the others and of the log. Every lane is a cloud with a
replica. The log is kept in keys of one group, in the order in which they came into being. The judge
is ``mcpcore.check.policies``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import product
from typing import Final

from mcpcore.check import LogPosition
from mcpcore.check.policies import FORKED
from mcpcore.clock import Reading, Timestamp
from mcpcore.errors import InvalidInput
from mcpcore.experiment.workloads.store import Answer, Store
from mcpcore.experiment.workloads.work import Ask, Failed, Lane
from mcpcore.node.kv.commands import Compare, Put
from mcpcore.policy import (
    AccessRule,
    Add,
    Author,
    Effect,
    Enrol,
    Mode,
    Names,
    PolicyLog,
    PolicyStore,
    Request,
    Statement,
    own,
)

_TENANTS: Final = ("shop", "bank")
_ROLE: Final = "/role/operator"
_LOG: Final = "policy/"
_EDITS_MAX: Final = 150
"""More would say nothing new: the view of a replica is worked out anew after each."""
_READS_MAX: Final = 20

_QUESTIONS: Final = [
    Request(f"{tenant}/user/{who}", action, f"{owner}/service/{what}")
    for tenant, who, action, owner, what in product(
        _TENANTS, ("ann", "bob"), ("read", "write"), _TENANTS, ("web", "ledger")
    )
]


def _statements() -> list[Statement]:
    found = []
    for tenant, effect in product(_TENANTS, (Effect.PERMIT, Effect.FORBID)):
        for who, where in product(
            (f"{tenant}/user/*", f"{tenant}/user/ann", f"{tenant}{_ROLE}", "*"),
            (f"{tenant}/service/*", f"{tenant}/service/ledger", "*"),
        ):
            rule = AccessRule(Names.of(who), Names.of("*"), Names.of(where))
            found.append(Statement(effect, rule, tenant))
    return found


_STATEMENTS: Final = _statements()


class PolicyEdits:
    """Edit, hear of each other, follow the log. Judge: nothing is allowed that nobody allowed.

    Args:
        keys: of no use here.
        mode: when what gives takes effect; ``OPTIMISTIC`` breaks the promise, and the judge must
            notice.
    """

    judge = "policies"
    writes = frozenset(("order",))

    def __init__(self, keys: int, *, mode: Mode = Mode.GUARDED) -> None:
        self._mode = mode
        self._replicas: dict[str, PolicyStore] = {}
        self._edits = 0

    async def prepare(self, stores: Sequence[Store]) -> None:
        """Every tenant owns its namespace."""
        for tenant in _TENANTS:
            await _order(stores[0], own(tenant, tenant))

    def next(self, lane: Lane) -> Ask:
        """Follow the log first; then edit, order, follow and meet, about as often each."""
        replica = self._replicas.setdefault(
            lane.name, PolicyStore(f"{lane.name}/1", mode=self._mode)
        )
        draw = lane.rng.random()
        others = [other for other in self._replicas.values() if other is not replica]
        if not replica.prefix.epoch or draw < 0.2:
            return self._follow(lane.stores[0], replica)
        if draw < 0.5 and self._edits < _EDITS_MAX:
            self._edits += 1
            return self._edit(lane, replica)
        pending = replica.to_order()
        if draw < 0.75 and pending:
            return self._hand_in(lane, pending)
        if others:
            return self._join(lane, replica, lane.rng.choice(others))
        return self._follow(lane.stores[0], replica)

    def last(self, lane: Lane) -> Iterable[Ask]:
        """Bring everything to everybody, and ask each replica what it allows."""
        replicas = list(self._replicas.values())
        for replica in replicas[1:]:
            yield self._join(lane, replicas[0], replica)
        if replicas and (pending := replicas[0].to_order()):
            yield self._hand_in(lane, pending)
        followed: list[int] = []
        for _ in range(_READS_MAX if replicas else 0):
            yield self._follow(lane.stores[0], replicas[0], followed.append)
            if followed:
                break
        for replica in replicas[1:]:
            yield self._join(lane, replica, replicas[0])
        for replica in replicas if followed else ():
            yield self._settled(lane, replica)

    def _edit(self, lane: Lane, replica: PolicyStore) -> Ask:
        before = _allowed(replica)
        now = Reading(Timestamp.of(max(1, lane.now_ns())), 5_000_000)

        async def edit() -> Answer:
            _edit_anything(lane, replica, now)
            return Answer(_allowed(replica), _nowhere(lane))

        # In force at once is only what takes away, so no edit allows more by itself.
        return Ask("take", before, None, edit)

    def _hand_in(self, lane: Lane, commands: Sequence[bytes]) -> Ask:
        chosen = commands[: lane.rng.randint(1, len(commands))]

        async def order() -> Answer:
            for command in chosen:
                position = await _order(lane.stores[0], command)
            return Answer([_name(command) for command in chosen], position)

        return Ask("order", None, None, order)

    def _follow(
        self, store: Store, replica: PolicyStore, done: Callable[[int], None] = lambda _: None
    ) -> Ask:
        async def follow() -> Answer:
            records, position = await store.scan(_LOG)
            log = PolicyLog()
            for record in sorted(records, key=lambda record: record.create_revision):
                log.apply(record.create_revision, record.value)
            try:
                replica.follow(log.prefix)
            except InvalidInput:
                raise Failed(FORKED) from None
            done(replica.prefix.epoch)
            return Answer(_allowed(replica), position)

        return Ask("follow", None, None, follow)

    def _join(self, lane: Lane, replica: PolicyStore, other: PolicyStore) -> Ask:
        before = {"ours": _allowed(replica), "theirs": _allowed(other)}

        async def join() -> Answer:
            try:
                replica.join(other)
            except InvalidInput:
                raise Failed(FORKED) from None
            return Answer(_allowed(replica), _nowhere(lane))

        return Ask("join", before, None, join)

    def _settled(self, lane: Lane, replica: PolicyStore) -> Ask:
        async def settled() -> Answer:
            ordered = [_name(entry.command) for entry in replica.prefix.entries]
            return Answer({"allowed": _allowed(replica), "ordered": ordered}, _nowhere(lane))

        return Ask("settled", replica.replica, None, settled)


def _edit_anything(lane: Lane, replica: PolicyStore, now: Reading) -> None:
    known = [
        edit
        for edit in replica.view.sound
        if isinstance(edit.body, Add | Enrol) and edit.tenant in _TENANTS
    ]
    if known and lane.rng.random() < 0.4:
        edit = lane.rng.choice(known)
        body, author = edit.body, Author(edit.tenant)
        if isinstance(body, Add):
            replica.drop(author, body.statement, now)
        elif isinstance(body, Enrol):
            replica.expel(author, body.member, body.role, now)
    elif lane.rng.random() < 0.2:
        tenant = lane.rng.choice(_TENANTS)
        member = f"{tenant}/user/{lane.rng.choice(('ann', 'bob'))}"
        replica.enrol(Author(tenant), member, f"{tenant}{_ROLE}", now)
    else:
        statement = lane.rng.choice(_STATEMENTS)
        replica.add(Author(statement.author), statement, now)


async def _order(store: Store, command: bytes) -> LogPosition:
    """Put a command into the log, once: again, it is found there."""
    key = f"{_LOG}{_name(command)}".encode()
    _, position = await store.txn([Compare.unchanged(key, 0)], [Put(key, command)])
    return position


def _name(command: bytes) -> str:
    return blake2b(command, digest_size=8).hexdigest()


def _allowed(replica: PolicyStore) -> list[int]:
    """The numbers of the questions that a replica answers with yes."""
    return [
        number for number, question in enumerate(_QUESTIONS) if replica.decide(question).allowed
    ]


def _nowhere(lane: Lane) -> LogPosition:
    """Of what was done on the replica alone."""
    return LogPosition(lane.stores[0].group, 0, 0)

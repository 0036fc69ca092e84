"""A small world for whole histories: three clouds, two tenants, and every request that it knows.

Small enough to ask everything, so that "allows more" can be compared as sets.
"""

from __future__ import annotations

from itertools import product
from random import Random

from mcpcore.clock import Reading, Timestamp
from mcpcore.policy import (
    AccessRule,
    Add,
    Author,
    Clause,
    Connection,
    Direction,
    Effect,
    Endpoint,
    Enrol,
    Mode,
    Names,
    NetworkRule,
    Not,
    Peer,
    PolicyLog,
    PolicyStore,
    Request,
    Selector,
    Statement,
    own,
)

TENANTS = ("a", "b")
PEOPLE = ("a/ann", "a/art", "b/bob")
ROLES = ("a/ops", "a/all", "b/ops")
RESOURCES = ("a/x", "a/y", "b/x")
ACTIONS = ("read", "write")
PODS = [Endpoint(namespace, name, {"app": name}) for namespace in TENANTS for name in ("web", "db")]
QUESTIONS: list[Request | Connection] = [
    Request(who, action, what, {"mfa": mfa} if mfa else {})
    for who, action, what, mfa in product(PEOPLE, ACTIONS, RESOURCES, (True, None))
] + [Connection(a, b, 80) for a, b in product(PODS, PODS) if a != b]


def at(ms: int) -> Reading:
    return Reading(Timestamp.of(ms * 1_000_000), 5_000_000)


def access(
    effect: Effect, author: str, who: str, what: str, where: str, **more: object
) -> Statement:
    rule = AccessRule(Names.of(who), Names.of(what), Names.of(where), **more)  # type: ignore[arg-type]
    return Statement(effect, rule, author)


def statements() -> list[Statement]:
    """Every sort: plain, by role, across tenants, out of scope, delegated, conditional, network."""
    found: list[Statement] = []
    for author, effect in product(TENANTS, (Effect.PERMIT, Effect.FORBID)):
        for who in (f"{author}/*", "*", "a/ops", "b/bob", f"{author}/ann"):
            for where in ("a/x", "a/*", "b/*", "*"):
                found.append(access(effect, author, who, "*", where))
    mfa = Clause("is", "mfa", (True,))
    for effect in (Effect.PERMIT, Effect.FORBID):
        found.append(access(effect, "a", "*", "write", "a/*", condition=mfa))
        found.append(access(effect, "a", "*", "write", "a/*", condition=Not(mfa)))
        but = AccessRule(Names(("*",), ("a/ops",)), Names.of("read"), Names.of("a/*"))
        found.append(Statement(effect, but, "a"))
    found.append(access(Effect.DELEGATE, "a", "b", "*", "a/*"))
    web = Selector.of({"app": "web"})
    for author, effect in product(TENANTS, (Effect.PERMIT, Effect.FORBID, Effect.ISOLATE)):
        peers = () if effect is Effect.ISOLATE else (Peer(pods=web, namespaces=Selector()),)
        rule = NetworkRule(Direction.INGRESS, author, Selector(), peers)
        found.append(Statement(effect, rule, author))
    return found


STATEMENTS = statements()
EDGES = [(m, r) for m, r in product((*PEOPLE, *ROLES), ROLES) if m != r]


class World:
    """Clouds that edit, and now and then hear of each other and of the log."""

    def __init__(self, mode: Mode, seed: int, clouds: int = 3) -> None:
        self.dice = Random(seed)
        self.log = PolicyLog()
        self.index = 0
        self.now_ms = 0
        self.order(own("a", "a"))
        self.order(own("b", "b"))
        self.stores = [
            PolicyStore(f"cloud{i}/1", prefix=self.log.prefix, mode=mode) for i in range(clouds)
        ]

    def order(self, command: bytes) -> None:
        self.index += 1
        self.log.apply(self.index, command)

    def edit(self) -> None:
        dice, store = self.dice, self.dice.choice(self.stores)
        self.now_ms += dice.randrange(3)
        now = at(self.now_ms)
        before = len(store.state.entries)
        known = [e for e in store.view.sound if isinstance(e.body, Add | Enrol)]
        if known and dice.random() < 0.4:
            edit = dice.choice(known)
            body, author = edit.body, Author(edit.tenant)
            if isinstance(body, Add):
                store.drop(author, body.statement, now)
            else:
                assert isinstance(body, Enrol)
                store.expel(author, body.member, body.role, now)
        elif dice.random() < 0.3:
            member, role = dice.choice(EDGES)
            store.enrol(Author(dice.choice(TENANTS)), member, role, now)
        else:
            statement = dice.choice(STATEMENTS)
            store.add(Author(statement.author), statement, now)
        assert len(store.state.entries) == before + 1

    def ordering(self) -> None:
        """A cloud that reaches the log hands in what waits, and learns what was ordered."""
        store = self.dice.choice(self.stores)
        if self.dice.random() < 0.05:
            self.order(own(self.dice.choice(TENANTS), self.dice.choice(TENANTS)))
        for command in store.to_order():
            if self.dice.random() < 0.7:
                self.order(command)
        store.follow(self.log.prefix)

    def walk(self) -> None:
        if self.dice.random() < 0.3:
            self.ordering()
        else:
            self.edit()


def allowed(store: PolicyStore) -> set[int]:
    """The numbers of the questions that a replica answers with yes."""
    return {i for i, question in enumerate(QUESTIONS) if store.decide(question).allowed}

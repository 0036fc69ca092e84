"""A story to watch: three clouds, a cut, edits on both sides, the merge, conflicts and their end.

This module exists so that the same story can be shown, tested and told in the manual. It is pure:
the clouds are stores in memory, the cut is that they don't join, and time is a number. It must
never print.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mcpcore.clock import Reading, Timestamp
from mcpcore.policy.conflicts import Conflict
from mcpcore.policy.explain import Explanation, explain
from mcpcore.policy.log import PolicyLog, own
from mcpcore.policy.model import AccessRule, Effect, Request, Statement
from mcpcore.policy.patterns import Names
from mcpcore.policy.resolve import resolve
from mcpcore.policy.rules import Mode
from mcpcore.policy.store import Author, PolicyStore

CLOUDS = ("us-east-1", "hangzhou", "edge")
CUT_OFF = "edge"
_START_MS = 1_800_000_000_000

QUESTIONS = (
    Request("shop/user/ann", "deploy", "shop/service/web"),
    Request("shop/user/ann", "deploy", "shop/service/ledger"),
    Request("shop/user/cleo", "deploy", "shop/service/ledger"),
    Request("bank/user/bob", "read", "shop/service/web"),
)
CHOICES = {
    "edit-race": "keep:1",
    "multi-value": "keep:2",
    "cycle-cut": "drop",
    "inert-scope": "drop",
    "concurrent-loosening": "undo:1",
}


def _say(effect: Effect, author: str, who: str, what: str, where: str) -> Statement:
    rule = AccessRule(Names.of(who), Names.of(what), Names.of(where))
    return Statement(effect, rule, author)


DEPLOY = _say(Effect.PERMIT, "shop", "shop/role/deployer", "deploy", "shop/service/*")
FREEZE = _say(Effect.FORBID, "shop", "*", "*", "shop/service/ledger")
CLEO = _say(Effect.PERMIT, "shop", "shop/user/cleo", "deploy", "shop/service/ledger")
INCIDENT = _say(Effect.FORBID, "shop", "shop/user/ann", "deploy", "shop/service/web")
EVERYBODY = _say(Effect.PERMIT, "bank", "*", "read", "shop/service/*")


@dataclass(frozen=True, slots=True)
class Scene:
    """A moment of the story.

    Args:
        title: what happens.
        lines: what is said about it.
        answers: for each question, what each cloud answers.
        conflicts: what is open where everybody is joined.
        explanation: why one of the answers is what it is.
    """

    title: str
    lines: tuple[str, ...] = ()
    answers: tuple[tuple[bool, ...], ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    explanation: Explanation | None = None


class Story:
    """Three clouds and a log.

    Args:
        mode: guarded, or optimistic to see what goes wrong without the log.
    """

    def __init__(self, mode: Mode = Mode.GUARDED) -> None:
        self.mode = mode
        self.log = PolicyLog()
        for tenant in ("shop", "bank"):
            self._ordered(own(tenant, tenant))
        self.clouds = {
            name: PolicyStore(f"{name}/1", prefix=self.log.prefix, mode=mode) for name in CLOUDS
        }
        self._now_ms = _START_MS
        self.gained = 0
        """Answers that the merge turned to yes although no cloud had said yes."""

    def _ordered(self, command: bytes) -> None:
        self.log.apply(self.log.prefix.epoch + 1, command)

    def _at(self) -> Reading:
        self._now_ms += 1000
        return Reading(Timestamp.of(self._now_ms * 1_000_000), 20_000_000)

    def _meet(self, *names: str) -> None:
        """These clouds reach each other, and the log."""
        for _ in range(2):
            for name in names:
                for other in names:
                    self.clouds[name].join(self.clouds[other])
                for command in self.clouds[name].to_order():
                    self._ordered(command)
            for name in names:
                self.clouds[name].follow(self.log.prefix)

    def answers(self) -> tuple[tuple[bool, ...], ...]:
        """What each cloud answers to each question."""
        stores = self.clouds.values()
        return tuple(tuple(s.decide(q).allowed for s in stores) for q in QUESTIONS)

    def scenes(self) -> Iterator[Scene]:
        """The story. Take the scenes in order, once."""
        yield self._beginning()
        yield self._edits()
        yield self._merge()
        yield self._order()
        yield self._decide()

    def _beginning(self) -> Scene:
        shop = Author("shop", document="web")
        east = self.clouds["us-east-1"]
        east.add(shop, DEPLOY, self._at(), "deploy")
        east.add(shop, FREEZE, self._at(), "freeze")
        east.enrol(shop, "shop/user/ann", "shop/role/deployer", self._at())
        self._meet(*CLOUDS)
        lines = (
            "Two tenants, shop and bank, own a namespace each. shop lets its deployers",
            "deploy, and forbids everybody to touch the ledger.",
        )
        return Scene("Three clouds agree", lines, self.answers())

    def _edits(self) -> Scene:
        shop, bank = Author("shop", document="web"), Author("bank", document="reports")
        east, hangzhou, edge = (self.clouds[name] for name in CLOUDS)
        east.drop(shop, FREEZE, self._at())
        hangzhou.note(shop, "contact", "on-call@shop", self._at())
        hangzhou.enrol(shop, "shop/role/deployer", "shop/role/operator", self._at())
        self._meet("us-east-1", "hangzhou")
        edge.add(shop, CLEO, self._at(), "cleo")
        edge.add(shop, INCIDENT, self._at(), "incident")
        edge.note(shop, "contact", "cleo@shop", self._at())
        edge.enrol(shop, "shop/role/operator", "shop/role/deployer", self._at())
        edge.add(bank, EVERYBODY, self._at(), "reach")
        lines = (
            "us-east-1  shop lifts its forbid over the ledger",
            "hangzhou   deployers become operators; contact is on-call@shop",
            "edge       cleo may deploy the ledger; ann may not deploy web (an incident);",
            "           operators become deployers; contact is cleo@shop;",
            "           bank permits everybody to read what is shop's",
        )
        return Scene("The edge is cut off, and both sides edit", lines, self.answers())

    def _merge(self) -> Scene:
        before = [any(row) for row in self.answers()]
        east, hangzhou, edge = (self.clouds[name] for name in CLOUDS)
        for store in (east, hangzhou, edge):
            for other in (east, hangzhou, edge):
                store.join(other)
        after = self.answers()
        self.gained = sum(row[0] and not said for row, said in zip(after, before, strict=True))
        lines = (
            "All edits are everywhere. What takes away counts at once: ann is stopped in",
            f"every cloud. {len(east.view.pending)} edits that give wait for the log.",
            f"Answers that turned to yes although no cloud had said yes: {self.gained}.",
        )
        return Scene("The cut heals, and the clouds merge", lines, after)

    def _order(self) -> Scene:
        self._meet(*CLOUDS)
        east = self.clouds["us-east-1"]
        lines = ("Now the permit for cleo counts, after the forbid that was lifted before it.",)
        told = explain(east.view, QUESTIONS[2])
        return Scene(
            "The log takes what waited, in one order", lines, self.answers(),
            tuple(east.conflicts), told,
        )  # fmt: skip

    def _decide(self) -> Scene:
        east = self.clouds["us-east-1"]
        lines = []
        while east.conflicts:
            conflict = east.conflicts[0]
            choice = CHOICES[conflict.kind]
            author = Author(conflict.tenants[0], document=conflict.edits[0].document)
            resolve(east, author, conflict, choice, self._at(), "settled in the demo")
            lines.append(f"{conflict.id} {conflict.kind:<13} {author.tenant} chooses {choice}")
        self._meet(*CLOUDS)
        left = sum(len(store.conflicts) for store in self.clouds.values())
        policies = {
            tuple(statement.id for statement in store.view.engine.statements)
            for store in self.clouds.values()
        }
        same = len(policies) == 1
        lines.append(f"open conflicts in all clouds: {left}; same policy everywhere: {same}")
        return Scene("People decide, in one cloud, for all", tuple(lines), self.answers())

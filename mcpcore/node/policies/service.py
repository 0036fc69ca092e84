"""One policy on a node: asked without waiting, edited without a quorum, ordered when there is one.

This module exists to join two roads. Edits travel as replicated data and need nobody's consent;
what gives has to be ordered by the policy's group. Whoever leads that group proposes every gift
that has reached it and waits, so a gift made anywhere takes the road of all edits to the leader,
and after a cut everything goes on by itself. It must never decide what an edit means.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgpack

from mcpcore.clock import NodeClock, Reading
from mcpcore.crdt import Causal
from mcpcore.crdt.anti_entropy import State
from mcpcore.errors import InvalidInput, NotPermitted, Rejected
from mcpcore.node.group import Applied, Group
from mcpcore.node.policies.machine import PolicyMachine
from mcpcore.node.replicated_data import ReplicatedData
from mcpcore.node.tracing import GROUP, Tracing
from mcpcore.policy import (
    Author,
    Conflict,
    Connection,
    Decision,
    Explanation,
    PolicyStore,
    Request,
    Statement,
    explain,
    resolve,
    stable_events,
    superseded,
)
from mcpcore.policy.apply import apply_document
from mcpcore.policy.documents import Document
from mcpcore.policy.edits import Edit
from mcpcore.policy.log import compact, loosen
from mcpcore.policy.resolve import find_open

logger = logging.getLogger("mcpcore.node.policies")

AGAIN_S: Final = 0.25
"""How long a gift that could not be proposed waits before the next attempt."""
UNDER_WAY_MAX: Final = 256
CHANGES_KEPT: Final = 1024
TIDY_S: Final = 30.0
TIDY_EDITS: Final = 64
"""How often the leader looks for edits to let go of, and how many new ones make it worth a look."""
UNSURE_NS: Final = 3_600_000_000_000
"""The uncertainty of an edit's time while no majority of the clocks agrees."""


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """What happened to a policy here since the last one.

    Args:
        edits: what was said, here or elsewhere; none if more came than is kept: look at all.
        epoch: how much of the log is known here.
        pending: how many gifts wait for the log.
        lost: whether edits are missing from this list.
    """

    edits: tuple[Edit, ...]
    epoch: int
    pending: int
    lost: bool = False


@dataclass(slots=True)
class _Listener:
    """Somebody who follows the changes."""

    edits: list[Edit] = field(default_factory=list)
    lost: bool = False
    over: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)


class PolicyService:
    """The policy of one group on this node. ``node.policy(group)`` has it.

    Args:
        group: the group that orders it.
        data: its edits.
        store: the replica made of both.
        clock: the node's.
        tracing: hears of decisions that are part of a traced call; None: nobody does.
    """

    def __init__(
        self,
        group: Group,
        data: ReplicatedData,
        store: PolicyStore,
        clock: NodeClock,
        tracing: Tracing | None = None,
    ) -> None:
        machine = group.state.machine
        assert isinstance(machine, PolicyMachine)
        self._group = group
        self._machine = machine
        self._data = data
        self._clock = clock
        self._tracing = tracing
        self._under_way: dict[bytes, asyncio.Future[Applied]] = {}
        self._listeners: list[_Listener] = []
        self._again: asyncio.TimerHandle | None = None
        self._due = False
        self._closed = False
        self.store = store
        """The replica. Ask it what you like; change it through this service alone."""
        self.refused: dict[bytes, str] = {}
        """Gifts that the log has refused, and why; they are not proposed again."""
        self._tidied_at = 0
        machine.grown = self._grown
        data.listeners.append(self._heard)
        group.listeners.append(lambda changed: self._wake())
        self._learn()
        self._wake()
        self._tidying = asyncio.get_running_loop().call_later(TIDY_S, self._tidy)

    def close(self) -> None:
        """Propose nothing more, and end all who follow the changes."""
        self._closed = True
        self._tidying.cancel()
        if self._again is not None:
            self._again.cancel()
        for listener in self._listeners:
            listener.over = True
            listener.news.set()

    @property
    def name(self) -> str:
        """The group's name."""
        return self._group.name

    # --- asking: never waits --------------------------------------------------------------------

    def decide(self, question: Request | Connection) -> Decision:
        """Allowed or not, as far as this node knows. Works in every cut."""
        decision = self.store.decide(question)
        if self._tracing is not None and self._tracing.recording():
            facts: dict[str, str | bool] = {
                GROUP: self.name,
                "mcpcore.policy.allowed": decision.allowed,
                "mcpcore.policy.reason": decision.reason.value,
                "mcpcore.policy.determining": ",".join(decision.determining),
            }
            self._tracing.event("policy decided", facts)
        return decision

    def explain(self, question: Request | Connection) -> Explanation:
        """Decide, and say why."""
        return explain(self.store.view, question)

    def conflicts(self) -> list[Conflict]:
        """What is left for people to decide."""
        return self.store.conflicts

    def pending(self) -> list[Edit]:
        """Gifts that wait for the log."""
        return self.store.pending()

    def status(self) -> dict[str, Any]:
        """In plain values."""
        raft = self._group.raft
        return {
            "group": self.name,
            "replica": self._data.replica,
            "edits": len(self.store.state.entries),
            "epoch": self.store.prefix.epoch,
            "pending": len(self.pending()),
            "refused": len(self.refused),
            "leader": raft.leader or "",
        }

    async def changes(self) -> AsyncGenerator[PolicyChange, None]:
        """Every change from now on, several at once if they come faster than they are taken.

        Ends when the node stops. Close the iterator when you have heard enough.
        """
        listener = _Listener()
        self._listeners.append(listener)
        try:
            while not self._closed:
                await listener.news.wait()
                listener.news.clear()
                if listener.over:
                    return
                edits, listener.edits = tuple(listener.edits), []
                lost, listener.lost = listener.lost, False
                yield PolicyChange(edits, self.store.prefix.epoch, len(self.pending()), lost)
        finally:
            self._listeners.remove(listener)

    # --- editing: never needs a quorum ----------------------------------------------------------

    def add(self, author: Author, statement: Statement, name: str = "") -> asyncio.Future[None]:
        """Add a statement. What takes is in force here at once; what gives waits for the log.

        Like all edits: the future is done when a crash of this node cannot take it back.

        Raises:
            InvalidInput: not this author's to say, or not proved to be.
            DataNotWritable: nothing was said.
        """
        return self.edit(author, lambda store, at: store.add(author, statement, at, name))

    def drop(self, author: Author, statement: Statement) -> asyncio.Future[None]:
        """Drop a statement, as far as it is seen here."""
        return self.edit(author, lambda store, at: store.drop(author, statement, at))

    def enrol(self, author: Author, member: str, role: str) -> asyncio.Future[None]:
        """Give a member a role."""
        return self.edit(author, lambda store, at: store.enrol(author, member, role, at))

    def expel(self, author: Author, member: str, role: str) -> asyncio.Future[None]:
        """Take a role from a member, as far as it is seen here."""
        return self.edit(author, lambda store, at: store.expel(author, member, role, at))

    def note(self, author: Author, key: str, value: str) -> asyncio.Future[None]:
        """Set a setting of a document."""
        return self.edit(author, lambda store, at: store.note(author, key, value, at))

    def apply(self, author: Author, document: Document) -> asyncio.Future[None]:
        """Make the edits by which the policy says what a document says."""
        return self.edit(author, lambda store, at: apply_document(store, document, at, author))

    def resolve(
        self, author: Author, conflict: str, choice: str, reason: str = ""
    ) -> asyncio.Future[None]:
        """Decide a conflict, named by the beginning of its id.

        Raises:
            InvalidInput: no such conflict or choice, or not this tenant's to make.
        """
        found = find_open(self.store, conflict)
        return self.edit(
            author, lambda store, at: resolve(store, author, found, choice, at, reason)
        )

    def edit(
        self, author: Author, make: Callable[[PolicyStore, Reading], Causal]
    ) -> asyncio.Future[None]:
        """Make any edits in one go: ``make`` is given the replica and the time.

        Raises:
            InvalidInput: what it raises, or the author's key is not one that the log names.
            DataNotWritable: nothing was said.
        """
        self._check_key(author)
        return self._change(lambda: make(self.store, self._now()))

    def draft(self, author: Author, make: Callable[[PolicyStore, Reading], Causal]) -> list[Edit]:
        """The edits that :meth:`edit` would make, unsigned and not made: for an author elsewhere
        who signs them, and hands them to :meth:`submit`.
        """
        scratch = self.store.copy(self._data.replica)
        before = scratch.state.context.copy()
        make(scratch, self._now())
        return sorted(
            (e for e in scratch.edits() if e.dot not in before), key=lambda edit: edit.dot
        )

    def submit(self, edits: Sequence[Edit], *, trusted: bool) -> asyncio.Future[None]:
        """Make edits that were drafted here, and perhaps signed elsewhere.

        Args:
            trusted: whether who asks may edit for tenants that have no key yet.

        Raises:
            Rejected: others were quicker; draft again.
            InvalidInput: they are not what was drafted, or not proved to be their tenant's.
        """
        for edit in edits:
            if not trusted and not self.store.prefix.keys(edit.tenant):
                raise NotPermitted(f"edit for {edit.tenant}, which has no key yet", "this client")
        return self._change(lambda: self.store.submit(edits))

    def _change(self, make: Callable[[], Causal]) -> asyncio.Future[None]:
        def mutate(replica: str) -> State:
            self.store.replica = replica
            return make()

        return self._data.change(mutate)

    def _check_key(self, author: Author) -> None:
        keys = self.store.prefix.keys(author.tenant)
        if keys and (author.key is None or author.key.public not in keys):
            raise InvalidInput(
                f"edits of {author.tenant} need a signature by one of its keys",
                where="author",
                remedy="Give the author the key that the log names (`mcpctl policy edit --sign`)",
            )

    def _now(self) -> Reading:
        reading = self._clock.reading()
        return Reading(self._clock.now(), UNSURE_NS) if reading is None else reading

    def compact(self, *, at_least: int = 1) -> int:
        """Have all replicas let go of edits that were overtaken and that every member knows.

        The leader does so by itself now and then. Returns how many edits are to go; they do so when
        the log has ordered it.

        Args:
            at_least: do nothing for fewer.

        Raises:
            Rejected: this node does not lead the group.
        """
        context = self.store.state.context
        stable = stable_events(context, self._data.peers, self._data.told)
        known = self.store.prefix.compacted
        gone = superseded(self.store.view, stable) if stable else known
        count = len(gone) - len(known)
        if count >= max(1, at_least):
            self._group.propose(compact(gone)).add_done_callback(_settled)
        return count

    def _tidy(self) -> None:
        self._tidying = asyncio.get_running_loop().call_later(TIDY_S, self._tidy)
        grown = len(self.store.state.entries) - self._tidied_at
        if not self._group.raft.is_leader or grown < TIDY_EDITS:
            return
        self._tidied_at = len(self.store.state.entries)
        try:
            count = self.compact(at_least=TIDY_EDITS)
        except Rejected as refusal:
            logger.info("policy %s: not compacted now: %s", self.name, refusal)
        else:
            self._tidied_at -= count

    # --- the log --------------------------------------------------------------------------------

    def order(self, command: bytes) -> asyncio.Future[Applied]:
        """Propose a command of the log (``own``, ``trust``) on its leader.

        Raises:
            Rejected: this node does not lead the group; a client finds the one that does.
        """
        return self._group.propose(command)

    def _grown(self) -> None:
        self._learn()
        self._announce(())
        self._wake()

    def _learn(self) -> None:
        """Take over what the group has ordered."""
        before, known = self.store.prefix, self._machine.prefix
        if self.store.sheds(known):
            self._data.shed(lambda: self.store.follow(known))
        else:
            self.store.follow(known)
        if self.store.prefix is not before:
            for data in [d for d in self.refused if self.store.prefix.has(d)]:
                del self.refused[data]

    def _heard(self, news: State) -> None:
        edits = self.store.read(news) if isinstance(news, Causal) else ()
        self._announce(edits)
        self._wake()

    def _announce(self, edits: Sequence[Edit]) -> None:
        for listener in self._listeners:
            if len(listener.edits) + len(edits) > CHANGES_KEPT:
                listener.edits, listener.lost = [], True
            else:
                listener.edits.extend(edits)
            listener.news.set()

    def _wake(self) -> None:
        """Look for gifts to propose, once in this turn of the loop."""
        if not self._due and not self._closed:
            self._due = True
            asyncio.get_running_loop().call_soon(self._carry)

    def _carry(self) -> None:
        """The leader proposes every gift that waits, and asks again for what did not get through.

        Ordering an edit twice is harmless, so nothing has to be remembered about earlier leaders.
        """
        self._due = False
        if self._closed or not self._group.raft.is_leader:
            return
        for edit in self.pending():
            data = edit.encode()
            if data in self._under_way or data in self.refused:
                continue
            if len(self._under_way) >= UNDER_WAY_MAX:
                return
            try:
                proposed = self._group.propose(loosen(edit))
            except Rejected as refusal:
                logger.info("policy %s: a gift waits: %s", self.name, refusal)
                self._try_again()
                return
            self._under_way[data] = proposed
            proposed.add_done_callback(partial(self._ordered, data))

    def _ordered(self, data: bytes, proposed: asyncio.Future[Applied]) -> None:
        del self._under_way[data]
        if proposed.cancelled() or proposed.exception() is not None:
            self._try_again()  # superseded, or unknown: the log will show
            return
        answer = msgpack.unpackb(proposed.result().result)
        if answer[0] == "refused":
            self.refused[data] = str(answer[1])
            logger.warning("policy %s: the log refuses a gift: %s", self.name, answer[1])
        self._wake()

    def _try_again(self) -> None:
        if self._again is None and not self._closed:
            self._again = asyncio.get_running_loop().call_later(AGAIN_S, self._ring)

    def _ring(self) -> None:
        self._again = None
        self._carry()


def _settled(proposed: asyncio.Future[Applied]) -> None:
    """A compaction that did not get through is tried again the next time."""
    if not proposed.cancelled() and proposed.exception() is not None:
        logger.info("not compacted now: %s", proposed.exception())

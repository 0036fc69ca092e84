"""One replica of a policy: edits in a set, a prefix of the log, and what they add up to.

This module exists so that editing, merging and asking are one object, while anti-entropy can carry
the set (``state``) and Raft the log without knowing of each other. Merging is a pure join and
refuses nothing. It must never open, wait, or read a clock: times are handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mcpcore.clock import Reading, Timestamp
from mcpcore.crdt import AWSet, Causal, CausalContext, Cells
from mcpcore.crdt.causal import PRESENT
from mcpcore.crdt.values import unpack
from mcpcore.errors import InvalidInput, Rejected
from mcpcore.policy.conflicts import Conflict, find_conflicts
from mcpcore.policy.edits import (
    Add,
    Body,
    Drop,
    Edit,
    Enrol,
    Expel,
    Note,
    Settle,
    decode,
    vector_of,
)
from mcpcore.policy.engine import judge
from mcpcore.policy.live import Live
from mcpcore.policy.log import loosen
from mcpcore.policy.model import Decision, Request, Statement
from mcpcore.policy.network import Connection
from mcpcore.policy.prefix import Prefix
from mcpcore.policy.roles import check_edge
from mcpcore.policy.rules import Mode
from mcpcore.policy.signing import TenantKey, is_signed_by
from mcpcore.policy.view import View


@dataclass(frozen=True, slots=True)
class Author:
    """In whose name edits are made.

    Args:
        tenant: the tenant.
        key: its private key; None leaves edits unsigned, which counts until the log names a key.
        document: where statements go.
    """

    tenant: str
    key: TenantKey | None = None
    document: str = "main"


class PolicyStore:
    """A replica.

    Args:
        replica: its id, as ``mcpcore.crdt.replica_id`` makes it; the name is the cloud's.
        state: the set of edits; share it with ``AntiEntropy``, which may join into it.
        prefix: what is known of the log.
        mode: when loosening takes effect. All replicas must agree on it.
    """

    def __init__(
        self,
        replica: str,
        state: Causal | None = None,
        *,
        prefix: Prefix | None = None,
        mode: Mode = Mode.GUARDED,
    ) -> None:
        self.replica = replica
        self.state = Causal() if state is None else state
        self.prefix = Prefix() if prefix is None else prefix
        self.mode = mode
        self._decoded: dict[bytes, Edit | str] = {}
        self._view: tuple[CausalContext, int, Prefix, View] | None = None
        self._live: Live | None = None
        self._live_of = CausalContext()
        self._live_count = 0
        self._shed = CausalContext()

    # --- editing --------------------------------------------------------------------------------

    def add(self, author: Author, statement: Statement, at: Reading, name: str = "") -> Causal:
        """Add a statement. Returns the delta to send.

        What takes is in force at once. What gives is pending until the log has ordered it.

        Raises:
            InvalidInput: a statement in another tenant's name.
        """
        return self._edit(author, Add(statement, name), at)

    def drop(self, author: Author, statement: Statement, at: Reading) -> Causal:
        """Drop a statement, as far as it is seen here. Returns the delta to send.

        Raises:
            InvalidInput: a statement that this tenant does not have here.
        """
        targets = tuple(edit.dot for edit in self.live.additions(statement, author.tenant))
        if not targets:
            raise InvalidInput(
                f"{author.tenant} has no such statement here", where=f"statement {statement.id}"
            )
        return self._edit(author, Drop(statement, targets), at)

    def enrol(self, author: Author, member: str, role: str, at: Reading) -> Causal:
        """Give a member a role. Returns the delta to send."""
        return self._edit(author, Enrol(*check_edge(member, role)), at)

    def expel(self, author: Author, member: str, role: str, at: Reading) -> Causal:
        """Take a role from a member, as far as it is seen here. Returns the delta to send."""
        targets = tuple(edit.dot for edit in self.live.enrolments((member, role)))
        return self._edit(author, Expel(*check_edge(member, role), targets), at)

    def note(self, author: Author, key: str, value: str, at: Reading) -> Causal:
        """Set a setting of a document over all values seen here. Returns the delta to send."""
        seen = self.live.notes((author.tenant, author.document, key))
        return self._edit(author, Note(key, value, tuple(edit.dot for edit in seen)), at)

    def settle(
        self, author: Author, conflict: Conflict, choice: str, at: Reading, reason: str = ""
    ) -> Causal:
        """Put on record how a conflict was decided. Returns the delta to send.

        This alone changes nothing but the list of conflicts; :func:`mcpcore.policy.resolve.resolve`
        makes the edits that the choice means, too.
        """
        return self._edit(author, Settle(conflict.id, choice, reason), at)

    def _edit(self, author: Author, body: Body, at: Reading | Timestamp) -> Causal:
        if isinstance(body, Add | Drop) and body.statement.author != author.tenant:
            raise InvalidInput(
                f"{author.tenant} cannot speak for {body.statement.author}", where="statement"
            )
        edit = Edit(
            dot=self.state.context.next_dot(self.replica),
            tenant=author.tenant,
            document=author.document,
            epoch=self.prefix.epoch,
            at=at if isinstance(at, Reading) else Reading(at, 0),
            seen=vector_of(self.state.context),
            body=body,
        )
        data = (edit if author.key is None else author.key.sign(edit)).encode()
        self._decoded[data] = decode(data)
        return AWSet(self.state).add(self.replica, data)

    def submit(self, edits: Sequence[Edit]) -> Causal:
        """Make edits that were drafted on a copy of this replica. Returns the delta to send.

        Raises:
            Rejected: the replica has gone on since; draft them anew.
            InvalidInput: they are not proved to be their tenant's.
        """
        replica, number = self.state.context.next_dot(self.replica)
        for place, edit in enumerate(edits):
            if edit.dot != (replica, number + place):
                raise Rejected("the policy was edited meanwhile on this node; do it once more")
            if edit.epoch > self.prefix.epoch:
                raise InvalidInput("an edit that knows more of the log than there is", where="edit")
            keys = self.prefix.keys(edit.tenant)
            if keys and not is_signed_by(edit, keys):
                raise InvalidInput(
                    f"edits of {edit.tenant} need a signature by one of its keys", where="edit"
                )
        delta = Causal()
        for edit in edits:
            delta.join(AWSet(self.state).add(self.replica, edit.encode()))
        return delta

    # --- merging --------------------------------------------------------------------------------

    def join(self, other: Causal | PolicyStore) -> None:
        """Take in a delta, a state, or another replica with what it knows of the log."""
        if isinstance(other, PolicyStore):
            self.state.join(other.state)
            self.follow(other.prefix)
        else:
            self.state.join(other)

    def follow(self, prefix: Prefix) -> None:
        """Take in what is known of the log elsewhere.

        Raises:
            InvalidInput: it is another log.
        """
        self.prefix = self.prefix.join(prefix)
        gone = self.prefix.compacted
        if gone != self._shed:
            self.state.let_go(gone)
            self._shed = gone.copy()

    def sheds(self, prefix: Prefix) -> bool:
        """Whether :meth:`follow` would take edits out of the set: those that the log lets go of."""
        gone = prefix.compacted
        return gone != self._shed and any(dot in gone for dot in self.state.entries)

    def copy(self, replica: str) -> PolicyStore:
        """Another replica that has all that this one has."""
        return PolicyStore(replica, self.state.copy(), prefix=self.prefix, mode=self.mode)

    # --- asking ---------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """What it adds up to now. Worked out once for each state."""
        context, count = self.state.context, len(self.state.entries)
        known = self._view
        if known and known[1] == count and known[2] is self.prefix and known[0] == context:
            return known[3]
        view = View(self.edits(), self.prefix, self.mode)
        self._view = context.copy(), count, self.prefix, view
        return view

    @property
    def live(self) -> Live:
        """What it adds up to now, kept up to date: asking again after an edit costs that edit."""
        context, entries = self.state.context, self.state.entries
        news: list[Edit] = []
        if context != self._live_of:
            fresh = context.minus(self._live_of)
            for dot in fresh:
                entry = entries.get(dot)
                if entry is not None:
                    self._live_count += 1
                    if entry.kind == PRESENT and len(entry.path) == 1:
                        edit = self._read(unpack(entry.path[0]))
                        if isinstance(edit, Edit):
                            news.append(edit)
            self._live_of.join(fresh)
        if self._live is None or self._live_count != len(entries):
            # The first time, or something was taken out.
            self._live = Live(self.edits(), self.prefix, self.mode)
            self._live_count = len(entries)
        elif news or self._live.prefix is not self.prefix:
            self._live.learn(news, self.prefix)
        return self._live

    def edits(self) -> list[Edit]:
        """Everything that was said."""
        return self.read(self.state)

    @property
    def malformed(self) -> list[str]:
        """What is in the set and cannot be read as an edit, and why; it counts for nothing."""
        found = (self._read(element) for element in AWSet(self.state))
        return [why for why in found if isinstance(why, str)]

    def _read(self, element: object) -> Edit | str:
        if not isinstance(element, bytes):
            return f"{type(element).__name__} where an edit should be"
        known = self._decoded.get(element)
        if known is None:
            try:
                known = decode(element)
            except InvalidInput as error:
                known = str(error)
            self._decoded[element] = known
        return known

    def decide(self, question: Request | Connection) -> Decision:
        """Allowed or not, as far as this replica knows."""
        return judge(self.live.engine, question)

    @property
    def conflicts(self) -> list[Conflict]:
        """What is left for people to decide."""
        return find_conflicts(self.view)

    def pending(self) -> list[Edit]:
        """Every loosening that waits for the log."""
        return self.live.pending()

    def read(self, delta: Causal) -> list[Edit]:
        """The edits in a delta that can be read."""
        found = (self._read(element) for element in AWSet(delta))
        return [edit for edit in found if isinstance(edit, Edit)]

    def to_order(self) -> list[bytes]:
        """Commands for the log: every loosening that waits. Ordering one twice is harmless."""
        return [loosen(edit) for edit in self.pending()]

    def check(self) -> None:
        """Every promise this structure makes about itself."""
        self.state.check()
        for edit in self.edits():
            assert decode(edit.encode()) == edit, "edits have one form"
            assert edit.saw(edit) is False, "nobody saw an edit before making it"


def admit(prefix: Callable[[], Prefix]) -> Callable[[str, Cells | Causal], str]:
    """A guard for ``AntiEntropy(authorise=...)``: only edits, and only signed as the log demands.

    It keeps nonsense from spreading; what passes is judged by the view all the same.

    Args:
        prefix: gives what is known of the log now.
    """

    def authorise(peer: str, delta: Cells | Causal) -> str:
        if not isinstance(delta, Causal):
            return "a policy is a set of edits"
        return next(_faults(delta, prefix()), "")

    return authorise


def _faults(delta: Causal, prefix: Prefix) -> Iterator[str]:
    if len(delta.context) != len(delta.entries):
        # Nothing is ever taken out of the set of edits; to claim an event without what it said
        # would take it out at whoever joins this.
        yield "it would erase edits"
    entries = {entry.path for entry in delta.entries.values()}
    elements = list(AWSet(delta))
    if len(elements) != len(entries):
        yield "something stands where edits belong"
    for element in elements:
        if not isinstance(element, bytes):
            yield "something else than an edit"
            continue
        try:
            edit = decode(element)
        except InvalidInput as error:
            yield str(error)
            continue
        since = prefix.signed_since(edit.tenant)
        if since is None or is_signed_by(edit, prefix.once_kept(edit.tenant)):
            continue
        if edit.signature or edit.epoch >= since:
            # Unsigned ones from before the first key are let through, so that whoever lost its
            # memory gets the same set as everybody; they count for nothing.
            yield f"an edit in the name of {edit.tenant} without its signature"

"""What edits add up to, kept up to date edit by edit.

This module exists because a replica is asked often and changes little: an edit touches the
statement that it is about, or the roles, and nothing else is worked out again. The rules are those
of :class:`mcpcore.policy.rules.Rules`; that the result equals a view worked out anew is a law in
the tests. Who owns what, and whose keys count, touch everything: they are rare, and then all is
worked out anew. It must never answer for a state that it has not been told of.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from mcpcore.crdt import Dot
from mcpcore.policy.edits import Add, Drop, Edit, Enrol, Expel, Note, decode
from mcpcore.policy.engine import LiveEngine
from mcpcore.policy.model import Statement
from mcpcore.policy.patterns import namespace_of
from mcpcore.policy.prefix import Prefix, read_command
from mcpcore.policy.roles import Edge, Roles
from mcpcore.policy.rules import Mode, Rules


class Live(Rules):
    """The engine, the pending gifts, and what mutators look up.

    Args:
        edits: what the replica has now.
        prefix: what it knows of the log.
        mode: when loosening takes effect.
    """

    def __init__(self, edits: Iterable[Edit], prefix: Prefix, mode: Mode) -> None:
        super().__init__(prefix, mode)
        self._known: dict[bytes, Edit] = {edit.encode(): edit for edit in edits}
        self._begin()

    def _begin(self) -> None:
        """Work out everything anew."""
        for edit in self.prefix.loosenings:
            self._known.setdefault(edit.encode(), edit)
        self.drops.clear()
        self.expels.clear()
        self._sound: set[bytes] = set()
        self._adds: dict[str, dict[bytes, Edit]] = defaultdict(dict)
        self._enrols: dict[bytes, Edit] = {}
        self._notes: dict[tuple[str, str, str], dict[bytes, Edit]] = defaultdict(dict)
        self._replaced: set[tuple[Dot, str]] = set()
        self._pending: dict[bytes, Edit] = {}
        self.engine = LiveEngine(self)
        for edit in self._known.values():
            self._enter(edit)
        self._restate(set(self._adds) | set(self.drops))
        self._reroles()

    # --- changes --------------------------------------------------------------------------------

    def learn(self, edits: Iterable[Edit], prefix: Prefix) -> None:
        """More edits have come, or more of the log is known."""
        fresh = [edit for edit in edits if edit.encode() not in self._known]
        entries = prefix.since(self.prefix.epoch)
        self.prefix = prefix
        commands = [read_command(entry.command) for entry in entries]
        if any(command[0] != "loosen" for command in commands):
            self._known.update((edit.encode(), edit) for edit in fresh)
            gone = prefix.compacted
            self._known = {d: e for d, e in self._known.items() if e.dot not in gone}
            self._begin()
            return
        ordered = [decode(data) for _, data in commands if isinstance(data, bytes)]
        touched: set[str] = set()
        roles = False
        for edit in (*fresh, *ordered):
            if edit.encode() not in self._known:
                self._known[edit.encode()] = edit
                self._enter(edit)
            elif edit.encode() not in self._sound:
                self._enter(edit)
            body = edit.body
            if isinstance(body, Add | Drop):
                touched.add(body.statement.id)
            roles = roles or isinstance(body, Enrol | Expel)
        self._restate(touched)
        if roles:
            self._reroles()

    def _enter(self, edit: Edit) -> None:
        if self.why_unproved(edit):
            return
        data, body = edit.encode(), edit.body
        self._sound.add(data)
        self.note_removal(edit)
        if isinstance(body, Add):
            self._adds[body.statement.id][data] = edit
        elif isinstance(body, Enrol):
            self._enrols[data] = edit
        elif isinstance(body, Note):
            self._notes[edit.tenant, edit.document, body.key][data] = edit
            self._replaced.update((dot, edit.tenant) for dot in body.replaces)

    def _restate(self, touched: Iterable[str]) -> None:
        """Work out again what these statements do."""
        for key in touched:
            adds = self._adds.get(key, {})
            counting = [
                edit
                for edit in adds.values()
                if not self.is_gone(edit) and (not edit.body.loosens or self.is_ordered(edit))
            ]
            if counting:
                newest = max(counting, key=lambda edit: edit.epoch)
                assert isinstance(newest.body, Add)
                self.engine.put(newest.body.statement, newest.epoch)
            else:
                self.engine.discard(key)
            for data, edit in adds.items():
                self._wait(data, edit, waits=not self.is_gone(edit))
            for drop in self.drops.get(key, ()):
                self._wait(drop.encode(), drop, waits=True)

    def _reroles(self) -> None:
        ordered = [e for e in self.prefix.loosenings if e.encode() in self._sound]
        if self.mode is Mode.OPTIMISTIC:
            ordered = sorted(
                (self._known[data] for data in self._sound if self._known[data].body.loosens),
                key=lambda e: (e.at.timestamp, e.dot),
            )
        cut = self.cut_edges(ordered)
        permit: list[Edge] = []
        forbid: list[Edge] = []
        for data, edit in self._enrols.items():
            body = edit.body
            assert isinstance(body, Enrol)
            owned, _ = self.speaks(edit, namespace_of(body.role))
            expelled = self.expelled_for_permits(edit, body)
            if owned and not expelled and self.is_ordered(edit) and edit.dot not in cut:
                permit.append((body.member, body.role))
            if owned and not self.expelled_for_forbids(edit, body):
                forbid.append((body.member, body.role))
            self._wait(data, edit, waits=True)
        for expels in self.expels.values():
            for expel in expels:
                self._wait(expel.encode(), expel, waits=True)
        self.engine.roles = Roles(permit, forbid)

    def _wait(self, data: bytes, edit: Edit, *, waits: bool) -> None:
        if waits and edit.body.loosens and not self.is_ordered(edit):
            self._pending[data] = edit
        else:
            self._pending.pop(data, None)

    # --- asking ---------------------------------------------------------------------------------

    def pending(self) -> list[Edit]:
        """Loosening edits that wait for the log and are not overtaken, by dot."""
        return sorted(self._pending.values(), key=lambda e: (e.dot, e.signed_part()))

    def additions(self, statement: Statement, tenant: str) -> list[Edit]:
        """Every sound addition of a statement by a tenant, by dot."""
        found = self._adds.get(statement.id, {}).values()
        return sorted((e for e in found if e.tenant == tenant), key=lambda e: e.dot)

    def enrolments(self, edge: Edge) -> list[Edit]:
        """Every sound enrolment of a member in a role, by dot."""
        found = (e for e in self._enrols.values() if _edge(e) == edge)
        return sorted(found, key=lambda e: e.dot)

    def notes(self, place: tuple[str, str, str]) -> list[Edit]:
        """The notes at (tenant, document, key) that no other has replaced, by dot."""
        found = self._notes.get(place, {}).values()
        present = (e for e in found if (e.dot, e.tenant) not in self._replaced)
        return sorted(present, key=lambda e: e.dot)


def _edge(edit: Edit) -> Edge:
    assert isinstance(edit.body, Enrol | Expel)
    return edit.body.member, edit.body.role

"""What a replica's edits add up to: which statements are in force, which are not, and why.

This module exists so that safety is a function of the merged state and never a step of the merge.
Nothing is refused here; what may not count stays, and is reported.

The promise, for any two replicas A and B that follow one log: what the merge allows, A or B
allowed before. Why it holds: of the two prefixes one begins the other; say A's is the longer. Then
the merge differs from A only by edits that need no order, and each of them takes away or does
nothing: a forbid or isolation comes in, a permit goes, a role edge counts for forbids or no longer
for permits. So whoever changes this file keeps to one rule: **at a fixed prefix, one more edit
never allows more.**
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from mcpcore.crdt import Dot
from mcpcore.policy.edits import Add, Edit, Enrol, Note, Settle
from mcpcore.policy.engine import Engine
from mcpcore.policy.model import AccessRule, Effect, Statement
from mcpcore.policy.network import NetworkRule
from mcpcore.policy.patterns import namespace_of, parse
from mcpcore.policy.prefix import Prefix
from mcpcore.policy.roles import Edge, Roles
from mcpcore.policy.rules import Mode, Rules


class Standing(StrEnum):
    """What has become of an addition."""

    LIVE = "live"
    CLIPPED = "clipped"
    """In force where its author may speak, and nowhere else that it names."""
    PENDING = "pending"
    """Waits for the log."""
    DROPPED = "dropped"
    UNPROVED = "unproved"
    """Not signed by a key of its tenant, or written in another tenant's name. Not in force."""
    INERT = "inert"
    """Outside its author's namespaces. Not in force."""
    STALE = "stale"
    """Written before its namespace changed hands. Not in force."""
    LOST = "lost authority"
    """Its author spoke by a delegation that is gone. Not in force."""
    CUT = "cut"
    """A role edge that would close a cycle. Not in force for permits."""


IN_FORCE = frozenset({Standing.LIVE, Standing.CLIPPED})


@dataclass(frozen=True, slots=True)
class Placed:
    """An addition, and what has become of it."""

    edit: Edit
    standing: Standing
    why: str = ""

    @property
    def statement(self) -> Statement | None:
        """The statement that it added; None for a role edge."""
        return self.edit.body.statement if isinstance(self.edit.body, Add) else None


class View(Rules):
    """One state, seen. Immutable; a changed state is another view.

    Args:
        edits: what the replica has, in any order.
        prefix: what it knows of the log.
        mode: when loosening takes effect.
    """

    def __init__(
        self, edits: Iterable[Edit], prefix: Prefix | None = None, mode: Mode = Mode.GUARDED
    ) -> None:
        super().__init__(Prefix() if prefix is None else prefix, mode)
        everything = {edit.encode(): edit for edit in (*edits, *self.prefix.loosenings)}
        self.edits = sorted(everything.values(), key=lambda e: (e.dot, e.signed_part()))
        self.unproved = {e.encode(): why for e in self.edits if (why := self.why_unproved(e))}
        self.sound = [e for e in self.edits if e.encode() not in self.unproved]
        self.ordered = self._ordered()
        for edit in self.sound:
            self.note_removal(edit)

    def _ordered(self) -> list[Edit]:
        """The loosening edits that count, in an order that is the same everywhere."""
        if self.mode is Mode.OPTIMISTIC:
            loose = [edit for edit in self.sound if edit.body.loosens]
            return sorted(loose, key=lambda e: (e.at.timestamp, e.dot))
        return [e for e in self.prefix.loosenings if e.encode() not in self.unproved]

    # --- what is in force -----------------------------------------------------------------------

    @cached_property
    def placed(self) -> list[Placed]:
        """Every addition of a statement or a role edge, and what has become of it."""
        return [self._place(edit) for edit in self.edits if isinstance(edit.body, Add | Enrol)]

    def standing(self, statement_id: str) -> Placed | None:
        """The best standing of a statement: in force, if one of its additions is."""
        rank = list(Standing)
        found = [p for p in self.placed if p.statement and p.statement.id == statement_id]
        return min(found, key=lambda p: (rank.index(p.standing), p.edit.dot), default=None)

    def _place(self, edit: Edit) -> Placed:
        why = self.unproved.get(edit.encode())
        if why:
            return Placed(edit, Standing.UNPROVED, why)
        if isinstance(edit.body, Enrol):
            return self._place_edge(edit, edit.body)
        assert isinstance(edit.body, Add)
        if self.is_gone(edit):
            return Placed(edit, Standing.DROPPED)
        standing, why = self._scope(edit, edit.body.statement)
        if standing in IN_FORCE and edit.body.loosens and not self.is_ordered(edit):
            return Placed(edit, Standing.PENDING, "it gives, and the log has not ordered it yet")
        return Placed(edit, standing, why)

    def _place_edge(self, edit: Edit, body: Enrol) -> Placed:
        if self.expelled_for_permits(edit, body):
            return Placed(edit, Standing.DROPPED)
        ok, stale = self.speaks(edit, namespace_of(body.role))
        if not ok:
            why = f"{edit.tenant} does not own {namespace_of(body.role)}"
            return Placed(edit, Standing.STALE if stale else Standing.INERT, why)
        if not self.is_ordered(edit):
            return Placed(edit, Standing.PENDING, "counts for forbids only, until it is ordered")
        if edit.dot in self.cut:
            return Placed(edit, Standing.CUT, f"{body.role} is a member of {body.member} already")
        return Placed(edit, Standing.LIVE)

    def concurrent(self, a: Edit, b: Edit) -> bool:
        """Whether neither author knew of the other's edit, by the set or by the log."""
        if not a.concurrent(b):
            return False
        place_a, place_b = self.prefix.place(a), self.prefix.place(b)
        return not (
            (place_a is not None and place_a <= b.epoch)
            or (place_b is not None and place_b <= a.epoch)
        )

    @cached_property
    def cut(self) -> frozenset[Dot]:
        """Role edges that would have closed a cycle when they were ordered."""
        return self.cut_edges(self.ordered)

    @cached_property
    def roles(self) -> Roles:
        """Role edges: the fewest for permits, the most for forbids."""
        permit: list[Edge] = []
        forbid: list[Edge] = []
        for placed in self.placed:
            body = placed.edit.body
            if not isinstance(body, Enrol) or placed.standing is Standing.UNPROVED:
                continue
            if placed.standing is Standing.LIVE:
                permit.append((body.member, body.role))
            owned, _ = self.speaks(placed.edit, namespace_of(body.role))
            if owned and not self.expelled_for_forbids(placed.edit, body):
                forbid.append((body.member, body.role))
        return Roles(permit, forbid)

    @cached_property
    def engine(self) -> Engine:
        """What judges requests.

        Tenancy is looked at again for each request, so a statement that reaches too far is clipped
        there, whatever its standing says.
        """
        counting = [
            (edit.body.statement, edit.epoch)
            for edit in self.sound
            if isinstance(edit.body, Add)
            and not self.is_gone(edit)
            and (not edit.body.loosens or self.is_ordered(edit))
        ]
        return Engine(counting, roles=self.roles, tenancy=self)

    # --- scope ----------------------------------------------------------------------------------

    def _scope(self, edit: Edit, statement: Statement) -> tuple[Standing, str]:
        """Where a statement may speak: everywhere it names, in some places, or nowhere."""
        rule = statement.rule
        named = rule.resources.namespaces() if isinstance(rule, AccessRule) else _subjects(rule)
        told = {namespace: self.speaks(edit, namespace) for namespace in named}
        if all(speaks for speaks, _ in told.values()):
            return Standing.LIVE, ""
        foreign = ", ".join(name for name, (speaks, _) in told.items() if not speaks)
        if any(speaks for speaks, _ in told.values()) or (
            "*" in named and self.prefix.namespaces(edit.tenant)
        ):
            return Standing.CLIPPED, f"counts only where {edit.tenant} owns, not in {foreign}"
        if isinstance(rule, AccessRule):
            people = rule.principals.namespaces()
            if people and all(self.speaks(edit, name)[0] for name in people):
                return Standing.LIVE, f"speaks for people of {edit.tenant}, as an acceptance"
            if statement.effect is not Effect.FORBID:
                delegated = self._delegation(edit.tenant, statement)
                if delegated is not None:
                    return delegated, f"by delegation of {foreign}"
        if any(once for _, once in told.values()):
            return Standing.STALE, f"written before {foreign} changed hands"
        return Standing.INERT, f"{edit.tenant} does not own {foreign}"

    def _delegation(self, tenant: str, statement: Statement) -> Standing | None:
        """LIVE by a delegation that may cover a statement, LOST if all such are gone."""
        found = [
            edit
            for edit in self.ordered
            if isinstance(edit.body, Add)
            and edit.body.statement.effect is Effect.DELEGATE
            and isinstance(edit.body.statement.rule, AccessRule)
            and edit.body.statement.rule.principals.matches(tenant)
            and edit.body.statement.overlaps(statement)
        ]
        if not found:
            return None
        return Standing.LOST if all(self.is_gone(edit) for edit in found) else Standing.LIVE

    # --- the rest -------------------------------------------------------------------------------

    @cached_property
    def pending(self) -> list[Edit]:
        """Loosening edits that wait for the log and are not overtaken, by dot."""
        if self.mode is Mode.OPTIMISTIC:
            return []
        waiting = [edit for edit in self.sound if edit.body.loosens and not self.is_ordered(edit)]
        return [e for e in waiting if not (isinstance(e.body, Add) and self.is_gone(e))]

    @cached_property
    def notes(self) -> Mapping[tuple[str, str, str], list[Edit]]:
        """(tenant, document, key) to the notes that no other has replaced."""
        replaced = {
            (dot, e.tenant)
            for e in self.sound
            if isinstance(e.body, Note)
            for dot in e.body.replaces
        }
        found: dict[tuple[str, str, str], list[Edit]] = defaultdict(list)
        for edit in self.sound:
            if isinstance(edit.body, Note) and (edit.dot, edit.tenant) not in replaced:
                found[edit.tenant, edit.document, edit.body.key].append(edit)
        return found

    @cached_property
    def settled(self) -> Mapping[str, list[Edit]]:
        """Conflict ids to the edits that settle them."""
        found: dict[str, list[Edit]] = defaultdict(list)
        for edit in self.sound:
            if isinstance(edit.body, Settle):
                found[edit.body.conflict].append(edit)
        return found

    def documents(self) -> list[tuple[str, str]]:
        """Every (tenant, document) that has something."""
        return sorted({(edit.tenant, edit.document) for edit in self.edits})


def _subjects(rule: NetworkRule) -> tuple[str, ...]:
    parsed = parse(rule.namespace)
    return (parsed.head,) if parsed.exact else ("*",)

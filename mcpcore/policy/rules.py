"""The rules by which edits overtake each other: what is gone, who may speak, what is cut.

This module exists so that a view that is worked out anew (``view``) and one that is kept up to date
(``live``) follow the same rules, written once. It must never keep anything worked out: whoever
builds upon it fills the tables, and says when they change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from enum import StrEnum

from mcpcore.crdt import Dot
from mcpcore.policy.edits import Add, Drop, Edit, Enrol, Expel
from mcpcore.policy.engine import Owner
from mcpcore.policy.patterns import namespace_of
from mcpcore.policy.prefix import Prefix
from mcpcore.policy.roles import Edge, closes_cycle
from mcpcore.policy.signing import is_signed_by


class Mode(StrEnum):
    """When loosening takes effect."""

    GUARDED = "guarded"
    """Once the log has ordered it. The promise holds."""
    OPTIMISTIC = "optimistic"
    """At once. The promise does not hold; pairs that may break it are listed as conflicts."""


class Rules:
    """Tables of edits, and the rules that read them.

    Attributes:
        prefix: what is known of the log.
        mode: when loosening takes effect.
        drops: sound drops, by statement id.
        expels: sound expulsions, by edge.
    """

    def __init__(self, prefix: Prefix, mode: Mode) -> None:
        self.prefix = prefix
        self.mode = mode
        self.drops: dict[str, list[Edit]] = defaultdict(list)
        self.expels: dict[Edge, list[Edit]] = defaultdict(list)
        self._former_of: tuple[Prefix, Mapping[str, set[str]]] | None = None

    def note_removal(self, edit: Edit) -> None:
        """Enter a sound edit that takes something back."""
        if isinstance(edit.body, Drop):
            self.drops[edit.body.statement.id].append(edit)
        elif isinstance(edit.body, Expel):
            self.expels[edit.body.member, edit.body.role].append(edit)

    def is_ordered(self, edit: Edit) -> bool:
        """Whether a sound edit that gives counts."""
        if self.mode is Mode.OPTIMISTIC:
            return edit.body.loosens
        return self.prefix.has(edit.encode())

    def why_unproved(self, edit: Edit) -> str:
        """Why an edit does not count as its tenant's; empty if it does."""
        body = edit.body
        if isinstance(body, Add | Drop) and body.statement.author != edit.tenant:
            return f"{edit.tenant} writes in the name of {body.statement.author}"
        keys = self.prefix.keys(edit.tenant)
        if keys and not is_signed_by(edit, keys):
            return f"not signed by a key of {edit.tenant}" if edit.signature else "not signed"
        return ""

    def is_gone(self, edit: Edit) -> bool:
        """Whether an addition of a statement was dropped, as far as drops count."""
        assert isinstance(edit.body, Add)
        drops = self.drops.get(edit.body.statement.id, ())
        if edit.body.loosens:
            # By target as well: an author that claims to have seen the future is dropped, too.
            return any(not edit.saw(drop) or aims_at(drop, edit) for drop in drops)
        return any(aims_at(d, edit) and self.is_ordered(d) for d in drops)

    def is_leaving(self, edit: Edit) -> bool:
        """Whether somebody who saw an addition dropped it, in force already or not."""
        assert isinstance(edit.body, Add)
        drops = self.drops.get(edit.body.statement.id, ())
        return any(aims_at(drop, edit) for drop in drops)

    def expelled_for_permits(self, edit: Edit, body: Enrol) -> bool:
        """Whether a role edge no longer counts for permits."""
        expels = self.expels.get((body.member, body.role), ())
        return any(
            (not edit.saw(expel) or aims_at(expel, edit)) and self.may_expel(expel, edit, body)
            for expel in expels
        )

    def expelled_for_forbids(self, edit: Edit, body: Enrol) -> bool:
        """Whether a role edge no longer counts for forbids."""
        return any(
            aims_at(expel, edit) and self.is_ordered(expel) and self.may_expel(expel, edit, body)
            for expel in self.expels.get((body.member, body.role), ())
        )

    def may_expel(self, expel: Edit, edit: Edit, body: Enrol) -> bool:
        """Whoever made an edge may take it back, and so may the role's owner."""
        return expel.tenant == edit.tenant or self.speaks(expel, namespace_of(body.role))[0]

    def speaks(self, edit: Edit, namespace: str) -> tuple[bool, bool]:
        """Whether an edit's tenant may speak for a namespace; if not, whether it once might."""
        owner = self.prefix.owner(namespace)
        if owner is not None and owner.tenant == edit.tenant:
            return edit.epoch >= owner.epoch, True
        return False, edit.tenant in self._former.get(namespace, ())

    @property
    def _former(self) -> Mapping[str, set[str]]:
        """Every tenant that ever owned a namespace."""
        known = self._former_of
        if known is None or known[0] is not self.prefix:
            former: dict[str, set[str]] = defaultdict(set)
            for namespace, tenant in self.prefix.history:
                former[namespace].add(tenant)
            known = self._former_of = self.prefix, former
        return known[1]

    def owner(self, namespace: str) -> Owner | None:
        """Who owns a namespace."""
        return self.prefix.owner(namespace)

    def cut_edges(self, ordered: Iterable[Edit]) -> frozenset[Dot]:
        """Role edges that would have closed a cycle when they were ordered.

        Judged by the order alone, and not by what was taken away without it: a cut edge that came
        back because another edge went would be a permit that nobody gave.
        """
        upward: dict[str, list[str]] = defaultdict(list)
        present: dict[Dot, Edge] = {}
        cut: set[Dot] = set()
        for edit in ordered:
            body = edit.body
            if isinstance(body, Enrol) and self.speaks(edit, namespace_of(body.role))[0]:
                if self.mode is Mode.OPTIMISTIC and self.expelled_for_permits(edit, body):
                    continue
                if closes_cycle(upward, (body.member, body.role)):
                    cut.add(edit.dot)
                else:
                    present[edit.dot] = (body.member, body.role)
                    upward[body.member].append(body.role)
            elif isinstance(body, Expel) and self.speaks(edit, namespace_of(body.role))[0]:
                for dot in body.targets:
                    if present.get(dot) == (body.member, body.role):
                        del present[dot]
                        upward[body.member].remove(body.role)
        return frozenset(cut)


def aims_at(removal: Edit, edit: Edit) -> bool:
    """Whether a removal names this very addition."""
    return isinstance(removal.body, Drop | Expel) and edit.dot in removal.body.targets

"""Deciding a conflict: the edits that a choice means.

This module exists so that a decision is made of ordinary edits: signed, replicated, and subject to
the same rules as all others. Whoever undoes what gives does so at once; whoever gives waits for the
log. It must never reach into a state.
"""

from __future__ import annotations

from mcpcore.clock import Reading
from mcpcore.crdt import Causal
from mcpcore.errors import InvalidInput
from mcpcore.policy.conflicts import ACCEPT, DROP, RENEW, Conflict, Kind
from mcpcore.policy.edits import Add, Drop, Edit, Enrol, Expel, Note
from mcpcore.policy.store import Author, PolicyStore


def resolve(
    store: PolicyStore,
    author: Author,
    conflict: Conflict,
    choice: str,
    at: Reading,
    reason: str = "",
) -> Causal:
    """Carry out a choice, and put it on record. Returns the delta to send.

    Choices are: ``accept`` (leave it as it is), ``keep:N`` (the N-th edit stands, the others go),
    ``undo:N`` (the N-th edit is taken back), ``drop`` (it goes), ``renew`` (say it again, now). An
    edit can only be undone by its own tenant.

    Raises:
        InvalidInput: a choice that this conflict does not have, or not this tenant's to make.
    """
    where = f"conflict {conflict.id}"
    if choice not in conflict.choices:
        raise InvalidInput(
            f"{choice!r} is no choice", where=where, remedy=f"Use {', '.join(conflict.choices)}"
        )
    if author.tenant not in conflict.tenants:
        raise InvalidInput(
            f"{author.tenant} has no part in it", where=where,
            remedy=f"Ask {' or '.join(conflict.tenants)}",
        )  # fmt: skip
    steps = _steps(store, conflict, choice)
    for step in steps:
        if step.tenant != author.tenant:
            raise InvalidInput(
                f"this undoes an edit of {step.tenant}, which {author.tenant} cannot",
                where=where,
                remedy=f"Let {step.tenant} choose it",
            )
    delta = Causal()
    for step in steps:
        delta.join(_carry_out(store, author, step, choice, at))
    delta.join(store.settle(author, conflict, choice, at, reason))
    return delta


def find_open(store: PolicyStore, beginning: str) -> Conflict:
    """The open conflict whose id begins so.

    Raises:
        InvalidInput: there is none, or more than one.
    """
    found = [each for each in store.conflicts if each.id.startswith(beginning)]
    if len(found) != 1:
        problem = "several conflicts begin so" if found else "there is no such open conflict"
        raise InvalidInput(
            problem, where=f"conflict {beginning}", remedy="See `mcpctl policy conflicts`"
        )
    return found[0]


def _steps(store: PolicyStore, conflict: Conflict, choice: str) -> list[Edit]:
    """The edits that the choice undoes (or says again, for ``renew``)."""
    if choice == ACCEPT:
        return []
    if choice in (DROP, RENEW):
        return list(conflict.edits)
    verb, _, place = choice.partition(":")
    chosen = conflict.edits[int(place) - 1]
    if verb == "undo":
        return [chosen]
    if conflict.kind is Kind.MULTI_VALUE:
        return [chosen]  # setting it again replaces the others
    others = [edit for edit in conflict.edits if edit is not chosen]
    return [edit for edit in others if not _is_undone(store, edit)]


def _is_undone(store: PolicyStore, edit: Edit) -> bool:
    """Whether the rules of the merge have set an edit aside already."""
    return isinstance(edit.body, Add) and store.view.is_gone(edit)


def _carry_out(store: PolicyStore, author: Author, edit: Edit, choice: str, at: Reading) -> Causal:
    home = Author(author.tenant, author.key, edit.document)
    match edit.body:
        case Note(key, value):
            return store.note(home, key, value, at)
        case Add(statement, name):
            if choice == RENEW:
                return store.add(home, statement, at, name)
            return store.drop(home, statement, at)
        case Drop(statement):
            return store.add(home, statement, at)
        case Enrol(member, role):
            if choice == RENEW:
                return store.enrol(home, member, role, at)
            return store.expel(home, member, role, at)
        case Expel(member, role):
            return store.enrol(home, member, role, at)
    raise InvalidInput("a settlement cannot be undone", where=f"conflict of {edit}")

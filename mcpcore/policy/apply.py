"""Between documents and stores: the edits that make a store say what a document says, and back.

This module exists so that people edit whole documents and replicas exchange single edits. It must
never edit what already is as it should be: an edit that says nothing new could still race.
"""

from __future__ import annotations

from mcpcore.clock import Reading
from mcpcore.crdt import Causal
from mcpcore.policy.documents import Document, Named
from mcpcore.policy.edits import Add, Edit, Enrol, Note
from mcpcore.policy.store import Author, PolicyStore
from mcpcore.policy.view import Standing


def apply_document(store: PolicyStore, document: Document, at: Reading, author: Author) -> Causal:
    """Make the edits by which a store says what the document says. Returns the delta to send.

    Dropping comes first, so that a statement that replaces another one has seen it go.

    Args:
        author: who signs; its tenant and document are taken from the document.
    """
    home = Author(document.tenant, author.key, document.name)
    delta = Causal()
    present = _present(store, document.tenant, document.name)
    wanted = {(n.statement.id, n.name): n for n in document.statements}
    here = {(e.body.statement.id, e.body.name): e.body for e in present if isinstance(e.body, Add)}
    keep = {key for key in wanted if key in here}
    dropped = {body.statement.id: body.statement for k, body in here.items() if k not in keep}
    for statement in dropped.values():
        delta.join(store.drop(home, statement, at))
    for key, named in wanted.items():
        if key not in keep or named.statement.id in dropped:
            delta.join(store.add(home, named.statement, at, named.name))
    edges = {(e.body.member, e.body.role) for e in present if isinstance(e.body, Enrol)}
    for member, role in sorted(edges - set(document.roles)):
        delta.join(store.expel(home, member, role, at))
    for member, role in document.roles:
        if (member, role) not in edges:
            delta.join(store.enrol(home, member, role, at))
    for name, value in document.settings.items():
        if _values(store, document, name) != [value]:
            delta.join(store.note(home, name, value, at))
    return delta


def _present(store: PolicyStore, tenant: str, name: str) -> list[Edit]:
    """The additions of a document that nobody dropped; a drop that waits for the log counts."""
    view = store.view
    return [
        p.edit
        for p in view.placed
        if (p.edit.tenant, p.edit.document) == (tenant, name)
        and p.standing not in (Standing.DROPPED, Standing.UNPROVED)
        and not (isinstance(p.edit.body, Add) and view.is_leaving(p.edit))
    ]


def _values(store: PolicyStore, document: Document, name: str) -> list[str]:
    edits = store.view.notes.get((document.tenant, document.name, name), ())
    return [e.body.value for e in edits if isinstance(e.body, Note)]


def documents_of(store: PolicyStore) -> list[Document]:
    """What a store says, as documents: all that was not dropped, in force or not.

    Of a setting with several values the latest is shown; the conflict tells of the others.
    """
    found = []
    for tenant, name in store.view.documents():
        present = _present(store, tenant, name)
        statements = {
            (e.body.name, e.body.statement.id): Named(e.body.statement, e.body.name)
            for e in present
            if isinstance(e.body, Add)
        }
        edges = {(e.body.member, e.body.role) for e in present if isinstance(e.body, Enrol)}
        settings = {}
        for (of_tenant, of_name, key), edits in sorted(store.view.notes.items()):
            latest = max(edits, key=lambda e: (e.at.timestamp, e.dot))
            if (of_tenant, of_name) == (tenant, name) and isinstance(latest.body, Note):
                settings[key] = latest.body.value
        listed = _apart([statements[key] for key in sorted(statements)])
        found.append(Document(tenant, name, listed, tuple(sorted(edges)), settings))
    return [d for d in found if d.statements or d.roles or d.settings]


def _apart(listed: list[Named]) -> tuple[Named, ...]:
    """Two statements that race for one name keep it with a number, since a document has it once."""
    told: dict[str, int] = {}
    result = []
    for named in listed:
        count = told[named.name] = told.get(named.name, 0) + 1
        again = named.name and count > 1
        result.append(Named(named.statement, f"{named.name}-{count}") if again else named)
    return tuple(result)

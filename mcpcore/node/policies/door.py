"""What clients ask a policy on a node, and what it answers: plain values in and out.

This module exists so that every word of that conversation is checked in one place. Questions are
answered from what this node knows, without waiting, in every cut. Edits come in two steps: the node
drafts them (it alone knows their numbers), the author signs them at home, the node makes them; so
no private key ever travels. It must never decide anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack

from mcpcore.clock import Reading
from mcpcore.crdt import Causal
from mcpcore.errors import InvalidInput
from mcpcore.node.policies.service import PolicyService
from mcpcore.policy import Author, PolicyStore, Request, resolve
from mcpcore.policy.apply import apply_document, documents_of
from mcpcore.policy.documents import read_document, write_document
from mcpcore.policy.edits import Edit, decode
from mcpcore.policy.model import Statement
from mcpcore.policy.resolve import find_open

EDITS_MAX: Final = 10_000

Make = Callable[[PolicyStore, Reading], Causal]


def answer(policy: PolicyService, verb: str, body: bytes, *, administrator: bool) -> Any:
    """Answer one question, or begin what was asked: then a future of the answer.

    Raises:
        InvalidInput: it is no question.
        Rejected: what the policy refuses.
    """
    try:
        asked = msgpack.unpackb(body)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise InvalidInput(f"not a question to a policy: {error}", where=f"policy {verb}") from None
    match verb, asked:
        case "decide", _:
            decision = policy.decide(question_from(asked))
            return {
                "allowed": decision.allowed,
                "reason": decision.reason.value,
                "determining": list(decision.determining),
            }
        case "explain", _:
            told = policy.explain(question_from(asked))
            return {
                "allowed": told.decision.allowed,
                "reason": told.decision.reason.value,
                "determining": [statement.id for statement in told.determining],
                "text": told.lines(),
            }
        case "conflicts", None:
            return [
                {
                    "id": each.id,
                    "kind": each.kind.value,
                    "text": each.text,
                    "choices": list(each.choices),
                    "tenants": list(each.tenants),
                    "edits": [f"{e.tenant}/{e.document}, {e}" for e in each.edits],
                }
                for each in policy.conflicts()
            ]
        case "pending", None:
            return [_pending(policy, edit) for edit in policy.pending()]
        case "show", None:
            return [
                {
                    "standing": placed.standing.value,
                    "document": f"{placed.edit.tenant}/{placed.edit.document}",
                    "edit": str(placed.edit),
                    "why": placed.why,
                }
                for placed in policy.store.view.placed
            ]
        case "documents", None:
            return [write_document(document) for document in documents_of(policy.store)]
        case "status", None:
            return policy.status()
        case "draft", [str(tenant), str(document), str(act), list(arguments)]:
            author = Author(tenant, document=document or "main")
            made = policy.draft(author, _making(policy, author, act, arguments))
            return [edit.encode() for edit in made]
        case "submit", list(rows) if len(rows) <= EDITS_MAX:
            return _submit(policy, [_edit(row) for row in rows], trusted=administrator)
    raise InvalidInput(
        "no policy answers that",
        where=f"policy {verb}",
        remedy="Is this client of a later version?",
    )


def question_from(asked: object) -> Request:
    """A request for access, as clients write it.

    Raises:
        InvalidInput: it is none.
    """
    match asked:
        case [str(principal), str(action), str(resource), dict(context), list(groups)] if all(
            type(key) is str for key in context
        ) and all(type(group) is str for group in groups):
            facts = {key: tuple(v) if type(v) is list else v for key, v in context.items()}
            return Request(principal, action, resource, facts, frozenset(groups))
    raise InvalidInput("not a request: who, action, resource, facts, groups", where="request")


def _pending(policy: PolicyService, edit: Edit) -> dict[str, Any]:
    why = policy.refused.get(edit.encode(), "")
    leader = policy.status()["leader"]
    waits = f"{leader} is to order it" if leader else "no quorum is in reach to order it"
    return {
        "document": f"{edit.tenant}/{edit.document}",
        "edit": str(edit),
        "why": f"the log refuses it: {why}" if why else waits,
    }


def _making(policy: PolicyService, author: Author, act: str, arguments: list[object]) -> Make:
    match act, arguments:
        case "document", [dict(plain)]:
            document = read_document(plain)
            return lambda store, at: apply_document(store, document, at, author)
        case "add", [list(wire), str(name)]:
            said = Statement.from_wire(wire)
            return lambda store, at: store.add(author, said, at, name)
        case "drop", [list(wire)]:
            dropped = Statement.from_wire(wire)
            return lambda store, at: store.drop(author, dropped, at)
        case "enrol", [str(member), str(role)]:
            return lambda store, at: store.enrol(author, member, role, at)
        case "expel", [str(member), str(role)]:
            return lambda store, at: store.expel(author, member, role, at)
        case "note", [str(key), str(value)]:
            return lambda store, at: store.note(author, key, value, at)
        case "resolve", [str(beginning), str(choice), str(reason)]:
            found = find_open(policy.store, beginning)
            return lambda store, at: resolve(store, author, found, choice, at, reason)
    raise InvalidInput(f"{act!r} is no edit", where="policy draft")


def _edit(row: object) -> Edit:
    if type(row) is not bytes:
        raise InvalidInput("edits are bytes", where="policy submit")
    return decode(row)


def _submit(
    policy: PolicyService, edits: Sequence[Edit], *, trusted: bool
) -> asyncio.Future[dict[str, Any]]:
    made = policy.submit(edits, trusted=trusted)

    async def durable() -> dict[str, Any]:
        await made
        return {"edits": len(edits), "pending": len(policy.pending())}

    return asyncio.get_running_loop().create_task(durable())

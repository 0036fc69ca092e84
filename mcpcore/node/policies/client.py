"""Asking and editing a cluster's policy from outside.

This module exists so that a program needs no replica of its own: any node answers at once with what
it knows, and edits are signed here, by the key that stays here. It must never decide anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgpack

from mcpcore.errors import CommandRefused, ConnectionLost, InvalidInput, Rejected, Unreachable
from mcpcore.node.client.client import Client
from mcpcore.node.requests import Op
from mcpcore.policy import Author, Request, Statement, own, trust
from mcpcore.policy.documents import Document, write_document
from mcpcore.policy.edits import decode

DRAFTS_MAX: Final = 8
"""How often to draft again because others edited on the same node meanwhile."""


class PolicyClient:
    """A cluster's policy.

    Args:
        client: a connection to the cluster; whoever made it closes it. An administrator's, to edit
            for tenants without keys and to change the log.
        group: the group that orders the policy.
    """

    def __init__(self, client: Client, group: str = "policy") -> None:
        self._client = client
        self._group = group

    # --- asking ---------------------------------------------------------------------------------

    async def decide(self, question: Request) -> dict[str, Any]:
        """``allowed``, ``reason`` and the ids of the ``determining`` statements, by any node."""
        return dict(await self._ask("decide", _row(question)))

    async def decide_everywhere(self, question: Request) -> Mapping[str, Any]:
        """What every node answers, or why it does not, by address."""
        body = msgpack.packb(_row(question))
        return await self._client.ask_each(Op.POLICY, self._group, "decide", body)

    async def explain(self, question: Request) -> dict[str, Any]:
        """Like :meth:`decide`, with the reasons as lines of ``text``."""
        return dict(await self._ask("explain", _row(question)))

    async def conflicts(self) -> list[dict[str, Any]]:
        """What is left for people to decide."""
        return list(await self._ask("conflicts"))

    async def pending(self) -> list[dict[str, Any]]:
        """Gifts that wait for the log, and what for."""
        return list(await self._ask("pending"))

    async def show(self) -> list[dict[str, Any]]:
        """Everything that was added, and what has become of it."""
        return list(await self._ask("show"))

    async def documents(self) -> list[dict[str, Any]]:
        """The policy as documents."""
        return [_listed(each) for each in await self._ask("documents")]

    async def status(self) -> Mapping[str, Any]:
        """What every node says of its replica, or why it does not, by address."""
        body = msgpack.packb(None)
        return await self._client.ask_each(Op.POLICY, self._group, "status", body)

    # --- editing --------------------------------------------------------------------------------

    async def add(self, author: Author, statement: Statement, name: str = "") -> dict[str, Any]:
        """Add a statement. Like all edits: returns once it is durable on one node, with how many
        ``edits`` that made and how many are ``pending`` there.

        Raises:
            InvalidInput: not this author's to say, or not signed by a key that counts.
            NotPermitted: the tenant has no key, and we are no administrator.
        """
        return await self._edit(author, "add", statement.to_wire(), name)

    async def drop(self, author: Author, statement: Statement) -> dict[str, Any]:
        """Drop a statement, as far as the node that we ask has seen it."""
        return await self._edit(author, "drop", statement.to_wire())

    async def enrol(self, author: Author, member: str, role: str) -> dict[str, Any]:
        """Give a member a role."""
        return await self._edit(author, "enrol", member, role)

    async def expel(self, author: Author, member: str, role: str) -> dict[str, Any]:
        """Take a role from a member."""
        return await self._edit(author, "expel", member, role)

    async def note(self, author: Author, key: str, value: str) -> dict[str, Any]:
        """Set a setting of a document."""
        return await self._edit(author, "note", key, value)

    async def apply(self, author: Author, document: Document) -> dict[str, Any]:
        """Make the edits by which the policy says what a document says."""
        return await self._edit(author, "document", write_document(document))

    async def resolve(
        self, author: Author, conflict: str, choice: str, reason: str = ""
    ) -> dict[str, Any]:
        """Decide a conflict, named by the beginning of its id."""
        return await self._edit(author, "resolve", conflict, choice, reason)

    async def own(self, namespace: str, tenant: str) -> int:
        """Give a namespace to a tenant. Returns the entry of the log.

        Raises:
            NotPermitted: we are no administrator.
            CommandRefused: the log refuses it.
        """
        return await self._order(own(namespace, tenant))

    async def trust(self, tenant: str, key: bytes, *, counts: bool = True) -> int:
        """Make a public key count for a tenant, or no longer count. Returns the entry of the log.

        Raises:
            NotPermitted: we are no administrator.
            CommandRefused: the log refuses it.
        """
        return await self._order(trust(tenant, key, counts=counts))

    # --- inside ---------------------------------------------------------------------------------

    async def _order(self, command: bytes) -> int:
        applied = await self._client.propose(command, group=self._group)
        match msgpack.unpackb(applied.result):
            case ["ok", int(epoch)]:
                return epoch
            case [_, why]:
                raise CommandRefused("policy", str(why))
        raise ConnectionLost("the cluster", "its answer is none")

    async def _edit(self, author: Author, act: str, *arguments: object) -> dict[str, Any]:
        address = ""
        for _ in range(DRAFTS_MAX):
            wanted = [author.tenant, author.document, act, list(arguments)]
            address, drafts = await self._ask_one("draft", wanted, address)
            edits = [decode(draft) for draft in drafts]
            if author.key is not None:
                edits = [author.key.sign(edit) for edit in edits]
            if not edits:
                return {"edits": 0, "pending": len(await self.pending())}
            try:
                rows = [edit.encode() for edit in edits]
                _, made = await self._ask_one("submit", rows, address)
            except Rejected as refusal:
                if type(refusal) is not Rejected:
                    raise
                continue  # others edited on that node meanwhile, so the numbers are taken
            return dict(made)
        raise Rejected(f"policy {self._group}: others edit all the time; nothing was done")

    async def _ask(self, verb: str, body: object = None) -> Any:
        _, answer = await self._ask_one(verb, body)
        return answer

    async def _ask_one(self, verb: str, body: object, only: str = "") -> tuple[str, Any]:
        """The first node that answers, and its answer; of one node, if ``only``."""
        silent: list[str] = []
        packed = msgpack.packb(body)
        for address in [only] if only else self._client.addresses:
            told = await self._client.ask_each(
                Op.POLICY, self._group, verb, packed, among=address.__eq__
            )
            answer = told[address]
            if isinstance(answer, Unreachable) or (
                isinstance(answer, ConnectionLost) and verb != "submit"
            ):
                silent.append(str(answer))
            elif isinstance(answer, Exception):
                raise answer
            else:
                return address, answer
        raise Rejected(f"policy {self._group}: no node answers ({'; '.join(silent)})")


def _row(question: Request) -> list[object]:
    for key, value in question.context.items():
        if not isinstance(value, str | int | float | bool | tuple):
            raise InvalidInput(f"{value!r} is no fact", where=f"request, {key}")
    groups = sorted(question.groups)
    return [question.principal, question.action, question.resource, dict(question.context), groups]


def _listed(value: Any) -> Any:
    """Sequences as lists, as documents have them; they come over the wire as tuples."""
    if isinstance(value, dict):
        return {key: _listed(each) for key, each in value.items()}
    return [_listed(each) for each in value] if isinstance(value, list | tuple) else value

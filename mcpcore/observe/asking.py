"""How a page or a screen asks one node, again and again.

This module exists so that a node which does not answer is still called by its name, and so that
whoever watches need not know clients and errors.
"""

from __future__ import annotations

from collections.abc import Callable

from mcpcore.errors import ConnectionLost, Unreachable
from mcpcore.node.client.client import Client
from mcpcore.node.requests import Op
from mcpcore.node.transport.addresses import Address
from mcpcore.observe.health import Account

ANSWER_TIMEOUT_S = 1.0
"""After this a node counts as silent, until it answers again."""


class NodeAsker:
    """Asks one node for a survey of itself. Close it in the end.

    Args:
        address: the node.
        name: what it is called; "" until it has told.
        connect: makes a client that asks only this address.
    """

    def __init__(self, address: Address, name: str, connect: Callable[[Address], Client]) -> None:
        self.endpoint = str(address)
        self._name = name
        self._zone = ""
        self._client = connect(address)

    async def ask(self) -> Account:
        """Its account, whether it answered or not."""
        answers = await self._client.ask_each(Op.SURVEY, timeout_s=ANSWER_TIMEOUT_S)
        told = answers[self.endpoint]
        if isinstance(told, dict):
            self._name = str(told["node"])
            self._zone = str(told["zone"])
            return Account(self.endpoint, self._name, told, zone=self._zone)
        why = told.why if isinstance(told, Unreachable | ConnectionLost) else str(told)
        return Account(self.endpoint, self._name, error=why, zone=self._zone)

    async def close(self) -> None:
        """Hang up."""
        await self._client.close()

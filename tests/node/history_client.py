"""Clients that write down what they asked and what they were told, for ``mcpcore.check``."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from mcpcore.check.history import History, LogPosition, Operation, Outcome
from mcpcore.errors import OutcomeUnknown, Rejected
from mcpcore.node.client import Client
from mcpcore.node.group import Consistency
from mcpcore.node.kv.commands import CompareAndSet, Get, Put, encode_command, encode_request
from mcpcore.node.kv.results import Found, Swapped, decode_result

KEYS = ("x", "y", "z")


class HistoryClient:
    """One process of a history: puts, gets and compare-and-sets on a few keys, one at a time.

    Args:
        now_ns: a clock that all clients of a history share.
        operations: where all of them write.
        consistency: of the reads; with STALE the history need not be linearizable.
    """

    def __init__(
        self,
        name: str,
        now_ns: Callable[[], int],
        operations: list[Operation],
        *,
        consistency: Consistency = Consistency.LINEARIZABLE,
    ) -> None:
        self.name = name
        self.stop = False
        self._now_ns = now_ns
        self._operations = operations
        self._consistency = consistency
        self._draw = random.Random(name)
        self._written = 0

    async def run(
        self, client: Client, *, reader: Client | None = None, pause_s: float = 0.01
    ) -> None:
        """Go on until told to stop; reads go to ``reader``, if there is one."""
        while not self.stop:
            await self._one(client, reader or client)
            await asyncio.sleep(pause_s)

    async def _one(self, client: Client, reader: Client) -> None:
        key = self._draw.choice(KEYS)
        kind = self._draw.choice(("get", "get", "put", "cas"))
        called_ns = self._now_ns()
        value: object = None
        result: object = None
        outcome, error = Outcome.OK, None
        position: LogPosition | None = None
        try:
            if kind == "get":
                request = encode_request(Get(key.encode()))
                found = await reader.query(request, consistency=self._consistency)
                answer = decode_result(found.answer)
                assert isinstance(answer, Found)
                result = answer.record and answer.record.value.decode()
                position = LogPosition("main", 0, found.applied)
            else:
                self._written += 1
                new = f"{self.name}.{self._written}"
                old = f"{self.name}.{self._draw.randint(0, self._written)}"
                value = new if kind == "put" else [old, new]
                command = (
                    Put(key.encode(), new.encode())
                    if kind == "put"
                    else CompareAndSet(key.encode(), old.encode(), new.encode())
                )
                applied = await client.propose(encode_command(command))
                position = LogPosition("main", applied.term, applied.index)
                done = decode_result(applied.result)
                if kind == "cas":
                    result = isinstance(done, Swapped)
        except Rejected as rejected:
            outcome, error = Outcome.FAIL, str(rejected)
        except OutcomeUnknown as unknown:
            outcome, error = Outcome.UNKNOWN, str(unknown)
        self._operations.append(
            Operation(
                id=len(self._operations),
                process=self.name if outcome is not Outcome.UNKNOWN else f"{self.name}?{called_ns}",
                function=kind,
                value=value,
                result=result,
                outcome=outcome,
                called=0,
                returned=None,
                called_ns=called_ns,
                returned_ns=self._now_ns(),
                key=key,
                position=position,
                error=error,
            )
        )


def history(operations: list[Operation]) -> History:
    """All that was written down, in the order of the shared clock."""
    return History.timed(operations)

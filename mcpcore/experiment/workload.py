"""Clients that keep a cluster busy and remember everything they were told.

This module exists so that a fault always meets work under way, and so that afterwards every answer
can be held against the replicas. It records; it judges nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mcpcore.errors import CoordinationError, InvalidInput, OutcomeUnknown, Rejected
from mcpcore.experiment.operations import Kind, Operation, Outcome
from mcpcore.experiment.pulse import Pulse
from mcpcore.node.client import Client
from mcpcore.node.kv.commands import CompareAndSet, Get, Put, encode_command, encode_request
from mcpcore.node.kv.results import Found, NotSwapped, PutDone, Swapped, decode_result

_RECENT: Final = 64
"""Keys that reads choose from: what was acknowledged last is what a stale read would miss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPlan:
    """What the clients do.

    Args:
        lanes_per_client: operations that one client (one session) has under way at most.
        rate_per_s: operations a second, of all clients together, while nothing stands in the way.
        puts: share of puts; likewise increments. The rest are reads.
        increments: share of increments.
        counters: how many shared counters there are.
        seed: of what is done when.
    """

    lanes_per_client: int = 6
    rate_per_s: float = 150.0
    puts: float = 0.55
    increments: float = 0.20
    counters: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.puts >= 0 and self.increments >= 0 and self.puts + self.increments <= 1):
            raise InvalidInput("shares must be in [0, 1], in all, too", where="workload")
        if not (self.rate_per_s > 0 and self.lanes_per_client > 0 and self.counters > 0):
            raise InvalidInput("rate, lanes and counters must be positive", where="workload")


class Workload:
    """Runs until it is told to stop, or for ever.

    Args:
        clients: by name; the name says which site a client is at: ``site/number``.
        plan: what they do.
        pulse: hears of every operation.
    """

    def __init__(self, clients: Mapping[str, Client], plan: WorkloadPlan, pulse: Pulse) -> None:
        self.operations: list[Operation] = []
        """Everything that has returned, in order of return."""
        self._plan = plan
        self._pulse = pulse
        self._clients = clients
        self._stopping = asyncio.Event()
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._seen: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Set all lanes going."""
        loop = asyncio.get_running_loop()
        lanes = [
            _Lane(self, client, name.partition("/")[0], f"{name}.{number}")
            for name, client in self._clients.items()
            for number in range(self._plan.lanes_per_client)
        ]
        gap_s = len(lanes) / self._plan.rate_per_s
        self._tasks = [loop.create_task(lane.run(gap_s), name=lane.name) for lane in lanes]

    async def stop(self) -> list[Operation]:
        """Begin nothing new, wait for what is under way, and return all operations.

        Raises:
            ExceptionGroup: a lane met something that is no answer of a cluster.
        """
        self._stopping.set()
        done = await asyncio.gather(*self._tasks, return_exceptions=True)
        failures = [failure for failure in done if isinstance(failure, Exception)]
        if failures:
            raise ExceptionGroup("lanes of the workload failed", failures)
        return self.operations

    async def abandon(self) -> None:
        """Stop at once; what is under way is forgotten."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class _Lane:
    """One thing after the other: a lane has one operation open at a time."""

    def __init__(self, workload: Workload, client: Client, site: str, name: str) -> None:
        self.name = name
        self._workload = workload
        self._client = client
        self._site = site
        self._rng = random.Random(f"{workload._plan.seed}:{name}")
        self._puts = 0

    async def run(self, gap_s: float) -> None:
        loop, stopping = asyncio.get_running_loop(), self._workload._stopping
        due_s = loop.time() + gap_s * self._rng.random()
        while not stopping.is_set():
            try:
                async with asyncio.timeout_at(due_s):
                    await stopping.wait()
            except TimeoutError:
                await self._one()
            # A lane that was held up does not make up for it: the rate is a bound.
            due_s = max(due_s + gap_s * (0.5 + self._rng.random()), loop.time())

    async def _one(self) -> None:
        workload, plan, draw = self._workload, self._workload._plan, self._rng.random()
        if draw < plan.puts:
            self._puts += 1
            key = f"put/{self.name}/{self._puts:06d}"
            await self._do(Kind.PUT, key, f"{self.name}:{self._puts}", self._put)
        elif draw < plan.puts + plan.increments:
            key = f"counter/{self._rng.randrange(plan.counters)}"
            number = str(workload._seen.get(key, 0) + 1)
            await self._do(Kind.INCREMENT, key, number, self._increment)
        elif workload._recent and self._rng.random() < 0.5:
            await self._do(Kind.READ, self._rng.choice(workload._recent), "", self._read)
        else:
            key = f"counter/{self._rng.randrange(plan.counters)}"
            await self._do(Kind.READ, key, "", self._read)

    async def _do(
        self,
        kind: Kind,
        key: str,
        value: str,
        ask: Callable[[str, str], Awaitable[dict[str, Any]]],
    ) -> None:
        clock, pulse = asyncio.get_running_loop().time, self._workload._pulse
        pulse.called(self._site)
        called_s = clock()
        outcome, facts = Outcome.OK, {}
        try:
            facts = await ask(key, value)
        except OutcomeUnknown as error:
            outcome, facts = Outcome.UNKNOWN, {"error": str(error)}
        except Rejected as error:
            outcome, facts = Outcome.FAIL, {"error": str(error)}
        except CoordinationError as error:
            outcome, facts = Outcome.UNKNOWN, {"error": str(error)}
        op = Operation(
            site=self._site,
            lane=self.name,
            kind=kind,
            key=key,
            value=value,
            called_s=called_s,
            returned_s=clock(),
            outcome=outcome,
            **facts,
        )
        self._workload.operations.append(op)
        pulse.returned(op)
        if kind is Kind.PUT and op.is_write:
            self._workload._recent.append(key)

    async def _put(self, key: str, value: str) -> dict[str, Any]:
        applied = await self._client.propose(encode_command(Put(key.encode(), value.encode())))
        result = decode_result(applied.result)
        if not isinstance(result, PutDone):
            raise InvalidInput(f"a put was answered with {result}", where=key)
        return {"revision": result.revision, "term": applied.term, "index": applied.index}

    async def _increment(self, key: str, value: str) -> dict[str, Any]:
        expected = None if value == "1" else str(int(value) - 1).encode()
        command = CompareAndSet(key.encode(), expected, value.encode())
        applied = await self._client.propose(encode_command(command))
        result = decode_result(applied.result)
        facts: dict[str, Any] = {"term": applied.term, "index": applied.index}
        if isinstance(result, Swapped):
            self._saw(key, int(value))
            return {**facts, "revision": result.revision, "swapped": True}
        if not isinstance(result, NotSwapped):
            raise InvalidInput(f"a compare-and-set was answered with {result}", where=key)
        self._saw(key, int(result.current.value) if result.current else 0)
        return facts

    async def _read(self, key: str, _: str) -> dict[str, Any]:
        answered = await self._client.query(encode_request(Get(key.encode())))
        found = decode_result(answered.answer)
        if not isinstance(found, Found):
            raise InvalidInput(f"a read was answered with {found}", where=key)
        facts: dict[str, Any] = {"index": answered.applied}
        if found.record is None:
            return facts
        value = found.record.value.decode()
        if key.startswith("counter/"):
            self._saw(key, int(value))
        return {**facts, "revision": found.record.mod_revision, "read": value}

    def _saw(self, key: str, number: int) -> None:
        seen = self._workload._seen
        seen[key] = max(seen.get(key, 0), number)

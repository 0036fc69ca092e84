"""What every workload has in common: lanes that ask, one thing after the other, and a recorder.

This module exists so that a workload is a few lines that say what is asked, and so that pace,
outcomes and the names of processes are right for all of them. The clock and the random source are
handed in. It must never judge.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from mcpcore.check import History, LogPosition, Outcome, Recorder
from mcpcore.errors import CoordinationError, OutcomeUnknown, Rejected
from mcpcore.experiment.workloads.store import Answer, Store


class Failed(Exception):
    """The operation certainly had no effect, although nobody refused it: say, a lost race."""


class Ask(NamedTuple):
    """One operation about to be called.

    Args:
        function: its name in the history.
        value: its argument.
        key: the object it is about, if there are several.
        do: carries it out; the answer's value is the operation's result.
    """

    function: str
    value: Any
    key: Any
    do: Callable[[], Awaitable[Answer]]


class Work(Protocol):
    """A kind of workload, with whatever its clients share."""

    judge: str
    """Who judges its history: a name in ``mcpcore.check.JUDGES``."""
    writes: frozenset[str]
    """Functions that change something, for figures."""

    async def prepare(self, stores: Sequence[Store]) -> None:
        """What must stand before the first operation."""
        ...

    def next(self, lane: Lane) -> Ask:
        """What a lane asks next."""
        ...

    def last(self, lane: Lane) -> Iterable[Ask]:
        """What the first lane asks at the very end, when all is well again: the final reads.

        Each is carried out before the next is fetched, so one may depend on another.
        """
        ...


class Lane:
    """One client's line of operations: it has one open at a time.

    Args:
        name: unique in its workload.
        stores: one for each group, over this client's own connection.
        rng: of its choices.
        now_ns: the clock of the histories, for what a client must measure itself.
    """

    def __init__(
        self,
        name: str,
        stores: Sequence[Store],
        rng: random.Random,
        now_ns: Callable[[], int],
    ) -> None:
        self.name = name
        self.stores = stores
        self.rng = rng
        self.now_ns = now_ns
        self.count = 0
        """Operations so far; makes names of values unique."""

    def store_of(self, key: int) -> Store:
        """The store that holds an object: objects are spread over the groups."""
        return self.stores[key % len(self.stores)]


class Running:
    """One workload while it runs.

    Args:
        work: what is done.
        lanes: by whom.
        rate_per_s: operations each lane begins in a second, at most.
        now_ns: a clock that all workloads of the run share.
        regions: the region of each lane, by its name.
    """

    def __init__(
        self,
        kind: str,
        work: Work,
        lanes: Sequence[Lane],
        *,
        rate_per_s: float,
        now_ns: Callable[[], int],
        regions: Mapping[str, str],
    ) -> None:
        self.kind = kind
        self.work = work
        self.lanes = lanes
        self.regions = regions
        self._gap_s = 1.0 / rate_per_s
        self._now_ns = now_ns
        self._recorder = Recorder()
        self._stopping = False
        self._lost = 0
        self.served: dict[str, int] = {}
        """When the latest write of a lane that was acknowledged had been called, by lane."""

    async def run(self, lane: Lane) -> None:
        """Let a lane ask until it is told to stop."""
        loop = asyncio.get_running_loop()
        due_s = loop.time() + self._gap_s * lane.rng.random()
        process = lane.name
        while True:
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            if self._stopping:
                return
            process = await self._one(process, lane, self.work.next(lane))
            # A lane that was held up does not make up for it: the rate is a bound.
            due_s = max(due_s + self._gap_s * (0.5 + lane.rng.random()), loop.time())

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = True

    async def finish(self, lane: Lane) -> None:
        """Ask the last questions."""
        process = f"{lane.name}, at the end"
        for ask in self.work.last(lane):
            process = await self._one(process, lane, ask)

    def history(self) -> History:
        """Everything asked so far."""
        return self._recorder.history()

    async def _one(self, process: str, lane: Lane, ask: Ask) -> str:
        """Carry out one operation; returns under which name the lane goes on."""
        lane.count += 1
        recorder, called_ns = self._recorder, self._now_ns()
        recorder.invoke(process, ask.function, ask.value, time_ns=called_ns, key=ask.key)
        outcome, result, position, error = await _outcome(ask)
        recorder.complete(
            process, outcome, result, time_ns=self._now_ns(), position=position, error=error
        )
        if outcome is Outcome.OK and ask.function in self.work.writes:
            self.served[lane.name] = called_ns
        if outcome is not Outcome.UNKNOWN:
            return process
        # Nobody knows how it ended, so it stays open for ever; the lane goes on as somebody else.
        self._lost += 1
        return f"{lane.name}, after {self._lost} lost"


async def _outcome(ask: Ask) -> tuple[Outcome, Any, LogPosition | None, str | None]:
    try:
        value, position = await ask.do()
    except OutcomeUnknown as error:
        return Outcome.UNKNOWN, None, None, str(error)
    except (Rejected, Failed) as error:
        return Outcome.FAIL, None, None, str(error)
    except CoordinationError as error:
        return Outcome.UNKNOWN, None, None, str(error)
    return Outcome.OK, value, position, None

"""Who runs next when several could.

This module exists so that hunting for races is a choice of queue and touches nothing else. asyncio
promises that callbacks run in the order in which they were scheduled, and protocols rely on it;
nobody promises anything about the order of *tasks*. So the hunting orders permute task steps only.
"""

from __future__ import annotations

import random
from asyncio import Task
from collections import deque
from typing import Any, Protocol

from mcpcore.errors import InvalidInput
from mcpcore.sim.handle import SimHandle

ORDERS = ("fifo", "random", "pct")
_PCT_STEPS_BETWEEN_CHANGES = (5, 20, 100, 500)


class Order(Protocol):
    """What the scheduler needs of a ready queue; ``collections.deque`` is one."""

    def append(self, handle: SimHandle, /) -> None:
        """Make ``handle`` ready."""
        ...

    def popleft(self) -> SimHandle:
        """Take the one to run now."""
        ...

    def __len__(self) -> int: ...


def make_order(name: str, draw: random.Random) -> Order:
    """Return the ready queue called ``name``: ``fifo``, ``random`` or ``pct``.

    Raises:
        InvalidInput: no such order.
    """
    match name:
        case "fifo":
            return deque()
        case "random":
            return RandomOrder(draw)
        case "pct":
            return PriorityOrder(draw)
        case _:
            raise InvalidInput(
                f"no scheduling order {name!r}",
                where="order",
                remedy=f"Choose one of {', '.join(ORDERS)}.",
            )


class RandomOrder:
    """Any ready task, or the oldest plain callback, with equal chances."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._callbacks: deque[SimHandle] = deque()
        self._tasks: list[SimHandle] = []

    def append(self, handle: SimHandle, /) -> None:
        """Make ``handle`` ready."""
        if _task_of(handle) is None:
            self._callbacks.append(handle)
        else:
            self._tasks.append(handle)

    def popleft(self) -> SimHandle:
        """Take the one to run now."""
        tasks = self._tasks
        chosen = self._draw.randrange(len(tasks) + bool(self._callbacks))
        if chosen == len(tasks):
            return self._callbacks.popleft()
        tasks[chosen], tasks[-1] = tasks[-1], tasks[chosen]
        return tasks.pop()

    def __len__(self) -> int:
        return len(self._tasks) + len(self._callbacks)


class PriorityOrder:
    """Probabilistic concurrency testing: strict random priorities, demoted now and then.

    Source: Burckhardt et al. 2010, "A randomized scheduler with probabilistic guarantees of
    finding bugs". Task steps take the place of threads' steps; a plain callback always goes first,
    since only tasks compete.
    """

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._callbacks: deque[SimHandle] = deque()
        self._tasks: list[tuple[float, int, SimHandle]] = []
        self._priority: dict[str, float] = {}
        self._count = 0
        self._lowest = 0.0
        # How long the race to be found lasts is unknown, so each world tries one scale.
        self._change_every = draw.choice(_PCT_STEPS_BETWEEN_CHANGES)

    def append(self, handle: SimHandle, /) -> None:
        """Make ``handle`` ready."""
        task = _task_of(handle)
        if task is None:
            self._callbacks.append(handle)
            return
        label = str(getattr(task, "label", ""))
        if label not in self._priority:
            self._priority[label] = self._draw.random()
        self._count += 1
        self._tasks.append((-self._priority[label], self._count, handle))

    def popleft(self) -> SimHandle:
        """Take the one to run now."""
        if self._callbacks:
            return self._callbacks.popleft()
        first = min(self._tasks)
        self._tasks.remove(first)
        if self._draw.randrange(self._change_every) == 0:
            label = str(getattr(_task_of(first[2]), "label", ""))
            self._lowest -= 1.0
            self._priority[label] = self._lowest
        return first[2]

    def __len__(self) -> int:
        return len(self._tasks) + len(self._callbacks)


def _task_of(handle: SimHandle) -> Task[Any] | None:
    owner = getattr(handle._callback, "__self__", None)
    return owner if isinstance(owner, Task) else None

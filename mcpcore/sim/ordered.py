"""Sets that iterate in the order of arrival.

This module exists because asyncio keeps tasks and futures in sets, and the order of a set of
objects that hash by address changes from run to run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

_all_tasks = asyncio.all_tasks


class OrderedSet(set[Any]):
    """A set that iterates in the order in which its elements were added."""

    def __init__(self, elements: Iterable[Any] = ()) -> None:
        super().__init__()
        self._order: dict[Any, None] = {}
        for element in elements:
            self.add(element)

    def add(self, element: Any) -> None:
        """Add an element, last."""
        super().add(element)
        self._order[element] = None

    def discard(self, element: Any) -> None:
        """Remove an element if it is there."""
        super().discard(element)
        self._order.pop(element, None)

    def remove(self, element: Any) -> None:
        """Remove an element.

        Raises:
            KeyError: it is not there.
        """
        super().remove(element)
        del self._order[element]

    def pop(self) -> Any:
        """Remove and return the oldest element.

        Raises:
            KeyError: the set is empty.
        """
        if not self._order:
            raise KeyError("pop from an empty set")
        element = next(iter(self._order))
        self.remove(element)
        return element

    def clear(self) -> None:
        """Remove everything."""
        super().clear()
        self._order.clear()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._order)

    def __reduce__(self) -> Any:
        return OrderedSet, (list(self._order),)

    def copy(self) -> OrderedSet:
        """Return a set with the same elements in the same order."""
        return OrderedSet(self._order)

    def _rebuild(self) -> None:
        # An operation of the base class changed the elements; keep the order of those that stay.
        kept = [each for each in self._order if set.__contains__(self, each)]
        fresh = [each for each in set.__iter__(self) if each not in self._order]
        self._order = dict.fromkeys(kept + fresh)

    def update(self, *others: Iterable[Any]) -> None:
        """Add the elements of each iterable, in order."""
        for other in others:
            for element in other:
                self.add(element)

    def difference_update(self, *others: Iterable[Any]) -> None:
        """Remove the elements of each iterable."""
        super().difference_update(*others)
        self._rebuild()

    def intersection_update(self, *others: Iterable[Any]) -> None:
        """Keep only what is in every iterable."""
        super().intersection_update(*others)
        self._rebuild()

    def symmetric_difference_update(self, other: Iterable[Any]) -> None:
        """Keep what is in one of both only."""
        incoming = dict.fromkeys(other)
        ours = dict.fromkeys(self._order)
        self.clear()
        self.update((e for e in ours if e not in incoming), (e for e in incoming if e not in ours))

    def __or__(self, other: Any) -> Any:
        result = self.copy()
        result.update(other)
        return result

    def __sub__(self, other: Any) -> Any:
        return OrderedSet(each for each in self._order if each not in other)

    def __and__(self, other: Any) -> Any:
        return OrderedSet(each for each in self._order if each in other)

    def __ior__(self, other: Any) -> Any:
        self.update(other)
        return self

    def __isub__(self, other: Any) -> Any:
        self.difference_update(other)
        return self

    def __iand__(self, other: Any) -> Any:
        self.intersection_update(other)
        return self


def ordered_all_tasks(loop: asyncio.AbstractEventLoop | None = None) -> set[asyncio.Task[Any]]:
    """``asyncio.all_tasks``, oldest task first inside a world."""
    tasks = _all_tasks(loop)
    if all(hasattr(task, "serial") for task in tasks):
        return OrderedSet(sorted(tasks, key=hash))
    return tasks

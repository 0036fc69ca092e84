"""Counters that are never reset: grow-only, positive-negative, and bounded by rights.

This module exists for numbers that replicas change without asking each other. Each replica writes
only its own cells, so joining by the larger number loses nothing. It must never hold a counter that
can be reset; see :mod:`mcpcore.crdt.resettable`.

Source: Shapiro et al. 2011, "A comprehensive study of CRDTs"; for the bounded counter Balegas et
al., SRDS 2015, "Extending eventually consistent cloud databases for enforcing numeric invariants".
"""

from __future__ import annotations

from mcpcore.crdt.cells import Cells
from mcpcore.crdt.context import check_replica
from mcpcore.crdt.values import unpack
from mcpcore.crdt.view import CellsView
from mcpcore.errors import InvalidInput, RightsExhausted


def _amount(value: int) -> int:
    if type(value) is not int or value < 0:
        raise InvalidInput(f"{value!r} is no amount", where="counter", remedy="Use 0 or more")
    return value


class GCounter(CellsView):
    """A count that only rises."""

    __slots__ = ()

    def increment(self, replica: str, amount: int = 1) -> Cells:
        """Count ``amount`` more as ``replica``. Returns the delta."""
        total = self.state.get(check_replica(replica)) + _amount(amount)
        return self.state.raise_to(replica, total)

    def value(self) -> int:
        """What all replicas counted together."""
        return sum(self.state.numbers.values())


class PNCounter(CellsView):
    """A count that rises and falls. For counters inside maps use ``Counter``, which can reset."""

    __slots__ = ()

    def increment(self, replica: str, amount: int = 1) -> Cells:
        """Count ``amount`` more. Returns the delta."""
        return self._raise("+", replica, amount)

    def decrement(self, replica: str, amount: int = 1) -> Cells:
        """Count ``amount`` less. Returns the delta."""
        return self._raise("-", replica, amount)

    def _raise(self, sign: str, replica: str, amount: int) -> Cells:
        key = (sign, check_replica(replica))
        return self.state.raise_to(key, self.state.get(key) + _amount(amount))

    def value(self) -> int:
        """Increments less decrements of all replicas."""
        return sum(
            number if key[1:3] == b"\xa1+" else -number
            for key, number in self.state.numbers.items()
        )


class BoundedCounter(CellsView):
    """A quota: a count of at least 0 that replicas spend without asking, by rights they hold.

    A grant creates rights, spending uses them up, and rights move between replicas. Each replica
    checks only its own rights, and the sum of spendings can never exceed the sum of grants.

    HAZARD: only ``replica`` itself may spend or give away its rights, and only on a state that has
    all of its own past. A new incarnation is another replica, with no rights until somebody gives
    it some; the rights of a dead one are lost until an operator grants them anew.
    """

    __slots__ = ()

    def grant(self, replica: str, amount: int) -> Cells:
        """Create ``amount`` of new rights in the hands of ``replica``. Returns the delta."""
        return self._move(replica, replica, amount)

    def spend(self, replica: str, amount: int = 1) -> Cells:
        """Use up rights that ``replica`` holds. Returns the delta.

        Raises:
            RightsExhausted: it does not hold that many; nothing changed.
        """
        self._need(replica, _amount(amount))
        key = ("-", replica)
        return self.state.raise_to(key, self.state.get(key) + amount)

    def transfer(self, giver: str, receiver: str, amount: int) -> Cells:
        """Move rights; only the giver may call this. Returns the delta.

        Raises:
            RightsExhausted: the giver does not hold that many; nothing changed.
        """
        if giver == receiver:
            raise InvalidInput("giver and receiver are the same", where="transfer")
        self._need(giver, _amount(amount))
        return self._move(giver, receiver, amount)

    def rights(self, replica: str) -> int:
        """How much ``replica`` may spend, as far as this state knows."""
        held = -self.state.get(("-", replica))
        for (kind, giver, *receiver), number in self._cells():
            if kind == ">":
                held += number * (receiver[0] == replica)
                held -= number * (giver == replica != receiver[0])
        return held

    def value(self) -> int:
        """What is granted and not spent, as far as this state knows.

        While grants are still under way to us the spendings may be here before them; then this is
        0, although the spenders had every right.
        """
        granted = sum(n for (k, *who), n in self._cells() if k == ">" and who[0] == who[1])
        spent = sum(n for (k, *_), n in self._cells() if k == "-")
        return max(0, granted - spent)

    def _cells(self) -> list[tuple[tuple[str, ...], int]]:
        cells = []
        for key, number in self.state.numbers.items():
            parts = unpack(key)
            if isinstance(parts, tuple) and len(parts) == (3 if parts[:1] == (">",) else 2):
                cells.append((tuple(str(part) for part in parts), number))
        return cells

    def _move(self, giver: str, receiver: str, amount: int) -> Cells:
        key = (">", check_replica(giver), check_replica(receiver))
        return self.state.raise_to(key, self.state.get(key) + _amount(amount))

    def _need(self, replica: str, amount: int) -> None:
        held = self.rights(check_replica(replica))
        if held < amount:
            raise RightsExhausted(replica, wanted=amount, held=held)

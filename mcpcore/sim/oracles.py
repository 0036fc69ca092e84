"""Promises that a run must keep, and bounds within which it must come together again.

This module exists so that a scenario states what must always hold, what must come to pass, what
must follow from what, and how fast a healed system converges, each by name, and is told exactly
when and how a promise was broken. Predicates are looked at with all hosts at rest, at every moment
of virtual time, so nothing slips through between two samples. They may look at anything and must
change nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcpcore.errors import PropertyViolated

if TYPE_CHECKING:
    from mcpcore.sim.world import World

Predicate = Callable[[], object]
"""True if it holds. It may also raise ``AssertionError``, whose text then says what was found."""

_S = 1_000_000_000


@dataclass(slots=True)
class _Deadline:
    name: str
    holds: Predicate
    due_ns: int
    since_ns: int


@dataclass(frozen=True, slots=True)
class Convergence:
    """How a healed system came together.

    ``slack_s`` is what was left of the bound: a bound whose slack shrinks is about to be missed.
    """

    bound_s: float
    took_s: float

    @property
    def slack_s(self) -> float:
        """What was left of the bound, virtual seconds."""
        return self.bound_s - self.took_s

    def __str__(self) -> str:
        return (
            f"converged {self.took_s:.3f} s after healing; the bound is {self.bound_s:.3f} s, "
            f"slack {self.slack_s:.3f} s"
        )


class Promises:
    """The promises of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._always: list[tuple[str, Predicate]] = []
        self._due: list[_Deadline] = []
        self._rules: list[tuple[str, Predicate, Predicate, int, list[bool]]] = []
        self.kept: dict[str, float] = {}
        """For each promise with a deadline: the longest time it took, virtual seconds."""
        self._watching = False

    def always(self, name: str, holds: Predicate) -> None:
        """Promise that ``holds`` at every moment from now on."""
        self._always.append((name, holds))
        self._watch()

    def eventually(self, name: str, holds: Predicate, *, within_s: float) -> None:
        """Promise that ``holds`` becomes true within ``within_s`` virtual seconds from now."""
        self._expect(name, holds, int(within_s * _S))
        self._watch()

    def leads_to(self, name: str, cause: Predicate, effect: Predicate, *, within_s: float) -> None:
        """Promise that whenever ``cause`` becomes true, ``effect`` is true within ``within_s``."""
        self._rules.append((name, cause, effect, int(within_s * _S), [False]))
        self._watch()

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._world.check_each_instant(self._look)

    def _expect(self, name: str, holds: Predicate, within_ns: int) -> None:
        now_ns = self._world.now_ns
        self._due.append(_Deadline(name, holds, now_ns + within_ns, now_ns))
        # A moment of its own, so that a deadline is noticed even if nothing else happens then.
        self._world.timeline.at(now_ns + within_ns + 1, _nothing)

    def _look(self) -> None:
        for name, holds in self._always:
            self._must_hold(name, holds)
        for name, cause, effect, within_ns, was_true in self._rules:
            is_true = bool(cause())
            if is_true and not was_true[0]:
                self._expect(name, effect, within_ns)
            was_true[0] = is_true
        if self._due:
            self._due = [due for due in self._due if not self._met(due)]

    def _must_hold(self, name: str, holds: Predicate) -> None:
        found = _found(holds)
        if found is not None:
            raise PropertyViolated(name, at_s=self._world.now_s, found=found)

    def _met(self, due: _Deadline) -> bool:
        now_ns = self._world.now_ns
        found = _found(due.holds)
        if found is None:
            took_s = (now_ns - due.since_ns) / _S
            self.kept[due.name] = max(took_s, self.kept.get(due.name, 0.0))
            return True
        if now_ns > due.due_ns:
            raise PropertyViolated(
                due.name,
                at_s=self._world.now_s,
                found=f"{found} within {(due.due_ns - due.since_ns) / _S:g} s",
            )
        return False

    def settle(self) -> None:
        """Run until every promise with a deadline is kept.

        Raises:
            PropertyViolated: one was not.
        """
        while self._due:
            self._world.run((max(due.due_ns for due in self._due) - self._world.now_ns) / _S + 1e-6)

    def converge(
        self, name: str, holds: Predicate, *, core: Iterable[str], bound_s: float
    ) -> Convergence:
        """Heal the hosts of ``core`` and the paths between them, and nothing else; then ``holds``
        must become true within ``bound_s``.

        What stays broken is the point: a system that is promised to work with a quorum must not
        need the rest (TigerBeetle's simulator calls this liveness mode).

        Raises:
            PropertyViolated: it did not, within the bound.
        """
        world = self._world
        members = list(core)
        world.heal(members)
        began_ns = world.now_ns
        try:
            world.run_until(lambda: _found(holds) is None, within_s=bound_s)
        except PropertyViolated as missed:
            if missed.name != "run_until":
                raise
            raise PropertyViolated(
                name,
                at_s=world.now_s,
                found=(
                    f"{_found(holds)} within the bound of {bound_s:g} s after healing "
                    f"{', '.join(members)}"
                ),
            ) from None
        result = Convergence(bound_s, (world.now_ns - began_ns) / _S)
        self.kept[name] = max(result.took_s, self.kept.get(name, 0.0))
        return result


def _found(holds: Predicate) -> str | None:
    """What was found instead, or ``None`` if the predicate holds."""
    try:
        return None if holds() else "it did not hold"
    except AssertionError as error:
        return str(error) or "it did not hold"


def _nothing() -> None:
    """Make a moment."""

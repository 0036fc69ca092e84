"""What a saga is made of: steps, compensations, a graph, a pivot.

This module exists so that a saga can be read in ten lines, and so that one which could never be
undone is refused before it ever runs. It describes; it runs nothing. It must never import asyncio.

Words: Garcia-Molina and Salem 1987, "Sagas" (backward and forward recovery); the pivot is that of
C. Richardson, "Microservices Patterns" (2018): before it everything can be undone, after it
everything must get done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final, TypeAlias

import msgpack

from mcpcore.errors import InvalidInput
from mcpcore.saga.backoff import NORMAL, PATIENT, Retry
from mcpcore.saga.call import Action

STEPS_MAX = 1000


class NoEffect:
    """See ``NO_EFFECT``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NO_EFFECT"


NO_EFFECT: Final = NoEffect()
"""In the place of a compensation: the step changes nothing, so there is nothing to undo."""

ResourceKey: TypeAlias = str | Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Args:
        action: what it does; an ``async def`` that takes a ``Call``.
        undo: what takes it back, the same way; or ``NO_EFFECT``. Needed by every step that may
            have to be undone: all of them, but the pivot and those after it.
        name: unique in its saga; the action's name unless said otherwise.
        resource: key of what it acts on, or a function of the saga's input that tells; the step's
            name unless said otherwise. It is part of the idempotency token.
        target: whom it calls, for circuit breaker and bulkhead; empty for nobody.
        timeout_s: of one attempt; afterwards its outcome is unknown.
        retry: how often it is tried.
        undo_timeout_s, undo_retry: the same for the compensation.
        pivot: the point of no return.
    """

    action: Action
    undo: Action | NoEffect | None = None
    name: str = ""
    resource: ResourceKey = ""
    target: str = ""
    timeout_s: float = 30.0
    retry: Retry = NORMAL
    undo_timeout_s: float = 30.0
    undo_retry: Retry = PATIENT
    pivot: bool = False

    def __post_init__(self) -> None:
        if not callable(self.action):
            raise InvalidInput(f"{self.action!r} is no async function", where="Step.action")
        if not self.name:
            object.__setattr__(self, "name", getattr(self.action, "__name__", ""))
        _check_name(self.name, "step")
        if self.pivot and self.undo is not None:
            raise InvalidInput(
                "it is the pivot and has a compensation",
                where=f"step {self.name}",
                remedy="Nothing is undone once the pivot is done: drop one of the two",
            )
        for name in ("timeout_s", "undo_timeout_s"):
            if not getattr(self, name) > 0:
                raise InvalidInput("must be positive", where=f"step {self.name}, {name}")


class Parallel:
    """Steps and sub-sagas that may run at the same time.

    Args:
        branches: each a ``Step``, a ``Saga`` (a sequence), a ``SubSaga``.
    """

    __slots__ = ("branches",)

    def __init__(self, *branches: Step | Saga | SubSaga) -> None:
        for branch in branches:
            if not isinstance(branch, Step | Saga | SubSaga):
                raise InvalidInput(
                    f"{branch!r} is no branch", where="Parallel", remedy="Use Step or Saga"
                )
        self.branches = branches


@dataclass(frozen=True, slots=True)
class SubSaga:
    """A saga as a part of another: its steps are named ``name/step``, and undone as one unit.

    Args:
        saga: the part. Its deadline, locks and migrations count only where it runs alone.
        given: makes its input from the whole saga's; else it is the same.
        name: the saga's own unless said otherwise; needed where one saga is used twice.
    """

    saga: Saga
    given: Callable[[Any], Any] | None = None
    name: str = ""


class UndoOrder(StrEnum):
    """How compensations follow each other."""

    REVERSE = "reverse"
    """A step is undone when everything that came after it has been."""
    PARALLEL = "parallel"
    """All at once."""


@dataclass(frozen=True, slots=True)
class Migration:
    """How sagas of an older version go on in this one.

    Args:
        since: the older version, as ``Saga.version`` gave it.
        rename: steps of the older version that have another name here. Steps that were never
            started need no mention; a step that was, and is not here, refuses the migration, and
            so do two that would become one.
    """

    since: str
    rename: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Placed:
    """A step at its place in the graph."""

    step: Step
    name: str
    scope: str
    """The sub-saga it is in, as ``name/``; empty in none."""
    after: tuple[str, ...]
    """Steps that must be done before it starts."""
    given: tuple[Callable[[Any], Any], ...]
    """What makes its input from the saga's, outermost first."""
    forward_only: bool
    """Whether it comes after the pivot (or is it): never undone."""

    @property
    def can_undo(self) -> bool:
        """Whether there is anything to run in order to undo it."""
        return self.step.undo is not None and not isinstance(self.step.undo, NoEffect)


class Saga:
    """A definition. Its parts run one after the other.

    Args:
        name: of the definition.
        parts: ``Step``, ``Parallel``, ``Saga`` or ``SubSaga``.
        deadline_s: the budget of a saga, unless its caller grants less; None for none. When it is
            used up before the pivot, the saga is compensated; after the pivot it has no meaning.
        locks: resources that a saga holds from its first step to its end: names, or a function
            of its input that gives them.
        undo_order: how compensations follow each other.
        revision: part of the version; change it when steps mean something else under their old
            names.
        migrations: from which older versions, and how, running sagas are taken along.

    Raises:
        InvalidInput: it could not be run, or not be undone. The message says why.
    """

    __slots__ = (
        "deadline_s",
        "locks",
        "migrations",
        "name",
        "parts",
        "pivot",
        "revision",
        "steps",
        "undo_order",
        "version",
    )

    def __init__(
        self,
        name: str,
        *parts: Part,
        deadline_s: float | None = None,
        locks: Sequence[str] | Callable[[Any], Sequence[str]] = (),
        undo_order: UndoOrder = UndoOrder.REVERSE,
        revision: int = 1,
        migrations: Sequence[Migration] = (),
    ) -> None:
        _check_name(name, "saga")
        if not parts:
            raise InvalidInput("has no steps", where=f"saga {name}")
        if deadline_s is not None and not 0 < deadline_s < 1e9:
            raise InvalidInput(f"{deadline_s!r} s is no deadline", where=f"saga {name}, deadline_s")
        if isinstance(locks, str):
            raise InvalidInput("is a list of names", where=f"saga {name}, locks")
        self.name = name
        self.parts = parts
        self.deadline_s = deadline_s
        self.locks = locks
        self.undo_order = UndoOrder(undo_order)
        self.revision = revision
        self.migrations = {migration.since: migration for migration in migrations}
        placed: dict[str, Placed] = {}
        for step in _place(parts, name, "", (), (), outermost=True):
            if step.name in placed:
                raise InvalidInput(
                    f"two steps are named {step.name}", where=f"saga {name}", remedy="Give name="
                )
            placed[step.name] = step
        if len(placed) > STEPS_MAX:
            raise InvalidInput(f"has more than {STEPS_MAX} steps", where=f"saga {name}")
        self.steps: Mapping[str, Placed] = placed
        self.pivot = next((each.name for each in placed.values() if each.step.pivot), "")
        self.version = self._version()
        """Hash of everything that the journal relies on: the graph, the names, the pivot, what can
        be undone, the revision. Bodies of functions and retry policies don't belong to it, so a
        mended step may serve sagas that wait for it."""

    def __repr__(self) -> str:
        return f"Saga({self.name!r}, {' '.join(self.steps)}, version {self.version})"

    def locks_of(self, value: Any) -> tuple[str, ...]:
        """The resources that a saga with this input locks: sorted, each once.

        Raises:
            InvalidInput: the function gave no list of names.
        """
        found = self.locks(value) if callable(self.locks) else self.locks
        names: list[object] = [found] if isinstance(found, str) else list(found)
        if isinstance(found, str) or not all(isinstance(name, str) and name for name in names):
            raise InvalidInput(f"{found!r} is no list of names", where=f"saga {self.name}, locks")
        return tuple(sorted(set(found)))

    def _version(self) -> str:
        shape = [
            (each.name, sorted(each.after), each.step.pivot, each.can_undo)
            for each in self.steps.values()
        ]
        content = msgpack.packb((self.name, self.revision, str(self.undo_order), shape))
        return hashlib.sha256(content).hexdigest()[:16]


Part: TypeAlias = Step | Parallel | Saga | SubSaga
"""What a saga is made of."""


def _place(
    parts: Sequence[Part],
    saga: str,
    scope: str,
    before: tuple[str, ...],
    given: tuple[Callable[[Any], Any], ...],
    *,
    outermost: bool,
) -> Iterator[Placed]:
    """The steps of a sequence, each with what comes before it."""
    passed = False
    for part in parts:
        if isinstance(part, Parallel):
            ends: list[str] = []
            for branch in part.branches:
                placed = list(_branch(branch, saga, scope, before, given, passed))
                yield from placed
                ends += _ends(placed)
            before = tuple(ends) or before
        elif isinstance(part, Step):
            if part.pivot and not outermost:
                raise InvalidInput(
                    f"{part.name} is a pivot inside of a part that is undone as one",
                    where=f"saga {saga}",
                    remedy="Put it into the outermost sequence",
                )
            if part.pivot and passed:
                raise InvalidInput(f"{part.name} is a second pivot", where=f"saga {saga}")
            passed = passed or part.pivot
            placed = list(_branch(part, saga, scope, before, given, passed))
            yield from placed
            before = tuple(_ends(placed))
        elif isinstance(part, Saga | SubSaga):
            placed = list(_branch(part, saga, scope, before, given, passed))
            yield from placed
            before = tuple(_ends(placed))
        else:
            raise InvalidInput(
                f"{part!r} is no part of a saga", where=f"saga {saga}", remedy="Use Step, Parallel"
            )


def _branch(
    part: Step | Saga | SubSaga,
    saga: str,
    scope: str,
    before: tuple[str, ...],
    given: tuple[Callable[[Any], Any], ...],
    passed: bool,
) -> Iterator[Placed]:
    if isinstance(part, Step):
        if part.pivot and not passed:
            raise InvalidInput(
                f"{part.name} is a pivot in a parallel part", where=f"saga {saga}",
                remedy="Put it into the outermost sequence",
            )  # fmt: skip
        if part.undo is None and not passed:
            raise InvalidInput(
                f"{part.name} has no compensation and may have to be undone",
                where=f"saga {saga}",
                remedy="Give undo=, or undo=NO_EFFECT if it changes nothing, or make it (or a step "
                "before it) the pivot",
            )
        yield Placed(part, scope + part.name, scope, before, given, passed)
        return
    if isinstance(part, Saga):
        part = SubSaga(part)
    inner = (*given, part.given) if part.given is not None else given
    scope = f"{scope}{part.name or part.saga.name}/"
    for placed in _place(part.saga.parts, saga, scope, before, inner, outermost=False):
        yield replace(placed, forward_only=True) if passed else placed


def _ends(placed: Sequence[Placed]) -> list[str]:
    """The steps that no other of them comes after."""
    inner = {name for each in placed for name in each.after}
    return [each.name for each in placed if each.name not in inner]


def _check_name(name: object, what: str) -> None:
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"a {what} needs a name, not {name!r}", remedy="Give name=")
    odd = not name.isprintable() or set(name) & set(":/ ") or name.endswith(".undo")
    if len(name) > 100 or odd:
        raise InvalidInput(
            f"{name!r} is no name of a {what}",
            remedy="Names have up to 100 printable characters, no space, colon or slash, and don't "
            "end in .undo",
        )

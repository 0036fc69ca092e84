"""The definitions that an engine can run, and which of them a saga in a journal goes on with.

This module exists so that the rule for changed definitions stands in one place: a saga goes on in
its own version, or in one that says how (a migration), or not at all. It must never start anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from mcpcore.errors import DefinitionChanged, InvalidInput
from mcpcore.saga.definition import Migration, Saga
from mcpcore.saga.journals.contract import Head
from mcpcore.saga.state import State


class Definitions:
    """Definitions by name and version.

    Args:
        has_cells: whether locks can be kept.

    Raises:
        InvalidInput: two have the same version, or one locks and there are no cells.
    """

    def __init__(self, sagas: Iterable[Saga], *, has_cells: bool) -> None:
        self._sagas: dict[tuple[str, str], Saga] = {}
        for saga in sagas:
            if (saga.name, saga.version) in self._sagas:
                raise InvalidInput(f"{saga} is given twice", where="definitions")
            if saga.locks and not has_cells:
                raise InvalidInput(f"{saga} has locks, and there are no cells", where="cells")
            self._sagas[saga.name, saga.version] = saga

    def __contains__(self, saga: Saga) -> bool:
        """Whether this very definition is one of them."""
        return self._sagas.get((saga.name, saga.version)) is saga

    def find(self, head: Head) -> tuple[Saga, Migration | None]:
        """What a saga goes on with, and how it gets there.

        Raises:
            DefinitionChanged: nothing here is for it.
        """
        same = self._sagas.get((head.definition, head.version))
        if same is not None:
            return same, None
        known = []
        for (name, version), saga in self._sagas.items():
            if name == head.definition:
                known.append(version)
                if head.version in saga.migrations:
                    return saga, saga.migrations[head.version]
        raise DefinitionChanged(head.saga, head.definition, head.version, tuple(known))


def check_migration(saga: Saga, state: State, migration: Migration) -> None:
    """See that everything a saga has begun has a place of its own in the newer version.

    Raises:
        DefinitionChanged: a step has none, or shares it with another.
    """
    renamed = [migration.rename.get(name, name) for name in state.steps]
    if len(set(renamed)) < len(renamed) or not saga.steps.keys() >= set(renamed):
        raise DefinitionChanged(state.saga, saga.name, state.version, (saga.version,))

"""Putting the stand-ins in place while a world runs, and taking them away afterwards.

This module exists so that programs need no change: ``time.time()`` is looked up and found to be the
host's. ``from time import time`` binds the real function before any world exists, so such aliases
are searched for in the modules' globals and replaced too. What is bound deeper (default arguments,
class attributes, C code) escapes; the determinism check is there to catch it.

Patches are counted: worlds may nest, and each thread that runs no simulated host sees the real
thing throughout.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator
from threading import get_ident
from types import ModuleType
from typing import Any

from mcpcore.errors import InvalidInput
from mcpcore.sim.ordered import OrderedSet, ordered_all_tasks
from mcpcore.sim.standins import Table, make_table

# These measure or run the test itself, or hold the originals for a reason of their own.
_LEFT_ALONE = (
    "mcpcore.sim.",
    "_pytest",
    "pytest",
    "pluggy",
    "hypothesis",
    "coverage",
    "xdist",
    "execnet",
    "threading",
    "_thread",
    "queue",
    "concurrent.futures",
    "multiprocessing",
    "subprocess",
    "selectors",
    "signal",
    "importlib",
    "distributed",
)

_Site = tuple[dict[str, Any], str, Any, Any]


class _Patches:
    """The stand-ins, in place while at least one world is entered."""

    def __init__(self) -> None:
        self._depth = 0
        self._thread = 0
        self._table: Table = {}
        self._undo: list[tuple[Any, str, Any]] = []
        self._aliases: list[_Site] = []
        self._searched: dict[str, ModuleType] = {}

    def enter(self) -> None:
        """Put everything in place, unless it already is.

        Raises:
            InvalidInput: a world is entered in another thread; modules are shared by all threads.
        """
        if self._depth and self._thread != get_ident():
            raise InvalidInput(
                "another thread of this process is in a world",
                where="World",
                remedy="Run worlds side by side in processes, not in threads.",
            )
        self._thread = get_ident()
        self._depth += 1
        if self._depth > 1:
            return
        if not self._table:
            self._table = make_table()
            self._table[asyncio, "all_tasks"] = ordered_all_tasks
            self._table[asyncio.tasks, "all_tasks"] = ordered_all_tasks
        self._find_aliases()
        for (owner, name), stand_in in self._table.items():
            self._undo.append((owner, name, getattr(owner, name)))
            setattr(owner, name, stand_in)
        for names, name, _, stand_in in self._aliases:
            names[name] = stand_in
        # asyncio.wait() and as_completed() put their arguments into a set, whose order depends on
        # addresses; under this name they get one that keeps the order of arrival.
        asyncio.tasks.set = OrderedSet  # type: ignore[attr-defined]

    def leave(self) -> None:
        """Take everything away, if this was the last world."""
        self._depth -= 1
        if self._depth:
            return
        del asyncio.tasks.set  # type: ignore[attr-defined]
        for names, name, real, stand_in in self._aliases:
            if names.get(name) is stand_in:
                names[name] = real
        while self._undo:
            owner, name, real = self._undo.pop()
            setattr(owner, name, real)

    def _find_aliases(self) -> None:
        """Search modules that were not searched before for names bound to what is replaced."""
        loaded: list[tuple[str, object]] = list(sys.modules.items())
        fresh = [
            (name, module)
            for name, module in loaded
            if isinstance(module, ModuleType)
            and self._searched.get(name) is not module
            and not name.startswith(_LEFT_ALONE)
        ]
        if not fresh:
            return
        # Searched by address, for speed; each hit is confirmed by identity.
        wanted = {
            id(getattr(owner, name)): (getattr(owner, name), stand_in)
            for (owner, name), stand_in in self._table.items()
            if isinstance(owner, ModuleType)
        }
        patched = {(id(vars(o)), n) for o, n in self._table if isinstance(o, ModuleType)}
        for module_name, module in fresh:
            self._searched[module_name] = module
            self._aliases.extend(
                site
                for site in _sites(vars(module), wanted)
                if (id(site[0]), site[1]) not in patched
            )


def _sites(names: dict[str, Any], wanted: dict[int, tuple[Any, Any]]) -> Iterator[_Site]:
    for name, value in list(names.items()):
        hit = wanted.get(id(value))
        if hit is not None and hit[0] is value:
            yield names, name, value, hit[1]


patches = _Patches()


def replaced_names() -> Iterable[str]:
    """Names of what is replaced inside a world, for documentation and tests."""
    return sorted(f"{owner.__name__}.{name}" for owner, name in make_table())

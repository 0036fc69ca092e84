"""One line that brings a run back.

This module exists so that a failure found anywhere can be run again anywhere: a token holds the
version, the scenario's name, the seed, the order and the schedule, and running it gives the same
events. It also holds the proof that this is so: a scenario run twice must give one digest, and if
it does not, the first differing event is named.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import importlib.util
import json
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mcpcore.errors import InvalidInput, NondeterminismFound
from mcpcore.sim.schedule import Schedule
from mcpcore.sim.trace import first_difference
from mcpcore.sim.world import World

Scenario = Callable[[World], object]
"""What a run does: makes hosts, breaks things, checks promises."""

VERSION = 1
"""Version of traces and tokens: a change of what is recorded, or when, changes it."""


@dataclass(frozen=True, slots=True)
class Token:
    """Everything that determines a run, apart from the code.

    Args:
        scenario: ``module:function`` or ``path/to/file.py:function``; or a test's id.
        seed: the world's seed.
        order: the world's scheduling order.
        schedule: takes the place of what the scenario applies; ``None`` for "leave it".
    """

    scenario: str
    seed: int
    order: str = "fifo"
    schedule: Schedule | None = None

    def encode(self) -> str:
        """Return the token as one word."""
        faults = None if self.schedule is None else self.schedule.to_tables()
        data = json.dumps([VERSION, self.scenario, self.seed, self.order, faults])
        packed = zlib.compress(data.encode(), 9)
        whole = zlib.crc32(packed).to_bytes(4, "big") + packed
        return base64.urlsafe_b64encode(whole).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Token:
        """Read a token.

        Raises:
            InvalidInput: mistyped, cut short, or of another version.
        """
        try:
            whole = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            if zlib.crc32(whole[4:]) != int.from_bytes(whole[:4], "big"):
                raise ValueError("the check sum does not match")
            unpacker = zlib.decompressobj()
            data = json.loads(unpacker.decompress(whole[4:], 1_000_000))
        except (ValueError, binascii.Error, zlib.error) as error:
            raise InvalidInput(
                f"not a replay token: {error}", where="token", remedy="Copy it whole."
            ) from error
        if not isinstance(data, list) or not data or data[0] != VERSION:
            raise InvalidInput(
                "a token of another version",
                where="token",
                remedy="Use the release of mcpcore that printed it.",
            )
        match data[1:]:
            case [str(scenario), int(seed), str(order), list() | None as faults]:
                schedule = None if faults is None else Schedule.from_tables(faults, where="token")
                return cls(scenario, seed, order, schedule)
        raise InvalidInput("not a replay token", where="token", remedy="Copy it whole.")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to.

    ``error`` is ``None`` for a run that kept its promises; ``token`` runs it again.
    """

    token: Token
    digest: str
    events: int
    virtual_s: float
    error: str | None
    schedule: Schedule
    without_effect: tuple[str, ...] = ()


def run_once(token: Token, scenario: Scenario | None = None) -> tuple[Outcome, World]:
    """Run what ``token`` names, and say what it came to. Errors are kept, not raised.

    Args:
        scenario: what to run; found by the token's name if ``None``.

    Raises:
        InvalidInput: no such scenario.
    """
    what = scenario or find_scenario(token.scenario)
    world = World(token.seed, order=token.order)
    world.schedule_override = token.schedule
    error: str | None = None
    with world:
        try:
            what(world)
        except Exception as failed:  # noqa: BLE001 - whatever it is, it is the run's outcome
            notes = "".join(f" [{note}]" for note in getattr(failed, "__notes__", ()))
            error = f"{type(failed).__name__}: {failed}{notes}"
        digest, events, virtual_s = world.digest, len(world.trace), world.now_s
    outcome = Outcome(
        replace(token, schedule=world.applied if len(world.applied) else token.schedule),
        digest,
        events,
        virtual_s,
        error,
        world.applied,
        tuple(str(fault) for fault in world.plan.without_effect()),
    )
    return outcome, world


def check_deterministic(scenario: Scenario, *, seed: int = 0, order: str = "fifo") -> str:
    """Run ``scenario`` twice from one seed and return the digest that both gave.

    Raises:
        NondeterminismFound: they differ; it says where first.
    """
    token = Token(getattr(scenario, "__qualname__", "scenario"), seed, order)
    first, world_1 = run_once(token, scenario)
    second, world_2 = run_once(token, scenario)
    difference = first_difference(world_1.trace, world_2.trace)
    if difference is not None:
        raise NondeterminismFound(str(difference))
    if first.error != second.error:
        raise NondeterminismFound(f"the first ended with {first.error}, the other {second.error}")
    return first.digest


def find_scenario(name: str) -> Scenario:
    """Import ``module:function`` or ``path/to/file.py:function``.

    Raises:
        InvalidInput: there is no such module, file or function.
    """
    where, _, function = name.rpartition(":")
    if not where or not function:
        raise InvalidInput(
            f"{name!r} does not name a scenario",
            where="scenario",
            remedy="Write module:function or path/to/file.py:function.",
        )
    found: Any = getattr(_load(where), function, None)
    if not callable(found):
        raise InvalidInput(f"{where} has no function {function!r}", where="scenario")
    return found  # type: ignore[no-any-return]


def _load(where: str) -> object:
    if not where.endswith(".py"):
        try:
            return importlib.import_module(where)
        except ImportError as error:
            raise InvalidInput(f"cannot import {where!r}: {error}", where="scenario") from error
    path = Path(where)
    if not path.is_file():
        raise InvalidInput(f"no file {where!r}", where="scenario")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "a path that ends in .py has a loader"
    assert spec.loader is not None, "a path that ends in .py has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def shrink(outcome: Outcome, scenario: Scenario | None = None, *, runs_max: int = 200) -> Outcome:
    """Find fewer faults that still make the run fail in the same way.

    Removes halves, then quarters, down to single faults (Zeller & Hildebrandt 2002, "Simplifying
    and isolating failure-inducing input"). "The same way" means an error of the same class.

    Args:
        runs_max: how many runs to spend at most.
    """
    best = outcome
    faults = list(outcome.schedule.faults)
    kind = (outcome.error or "").partition(":")[0]
    parts = 2
    while faults and runs_max > 0:
        size = -(-len(faults) // parts)
        for start in range(0, len(faults), size):
            fewer = faults[:start] + faults[start + size :]
            runs_max -= 1
            tried, _ = run_once(replace(best.token, schedule=Schedule(tuple(fewer))), scenario)
            if tried.error is not None and tried.error.partition(":")[0] == kind:
                best, faults, parts = tried, fewer, max(2, parts - 1)
                break
            if runs_max <= 0:
                break
        else:
            if size == 1:
                break
            parts = min(len(faults), parts * 2)
    return replace(best, token=replace(best.token, schedule=Schedule(tuple(faults))))

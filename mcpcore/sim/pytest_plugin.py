"""A pytest plugin: the ``sim_world`` fixture, many seeds, and one line to replay a failure.

This module exists so that a test asks for ``sim_world`` and is run once for each seed; when it
fails, its report ends with the command that runs that very world again. It is registered under the
entry point ``pytest11`` and is the only module here that imports pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mcpcore.errors import InvalidInput
from mcpcore.sim.order import ORDERS
from mcpcore.sim.replay import Token
from mcpcore.sim.world import World

_WORLD = pytest.StashKey[World]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--sim-seeds``, ``--sim-first-seed``, ``--sim-order`` and ``--sim-replay``."""
    group = parser.getgroup("sim", "deterministic simulation")
    group.addoption("--sim-seeds", type=int, default=1, metavar="N", help="run N seeds per test")
    group.addoption("--sim-first-seed", type=int, default=0, metavar="S", help="first seed")
    group.addoption("--sim-order", choices=ORDERS, default="fifo", help="scheduling order")
    group.addoption("--sim-replay", metavar="TOKEN", help="run the one world that TOKEN names")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a spoilt token before anything runs."""
    try:
        _replayed(config)
    except InvalidInput as error:
        raise pytest.UsageError(str(error)) from error
    if config.getoption("--sim-seeds") < 1:
        raise pytest.UsageError("--sim-seeds needs a positive number")


def _replayed(config: pytest.Config) -> Token | None:
    text = config.getoption("--sim-replay")
    return None if text is None else Token.decode(text)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that uses ``sim_world`` once for each seed."""
    if "sim_world" not in metafunc.fixturenames:
        return
    config = metafunc.config
    token = _replayed(config)
    if token is None:
        first = config.getoption("--sim-first-seed")
        seeds = range(first, first + config.getoption("--sim-seeds"))
    else:
        seeds = range(token.seed, token.seed + 1)
    metafunc.parametrize("sim_world", seeds, indirect=True, ids=[f"seed{seed}" for seed in seeds])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--sim-replay``, run only the test that the token names."""
    token = _replayed(config)
    if token is None:
        return
    kept = [item for item in items if _name(item) == token.scenario]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _name(item: Any) -> str:
    path, *parts = item.nodeid.split("::")
    return "::".join([path, *parts[:-1], getattr(item, "originalname", None) or item.name])


@pytest.fixture
def sim_world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A world, entered; its seed comes from ``--sim-seeds`` or ``--sim-replay``."""
    token = _replayed(request.config)
    order = request.config.getoption("--sim-order") if token is None else token.order
    with World(request.param, order=order) as world:
        if token is not None:
            world.schedule_override = token.schedule
        request.node.stash[_WORLD] = world
        yield world


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Add the command that replays the world of a failed test."""
    report = yield
    world = item.stash.get(_WORLD, None)
    if report.failed and world is not None:
        schedule = world.applied if len(world.applied) else world.schedule_override
        token = Token(_name(item), world.seed, world.order, schedule)
        lines = [
            f"seed {world.seed}, {world.now_s:.6f} s of virtual time, digest {world.digest}",
            f"faults:\n{world.applied}",
            *(f"without effect: {fault}" for fault in world.plan.without_effect()),
            f"replay: pytest '{_name(item)}' --sim-replay {token.encode()}",
        ]
        report.sections.append(("simulation", "\n".join(lines)))
    return report

"""How a node is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from mcpcore.ctl.serve import Told


@pytest.fixture
def _signals_as_before() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.usefixtures("_signals_as_before")
@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
async def test_the_first_signal_asks_a_node_to_stop_and_the_second_has_its_deadly_meaning(first):
    told = Told()

    os.kill(os.getpid(), first)
    await asyncio.wait_for(told.event.wait(), 10)

    assert told.by == first.name
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

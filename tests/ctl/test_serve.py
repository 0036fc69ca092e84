"""How a node is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator

import pytest

from mcpcore.ctl.serve import Told, _tracing
from mcpcore.errors import InvalidInput
from mcpcore.node.config_file import load_node_config


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


TRACED = """
cluster = "demo"
node = "solo"
listen = "127.0.0.1:7101"
data = "data"
plaintext = true
[groups.main]
voters = ["solo"]
[observe]
listen = "127.0.0.1:9464"
traces = {traces}
"""


def test_a_node_whose_file_asks_for_traces_has_them_and_no_other(tmp_path):
    path = tmp_path / "node.toml"
    path.write_text(TRACED.format(traces="true"))
    assert type(_tracing(load_node_config(path))).__name__ == "OpenTelemetry"
    path.write_text(TRACED.format(traces="false"))
    assert _tracing(load_node_config(path)) is None


def test_traces_without_their_package_are_refused_with_a_remedy(tmp_path, monkeypatch):
    path = tmp_path / "node.toml"
    path.write_text(TRACED.format(traces="true"))
    monkeypatch.setitem(sys.modules, "mcpcore.observe.tracing", None)
    with pytest.raises(InvalidInput, match=r"pip install 'mcpcore\[observe\]'"):
        _tracing(load_node_config(path))

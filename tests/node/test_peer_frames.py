"""Frames from a peer: whatever they hold, they end the session at most, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.node.node import Node
from tests.node.local_cluster import LocalCluster

words = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=20)
values = words | st.text(max_size=5) | st.lists(words, max_size=3)
headers = st.tuples(words, words, words, words, words) | st.tuples(
    *[st.integers(0, 2**64 - 1)] * 2, st.binary(max_size=14), *[st.integers(0, 2**64 - 1)] * 2
)
rows = st.lists(values, max_size=9) | st.tuples(
    st.just("main"), st.integers(0, 12), *[st.integers(0, 2**63 - 1) | st.booleans()] * 3
)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Node]]:
    """One node for all examples: what one of them leaves behind, the next ones meet."""
    cluster = LocalCluster(tmp_path_factory.mktemp("frames"))
    with asyncio.Runner() as runner:
        node = runner.run(cluster.start("a"))
        yield runner, node
        runner.run(node.stop())


frames_of_a_peer = st.binary(max_size=40) | st.tuples(headers, st.lists(rows, max_size=3))


@given(st.lists(frames_of_a_peer, max_size=5))
@example([((1, 2**64 - 1, b"", 2**64 - 1, 2**64 - 1), [])])
@settings(deadline=None)
def test_frames_that_mean_nothing_are_invalid_input_and_nothing_else(
    started: tuple[asyncio.Runner, Node], frames: list[Any]
) -> None:
    runner, node = started

    async def law() -> None:
        broken: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
        for frame in frames:
            payload = frame if isinstance(frame, bytes) else msgpack.packb(frame)
            with suppress(InvalidInput):
                node.on_frame("b", 1, payload)
            await asyncio.sleep(0)
        node.status()
        node.group("main").raft.check()
        assert node.group("main").failure is None
        assert broken == []

    runner.run(law())

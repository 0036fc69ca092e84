"""The driver of anti-entropy, with its timer and its log."""

from __future__ import annotations

import asyncio
import logging

import pytest

from mcpcore.crdt import AWSet
from mcpcore.crdt.anti_entropy import AntiEntropy, Limits
from mcpcore.node.anti_entropy import Replicator

QUICK = Limits(digest_every_ns=20_000_000, retry_after_ns=10_000_000)


async def until(condition) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the condition never came true")


async def test_two_replicas_over_a_link_that_drops_every_third_message_become_equal():
    loop = asyncio.get_running_loop()
    views = {"a": AWSet(), "b": AWSet()}
    news: list[object] = []
    replicators: dict[str, Replicator] = {}
    sent = 0

    def wire(source: str):
        def send(target: str, data: bytes) -> None:
            nonlocal sent
            sent += 1
            if sent % 3:
                loop.call_later(0.002, replicators[target].on_message, source, data)

        return send

    for name, other in ("ab", "ba"):
        engine = AntiEntropy(
            f"{name}/1",
            views[name].state,
            peers=[other],
            now_ns=Replicator.now_ns(),
            limits=QUICK,
        )
        replicators[name] = Replicator(engine, wire(name), on_news=news.append)
    for replicator in replicators.values():
        replicator.start()
    for i in range(20):
        name = "ab"[i % 2]
        replicators[name].changed(views[name].add(f"{name}/1", i))
        await asyncio.sleep(0.002)
    await until(lambda: views["a"].state == views["b"].state and len(views["a"]) == 20)
    assert news
    for replicator in replicators.values():
        replicator.stop()
        replicator.on_message("a", b"too late")
        assert replicator.refused == 0


async def test_what_is_refused_is_logged_counted_and_changes_nothing(
    caplog: pytest.LogCaptureFixture,
):
    view = AWSet()
    engine = AntiEntropy("a/1", view.state, peers=["b"], now_ns=Replicator.now_ns(), limits=QUICK)
    replicator = Replicator(engine, lambda peer, data: None, wall_ns=lambda: 0)
    replicator.start()
    with caplog.at_level(logging.WARNING):
        replicator.on_message("b", b"\xc1")
        replicator.on_message("stranger", b"")
    replicator.stop()
    assert replicator.refused == 2
    assert "stranger" in caplog.text
    assert view.state.is_bottom()

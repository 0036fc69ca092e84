"""Following the verdicts of a cluster's nodes: every node is asked, for each judges for itself.

This module exists so that an orchestration service subscribes once, and hears of a node that it has
lost as it hears of everything else. It must never judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, Final, NamedTuple

import msgpack

from mcpcore.errors import ConnectionLost, CoordinationError, InvalidInput
from mcpcore.node.client.client import Client
from mcpcore.node.client.endpoint import Endpoint
from mcpcore.node.client.event_buffer import EventBuffer
from mcpcore.node.requests import Op

ASK_AGAIN_S: Final = 1.0
CONNECT_S: Final = 5.0


class VerdictTold(NamedTuple):
    """One change of one node's verdict on one group, or the loss of a node.

    Args:
        endpoint: its address.
        node: its name; empty if it was never reached.
        verdict: as ``Verdict.as_dict`` has it; empty if the node cannot be heard.
        passed_over: changes that were not told since the one before.
        lost: why the node cannot be heard; it is asked again each second. Told once for each loss.
    """

    endpoint: str
    node: str
    verdict: dict[str, Any]
    passed_over: int = 0
    lost: str = ""


async def follow_verdicts(client: Client, group: str = "") -> AsyncGenerator[VerdictTold, None]:
    """Every change of every node's verdict, from now on; first what is not well already.

    Of each node and group only the newest change waits to be taken, so a slow listener misses
    history but never the present. Close it when you have heard enough (``contextlib.aclosing``).

    Args:
        group: only this one; empty: all.
    """
    waiting: dict[tuple[str, str], VerdictTold] = {}
    changed = asyncio.Event()

    def put(told: VerdictTold) -> None:
        name = str(told.verdict.get("group", ""))
        if told.verdict and group not in ("", name):
            return
        before = waiting.pop((told.endpoint, name), None)
        if before is not None:
            told = told._replace(passed_over=told.passed_over + before.passed_over + 1)
        waiting[(told.endpoint, name)] = told
        changed.set()

    async def follow(endpoint: Endpoint) -> None:
        lost = ""
        while True:
            events = EventBuffer()
            try:
                async with asyncio.timeout(CONNECT_S):
                    cancel = await endpoint.watch("", b"", events, op=Op.VERDICTS)
                lost = ""
                try:
                    while (event := await events.get()) is not None:
                        put(_told(endpoint, event))
                finally:
                    cancel()
                raise ConnectionLost(str(endpoint.address), "the node is stopping")
            except (CoordinationError, TimeoutError) as error:
                why = str(error) or f"no answer within {CONNECT_S:g} s"
                if not lost:
                    put(VerdictTold(str(endpoint.address), endpoint.node, {}, lost=why))
                lost = why
            await asyncio.sleep(ASK_AGAIN_S)

    async with asyncio.TaskGroup() as tasks:
        followers = [tasks.create_task(follow(endpoint)) for endpoint in client.endpoints]
        try:
            while True:
                while waiting:
                    yield waiting.pop(next(iter(waiting)))
                changed.clear()
                await changed.wait()
        finally:
            for follower in followers:
                follower.cancel()


def _told(endpoint: Endpoint, event: bytes) -> VerdictTold:
    try:
        told = msgpack.unpackb(event)
        return VerdictTold(
            str(endpoint.address), endpoint.node, told, passed_over=int(told.pop("passed_over"))
        )
    except Exception as error:  # msgpack raises several unrelated classes
        raise InvalidInput(f"not a verdict: {error!r}", where=str(endpoint.address)) from error

"""Asking every node again and again, each at its own pace.

This module exists so that a node which does not answer delays nothing but its own row: a cut must
show within two seconds, however long the connection to the node behind it hangs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from mcpcore.observe.health import Account
from mcpcore.observe.picture import Picture, draw

Ask = Callable[[], Awaitable[Account]]
"""Asks one node; must return within about a second, and must not raise."""

_NOT_ASKED: Final = "not asked yet"


class Watcher:
    """Keeps the newest picture of a cluster. Use it as an asynchronous context manager.

    Args:
        cluster: its name.
        asks: how to ask each node, by endpoint.
        interval_s: how long to wait between two questions to one node.
        lag_max: from how many entries on a replica's lag is a problem.
    """

    def __init__(
        self, cluster: str, asks: Mapping[str, Ask], *, interval_s: float, lag_max: int
    ) -> None:
        self._cluster = cluster
        self._asks = asks
        self._interval_s = interval_s
        self._lag_max = lag_max
        self._accounts = {endpoint: Account(endpoint, "", error=_NOT_ASKED) for endpoint in asks}
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self.picture = draw(cluster, (), lag_max=lag_max)
        """The newest one."""
        self.number = 0
        """Grows with every picture."""

    async def __aenter__(self) -> Watcher:
        loop = asyncio.get_running_loop()
        for endpoint, ask in self._asks.items():
            work = self._keep_asking(endpoint, ask)
            self._tasks.append(loop.create_task(work, name=f"watch {endpoint}"))
        self._tasks.append(loop.create_task(self._keep_drawing(), name="draw"))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def after(self, number: int) -> Picture:
        """The newest picture, once there is one after ``number``."""
        while self.number <= number:
            await self._news.wait()
        return self.picture

    async def asked(self) -> Picture:
        """A picture for which every node was asked."""
        while any(account.error == _NOT_ASKED for account in self._accounts.values()):
            await self._news.wait()
        return await self.after(self.number)

    async def _keep_asking(self, endpoint: str, ask: Ask) -> None:
        while True:
            self._accounts[endpoint] = await ask()
            await asyncio.sleep(self._interval_s)

    async def _keep_drawing(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            accounts = list(self._accounts.values())
            picture = draw(self._cluster, accounts, lag_max=self._lag_max)
            if not any(node.up for node in picture.nodes):
                # Nobody answers, perhaps us: what was known of the groups is better than nothing.
                picture = replace(picture, groups=self.picture.groups)
            self.picture = picture
            self.number += 1
            news, self._news = self._news, asyncio.Event()
            news.set()

"""Running a replica's anti-entropy: its timer, its peers, its wall clock.

This module exists so that :class:`mcpcore.crdt.anti_entropy.AntiEntropy` can stay pure. It hands
bytes and time to it, sends what it says, and calls again when it says. It must never decide
anything. Everything goes through the running loop, so that a simulated one can stand in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from mcpcore.crdt.anti_entropy import AntiEntropy, State
from mcpcore.errors import DeltaRefused, InvalidInput, ReplicaIdReused

logger = logging.getLogger("mcpcore.node.anti_entropy")

_NS_PER_S: Final = 1_000_000_000


class Replicator:
    """One replicated state over somebody's connections. Starts one timer and owns it.

    Args:
        engine: the protocol; made with ``now_ns`` of :meth:`now_ns`.
        send: hands bytes to a peer's connection and never waits; what cannot go may be dropped.
        on_news: hears of everything new, already joined.
        wall_ns: the wall clock, against which timestamps from the future are refused.
        on_reused: hears that our replica id is in use by another life, known to our peers.
    """

    def __init__(
        self,
        engine: AntiEntropy,
        send: Callable[[str, bytes], object],
        *,
        on_news: Callable[[State], object] | None = None,
        wall_ns: Callable[[], int] | None = None,
        on_reused: Callable[[], object] | None = None,
    ) -> None:
        self.engine = engine
        self._send = send
        self._on_news = on_news
        self._wall_ns = wall_ns
        self._on_reused = on_reused
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.refused = 0
        """How many messages were refused; the log says why."""

    @staticmethod
    def now_ns() -> int:
        """The running loop's time."""
        return int(asyncio.get_running_loop().time() * _NS_PER_S)

    def start(self) -> None:
        """Begin. Call it inside the running loop."""
        self._loop = asyncio.get_running_loop()
        self._turn()

    def stop(self) -> None:
        """Send nothing more. Deltas that were not acknowledged are found again by comparison."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop = self._timer = None

    def connected(self, peer: str) -> None:
        """A peer can be reached (again)."""
        self.engine.connected(peer, self.now_ns())
        self._turn()

    def disconnected(self, peer: str) -> None:
        """A peer cannot be reached."""
        self.engine.disconnected(peer)

    def changed(self, delta: State) -> None:
        """Take note of a delta that a mutator of ours returned, and send it soon."""
        self.engine.changed(delta)
        self._turn()

    def on_message(self, peer: str, data: bytes) -> None:
        """Bytes of a peer have arrived. What is refused is logged and counted; nothing changed."""
        if self._loop is None:
            return
        try:
            wall_ns = None if self._wall_ns is None else self._wall_ns()
            news = self.engine.receive(peer, data, self.now_ns(), wall_ns=wall_ns)
        except (InvalidInput, DeltaRefused) as error:
            self.refused += 1
            logger.warning("message of %s refused: %s", peer, error)
            if (
                isinstance(error, ReplicaIdReused)
                and error.replica == self.engine.replica
                and self._on_reused is not None
            ):
                self._on_reused()
            return
        if news is not None and self._on_news is not None:
            self._on_news(news)
        self._turn()

    def _turn(self) -> None:
        """Send what may leave, and come back when the engine says."""
        if self._loop is None:
            return
        now_ns = self.now_ns()
        for send in self.engine.poll(now_ns):
            self._send(send.peer, send.data)
        if self._timer is not None:
            self._timer.cancel()
        due_ns = self.engine.deadline_ns
        self._timer = None
        if due_ns is not None:
            # A deadline that has passed already waits for a moment, so that nothing spins.
            delay_s = max(0.001, (due_ns - now_ns) / _NS_PER_S)
            self._timer = self._loop.call_later(delay_s, self._turn)

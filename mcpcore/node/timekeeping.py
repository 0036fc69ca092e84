"""A node's clock, fed by the traffic that flows anyway, and its upper bound kept on the disk.

This module exists so that clock samples cost no extra messages: every frame between two nodes
carries when it was sent, and repeats when the last frame of the other side was sent and received.
Two frames make the four readings of an exchange. What follows from them is decided in
``mcpcore.clock``; this module only carries readings, and stores the bound. It must never judge.

HAZARD: the reading is taken when a frame is packed and when it is unpacked, so a loop that lags
shows as delay of the link. The estimator keeps the exchanges of least delay, which are those
without lag.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from mcpcore.clock import (
    ClockHealth,
    ClockSettings,
    Exchange,
    NodeClock,
    Timestamp,
    UpperBound,
    decode_bound,
    encode_bound,
)
from mcpcore.errors import ClockCeilingReached, InvalidInput, TimestampTooFarAhead
from mcpcore.node.clocks import Clocks
from mcpcore.node.disk import Disk

logger = logging.getLogger("mcpcore.node.clock")

Header = tuple[int, int, bytes, int, int]
"""(life, sent, timestamp, echo of the last sent, when that was received); zero or empty
where unknown. The timestamp has its 12-byte form."""

_READINGS = (int, int, bytes, int, int)

SAMPLE_EVERY_NS = 200_000_000
"""Exchanges closer together teach nothing new, and judging one costs about 0.1 ms."""
ECHO_WITHIN_NS = 5_000_000_000
"""An older frame is not echoed: clock drift while it lay here would widen the exchange."""
HEALTH_FRESH_NS = 50_000_000
_STORE_EVERY_S = 0.5


class Timekeeper:
    """The clock of one node. ``clock`` is the pure part: its timestamps, estimates and view.

    Args:
        node: our name. peers: the others'.
        directory: where the upper bound is kept.
        life: a number of this process's own, above zero: its steady time begins anew with it.
        fresh: this node never issued a timestamp.
    """

    def __init__(
        self,
        node: str,
        peers: Collection[str],
        clocks: Clocks,
        disk: Disk,
        directory: str,
        *,
        life: int,
        fresh: bool,
        settings: ClockSettings | None = None,
        bound: UpperBound | None = None,
    ) -> None:
        self._life = life
        self._clocks = clocks
        self._disk = disk
        self._directory = directory
        self._path = f"{directory}/clock-bound"
        self._bound = bound or UpperBound()
        settings = settings or ClockSettings()
        floor = self._recover(fresh, settings)
        self._ceiling = floor
        self.clock = NodeClock(
            node,
            peers,
            wall_ns=clocks.wall_ns,
            monotonic_ns=clocks.monotonic_ns,
            settings=settings,
            floor=floor,
            ceiling=floor,
        )
        self._peers = set(peers)
        self._lives: dict[str, int] = {}
        self._heard: dict[str, tuple[int, int]] = {}
        self._sampled_ns: dict[str, int] = {}
        self._health: tuple[int, ClockHealth] | None = None
        self._task: asyncio.Task[None] | None = None

    # --- life --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Store the first bound; no timestamp is issued before that is durable.

        Raises:
            OSError: the disk does not work.
        """
        await self._store_if_due()
        self._task = asyncio.get_running_loop().create_task(self._keep_bound(), name="clock-bound")

    async def stop(self) -> None:
        """Store no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    # --- frames ------------------------------------------------------------------------------

    def header(self, peer: str) -> Header:
        """What a frame to ``peer`` says about time."""
        now_ns = self.clock.stamp_ns()
        try:
            timestamp = self.clock.now().to_bytes12()
        except ClockCeilingReached:
            timestamp = b""  # the disk lags; the frame is worth more than its timestamp
        sent_ns, received_ns = self._heard.get(peer, (0, 0))
        if now_ns - received_ns > ECHO_WITHIN_NS:
            sent_ns = received_ns = 0
        return (self._life, now_ns, timestamp, sent_ns, received_ns)

    def heard(self, peer: str, header: object) -> None:
        """Learn from what a frame of ``peer`` says.

        Raises:
            InvalidInput: it is no header.
        """
        if not isinstance(header, tuple) or tuple(map(type, header)) != _READINGS:
            raise InvalidInput("a frame must begin with five readings of time")
        life, sent_ns, timestamp, echo_ns, received_ns = header
        if min(life, sent_ns, echo_ns, received_ns) < 0:
            raise InvalidInput("a frame must begin with readings of time that are not negative")
        if self._lives.setdefault(peer, life) != life:
            self._lives[peer] = life
            self.clock.peer_restarted(peer)
        now_ns = self.clock.stamp_ns()
        self._heard[peer] = (sent_ns, now_ns)
        if echo_ns and now_ns - self._sampled_ns.get(peer, -SAMPLE_EVERY_NS) >= SAMPLE_EVERY_NS:
            self._sampled_ns[peer] = now_ns
            self.clock.exchanged(peer, Exchange(echo_ns, received_ns, sent_ns, now_ns))
        if timestamp:
            try:
                self.clock.received(peer, Timestamp.from_wire(timestamp))
            except TimestampTooFarAhead as refusal:
                if self.clock.hlc.refusals.get(peer, 0) in (1, 10, 100, 1000):
                    logger.warning("%s", refusal)
            except ClockCeilingReached as refusal:
                logger.debug("%s", refusal)

    def connected(self, peer: str) -> None:
        """A new session: readings of the last one, perhaps of another life, are not echoed."""
        self._heard.pop(peer, None)

    def set_peers(self, peers: Collection[str]) -> None:
        """These are the nodes whose clocks count from now on."""
        if set(peers) != self._peers:
            self._peers = set(peers)
            self.clock.set_peers(peers)
            self._health = None

    # --- service -----------------------------------------------------------------------------

    def health(self) -> ClockHealth:
        """Whether the clock is fit for service; judged anew when the last judgement is stale."""
        now_ns = self._clocks.monotonic_ns()
        if self._health is None or now_ns - self._health[0] > HEALTH_FRESH_NS:
            self._health = (now_ns, self.clock.health())
        return self._health[1]

    # --- inside ------------------------------------------------------------------------------

    def _recover(self, fresh: bool, settings: ClockSettings) -> Timestamp:
        wall_ns = self._clocks.wall_ns()
        stored: Timestamp | None = None
        if self._disk.exists(self._path):
            file = self._disk.open(self._path)
            try:
                stored = decode_bound(file.read(0, file.size()))
            except InvalidInput as error:
                logger.warning("%s: %s", self._path, error)
            finally:
                file.close()
        if stored is None and not fresh:
            # Timestamps issued in earlier lives are not beyond this, if the system clock has not
            # gone back since: no peer would have accepted them.
            stored = Timestamp.of(wall_ns + settings.max_offset_ns)
            logger.warning("%s is missing: timestamps start after %s", self._path, stored)
        return self._bound.recover(stored, wall_ns=wall_ns, fresh=fresh).floor

    async def _keep_bound(self) -> None:
        while True:
            await asyncio.sleep(_STORE_EVERY_S)
            try:
                await self._store_if_due()
            except OSError as error:
                logger.warning("%s cannot be stored: %s; timestamps may run out", self._path, error)

    async def _store_if_due(self) -> None:
        due = self._bound.due(self.clock.hlc.last, self._ceiling, self._clocks.wall_ns())
        if due is None:
            return
        new = f"{self._path}.new"
        file = self._disk.open(new, create=True)
        try:
            await file.truncate(0)
            await file.write(0, encode_bound(due), sync=True)
        finally:
            file.close()
        self._disk.rename(new, self._path)
        await self._disk.sync_dir(self._directory)
        self._ceiling = due
        self.clock.hlc.raise_ceiling(due)

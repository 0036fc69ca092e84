"""A wide-area network on one machine, without root: TCP forwarders between sites.

This module exists so that programs which know nothing of it meet delay, jitter, narrow links and
cuts on loopback. A program is told the address of a forwarder in the place of the real one; that is
all. It shapes streams of opaque bytes, TLS included, and must never know what they mean.

What it cannot do: lose or reorder single packets. TCP hides those from a program anyway, but for
the time they cost.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Final, Self

from mcpcore.errors import InvalidInput
from mcpcore.experiment.links import Link, LinkQuality
from mcpcore.experiment.relay import WINDOW_BYTES, Dial, Relay
from mcpcore.node.transport.addresses import Address

logger = logging.getLogger("mcpcore.experiment.shaper")

MAX_CONNECTIONS: Final = 1_024
"""Through one forwarder at a time; beyond that, callers are turned away and the log says so."""


class Shaper:
    """Links between sites, and forwarders over them. Use it as an asynchronous context manager.

    Args:
        qualities: for every directed pair of sites that is linked.
        seed: jitter is drawn from it, for each link apart, so that a link's delays do not depend
            on what other links carry.
        window_bytes: see ``WINDOW_BYTES``.
    """

    def __init__(
        self,
        qualities: Mapping[tuple[str, str], LinkQuality],
        *,
        seed: int = 0,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        for source, target in qualities:
            if source == target or (target, source) not in qualities:
                raise InvalidInput(
                    "a link joins two sites and has two directions",
                    where=f"link {source} -> {target}",
                    remedy="Give a quality for either direction (see `both_ways`)",
                )
        self._links = {
            pair: Link(*pair, quality, random.Random(f"{seed}:{pair[0]}>{pair[1]}"))
            for pair, quality in qualities.items()
        }
        self._window_bytes = window_bytes
        self._servers: list[asyncio.Server] = []
        self._relays: dict[Relay, None] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # --- building ------------------------------------------------------------------------------

    async def forward(
        self, caller: str, called: str, to: Address, dial: Dial | None = None
    ) -> Address:
        """Open a door for callers at one site to a program at another; returns where it is.

        Args:
            caller: the site of whoever will call the returned address.
            called: the site of the program.
            to: where that program really listens, now or later.
            dial: see ``Dial``.

        Raises:
            InvalidInput: the two sites are not linked.
        """
        there, back = self.link(caller, called), self.link(called, caller)
        return await self._open_door(there, back, to, dial)

    async def pass_through(self, to: Address, dial: Dial) -> Address:
        """Open a door that no link and no cut stands behind, into another network."""
        rng = random.Random(0)  # a perfect link draws nothing
        there = Link("here", str(to), LinkQuality(), rng)
        back = Link(str(to), "here", LinkQuality(), rng)
        return await self._open_door(there, back, to, dial)

    async def _open_door(self, there: Link, back: Link, to: Address, dial: Dial | None) -> Address:
        relays: dict[Relay, None] = {}

        def forget(relay: Relay) -> None:
            relays.pop(relay, None)
            self._relays.pop(relay, None)

        def answer() -> asyncio.Protocol:
            if len(relays) >= MAX_CONNECTIONS:
                logger.warning("%s: %d connections; one more refused", there, len(relays))
                return _TurnedAway()
            relay = Relay(there, back, to, self._window_bytes, forget, dial)
            relays[relay] = self._relays[relay] = None
            return relay.caller

        server = await asyncio.get_running_loop().create_server(answer, "127.0.0.1", 0)
        self._servers.append(server)
        return Address("127.0.0.1", server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Close all doors and break all connections. Twice is harmless."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        for relay in list(self._relays):
            relay.abort()
        await asyncio.sleep(0)  # an aborted socket is let go of in the next turn of the loop
        for server in servers:
            await server.wait_closed()

    # --- asking --------------------------------------------------------------------------------

    def link(self, source: str, target: str) -> Link:
        """One direction between two sites.

        Raises:
            InvalidInput: they are not linked.
        """
        link = self._links.get((source, target))
        if link is None:
            known = ", ".join(f"{a} -> {b}" for a, b in self._links)
            raise InvalidInput(
                "there is no such link", where=f"{source} -> {target}", remedy=f"Known: {known}"
            )
        return link

    @property
    def links(self) -> tuple[Link, ...]:
        """All directions."""
        return tuple(self._links.values())

    def around(self, site: str) -> tuple[Link, ...]:
        """The links that begin or end at a site.

        Raises:
            InvalidInput: no link does.
        """
        found = tuple(link for pair, link in self._links.items() if site in pair)
        if not found:
            raise InvalidInput("no link begins or ends there", where=f"site {site}")
        return found

    # --- breaking and mending ------------------------------------------------------------------

    def cut(self, source: str, target: str) -> None:
        """Cut one direction. The other goes on: the source still hears what the target says."""
        self.link(source, target).cut()

    def heal(self, source: str, target: str) -> None:
        """Mend one direction."""
        self.link(source, target).heal()

    def isolate(self, site: str) -> None:
        """Cut a site off from all others, in both directions."""
        _each(self.around(site), Link.cut)

    def rejoin(self, site: str) -> None:
        """Mend every link of a site."""
        _each(self.around(site), Link.heal)

    def heal_all(self) -> None:
        """Mend everything."""
        _each(self.links, Link.heal)

    def reset(self, source: str, target: str) -> None:
        """Break the connections between two sites, whoever called; new ones may come at once."""
        self.link(source, target).reset()
        self.link(target, source).reset()

    def check(self) -> None:
        """What a shaper promises about itself."""
        for relay in self._relays:
            for pipe in relay.pipes:
                pipe.check()


def _each(links: Iterable[Link], do: Callable[[Link], None]) -> None:
    for link in links:
        do(link)


class _TurnedAway(asyncio.Protocol):
    """A caller for whom there is no room."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()

"""The network between hosts: addresses, paths, and the verbs that break them.

This module exists so that a packet's fate (when it arrives, whether at all) is decided in one
place, per direction, from that direction's own random stream. What is *in* a packet, and what TCP
makes of its loss, is none of its business; see :mod:`mcpcore.sim.stream` and
:mod:`mcpcore.sim.datagram`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mcpcore.errors import InvalidInput
from mcpcore.sim.delay import LOOPBACK, Link
from mcpcore.sim.entropy import stream

if TYPE_CHECKING:
    from mcpcore.sim.host import Host
    from mcpcore.sim.timeline import Timeline

_S = 1_000_000_000
_MS = 1_000_000

RTO_NS = 200 * _MS
"""First wait before a lost piece of a stream is sent again; doubles each time (RFC 6298)."""


@dataclass(frozen=True, slots=True)
class NetworkLimits:
    """What a kernel's TCP does, in the figures of Linux.

    Args:
        give_up_s: a stream whose data stays unanswered this long is reset.
        connect_s: an unanswered connection attempt fails after this long.
        window_bytes: how much may be under way or unread before the sender must wait.
    """

    give_up_s: float = 924.6
    connect_s: float = 127.0
    window_bytes: int = 256 * 1024


class Path:
    """One direction between two hosts.

    ``cuts`` counts the reasons why nothing passes. ``stalled`` holds what streams could not send:
    it goes out again when the last reason is gone.
    """

    __slots__ = (
        "base",
        "bends",
        "burst_on",
        "busy_until_ns",
        "cuts",
        "draw",
        "held",
        "link",
        "packets",
        "source",
        "stalled",
        "target",
        "touched",
    )

    def __init__(self, source: Host, target: Host, link: Link, seed: int) -> None:
        self.source = source
        self.target = target
        self.base = link
        self.bends: list[dict[str, Any]] = []
        self.link = link
        """What the direction is like now: ``base``, changed by every bend in turn."""
        self.draw = stream(seed, "network", source.name, target.name)
        self.cuts = 0
        self.held = 0
        self.stalled: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self.busy_until_ns = 0
        self.burst_on = False
        self.touched = 0
        """How many packets a fault on this path has affected."""
        self.packets = 0

    @property
    def is_cut(self) -> bool:
        """Whether anything passes at this moment."""
        return self.cuts > 0 or self.held > 0

    def settle(self) -> None:
        """Compute ``link`` anew.

        Raises:
            InvalidInput: no such field, or a value that cannot be used.
        """
        link = self.base
        for changes in self.bends:
            try:
                link = replace(link, **changes)
            except TypeError as error:
                raise InvalidInput(str(error), where="link") from error
        self.link = link

    def delay_ns(self) -> int:
        """Draw how long the next packet is under way."""
        self.packets += 1
        link = self.link
        return link.delay.draw_ns(self.draw) + int(link.extra_ms * _MS)

    def loses(self) -> bool:
        """Draw whether the next packet is lost."""
        link = self.link
        if not link.loss and not self.burst_on:
            return False
        lost = self.draw.random() < (link.burst if self.burst_on else link.loss)
        self.burst_on = lost and link.burst > 0
        self.touched += lost
        return lost

    def queue_ns(self, now_ns: int, size: int) -> int:
        """Take a turn on the wire for ``size`` bytes; return how long until they are out."""
        bandwidth = self.link.bandwidth_bps
        if not bandwidth:
            return 0
        start = max(now_ns, self.busy_until_ns)
        self.busy_until_ns = start + size * 8 * _S // bandwidth
        return self.busy_until_ns - now_ns

    def queue_is_full(self, now_ns: int, size: int) -> bool:
        """Whether ``size`` more bytes would overflow what waits for the bandwidth."""
        link = self.link
        if not link.bandwidth_bps or self.busy_until_ns <= now_ns:
            return False
        waiting = (self.busy_until_ns - now_ns) * link.bandwidth_bps // (8 * _S)
        return waiting + size > link.queue_bytes

    def stream_delay_ns(self, now_ns: int, size: int) -> int:
        """Return how long a piece of a stream takes, losses and repetitions included."""
        wait_ns = self.queue_ns(now_ns, size) + self.delay_ns()
        again_ns = RTO_NS
        while self.loses():
            wait_ns += again_ns
            again_ns = min(again_ns * 2, 120 * _S)
        return wait_ns


class Network:
    """All paths of a world, and the verbs that cut, hold and bend them."""

    def __init__(self, timeline: Timeline, seed: int, limits: NetworkLimits) -> None:
        self.limits = limits
        self.timeline = timeline
        self.default = Link()
        self.by_name: dict[str, Host] = {}
        self.by_address: dict[str, Host] = {}
        self._seed = seed
        self._paths: dict[tuple[str, str], Path] = {}
        self._regions: dict[tuple[str, str], Link] = {}

    # --- who is there ---------------------------------------------------------------------------

    def add(self, host: Host) -> None:
        """Give a host its place: name and address lead to it."""
        self.by_name[host.name] = host
        self.by_address[host.address] = host

    def path(self, source: Host, target: Host) -> Path:
        """Return the direction from one host to another."""
        key = (source.name, target.name)
        found = self._paths.get(key)
        if found is None:
            found = Path(source, target, self._link_for(source, target), self._seed)
            self._paths[key] = found
        return found

    def _link_for(self, source: Host, target: Host) -> Link:
        if source is target:
            return LOOPBACK
        return self._regions.get((source.region, target.region), self.default)

    def between(self, ours: Iterable[str], theirs: Iterable[str]) -> list[Path]:
        """Return the paths from each of ``ours`` to each of ``theirs``, in the order given.

        Raises:
            InvalidInput: no host of that name.
        """
        targets = [self._host(name) for name in theirs]
        sources = [self._host(name) for name in ours]
        return [self.path(a, b) for a in sources for b in targets if a is not b]

    def _host(self, name: str) -> Host:
        host = self.by_name.get(name)
        if host is None:
            raise InvalidInput(
                f"no host {name!r}",
                where="network",
                remedy=f"Hosts are {', '.join(self.names())}.",
            )
        return host

    def names(self) -> list[str]:
        """Names of the hosts that were created, in that order."""
        return [name for name, host in self.by_name.items() if not host.is_control]

    # --- what links are like ----------------------------------------------------------------------

    def link_regions(self, source: str, target: str, link: Link, *, both: bool = True) -> None:
        """Set what links from one region to another are like; with ``both``, also back."""
        pairs = {(source, target), (target, source)} if both else {(source, target)}
        for pair in sorted(pairs):
            self._regions[pair] = link
        for path in self._paths.values():
            if (path.source.region, path.target.region) in pairs and path.source is not path.target:
                path.base = link
                path.settle()

    def set_link(self, source: str, target: str, link: Link) -> None:
        """Set what one direction between two hosts is like."""
        for path in self.between([source], [target]):
            path.base = link
            path.settle()

    def bend(self, paths: Iterable[Path], **changes: Any) -> Callable[[], None]:
        """Change some fields of links; return what undoes it. Bends add up in any order.

        Raises:
            InvalidInput: no such field, or a value that cannot be used.
        """
        bent = list(paths)
        for path in bent:
            path.bends.append(changes)
            try:
                path.settle()
            except InvalidInput:
                path.bends.pop()
                raise

        def unbend() -> None:
            for path in bent:
                path.bends = [each for each in path.bends if each is not changes]
                path.settle()

        return unbend

    # --- verbs ------------------------------------------------------------------------------------

    def cut(self, paths: Iterable[Path]) -> None:
        """Let nothing pass. Cuts add up: each needs its own :meth:`mend`."""
        for path in paths:
            path.cuts += 1

    def mend(self, paths: Iterable[Path]) -> None:
        """Take one cut away from each path."""
        for path in paths:
            path.cuts = max(0, path.cuts - 1)
            self._flow(path, late=True)

    def partition(self, *sides: Iterable[str]) -> list[Path]:
        """Cut every path between hosts of different sides; return what was cut, for :meth:`mend`.

        Hosts that stand on no side keep all their paths.

        Raises:
            InvalidInput: fewer than two sides, an unknown host, or a host on two sides.
        """
        groups = [list(side) for side in sides]
        if len(groups) < 2:
            raise InvalidInput("a partition needs two sides", where="partition")
        everyone = [name for group in groups for name in group]
        if len(everyone) != len(set(everyone)):
            raise InvalidInput("a host stands on two sides", where="partition")
        paths = [
            path
            for group in groups
            for other in groups
            if group is not other
            for path in self.between(group, other)
        ]
        self.cut(paths)
        self.timeline.trace.note("world", "partition", *(",".join(group) for group in groups))
        return paths

    def one_way(self, source: Iterable[str], target: Iterable[str]) -> list[Path]:
        """Cut only what goes from ``source`` to ``target``."""
        source, target = list(source), list(target)
        paths = self.between(source, target)
        self.cut(paths)
        self.timeline.trace.note("world", "one_way", ",".join(source), ",".join(target))
        return paths

    def isolate(self, name: str) -> list[Path]:
        """Cut a host off from everybody."""
        return self.partition([name], [other for other in self.names() if other != name])

    def repair(self) -> None:
        """Take away every cut and every hold, whoever made them."""
        self.timeline.trace.note("world", "repair")
        for path in self._paths.values():
            self.open(path)

    def open(self, path: Path) -> None:
        """Take away every cut and every hold of one path, whoever made them."""
        path.cuts = path.held = 0
        self._flow(path, late=True)

    def hold(self, paths: Iterable[Path]) -> None:
        """Keep what is sent, datagrams too, until :meth:`release`."""
        for path in paths:
            path.held += 1

    def release(self, paths: Iterable[Path]) -> None:
        """Deliver what was held, in its order."""
        for path in paths:
            path.held = max(0, path.held - 1)
            self._flow(path, late=False)

    def retry(self, target: Host) -> None:
        """Send again what waits for a host that just came back."""
        for path in list(self._paths.values()):
            if path.target is target:
                self._flow(path, late=True)

    def _flow(self, path: Path, *, late: bool) -> None:
        """Let go what a path held back; ``late`` adds the wait for the next retransmission."""
        if path.is_cut or not path.stalled:
            return
        stalled, path.stalled = path.stalled, []
        late_ns = path.draw.randrange(RTO_NS) if late else 0
        for act, args in stalled:
            self.timeline.after(late_ns + path.delay_ns(), act, *args)

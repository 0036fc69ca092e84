"""A cluster of real processes: certificates, configuration files, nodes, and the network between.

This module exists so that an experiment gets in one line what takes an operator an afternoon, and
so that all of it is gone afterwards, whatever happened. Each node is a site of its own: nodes reach
each other, and clients at a site reach the nodes of other sites, over the plan's links, whatever
network those are made of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from mcpcore.errors import NotReady
from mcpcore.experiment.links import LinkQuality
from mcpcore.experiment.netns.network import NamespaceNetwork
from mcpcore.experiment.network import Hindrance, Isolation
from mcpcore.experiment.networks import network_of
from mcpcore.experiment.node_process import NodeProcess
from mcpcore.experiment.shaper import Shaper
from mcpcore.experiment.steering.page import Page, Wrongs
from mcpcore.experiment.steering.wrong_clock import WrongClock
from mcpcore.node.client.client import Client
from mcpcore.node.clocks import SystemClocks
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.certificates import Authority, write_pairs
from mcpcore.node.transport.identity import CertifiedRole, Role
from mcpcore.node.transport.security import Tls
from mcpcore.sim.delay import Link as LinkShape

GROUP: Final = "main"
"""The group of a cluster whose plan names no others."""

_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterPlan:
    """What cluster to make.

    Args:
        nodes: names; every node is a site.
        links: quality of the link for every directed pair of nodes, and of places where clients
            are and nodes. Empty: everybody talks to everybody directly, and on loopback no link
            can be cut.
        shapes: what lies between two nodes, packet by packet, where the network carries packets.
        groups: names of the groups; every node is a voter in each.
        election_timeout_s: see ``RaftSettings``.
        heartbeat_s: see ``RaftSettings``.
        limits: lines for ``[limits]`` of every node's file.
        seed: of the links' jitter.
        clocks: how far each node's wall clock is ahead (ms) and how much too fast both its clocks
            run (ppm).
        steered: whether clocks and disks are to be broken from outside (``ProcessCluster.pages``).
            Then log and snapshots share one thread for the disk.
        small_disk_bytes: every node gets a disk of its own of this size, where it lives in a
            namespace; 0: all share the machine's.
    """

    nodes: tuple[str, ...]
    links: Mapping[tuple[str, str], LinkQuality] = field(default_factory=dict)
    shapes: Mapping[tuple[str, str], LinkShape] = field(default_factory=dict)
    groups: tuple[str, ...] = (GROUP,)
    election_timeout_s: float = 1.5
    heartbeat_s: float = 0.3
    limits: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    clocks: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    steered: bool = False
    small_disk_bytes: int = 0


class ProcessCluster:
    """Use it as an asynchronous context manager: starts all nodes, and in the end ends them.

    Args:
        plan: what to make.
        directory: where certificates, configurations, data and logs go; made if absent. It is
            left as it is: whoever made it removes it.
        isolation: how the nodes are kept apart.
    """

    def __init__(
        self,
        plan: ClusterPlan,
        directory: Path,
        isolation: Isolation = Isolation.LOOPBACK,
    ) -> None:
        self.plan = plan
        self.directory = directory.absolute()
        self.isolation = isolation
        self.nodes: dict[str, NodeProcess] = {}
        self.pages: dict[str, Page] = {}
        """Where the wrongs of each node's clocks and disk are written, if they are steered."""
        self.addresses: dict[str, Address] = {}
        """Where each node really listens, in its own namespace if it has one."""
        self.shaper = Shaper(plan.links, seed=plan.seed)
        self.network = network_of(isolation, self.shaper, plan.shapes, plan.seed)
        self._cuts: list[Hindrance] = []
        self._admins: dict[str, Client] = {}

    # --- life ----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self._prepare()
            await asyncio.gather(*(node.start() for node in self.nodes.values()))
            await asyncio.gather(*(self.wait_ready(name) for name in self.nodes))
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close(in_order=kind is None)

    async def close(self, *, in_order: bool = False) -> None:
        """End all nodes and close the network. Twice is harmless.

        Args:
            in_order: let the nodes stop in order; otherwise they are killed.
        """
        clients, self._admins = list(self._admins.values()), {}
        for client in clients:
            await client.close()
        self.shaper.heal_all()
        if in_order:
            await asyncio.gather(*(node.terminate() for node in self.nodes.values()))
        await asyncio.gather(*(node.kill() for node in self.nodes.values()))
        await self.shaper.close()
        if in_order and self.plan.small_disk_bytes:
            await self._keep_data()
        await self.network.close()
        for page in self.pages.values():
            page.close()
        self.pages = {}

    def data(self, name: str) -> Path:
        """The node's data, as we see it: it may lie in the node's own mount namespace."""
        inside = self.directory / "data" / name
        for entrance in self.network.entrance(name):
            namespace = Path(entrance).parents[1]  # /proc/PID
            return namespace / "root" / inside.relative_to("/")
        return inside

    async def disk(self, name: str, do: str) -> dict[str, Any]:
        """``fill`` or ``drain`` a node's small disk."""
        assert isinstance(self.network, NamespaceNetwork)
        return await self.network.namespaces[name].disk(do, self.directory / "data" / name)

    async def cut(self, a: str, b: str, *, one_way: bool = False) -> Hindrance:
        """Cut two nodes off from each other; with ``one_way``, only what ``a`` says to ``b``."""
        pairs = [(a, b)] if one_way else [(a, b), (b, a)]
        made = await self.network.cut(pairs)
        self._cuts.append(made)
        return made

    async def isolate(self, name: str) -> Hindrance:
        """Cut a node off from all others. Clients beside it still reach it."""
        others = [other for other in self.nodes if other != name]
        made = await self.network.cut(
            [pair for other in others for pair in ((name, other), (other, name))]
        )
        self._cuts.append(made)
        return made

    async def heal(self) -> None:
        """Lift every cut made by ``cut`` and ``isolate``."""
        cuts, self._cuts = self._cuts, []
        for each in cuts:
            await each.lift()

    async def wait_ready(self, name: str, timeout_s: float = 20.0) -> None:
        """Return when a node answers.

        Raises:
            NodeDied: it ended instead.
            NotReady: it did neither.
        """
        node = self.nodes[name]
        async with self._in_time(f"node {name} gave no answer", timeout_s):
            while True:
                node.expect_running()
                if isinstance(await self.status(name), dict):
                    return
                await asyncio.sleep(_POLL_S)

    async def leader(self, timeout_s: float = 20.0) -> str:
        """The node that a majority of all nodes takes for the leader, once there is one.

        Raises:
            NotReady: there is none.
        """
        async with self._in_time("no majority agreed on a leader", timeout_s):
            while True:
                statuses = await self.statuses()
                named: dict[tuple[int, str], int] = {}
                for status in statuses.values():
                    if isinstance(status, dict):
                        group = status["groups"][self.plan.groups[0]]
                        vote = (group["term"], group["leader"])
                        named[vote] = named.get(vote, 0) + 1
                for (_, leader), count in named.items():
                    if leader and count > len(self.nodes) // 2:
                        return leader
                await asyncio.sleep(_POLL_S)

    # --- asking ----------------------------------------------------------------------------------

    def security(self, role: Role = Role.CLIENT) -> Tls:
        """The certificate of the experiment's clients, or of its administrator."""
        name = "admin-experiment" if role is Role.ADMIN else "client-experiment"
        return self._tls(name)

    async def client(
        self,
        site: str | None = None,
        *,
        first: Collection[str] = (),
        role: Role = Role.CLIENT,
        **options: Any,
    ) -> Client:
        """A client at a site: what it says to the nodes of other sites goes over the links.

        Args:
            site: where it is; None: next to every node, untouched by any cut.
            first: the nodes it asks first.
            options: for ``Client``.
        """
        names = sorted(self.nodes, key=lambda name: name not in first)
        addresses = [await self.network.door(site, name) for name in names]
        return Client(
            addresses,
            cluster=self.cluster,
            security=self.security(role),
            name="experiment",
            role=role,
            **options,
        )

    async def status(self, name: str) -> dict[str, Any] | Exception:
        """One node's account of itself, asked directly, or why there is none."""
        client = self._admins.get(name)
        if client is None:
            client = self._admins[name] = Client(
                [await self.network.door(None, name)],
                cluster=self.cluster,
                security=self.security(Role.ADMIN),
                name="experiment",
                role=Role.ADMIN,
            )
        answers = await client.status(timeout_s=1.0)
        return next(iter(answers.values()))

    async def statuses(self) -> dict[str, dict[str, Any] | Exception]:
        """Every node's account of itself, or why there is none."""
        answers = await asyncio.gather(*(self.status(name) for name in self.nodes))
        return dict(zip(self.nodes, answers, strict=True))

    @property
    def cluster(self) -> str:
        """The cluster's name."""
        return "experiment"

    # --- inside ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def _in_time(self, what: str, timeout_s: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(timeout_s):
                yield
        except TimeoutError:
            raise NotReady(what, timeout_s, str(self.directory / "logs")) from None

    async def _prepare(self) -> None:
        names = self.plan.nodes
        certificates = self.directory / "certs"
        authority = Authority.create(self.cluster)
        pairs = {
            certificates / "ca": authority.pair,
            certificates / "client-experiment": authority.issue(CertifiedRole.CLIENT, "experiment"),
            certificates / "admin-experiment": authority.issue(CertifiedRole.ADMIN, "experiment"),
        }
        self.addresses = dict(await self.network.open(names))
        for name in names:
            pairs[certificates / f"node-{name}"] = authority.issue(
                CertifiedRole.NODE, name, ["127.0.0.1", self.addresses[name].host]
            )
        write_pairs(pairs)
        for name in names:
            options: tuple[str, ...] = ()
            if self.plan.steered or self.plan.clocks:
                self.pages[name] = self._page(name)
                options = ("--steering", str(self.directory / f"{name}.steering"))
            await self._small_disk(name)
            config = self.directory / f"{name}.toml"
            config.write_text(await self._node_toml(name))
            self.nodes[name] = NodeProcess(
                name,
                config,
                self.directory / "logs" / f"{name}.log",
                entrance=self.network.entrance(name),
                options=options,
            )

    def _page(self, name: str) -> Page:
        page = Page.create(self.directory / f"{name}.steering")
        offset_ms, drift_ppm = self.plan.clocks.get(name, (0.0, 0.0))
        clock = WrongClock().drifting(SystemClocks().monotonic_ns(), drift_ppm)
        page.write(Wrongs(clock.stepped(round(offset_ms * 1e6))))
        return page

    async def _small_disk(self, name: str) -> None:
        if not self.plan.small_disk_bytes or not isinstance(self.network, NamespaceNetwork):
            return
        path = self.directory / "data" / name
        path.mkdir(parents=True, exist_ok=True)
        namespace = self.network.namespaces[name]
        await namespace.disk("mount_tmpfs", path, size_bytes=self.plan.small_disk_bytes)

    async def _keep_data(self) -> None:
        """Small disks end with their namespaces; what was on them is wanted afterwards."""
        if not isinstance(self.network, NamespaceNetwork):
            return
        for name, namespace in self.network.namespaces.items():
            path = self.directory / "data" / name
            if path.exists():
                kept = await namespace.disk("keep", path, to=str(self.directory / "kept" / name))
                assert kept["ok"]

    async def _node_toml(self, name: str) -> str:
        plan = self.plan
        peers = [
            f'{_quoted(peer)} = "{await self.network.door(name, peer)}"'
            for peer in plan.nodes
            if peer != name
        ]
        lines = [
            f'cluster = "{self.cluster}"',
            f"node = {_quoted(name)}",
            f'listen = "{self.addresses[name]}"',
            f"data = {_quoted(f'data/{name}')}",
            "bootstrap = true",
            "",
            "[tls]",
            'ca = "certs/ca.crt"',
            f"certificate = {_quoted(f'certs/node-{name}.crt')}",
            f"key = {_quoted(f'certs/node-{name}.key')}",
            "",
            "[peers]  # as they are reached from here",
            *peers,
        ]
        for group in plan.groups:
            lines += [
                "",
                f"[groups.{group}]",
                f"voters = [{', '.join(map(_quoted, plan.nodes))}]",
                'machine = "kv"',
                f"election_timeout_s = {plan.election_timeout_s}",
                f"heartbeat_s = {plan.heartbeat_s}",
            ]
        if plan.limits:
            lines += ["", "[limits]", *(f"{key} = {value}" for key, value in plan.limits.items())]
        return "\n".join(lines) + "\n"

    def _tls(self, name: str) -> Tls:
        certificates = self.directory / "certs"
        return Tls(
            certificates / "ca.crt", certificates / f"{name}.crt", certificates / f"{name}.key"
        )


def _quoted(text: str) -> str:
    return f'"{text}"'

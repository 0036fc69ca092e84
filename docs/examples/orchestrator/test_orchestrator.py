"""The orchestrator in the simulator: permitted, refused, cut off, crashed; and once for real."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from orchestrator import Orchestrator, PretendCloud, machine

from mcpcore import Address, Client, GroupConfig, Node, NodeConfig, Plaintext
from mcpcore.node.transport.identity import Role
from mcpcore.saga import Status
from mcpcore.sim import World

NAMES = ("us-east-1", "hangzhou", "edge")
INSIDE = Plaintext(allow_plaintext=True, networks=("10.0.0.0/8",))


class Town:
    """Three orchestrators in a world, over three pretended clouds."""

    def __init__(self, world: World, *, room: int = 5) -> None:
        self.world = world
        self.clouds = {name: PretendCloud(name, room=room) for name in ("aws", "alibaba", "edge")}
        self.services: dict[str, Orchestrator] = {}
        self.hosts = {name: world.host(name, self._run(name), start=False) for name in NAMES}
        self.at = {name: Address(host.address, 7000) for name, host in self.hosts.items()}
        for host in self.hosts.values():
            host.start()
        world.run_until(lambda: len(self.services) == len(NAMES), within_s=90)

    def _run(self, name: str) -> Any:
        async def main() -> None:
            host = self.hosts[name]
            config = NodeConfig(
                cluster="town",
                name=name,
                listen=self.at[name],
                peers={peer: at for peer, at in self.at.items() if peer != name},
                data="data",
                security=INSIDE,
                groups={"main": GroupConfig(NAMES), "policy": GroupConfig(NAMES)},
                bootstrap=True,
            )
            addresses = list(self.at.values())
            async with (
                Node(config, machine, disk=host.disk, rng=host.random) as node,
                Client(
                    addresses, cluster="town", security=INSIDE, role=Role.ADMIN, rng=host.random
                ) as client,
            ):
                service = Orchestrator(node, client, self.clouds)
                await service.found()
                async with service.engine:
                    self.services[name] = service
                    await node.stopped.wait()

        return main

    def begin(self, name: str, ask: Callable[[Orchestrator], Awaitable[Any]]) -> Any:
        """Ask the service on a node; returns the task."""

        async def asked() -> Any:
            return await ask(self.services[name])

        return self.hosts[name].spawn(asked())

    def do(self, name: str, ask: Callable[[Orchestrator], Awaitable[Any]]) -> Any:
        """Ask the service on a node, and wait for the answer."""
        task = self.begin(name, ask)
        self.world.run_until(task.done, within_s=120)
        return task.result()

    def permit(self, who: str) -> None:
        self.do("us-east-1", lambda service: service.permit(who))
        self.world.run(3)

    def running(self) -> list[str | None]:
        return [cloud.running.get("web") for cloud in self.clouds.values()]


def test_whom_the_policy_permits_deploys_over_all_clouds_from_any_node() -> None:
    with World(seed=1) as world:
        town = Town(world)
        with pytest.raises(PermissionError, match="no permit matches"):
            town.do("edge", lambda service: service.deploy("ann", "web", "web:1"))
        assert town.running() == [None, None, None]

        town.permit("ann")
        outcome = town.do("edge", lambda service: service.deploy("ann", "web", "web:1"))
        assert outcome.status is Status.COMPLETED
        assert town.running() == ["web:1"] * 3
        found = town.do("hangzhou", lambda service: service.find("web"))
        assert (found.image, found.state) == ("web:1", "running")


def test_a_cloud_without_room_leaves_nothing_behind_in_the_others() -> None:
    with World(seed=2) as world:
        town = Town(world)
        town.permit("ann")
        town.clouds["edge"].room = 0
        outcome = town.do("hangzhou", lambda service: service.deploy("ann", "web", "web:1"))
        assert outcome.status is Status.COMPENSATED
        assert "no room" in outcome.why
        assert town.running() == [None, None, None]


def test_a_freeze_on_the_side_that_is_cut_off_counts_there_at_once_and_everywhere_after() -> None:
    with World(seed=3) as world:
        town = Town(world)
        town.permit("ann")
        cut = world.inject("partition", "edge")
        town.do("edge", lambda service: service.freeze("web"))
        with pytest.raises(PermissionError):
            town.do("edge", lambda service: service.deploy("ann", "web", "web:1"))
        cut.end()
        world.run(20)
        with pytest.raises(PermissionError):
            town.do("us-east-1", lambda service: service.deploy("ann", "web", "web:1"))


def test_a_rollout_whose_node_dies_is_finished_by_another() -> None:
    with World(seed=4) as world:
        town = Town(world)
        town.permit("ann")
        town.begin("edge", lambda service: service.deploy("ann", "web", "web:1"))
        world.run_until(lambda: any(town.running()), within_s=30)
        town.hosts["edge"].crash()
        world.run_until(lambda: town.running() in (["web:1"] * 3, [None] * 3), within_s=120)
        world.run(30)
        assert town.running() in (["web:1"] * 3, [None] * 3), "all clouds, or none"

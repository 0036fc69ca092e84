"""Three clouds that hold one policy, on the real node, in a simulated world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mcpcore.node.group import Group
from mcpcore.node.policies.machine import PolicyMachine
from mcpcore.node.policies.service import PolicyService
from mcpcore.policy import Author, Mode, own
from mcpcore.sim import World
from tests.node.simulated_cluster import NAMES, SimulatedCluster

SHOP = Author("shop")
GROUP = "main"


class PolicyCluster(SimulatedCluster):
    """Nodes whose one group orders a policy; two tenants own a namespace each."""

    def __init__(
        self,
        world: World,
        names: tuple[str, ...] = NAMES,
        *,
        mode: Mode = Mode.GUARDED,
        tenants: tuple[str, ...] = ("shop", "bank"),
        **more: Any,
    ) -> None:
        super().__init__(world, names, machine=lambda group: PolicyMachine(mode), **more)
        world.run_until(lambda: bool(self.leader()), within_s=30)
        for tenant in tenants:
            self.order(own(tenant, tenant))
        world.run_until(self.agreed, within_s=30)

    def policy(self, name: str) -> PolicyService:
        return self.nodes[name].policy(GROUP)

    def order(self, command: bytes) -> None:
        async def propose() -> None:
            await self.policy(leader).order(command)

        leader = self.leader()
        self.world.call(leader, propose())

    def edit(self, name: str, act: Callable[[PolicyService], Any]) -> None:
        """Edit on a node, and wait until that is durable there."""

        async def change() -> None:
            await act(self.policy(name))

        self.world.call(name, change())

    def settled(self) -> bool:
        """Whether all nodes run and hold the same edits and the same log, with nothing pending."""
        groups: dict[str, Group] = self.running()
        if len(groups) < len(self.names) or not self.leader():
            return False
        stores = [self.policy(name).store for name in self.names]
        return all(
            store.state == stores[0].state
            and store.prefix.digest == stores[0].prefix.digest
            and not store.pending()
            for store in stores
        )

"""The policies of one node: one for each of its groups that orders a policy.

This module exists so that a policy begins and ends with its group, and is held by the group's
members, whoever they are. It must never look into a policy.
"""

from __future__ import annotations

from collections.abc import Iterator

from mcpcore.clock import NodeClock
from mcpcore.crdt import Causal
from mcpcore.errors import UnknownData
from mcpcore.node.data_config import DataConfig
from mcpcore.node.group import Group
from mcpcore.node.policies.machine import PolicyMachine
from mcpcore.node.policies.service import PolicyService
from mcpcore.node.replicated_data import DataHub
from mcpcore.node.tracing import Tracing
from mcpcore.policy import PolicyStore, Prefix, admit

PREFIX = "policy."
"""What the names of the policies' replicated data begin with."""


class Policies:
    """All policies of a node.

    Args:
        node: its name.
        hub: where their edits live.
        clock: the node's.
        tracing: takes down decisions within a trace; None: nobody does.
    """

    def __init__(
        self, node: str, hub: DataHub, clock: NodeClock, tracing: Tracing | None = None
    ) -> None:
        self._node = node
        self._tracing = tracing
        self._hub = hub
        self._clock = clock
        self._services: dict[str, PolicyService] = {}

    def __iter__(self) -> Iterator[PolicyService]:
        return iter(self._services.values())

    def service(self, group: str) -> PolicyService:
        """The policy that a group orders.

        Raises:
            UnknownData: there is none here.
        """
        found = self._services.get(group)
        if found is None:
            raise UnknownData(f"policy {group}", self._node, tuple(sorted(self._services)))
        return found

    async def begin(self, group: Group, voters: tuple[str, ...]) -> None:
        """A group is here. If it orders a policy, hold that policy from now on.

        Args:
            voters: who holds it until the group knows its members.

        Raises:
            OSError: the disk does not work.
        """
        machine = group.state.machine
        if not isinstance(machine, PolicyMachine) or group.name in self._services:
            return

        def prefix() -> Prefix:
            return machine.prefix

        data = await self._hub.open(
            f"{PREFIX}{group.name}",
            DataConfig(),
            group.raft.state.configuration.members or voters,
            authorise=admit(prefix),
            erases=False,
        )
        assert isinstance(data.state, Causal)
        store = PolicyStore(data.replica, data.state, mode=machine.mode)
        self._services[group.name] = PolicyService(group, data, store, self._clock, self._tracing)

    async def end(self, group: str) -> None:
        """A group has been retired here."""
        service = self._services.pop(group, None)
        if service is not None:
            service.close()
            await self._hub.release(f"{PREFIX}{group}")

    def reconfigured(self, group: Group) -> None:
        """A group has other members: they hold its policy from now on."""
        members = group.raft.state.configuration.members
        if group.name in self._services and members:
            self._hub.set_members(f"{PREFIX}{group.name}", members)

    def close(self) -> None:
        """Propose nothing more."""
        for service in self._services.values():
            service.close()

"""The groups that a node takes part in: found in its log, made anew, known by name.

This module exists so that there is one answer to "which groups are here, and where do they come
from". It decides nothing inside a group, and it sends nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator

from mcpcore.errors import UnknownGroup
from mcpcore.node.clocks import Clocks
from mcpcore.node.config import NodeConfig
from mcpcore.node.group import Group
from mcpcore.node.machine import ReplicatedState, StateMachine
from mcpcore.node.scheduler import Scheduler
from mcpcore.node.storage.contract import LogDevice, RecoveredGroup
from mcpcore.node.timekeeping import Timekeeper
from mcpcore.raft.core import Raft
from mcpcore.raft.log import RaftLog
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.types import Configuration

logger = logging.getLogger("mcpcore.node")


class Hosting:
    """All groups of one node.

    Args:
        machine: makes the state machine of a group, given its name.
        failed: called when the log fails.
    """

    def __init__(
        self,
        config: NodeConfig,
        machine: Callable[[str], StateMachine],
        clocks: Clocks,
        rng: random.Random,
        *,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._config = config
        self._machine = machine
        self._clocks = clocks
        self._rng = rng
        self._failed = failed
        self._groups: dict[str, Group] = {}

    async def recover(
        self, device: LogDevice, timekeeper: Timekeeper, scheduler: Scheduler
    ) -> None:
        """Make the groups that the configuration names, from the log or anew."""
        config = self._config
        recovered = device.groups()
        for name in sorted(recovered.keys() - config.groups.keys()):
            logger.warning(
                "node %s: the log holds group %s, which the configuration does not name; it is "
                "kept and not served",
                config.name,
                name,
            )
        created = []
        for name, wanted in config.groups.items():
            if name not in recovered:
                configuration = Configuration.of(wanted.voters)
                created.append(device.create_group(name, configuration))
                recovered[name] = RecoveredGroup(
                    name, device.hard_state(name), RaftLog().base, configuration
                )
        await asyncio.gather(*created)  # one sync for all of them
        for name, wanted in config.groups.items():
            self._groups[name] = self._make(
                recovered[name], wanted.settings, device, timekeeper, scheduler
            )
        device.release_recovered()

    def _make(
        self,
        found: RecoveredGroup,
        settings: RaftSettings,
        device: LogDevice,
        timekeeper: Timekeeper,
        scheduler: Scheduler,
    ) -> Group:
        raft = Raft(
            self._config.name,
            settings,
            random.Random(self._rng.getrandbits(64)),
            configuration=found.configuration,
            hard_state=found.hard_state,
            log=RaftLog(found.base, found.entries),
            now_ns=self._clocks.monotonic_ns(),
            group=found.name,
        )
        return Group(
            found.name,
            raft,
            ReplicatedState(self._machine(found.name)),
            device,
            self._clocks,
            send=scheduler.send,
            wake=scheduler.wake,
            failed=self._failed,
            clock_health=timekeeper.health,
        )

    def find(self, name: str) -> Group | None:
        """The group of that name, if it is here."""
        return self._groups.get(name)

    def group(self, name: str) -> Group:
        """The group of that name.

        Raises:
            UnknownGroup: there is no such group here.
        """
        group = self._groups.get(name)
        if group is None:
            raise UnknownGroup(name, self._config.name, self.names)
        return group

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups here, sorted."""
        return tuple(sorted(self._groups))

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups.values())

    def close(self) -> None:
        """End all groups."""
        for group in self._groups.values():
            group.close()

"""The groups that a node takes part in: found in its log, made anew, known by name.

This module exists so that there is one answer to "which groups are here, and where do they come
from". It decides nothing inside a group, and it sends nothing.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator
from typing import Final

from mcpcore.errors import UnknownGroup
from mcpcore.node.clocks import Clocks
from mcpcore.node.config import NodeConfig
from mcpcore.node.group import Group
from mcpcore.node.group_status import GroupObserver
from mcpcore.node.machine import ReplicatedState, StateMachine
from mcpcore.node.scheduler import Scheduler
from mcpcore.node.storage.contract import LogDevice, RecoveredGroup
from mcpcore.node.timekeeping import Timekeeper
from mcpcore.raft.core import Raft
from mcpcore.raft.log import RaftLog
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.types import Configuration, HardState

logger = logging.getLogger("mcpcore.node")

NOBODY: Final = Configuration(frozenset())
"""The configuration of a group whose members are not known here yet."""


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
        self._device: LogDevice | None = None

    def recover(
        self,
        device: LogDevice,
        timekeeper: Timekeeper,
        scheduler: Scheduler,
        observer: GroupObserver,
    ) -> tuple[str, ...]:
        """Make the groups that the configuration names, from the log where it holds them.

        Returns:
            Names of the groups that it does not hold. They have no members yet, and nothing must
            reach them before ``open``.
        """
        self._device = device
        config = self._config
        recovered = device.groups()
        for name in sorted(recovered.keys() - config.groups.keys()):
            logger.warning(
                "node %s: the log holds group %s, which the configuration does not name; it is "
                "kept and not served",
                config.name,
                name,
            )
        fresh = tuple(sorted(config.groups.keys() - recovered.keys()))
        for name in fresh:
            recovered[name] = RecoveredGroup(name, HardState(), RaftLog().base, NOBODY)
        for name, wanted in config.groups.items():
            self._groups[name] = self._make(
                recovered[name], wanted.settings, device, timekeeper, scheduler, observer
            )
        device.release_recovered()
        return fresh

    async def open(self, name: str, configuration: Configuration) -> None:
        """Begin the log of a group that is fresh here; it takes part once that is durable.

        Args:
            configuration: the first one; ``NOBODY`` if a leader's log is to tell.
        """
        assert self._device is not None
        await self._device.create_group(name, configuration)
        self._groups[name].found(configuration, self._device.hard_state(name))

    def _make(
        self,
        found: RecoveredGroup,
        settings: RaftSettings,
        device: LogDevice,
        timekeeper: Timekeeper,
        scheduler: Scheduler,
        observer: GroupObserver,
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
            incarnation=device.identity.incarnation,
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
            observer=observer,
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

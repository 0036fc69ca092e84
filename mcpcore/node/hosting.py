"""The groups that a node takes part in: found in its log, made anew, retired, known by name.

This module exists so that there is one answer to "which groups are here, and where do they come
from". It decides nothing inside a group, and it sends nothing.

A group comes from the configuration, or was created at run time and is remembered by the catalog.
To create one, the catalog is stored before the log knows the group; to retire one, the catalog is
stored before the log drops it: so whatever a crash leaves half done, the next start finishes the
retirement and forgets a creation that nobody was told of.

HAZARD: a group may be made again under the name of a retired one only after *all* its members have
retired it. The log keeps term and vote of a retired group, so no vote is cast twice; but entries
that only some members forgot could be lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mcpcore.errors import GroupExists, InvalidInput, ProtocolViolation, UnknownGroup
from mcpcore.node.catalog import CatalogFile
from mcpcore.node.clocks import Clocks
from mcpcore.node.config import GroupConfig, NodeConfig
from mcpcore.node.disk import Disk
from mcpcore.node.group import Group
from mcpcore.node.group_status import GroupObserver
from mcpcore.node.machine import StateMachine
from mcpcore.node.meters import Meters
from mcpcore.node.pulse import Pulse
from mcpcore.node.quarantining import QuarantineKeeper
from mcpcore.node.recovery.apply import members_only
from mcpcore.node.repair import follow_doubt
from mcpcore.node.reuniting import Reuniting
from mcpcore.node.scheduler import Scheduler
from mcpcore.node.snapshots.keeper import SnapshotKeeper
from mcpcore.node.snapshots.pacing import TokenBucket
from mcpcore.node.snapshots.recovery import restore
from mcpcore.node.snapshots.workplace import Workplace
from mcpcore.node.storage.contract import LogDevice, RecoveredGroup, check_name
from mcpcore.node.storage.snapshot_directory import SnapshotDirectory
from mcpcore.node.timekeeping import Timekeeper
from mcpcore.node.trails import Trail, Trails
from mcpcore.raft.core import Raft
from mcpcore.raft.doubt import FORGOTTEN
from mcpcore.raft.log import RaftLog
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.split import Verdict
from mcpcore.raft.types import Configuration, HardState

if TYPE_CHECKING:
    from mcpcore.node.freshness import Freshness
    from mcpcore.node.judging import Judging

logger = logging.getLogger("mcpcore.node")

NOBODY: Final = Configuration(frozenset())
"""The configuration of a group whose members are not known here yet."""


PINNED_CHECK_S: Final = 5.0
"""How often to look whether a quiet group keeps the log's oldest file."""


class Surroundings(NamedTuple):
    """What a started node gives its groups."""

    disk: Disk
    device: LogDevice
    catalog: CatalogFile
    timekeeper: Timekeeper
    scheduler: Scheduler
    pulse: Pulse
    judging: Judging
    freshness: Freshness
    observer: GroupObserver
    bulk: Disk
    """Where snapshots lie; another disk object than the log's, so that the log need not wait."""
    meters: Meters
    """Where the groups count."""
    trails: Trails | None = None
    """Where traced entries are followed; None: nobody traces here."""


class Hosting:
    """All groups of one node.

    Args:
        machine: makes the state machine of a group, given its name.
        failed: called when the log fails.
        offended: called with a peer and what it said that no correct member says.
    """

    def __init__(
        self,
        config: NodeConfig,
        machine: Callable[[str], StateMachine],
        clocks: Clocks,
        rng: random.Random,
        *,
        failed: Callable[[BaseException], None],
        offended: Callable[[str, ProtocolViolation], None],
    ) -> None:
        self._config = config
        self._machine = machine
        self._clocks = clocks
        self._rng = rng
        self._failed = failed
        self._offended = offended
        self._groups: dict[str, Group] = {}
        self._made_as: dict[str, GroupConfig] = {}
        self._unserved: set[str] = set()
        self._bucket = TokenBucket(config.snapshots.bytes_per_s)
        self._settings: Counter[RaftSettings] = Counter()
        self._changing = asyncio.Lock()
        self._around: Surroundings | None = None
        self._closed = False
        self._pin_timer: asyncio.TimerHandle | None = None
        self.unknown_messages = 0
        """Messages for groups that are not, or no more, here; they were dropped."""

    # --- making and ending -------------------------------------------------------------------

    async def recover(self, around: Surroundings) -> tuple[str, ...]:
        """Make the groups that the configuration or the catalog names, from the log where it holds
        them.

        Returns:
            Names of the groups that it does not hold. They have no members yet, and nothing must
            reach them before ``open``.
        """
        self._around = around
        around.judging.listeners.append(self._judged)
        device, catalog = around.device, around.catalog.catalog
        recovered = device.groups()
        for name in sorted(catalog.hosted.keys() - recovered.keys()):
            logger.warning("group %s: its creation was never finished, and is forgotten", name)
            del catalog.hosted[name]
        dropped = [device.retire_group(n) for n in sorted(catalog.retired & recovered.keys())]
        for name in sorted(catalog.retired & self._config.groups.keys()):
            logger.warning(
                "node %s: group %s was retired; take it out of the configuration",
                self._config.name,
                name,
            )
        wanted = {**catalog.hosted, **self._config.groups}
        for name in catalog.retired:
            wanted.pop(name, None)
            recovered.pop(name, None)
        self._unserved = recovered.keys() - wanted.keys()
        for name in sorted(self._unserved):
            logger.warning(
                "node %s: the log holds group %s, which the configuration does not name; it is "
                "kept and not served",
                self._config.name,
                name,
            )
        await asyncio.gather(*dropped)  # one sync for all of them
        fresh = tuple(sorted(wanted.keys() - recovered.keys()))
        # It may have lived here, and promised, and been lost by its very name.
        doubt = FORGOTTEN if device.report.amnesia else None
        for name in fresh:
            await self._directory(name).clear()  # of an earlier group of that name
            recovered[name] = RecoveredGroup(name, HardState(), RaftLog().base, NOBODY, doubt=doubt)
        for name, config in wanted.items():
            await self._host(recovered[name], config)
        device.release_recovered()
        self._let_go_of_old_files()
        return fresh

    async def open(self, name: str, configuration: Configuration) -> None:
        """Begin the log of a group that is fresh here; it takes part once that is durable.

        Args:
            configuration: the first one; ``NOBODY`` if a leader's log is to tell.
        """
        device = self._open().device
        doubt = FORGOTTEN if device.report.amnesia else None
        await device.create_group(name, configuration, doubt)
        self._groups[name].found(configuration, device.hard_state(name))

    async def create(self, name: str, config: GroupConfig) -> Group:
        """Make a group here, durably. Making it again as it was made is harmless.

        Raises:
            InvalidInput: no such group can be here, or (``GroupExists``) another one is.
            StorageFailed: the log does not work. OSError: the catalog cannot be stored.
        """
        check_name(name, "a group's name")
        self._config.check_group(name, config)
        if self._config.name not in config.voters:
            raise InvalidInput(
                f"{self._config.name} is none of its voters ({', '.join(config.voters)})",
                where=f"groups.{name}",
                remedy="Create a group on its members",
            )
        async with self._changing:
            around = self._open()
            if name in self._groups:
                made = self._made_as[name]
                if (set(made.voters), made.settings) != (set(config.voters), config.settings):
                    raise GroupExists(
                        f"a group {name} of {', '.join(made.voters)} is here already, with other "
                        "members or settings",
                        remedy="Choose another name, or retire that group on all its members first",
                    )
                return self._groups[name]
            if name in self._unserved:
                raise GroupExists(
                    f"the log holds a group {name} that is not served",
                    remedy="Name it in the configuration to serve it again, or retire it first",
                )
            catalog = around.catalog.catalog
            catalog.hosted[name] = config
            catalog.retired.discard(name)
            await around.catalog.store()
            await self._directory(name).clear()  # of an earlier group of that name
            configuration = Configuration.of(config.voters)
            stored = around.device.create_group(name, configuration)
            base, hard_state = RaftLog().base, around.device.hard_state(name)
            await stored
            self._open()
            found = RecoveredGroup(name, hard_state, base, configuration)
            group = await self._host(found, config)
            around.scheduler.wake(group)
            return group

    async def retire(self, name: str) -> None:
        """End a group here and drop its log, durably. What waits for its answers is refused.

        Raises:
            UnknownGroup: it is not here.
            StorageFailed: the log does not work. OSError: the catalog cannot be stored.
        """
        async with self._changing:
            around = self._open()
            if name not in self._groups and name not in self._unserved:
                raise UnknownGroup(name, self._config.name, self.names)
            catalog = around.catalog.catalog
            catalog.hosted.pop(name, None)
            catalog.retired.add(name)
            await around.catalog.store()
            group = self._groups.pop(name, None)
            if group is not None:
                group.close("it was retired on this node")
                await group.quarantine.forget()
                await group.reunions.forget()
                around.scheduler.forget(group)
                around.pulse.forget(name)
                around.judging.forget(name)
                around.freshness.forget(name)
                self._settings -= Counter([self._made_as.pop(name).settings])
                around.pulse.set_pace(self._settings)
            self._unserved.discard(name)
            await around.device.retire_group(name)
            await self._directory(name).clear()

    async def _host(self, found: RecoveredGroup, config: GroupConfig) -> Group:
        around = self._open()
        place = Workplace(
            self._config.cluster,
            self._directory(found.name),
            self._config.snapshots,
            self._clocks,
            self._bucket,
            partial(self._machine, found.name),
        )
        quarantine = QuarantineKeeper(
            around.disk,
            self._config.data,
            found.name,
            self._config.name,
            self._config.quarantine,
            self._clocks.wall_ns,
        )
        restored = await restore(place, found, around.device, quarantine.keep)
        start = restored.start
        self._open()
        scheduler = around.scheduler
        # One object for all groups of equal settings.
        settings = next((s for s in self._settings if s == config.settings), config.settings)
        raft = Raft(
            self._config.name,
            settings,
            self._rng,
            configuration=start.configuration,
            hard_state=start.hard_state,
            log=start.log,
            applied=start.applied,
            stateless=start.stateless,
            now_ns=self._clocks.monotonic_ns(),
            group=found.name,
            aligned=True,
            doubt=found.doubt,
            incarnation=around.device.identity.incarnation,
            links=around.pulse.contacts.links,
            reunion=replace(
                self._config.reunion, commit_index_gap=self._config.split.commit_index_gap
            ),
        )
        disk = around.pulse.disk
        raft.disk(self._clocks.monotonic_ns(), stalled=disk.stalled, full=disk.full)
        group = Group(
            found.name,
            raft,
            restored.state,
            around.device,
            self._clocks,
            send=scheduler.send,
            wake=scheduler.wake,
            alarm=scheduler.alarm,
            neighbours=around.pulse,
            failed=self._failed,
            clock_health=around.timekeeper.health,
            offended=self._offended,
            observer=around.observer,
            meters=around.meters,
            quarantine=quarantine,
            reunions=Reuniting(around.disk, self._config.data, raft, self._clocks),
        )
        group.members_only = members_only(around.disk, self._config.data, found.name)
        follow_doubt(group, around.device)
        group.applying.snapshots = SnapshotKeeper(place, group, restored.head, restored.problems)
        group.judging, group.freshness = around.judging, around.freshness
        if around.trails is not None:
            group.trail = Trail(group, around.trails)
        group.reunions.history = partial(around.judging.history, group)
        self._groups[found.name] = group
        self._made_as[found.name] = GroupConfig(config.voters, settings)
        self._settings[settings] += 1
        around.pulse.set_pace(self._settings)
        return group

    def _judged(self, verdict: Verdict) -> None:
        group = self._groups.get(verdict.group)
        if group is not None:
            group.reunions.judged(verdict)

    def _directory(self, name: str) -> SnapshotDirectory:
        assert self._around is not None
        return SnapshotDirectory(self._around.bulk, self._config.data, name)

    def _let_go_of_old_files(self) -> None:
        """Have the groups whose entries alone keep the log's oldest file take snapshots."""
        around = self._open()
        for name in around.device.pinned_by():
            group = self._groups.get(name)
            if group is not None and group.snapshots is not None:
                group.snapshots.pinned()
        loop = asyncio.get_running_loop()
        self._pin_timer = loop.call_later(PINNED_CHECK_S, self._let_go_of_old_files)

    def close(self) -> None:
        """End all groups."""
        self._closed = True
        if self._pin_timer is not None:
            self._pin_timer.cancel()
        for group in self._groups.values():
            group.close()

    def _open(self) -> Surroundings:
        if self._around is None or self._closed:
            raise InvalidInput(
                f"node {self._config.name} does not run", remedy="Start it, or ask another node"
            )
        return self._around

    # --- finding -----------------------------------------------------------------------------

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

    def made_as(self, name: str) -> GroupConfig:
        """How a group here was first made."""
        return self._made_as[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the groups here, sorted."""
        return tuple(sorted(self._groups))

    @property
    def retired(self) -> tuple[str, ...]:
        """Names of groups that were retired here and not made again, sorted."""
        return tuple(sorted(self._open().catalog.catalog.retired))

    def in_brief(self) -> dict[str, dict[str, Any]]:
        """The groups here in a few plain values each, by name."""
        brief = {}
        for name in self.names:
            group = self._groups[name]
            state = group.raft.state
            brief[name] = {
                "role": "failed" if group.failure else state.role.value,
                "term": state.term,
                "leader": state.leader,
                "applied": group.applied,
                "asleep": state.quiet,
                "members": sorted(state.configuration.members),
            }
        return brief

    def __iter__(self) -> Iterator[Group]:
        return iter(list(self._groups.values()))

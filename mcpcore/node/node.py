"""A node: many groups over one log, one connection per peer and one turn per loop turn.

This module exists so that the parts of a node are put together, started and stopped in one place.
It holds no rule of any protocol: messages go to groups, groups' messages go to peers. Which groups
there are is the business of ``hosting``, when they act that of ``scheduler``.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from mcpcore import __version__
from mcpcore.clock import NodeClock
from mcpcore.errors import ProtocolViolation
from mcpcore.node import node_status
from mcpcore.node.backup import Backup
from mcpcore.node.clocks import Clocks, SystemClocks
from mcpcore.node.config import GroupConfig, NodeConfig
from mcpcore.node.disk import Disk
from mcpcore.node.file_disk import FileDisk
from mcpcore.node.group import Group
from mcpcore.node.group_status import brief_of
from mcpcore.node.hosting import Hosting
from mcpcore.node.machine import StateMachine
from mcpcore.node.meters import Meters
from mcpcore.node.parts import Parts, assemble, let_go
from mcpcore.node.policies.service import PolicyService
from mcpcore.node.quarantining import QuarantineKeeper
from mcpcore.node.replicated_data import ReplicatedData
from mcpcore.node.reuniting import Reuniting
from mcpcore.node.scrubbing import Scrubber
from mcpcore.node.service import ClientService
from mcpcore.node.storage.contract import DeviceStats, Identity
from mcpcore.node.tracing import Tracing
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.connection import Connection
from mcpcore.node.transport.transport import new_incarnation
from mcpcore.node.verdict_stream import VerdictStream
from mcpcore.node.waiting import Applied
from mcpcore.raft.membership import Change
from mcpcore.raft.split import SplitState

logger = logging.getLogger("mcpcore.node")

__all__ = ["GroupConfig", "Node", "NodeConfig"]


class Node:
    """One process's share of a cluster. Use it as an asynchronous context manager.

    Args:
        config: who it is.
        machine: makes the state machine of a group, given its name.
        disk: where the log lives; real files unless a simulation brings its own.
        clocks: where time is read.
        rng: source of randomness for election windows and reconnecting.
        tracing: takes down what becomes of calls; None: nobody does.
    """

    def __init__(
        self,
        config: NodeConfig,
        machine: Callable[[str], StateMachine],
        *,
        disk: Disk | None = None,
        clocks: Clocks | None = None,
        rng: random.Random | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.config = config
        self.tracing = tracing
        self._disk = disk
        self._own_disks: tuple[FileDisk, ...] = ()
        self._clocks = clocks or SystemClocks()
        self._rng = rng or random.Random()
        self._scrubber: Scrubber | None = None
        self._scrubbing: asyncio.Task[None] | None = None
        self._parts: Parts | None = None
        self._service = ClientService(self)
        self._hosting = Hosting(
            config,
            machine,
            self._clocks,
            self._rng,
            failed=self._fail,
            offended=self._offended,
        )
        self._stopping = False
        self._stop_task: asyncio.Task[None] | None = None
        self._started_ns = 0
        self.meters = Meters()
        """What this node has counted since it was made."""
        self.stopped: asyncio.Event = asyncio.Event()
        """Set when the node has stopped, by itself or because it was told to."""
        self.failure: BaseException | None = None
        """Why it stopped by itself; None otherwise."""

    # --- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Recover the log, make the groups that are new, listen, and take part.

        Raises:
            InvalidInput: the configuration cannot be used.
        """
        config = self.config
        if self._disk is None:
            self._own_disks = (FileDisk(), FileDisk())
            self._disk = self._own_disks[0]
        bulk = self._own_disks[1] if self._own_disks else self._disk
        try:
            self._parts = parts = await assemble(
                config,
                Identity(config.cluster, config.name, new_incarnation(self._rng)),
                self._disk,
                bulk,
                self._clocks,
                self._rng,
                hosting=self._hosting,
                handler=self,
                observer=self,
                meters=self.meters,
                tracing=self.tracing,
                failed=self._fail,
            )
            self._started_ns = self._clocks.monotonic_ns()
            await parts.transport.start()
            if config.scrub_bytes_per_s:
                self._scrubber = Scrubber(
                    self._disk,
                    config.data,
                    parts.device,
                    lambda: self._hosting,
                    bytes_per_s=config.scrub_bytes_per_s,
                )
                scrubbing = self._scrubber.run()
                self._scrubbing = asyncio.get_running_loop().create_task(scrubbing, name="scrub")
        except BaseException:
            await self.stop()
            raise
        parts.membership.start(parts.fresh)
        parts.pulse.start()
        parts.freshness.start()
        for group in self._hosting:
            parts.scheduler.wake(group)

    async def stop(self) -> None:
        """Stop taking part, finish what is on its way to the disk, and let go of everything.

        Who is cancelled while waiting here stops waiting; the node goes on stopping.
        """
        await asyncio.shield(self._begin_to_stop())

    def _begin_to_stop(self) -> asyncio.Task[None]:
        if self._stop_task is None:
            self._stopping = True
            self._hosting.close()
            self._service.close()
            if self._scrubbing is not None:
                self._scrubbing.cancel()
            if self._parts is not None:
                parts = self._parts
                parts.scheduler.close()
                parts.membership.close()
                parts.comparing.close()
                parts.policies.close()
                parts.judging.close()
            stopping = self._let_go()
            self._stop_task = asyncio.get_running_loop().create_task(stopping, name="stop node")
        return self._stop_task

    async def _let_go(self) -> None:
        try:
            closers = self._parts.closers if self._parts is not None else []
            for error in await let_go(closers):
                self.failure = self.failure or error
                logger.error("node %s: while stopping: %s", self.config.name, error)
        finally:
            for disk in self._own_disks:
                disk.close()
            self.stopped.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    # --- what a program uses ----------------------------------------------------------------

    @property
    def parts(self) -> Parts:
        """What a started node is made of: for those who look into it."""
        assert self._parts is not None, "the node is not started"
        return self._parts

    @property
    def address(self) -> Address:
        """Where this node listens, with the port it was given if any free one was asked for."""
        return self.parts.transport.address

    def group(self, name: str) -> Group:
        """A group this node takes part in.

        Raises:
            UnknownGroup: there is no such group here.
        """
        return self._hosting.group(name)

    def replicated(self, name: str) -> ReplicatedData:
        """Replicated data that this node holds; it can be changed without any quorum.

        Raises:
            UnknownData: there is none of that name.
        """
        return self.parts.data.data(name)

    def policy(self, group: str) -> PolicyService:
        """The policy that a group here orders (a group whose machine is a ``PolicyMachine``).

        Raises:
            UnknownData: there is none.
        """
        return self.parts.policies.service(group)

    async def create_group(self, name: str, config: GroupConfig) -> Group:
        """Make a group here, and serve it from now on, after restarts too. Each of its members has
        to be told. Making it again as it was made is harmless.

        Raises:
            InvalidInput: no such group can be here, or (``GroupExists``) another one is.
            StorageFailed: the log does not work.
        """
        return await asyncio.shield(asyncio.ensure_future(self._create(name, config)))

    async def _create(self, name: str, config: GroupConfig) -> Group:
        group = await self._hosting.create(name, config)
        await self.parts.policies.begin(group, config.voters)
        return group

    async def retire_group(self, name: str) -> None:
        """End a group here, and drop its log. Each of its members has to be told.

        Raises:
            UnknownGroup: it is not here.
            StorageFailed: the log does not work.
        """
        await asyncio.shield(asyncio.ensure_future(self._retire(name)))

    async def _retire(self, name: str) -> None:
        await self._hosting.retire(name)
        await self.parts.policies.end(name)

    def quarantine(self, group: str) -> QuarantineKeeper:
        """What the log of a group gave up on this node, and what may be done with it.

        Raises:
            UnknownGroup: there is no such group here.
        """
        return self.group(group).quarantine

    def reunions(self, group: str) -> Reuniting:
        """What waits for an operator in a group here, and the reports of past cuts.

        Raises:
            UnknownGroup: there is no such group here.
        """
        return self.group(group).reunions

    def made_as(self, name: str) -> GroupConfig:
        """How a group here was first made: its voters then, and its settings.

        Raises:
            UnknownGroup: there is no such group here.
        """
        self.group(name)
        return self._hosting.made_as(name)

    def change(
        self, group: str, changes: Sequence[Change], *, force: bool = False
    ) -> asyncio.Future[Applied]:
        """Change who takes part in a group, if this node leads it: see ``Group.change``.

        A member that is added without the identity of its disk is taken with the one it has now,
        if there is a connection to it.

        Raises:
            Rejected: not begun; the error says why.
        """
        here = self.group(group)
        return here.change(self.parts.membership.completed(here, changes), force=force)

    @property
    def clock(self) -> NodeClock:
        """This node's clock: timestamps, uncertainty, and what it knows of the others' clocks."""
        return self.parts.timekeeper.clock

    @property
    def log_stats(self) -> DeviceStats:
        """What the log has done since the node started."""
        return self.parts.device.stats

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups here, sorted."""
        return self._hosting.names

    def groups_in_brief(self) -> dict[str, Any]:
        """Which groups are here, as ``mcpctl group list`` shows them: cheap for thousands."""
        return {
            "node": self.config.name,
            "groups": self._hosting.in_brief(),
            "retired": self._hosting.retired,
        }

    def verdicts(self, wake: Callable[[], None] = lambda: None) -> VerdictStream:
        """Changes of this node's verdicts on its groups, as they come; first what is not well now.

        ``async for verdict, passed_over in node.verdicts():`` - of each group only the newest
        change waits to be taken. The stream ends with the node; ``close`` it to leave earlier.

        Args:
            wake: called when there is something to take.
        """
        return self.parts.judging.stream(wake)

    def explain(self, group: str) -> dict[str, Any]:
        """The verdict on a group, all its evidence and its history, in plain values.

        Raises:
            UnknownGroup: there is no such group here.
        """
        return self.parts.judging.explain(self.group(group))

    def back_up(self, group: str) -> Backup:
        """The applied state of a group as it is now, to be read piece by piece.

        Raises:
            UnknownGroup: there is no such group here.
            Rejected: the group is out of service here.
        """
        return Backup(self.group(group), self.config.cluster, self._clocks.wall_ns())

    def status(self) -> dict[str, Any]:
        """The node and its groups in plain values, as ``mcpctl status`` shows them."""
        return {
            **self.facts(),
            "groups": {
                group.name: {
                    **asdict(group.status()),
                    "standing": self.parts.membership.standing(group),
                }
                for group in map(self.group, self.groups)
            },
        }

    def survey(self) -> dict[str, Any]:
        """As ``status``, for whoever asks often: what costs nothing (``group_status.brief_of``)."""
        return {
            **self.facts(),
            "groups": {
                name: {
                    **brief_of(group, self.parts.judging.unwell(name)),
                    "standing": self.parts.membership.standing(group),
                }
                for name, group in ((name, self.group(name)) for name in self.groups)
            },
        }

    def verdicts_now(self) -> Counter[SplitState]:
        """How many groups here have which verdict, as of the last beat."""
        found = [self.parts.judging.unwell(name) for name in self.groups]
        return Counter(SplitState.HEALTHY if each is None else each.state for each in found)

    def facts(self) -> dict[str, Any]:
        """The node without its groups: cheap, however many there are."""
        device, data = self.parts.device, self.config.data
        now_ns = self._clocks.monotonic_ns()
        return {
            "node": self.config.name,
            "cluster": self.config.cluster,
            "version": __version__,
            "incarnation": device.identity.incarnation,
            "address": str(self.address),
            "uptime_s": (now_ns - self._started_ns) / 1e9,
            "scrubbing": asdict(self._scrubber.status) if self._scrubber is not None else None,
            **node_status.of_log(device, self.parts.disk, data, self.parts.salvage, now_ns),
            "disk_stalled": self.parts.pulse.disk.stalled,
            "clock": node_status.of_clock(self.parts.timekeeper),
            "groups_asleep": len(self.parts.pulse.sleepers),
            "messages_for_unknown_groups": self._hosting.unknown_messages,
            "zone": self.config.zone,
            "replicated": {data.name: data.status() for data in self.parts.data},
            "peers": {name: asdict(stats) for name, stats in self.parts.transport.stats().items()},
        }

    # --- what the transport tells ----------------------------------------------------------------

    def on_connected(self, peer: str, session: int, incarnation: str) -> None:
        """A peer's new session: whatever was under way is lost; another disk has forgotten."""
        parts = self.parts
        parts.timekeeper.connected(peer)
        known = parts.membership.connected(peer, incarnation)
        for group in self._hosting:
            group.peer_connected(peer, incarnation=known)
        parts.comparing.connected(peer)
        parts.data.connected(peer)

    def on_disconnected(self, peer: str, session: int, reason: str) -> None:
        """For groups nothing: they judge silence by what arrives. Data waits for the session."""
        self.parts.data.disconnected(peer)

    def on_frame(self, peer: str, session: int, payload: bytes) -> None:
        """Messages for groups.

        Raises:
            InvalidInput: the frame is no list of messages, or one of them is what no correct
                member sends. The transport ends the session.
        """
        self.parts.arrivals.frame(peer, payload)

    # --- what groups tell; they may begin before all parts are there ------------------------------

    def moved(self, group: Group) -> None:
        """A group has applied entries."""
        if self._parts is not None:
            self._parts.comparing.moved(group)

    def marked(self, group: Group, index: int) -> None:
        """A group has taken a digest of its state."""
        if self._parts is not None:
            self._parts.comparing.marked(group, index)

    def reconfigured(self, group: Group) -> None:
        """A group has other members, or knows other facts about them."""
        if self._parts is not None:
            self._parts.membership.review_soon()
            self._parts.comparing.reconfigured(group)
            self._parts.policies.reconfigured(group)

    def on_client(self, connection: Connection) -> None:
        """A client or an administrator has connected."""
        self._service.serve(connection)

    # --- inside --------------------------------------------------------------------------------

    def _offended(self, peer: str, violation: ProtocolViolation) -> None:
        """A message that had to wait for its turn was one that no correct member sends."""
        if self._parts is not None:
            self._parts.transport.end_session(peer, str(violation))

    def _fail(self, error: BaseException) -> None:
        """The log cannot be trusted to keep promises any more: stop before making any."""
        if self.failure is None and not self._stopping:
            self.failure = error
            own = {"node": self.config.name}
            logger.error("node %s stops: %s", self.config.name, error, extra=own)
            self._begin_to_stop()

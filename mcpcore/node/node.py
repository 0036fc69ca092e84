"""A node: many groups over one log, one connection per peer and one turn per loop turn.

This module exists so that the parts of a node are put together, started and stopped in one place.
It holds no rule of any protocol: messages go to groups, groups' messages go to peers.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

import msgpack

from mcpcore import __version__
from mcpcore.clock import NodeClock
from mcpcore.errors import CoordinationError, InvalidInput, ProtocolViolation
from mcpcore.node.addresses import Address
from mcpcore.node.clocks import Clocks, SystemClocks
from mcpcore.node.connection import Connection
from mcpcore.node.disk import Disk
from mcpcore.node.file_disk import FileDisk
from mcpcore.node.group import Group
from mcpcore.node.limits import Limits
from mcpcore.node.machine import ReplicatedState, StateMachine
from mcpcore.node.security import Security
from mcpcore.node.service import ClientService
from mcpcore.node.storage import Identity, LogDevice, RecoveredGroup
from mcpcore.node.timekeeping import Timekeeper
from mcpcore.node.transport import Transport, TransportConfig, new_incarnation
from mcpcore.node.wal import WriteAheadLog
from mcpcore.raft.codec import from_row, to_row
from mcpcore.raft.core import Raft
from mcpcore.raft.log import RaftLog
from mcpcore.raft.messages import Heartbeat, HeartbeatReply, Message
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.types import Configuration

logger = logging.getLogger("mcpcore.node")

MAX_MESSAGES_PER_FRAME = 512
"""So that a frame stays far below the largest one; entries are bounded by ``max_append_bytes``."""


CLOCK_BEAT_S = 1.0


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """A group as it is first made on every member.

    Args:
        voters: names of the nodes that vote. Used once, when the group is made; later changes
            live in the group's log.
        settings: windows and bounds, the same on all members.
    """

    voters: tuple[str, ...]
    settings: RaftSettings = field(default_factory=RaftSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Who a node is, whom it knows and where its data lies.

    Args:
        cluster: name of the cluster; nodes of another one are refused.
        name: this node's name, as in its certificate.
        listen: where peers and clients call.
        peers: the other nodes' addresses.
        data: directory of the log; made if absent.
        security: ``Tls(ca, certificate, key)``, or ``Plaintext(allow_plaintext=True)`` on loopback.
        groups: the groups this node takes part in.
        limits: bounds and waits of connections.
    """

    cluster: str
    name: str
    listen: Address
    peers: Mapping[str, Address]
    data: str
    security: Security
    groups: Mapping[str, GroupConfig]
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for group, config in self.groups.items():
            where = f"groups.{group}"
            unknown = sorted(set(config.voters) - {self.name, *self.peers})
            if unknown:
                raise InvalidInput(
                    f"{', '.join(unknown)} cannot be reached",
                    where=where,
                    remedy="Give every voter an address under peers",
                )
            if not config.voters:
                raise InvalidInput("a group needs at least one voter", where=where)


class Node:
    """One process's share of a cluster. Use it as an asynchronous context manager.

    Args:
        config: who it is.
        machine: makes the state machine of a group, given its name.
        disk: where the log lives; real files unless a simulation brings its own.
        clocks: where time is read.
        rng: source of randomness for election windows and reconnecting.
    """

    def __init__(
        self,
        config: NodeConfig,
        machine: Callable[[str], StateMachine],
        *,
        disk: Disk | None = None,
        clocks: Clocks | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.config = config
        self._machine = machine
        self._disk = disk
        self._own_disk: FileDisk | None = None
        self._clocks = clocks or SystemClocks()
        self._rng = rng or random.Random()
        self._device: LogDevice | None = None
        self._transport: Transport | None = None
        self._timekeeper: Timekeeper | None = None
        self._beating: asyncio.Task[None] | None = None
        self._service = ClientService(self)
        self._groups: dict[str, Group] = {}
        self._due: dict[Group, None] = {}
        self._turn_is_due = False
        self._rows: dict[str, list[tuple[object, ...]]] = {}
        self._droppable: dict[str, bool] = {}
        self._incarnations: dict[str, str] = {}
        self._quiet: set[str] = set()
        self._stopping = False
        self._started_ns = 0
        self.stopped: asyncio.Event = asyncio.Event()
        """Set when the node has stopped, by itself or because it was told to."""
        self.failure: BaseException | None = None
        """Why it stopped by itself; None otherwise."""

    # --- life ----------------------------------------------------------------------------------

    async def start(self) -> None:
        """Recover the log, make the groups that are new, listen, and take part.

        Raises:
            StorageCorrupt: the log is damaged; the message says where and what to do.
            InvalidInput: the configuration cannot be used.
        """
        config = self.config
        if self._disk is None:
            self._disk = self._own_disk = FileDisk()
        owner = Identity(config.cluster, config.name, new_incarnation(self._rng))
        try:
            self._device = await WriteAheadLog.open(
                self._disk,
                config.data,
                identity=owner,
                monotonic_ns=self._clocks.monotonic_ns,
                on_failure=self._fail,
            )
            report = self._device.report
            if report.torn is not None:
                logger.warning(
                    "node %s: cut a torn tail of %d bytes at %s, byte %d",
                    config.name,
                    report.torn.length_bytes,
                    report.torn.path,
                    report.torn.offset,
                )
            self._transport = Transport(
                TransportConfig(
                    cluster=config.cluster,
                    node=config.name,
                    incarnation=self._device.identity.incarnation,
                    listen=config.listen,
                    limits=config.limits,
                ),
                config.security,
                self,
                self._rng,
            )
            for peer, address in config.peers.items():
                self._transport.add_peer(peer, address)
            self._timekeeper = Timekeeper(
                config.name,
                tuple(config.peers),
                self._clocks,
                self._disk,
                config.data,
                life=1 + self._rng.getrandbits(62),
                fresh=not self._device.groups(),
            )
            await self._timekeeper.start()
            await self._recover(self._device, self._timekeeper)
            await self._transport.start()
        except BaseException:
            await self.stop()
            raise
        self._started_ns = self._clocks.monotonic_ns()
        self._beating = asyncio.get_running_loop().create_task(self._beat(), name="clock-beat")
        for group in self._groups.values():
            self._wake(group)

    async def stop(self) -> None:
        """Stop taking part, finish what is on its way to the disk, and let go of everything."""
        if self._stopping:
            await self.stopped.wait()
            return
        self._stopping = True
        for group in self._groups.values():
            group.close()
        self._service.close()
        if self._beating is not None:
            self._beating.cancel()
        try:
            if self._timekeeper is not None:
                await self._timekeeper.stop()
            if self._transport is not None:
                await self._transport.close()
            if self._device is not None:
                await self._device.close()
        except CoordinationError as error:
            self.failure = self.failure or error
            logger.error("node %s: while stopping: %s", self.config.name, error)
        finally:
            if self._own_disk is not None:
                self._own_disk.close()
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
    def address(self) -> Address:
        """Where this node listens, with the port it was given if any free one was asked for."""
        assert self._transport is not None, "the node is not started"
        return self._transport.address

    def group(self, name: str) -> Group:
        """A group this node takes part in.

        Raises:
            InvalidInput: there is no such group here.
        """
        group = self._groups.get(name)
        if group is None:
            known = ", ".join(sorted(self._groups)) or "none"
            raise InvalidInput(f"no group {name!r} on {self.config.name}; known: {known}")
        return group

    @property
    def clock(self) -> NodeClock:
        """This node's clock: timestamps, uncertainty, and what it knows of the others' clocks."""
        assert self._timekeeper is not None, "the node is not started"
        return self._timekeeper.clock

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups here, sorted."""
        return tuple(sorted(self._groups))

    def status(self) -> dict[str, Any]:
        """The node and its groups in plain values, as ``mcpctl status`` shows them."""
        assert self._transport is not None
        assert self._device is not None
        assert self._timekeeper is not None
        device = self._device
        health = self._timekeeper.health()
        now_ns = self._clocks.monotonic_ns()
        pending = device.oldest_pending_since_ns
        return {
            "node": self.config.name,
            "cluster": self.config.cluster,
            "version": __version__,
            "incarnation": device.identity.incarnation,
            "address": str(self.address),
            "uptime_s": (now_ns - self._started_ns) / 1e9,
            "log_bytes_written": device.stats.bytes_written,
            "last_sync_ms": device.stats.last_sync_ns / 1e6,
            "disk_waiting_s": 0.0 if pending is None else (now_ns - pending) / 1e9,
            "clock": {
                "state": health.state.value,
                "may_lease": health.may_lease,
                "reasons": list(health.reasons),
                "view": [asdict(row) for row in self.clock.view()],
            },
            "groups": {name: asdict(self._groups[name].status()) for name in self.groups},
            "peers": {name: asdict(stats) for name, stats in self._transport.stats().items()},
        }

    # --- what the transport tells ----------------------------------------------------------------

    def on_connected(self, peer: str, session: int, incarnation: str) -> None:
        """A peer's new session: whatever was under way is lost; a new incarnation has forgotten."""
        known = self._incarnations.setdefault(peer, incarnation)
        self._incarnations[peer] = incarnation
        if known != incarnation:
            logger.warning("node %s came back without its memory (wiped disk?)", peer)
        if self._timekeeper is not None:
            self._timekeeper.connected(peer)
        for group in self._groups.values():
            group.peer_connected(peer, remembers=known == incarnation)

    def on_disconnected(self, peer: str, session: int, reason: str) -> None:
        """Nothing to do: silence is judged by the groups, from what arrives."""

    def on_frame(self, peer: str, session: int, payload: bytes) -> None:
        """Messages for groups.

        Raises:
            InvalidInput: the frame is no list of messages, or one of them is what no correct
                member sends. The transport ends the session.
        """
        try:
            frame = msgpack.unpackb(payload, use_list=False)
        except Exception as error:  # msgpack raises several unrelated classes
            raise InvalidInput(f"not a frame of messages: {error}") from error
        if type(frame) is not tuple or len(frame) != 2 or type(frame[1]) is not tuple:
            raise InvalidInput("a frame must be readings of time and an array of messages")
        assert self._timekeeper is not None
        self._timekeeper.heard(peer, frame[0])
        for row in frame[1]:
            if type(row) is not tuple or not row or type(row[0]) is not str:
                raise InvalidInput("a message must be an array that starts with its group")
            group = self._groups.get(row[0])
            message = from_row(row[1:])
            if group is None:
                continue  # a group that this node does not (or not yet) have
            try:
                group.receive(peer, message)
            except ProtocolViolation as violation:
                raise InvalidInput(str(violation)) from violation

    def on_client(self, connection: Connection) -> None:
        """A client or an administrator has connected."""
        self._service.serve(connection)

    # --- inside --------------------------------------------------------------------------------

    async def _recover(self, device: LogDevice, timekeeper: Timekeeper) -> None:
        recovered = device.groups()
        for name, config in self.config.groups.items():
            if name not in recovered:
                configuration = Configuration.of(config.voters)
                await device.create_group(name, configuration)
                recovered[name] = RecoveredGroup(
                    name, device.hard_state(name), RaftLog().base, configuration
                )
            self._groups[name] = self._make_group(
                recovered[name], config.settings, device, timekeeper
            )
        device.release_recovered()

    def _make_group(
        self,
        found: RecoveredGroup,
        settings: RaftSettings,
        device: LogDevice,
        timekeeper: Timekeeper,
    ) -> Group:
        raft = Raft(
            self.config.name,
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
            send=self._send,
            wake=self._wake,
            failed=self._fail,
            clock_health=timekeeper.health,
        )

    def _wake(self, group: Group) -> None:
        self._due[group] = None
        if not self._turn_is_due:
            self._turn_is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """One turn of every group that wants one, then one frame to every peer."""
        self._turn_is_due = False
        due, self._due = self._due, {}
        for group in due:
            group.turn()
        rows, self._rows = self._rows, {}
        for peer, batch in rows.items():
            droppable = self._droppable.pop(peer, False)
            for start in range(0, len(batch), MAX_MESSAGES_PER_FRAME):
                self._post(peer, batch[start : start + MAX_MESSAGES_PER_FRAME], droppable)

    def _post(self, peer: str, rows: list[tuple[object, ...]], droppable: bool) -> None:
        if self._transport is None or self._timekeeper is None or self._stopping:
            return
        self._quiet.discard(peer)
        frame = (self._timekeeper.header(peer), rows)
        self._transport.send(peer, msgpack.packb(frame), droppable=droppable)

    async def _beat(self) -> None:
        """Tell peers the time that heard nothing else lately, so that clocks stay known."""
        while True:
            self._quiet = set(self.config.peers)
            await asyncio.sleep(CLOCK_BEAT_S)
            for peer in sorted(self._quiet):
                self._post(peer, [], True)

    def _send(self, to: str, group: str, message: Message) -> None:
        self._rows.setdefault(to, []).append((group, *to_row(message)))
        beat = isinstance(message, Heartbeat | HeartbeatReply)
        self._droppable[to] = self._droppable.get(to, True) and beat

    def _fail(self, error: BaseException) -> None:
        """The log cannot be trusted to keep promises any more: stop before making any."""
        if self.failure is None and not self._stopping:
            self.failure = error
            logger.error("node %s stops: %s", self.config.name, error)
            self._stop_task = asyncio.get_running_loop().create_task(self.stop())

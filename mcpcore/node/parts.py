"""Everything a started node is made of, put together in the one order in which it can be.

This module exists so that a node has its parts all at once or not at all, and so that what was
begun is ended if a later part cannot be made. It must hold no rule of what the parts do.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from mcpcore.errors import CoordinationError
from mcpcore.node.arrivals import Arrivals
from mcpcore.node.catalog import CatalogFile
from mcpcore.node.clocks import Clocks
from mcpcore.node.comparing import Comparing
from mcpcore.node.config import NodeConfig
from mcpcore.node.disk import Disk
from mcpcore.node.freshness import Freshness
from mcpcore.node.group_status import GroupObserver
from mcpcore.node.hosting import Hosting, Surroundings
from mcpcore.node.judging import Judging
from mcpcore.node.membership import Membership
from mcpcore.node.meters import Meters
from mcpcore.node.policies.hosting import Policies
from mcpcore.node.pulse import Pulse
from mcpcore.node.repair import open_log
from mcpcore.node.replicated_data import DataHub
from mcpcore.node.scheduler import Scheduler
from mcpcore.node.storage.contract import Identity
from mcpcore.node.storage.salvage import Salvage
from mcpcore.node.storage.wal import WriteAheadLog
from mcpcore.node.timekeeping import Timekeeper
from mcpcore.node.tracing import Tracing
from mcpcore.node.trails import Trails
from mcpcore.node.transport.transport import Transport, TransportConfig, TransportHandler

logger = logging.getLogger("mcpcore.node")

Close = Callable[[], Awaitable[object]]


class Parts(NamedTuple):
    """The parts of one node. None of them listens or speaks before ``transport`` is started."""

    disk: Disk
    device: WriteAheadLog
    salvage: Salvage | None
    transport: Transport
    timekeeper: Timekeeper
    scheduler: Scheduler
    pulse: Pulse
    membership: Membership
    comparing: Comparing
    judging: Judging
    freshness: Freshness
    data: DataHub
    policies: Policies
    arrivals: Arrivals
    fresh: tuple[str, ...]
    """Groups that no log held yet: ``membership`` founds them."""
    closers: list[Close]
    """How to let go of what was opened, in the order of opening."""


async def let_go(closers: list[Close]) -> list[CoordinationError]:
    """Close what was opened, the latest first, whatever goes wrong; returns what did."""
    wrong = []
    for close in reversed(closers):
        try:
            await close()
        except CoordinationError as error:
            wrong.append(error)
    return wrong


async def assemble(
    config: NodeConfig,
    owner: Identity,
    disk: Disk,
    bulk: Disk,
    clocks: Clocks,
    rng: random.Random,
    *,
    hosting: Hosting,
    handler: TransportHandler,
    observer: GroupObserver,
    meters: Meters,
    tracing: Tracing | None,
    failed: Callable[[BaseException], None],
) -> Parts:
    """Recover the log, and make everything around it.

    Args:
        owner: whose log it is.
        bulk: where snapshots and replicated data lie.
        hosting: the groups; they are recovered here.
        handler: hears what the transport tells. observer: hears what groups tell.
        failed: called when the log fails.

    Raises:
        InvalidInput: the configuration cannot be used.
        CoordinationError: the log cannot be.
    """
    closers: list[Close] = []
    try:
        return await _assemble(
            closers, config, owner, disk, bulk, clocks, rng, hosting, handler, observer, meters,
            tracing, failed,
        )  # fmt: skip
    except BaseException:
        for error in await let_go(closers):
            logger.error("node %s: while giving up: %s", config.name, error)
        raise


async def _assemble(
    closers: list[Close],
    config: NodeConfig,
    owner: Identity,
    disk: Disk,
    bulk: Disk,
    clocks: Clocks,
    rng: random.Random,
    hosting: Hosting,
    handler: TransportHandler,
    observer: GroupObserver,
    meters: Meters,
    tracing: Tracing | None,
    failed: Callable[[BaseException], None],
) -> Parts:
    device, salvage = await open_log(
        disk,
        config.data,
        identity=owner,
        monotonic_ns=clocks.monotonic_ns,
        on_failure=failed,
    )
    closers.append(device.close)
    report = device.report
    if report.torn is not None:
        logger.warning(
            "node %s: cut a torn tail of %d bytes at %s, byte %d",
            config.name,
            report.torn.length_bytes,
            report.torn.path,
            report.torn.offset,
        )
    transport = Transport(
        TransportConfig(
            cluster=config.cluster,
            node=config.name,
            incarnation=device.identity.incarnation,
            listen=config.listen,
            limits=config.limits,
            versions=config.versions,
            traces=tracing is not None,
        ),
        config.security,
        handler,
        rng,
    )
    closers.append(transport.close)
    for peer, address in config.peers.items():
        transport.add_peer(peer, address)
    life = 1 + rng.getrandbits(62)
    timekeeper = Timekeeper(
        config.name,
        tuple(config.peers),
        clocks,
        disk,
        config.data,
        life=life,
        fresh=not device.groups() and not report.amnesia,
    )
    closers.append(timekeeper.stop)
    await timekeeper.start()
    scheduler = Scheduler(
        config.limits.max_frame_bytes,
        clocks,
        header=timekeeper.header,
        post=transport.send,
    )
    pulse = Pulse(
        config.name,
        life,
        lambda: transport.peers,
        hosting,
        scheduler,
        device,
        clocks,
        disk_bound_ns=config.disk_bound_ns,
        elections_at_once=config.elections_at_once,
        round_trip_ns=timekeeper.clock.round_trip_ns,
    )
    membership = Membership(
        config,
        device.identity.incarnation,
        transport,
        hosting,
        timekeeper,
    )
    comparing = Comparing(config.name, hosting, membership.tell)
    judging = Judging(
        config.name,
        lambda: transport.peers,
        hosting,
        pulse,
        device,
        clocks,
        config.split,
        clock_health=timekeeper.health,
        tell=membership.tell,
    )
    pulse.listener = judging.look
    freshness = Freshness(
        hosting,
        pulse,
        scheduler,
        clocks.monotonic_ns,
        clock=timekeeper.clock,
        clock_health=timekeeper.health,
        tell=membership.tell,
    )
    data = DataHub(
        config.name,
        bulk,
        config.data,
        budget=config.data_budget,
        tell=membership.tell,
        version=transport.version,
        physical_ns=timekeeper.clock.physical_ns,
        rng=rng,
    )
    closers.append(data.close)
    policies = Policies(config.name, data, timekeeper.clock, tracing)
    trails: Trails | None = None
    if tracing is not None:
        find = hosting.find
        trails = Trails(config.name, tracing, membership.tell, find)
    arrivals = Arrivals(
        timekeeper,
        hosting,
        pulse,
        membership,
        comparing,
        judging,
        freshness,
        data,
        trails,
    )
    fresh = await hosting.recover(
        Surroundings(
            disk,
            device,
            CatalogFile(disk, config.data),
            timekeeper,
            scheduler,
            pulse,
            judging,
            freshness,
            observer,
            bulk,
            meters,
            trails,
        )
    )
    for name, how in config.replicated.items():
        await data.open(name, how, how.members or config.peers)
    for group in hosting:
        await policies.begin(group, hosting.made_as(group.name).voters)
    return Parts(
        disk,
        device,
        salvage,
        transport,
        timekeeper,
        scheduler,
        pulse,
        membership,
        comparing,
        judging,
        freshness,
        data,
        policies,
        arrivals,
        fresh,
        closers,
    )

"""Who a node is and which groups it takes part in, as plain values.

This module exists so that everything that can be wrong with a configuration is found before any of
it is acted upon. It must never open a file or a socket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mcpcore.crdt import Budget
from mcpcore.errors import InvalidInput
from mcpcore.node.data_config import DataConfig
from mcpcore.node.snapshots.settings import SnapshotSettings
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.handshake import SPOKEN, Versions
from mcpcore.node.transport.identity import check_name
from mcpcore.node.transport.limits import Limits
from mcpcore.node.transport.security import Security
from mcpcore.raft.quarantine import QuarantineLimits
from mcpcore.raft.reunion import ReunionSettings
from mcpcore.raft.settings import RaftSettings
from mcpcore.raft.split import SplitSettings

SCRUB_BYTES_PER_S = 1 << 20


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """A group as it is first made on every member.

    Args:
        voters: names of the nodes that vote first. Used once, when the group is founded; later
            changes live in the group's log.
        settings: windows and bounds, the same on all members. Windows follow the links by default.
    """

    voters: tuple[str, ...]
    settings: RaftSettings = field(default_factory=RaftSettings().with_usual_floors)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Who a node is, whom it knows and where its data lies.

    Args:
        cluster: name of the cluster; nodes of another one are refused.
        name: this node's name, as in its certificate.
        listen: where peers and clients call.
        peers: the other nodes' addresses, as they are reached from here. Nodes that are added to
            a group later are found where the group's log says.
        data: directory of the log; made if absent.
        security: ``Tls(ca, certificate, key)``, or ``Plaintext(allow_plaintext=True)`` on loopback.
        groups: the groups this node takes part in.
        limits: bounds and waits of connections.
        snapshots: when this node's groups take snapshots, and how much log they keep beside them.
        disk_bound_ns: how long the disk may owe an answer before this node leads nothing; 0: the
            shortest election timeout of its groups.
        elections_at_once: how many groups of this node may stand for election at a time.
        scrub_bytes_per_s: how fast finished parts of the log are read again in search of rot; 0
            for not at all.
        bootstrap: found the groups that this node's log does not hold, together with all of their
            first voters. Without it they wait until a leader sends them the log. A node that comes
            back with a wiped disk is told apart and founds nothing, so this may stay switched on.
        zone: the cloud, region or rack whose loss takes this node; empty: a zone by itself.
        split: from when on a group here counts as read-only or split.
        replicated: CRDTs by name that this node holds, beside its groups and without a quorum.
        data_budget: what may leave for one peer, for all replicated data together.
        versions: the protocol versions to speak; fewer than ``SPOKEN`` to keep a cluster on the
            old one until every node is upgraded.
        quarantine: how much each group keeps of what its log had to give up.
        reunion: when a reunion after a split waits for an operator; the gap is that of ``split``.
    """

    cluster: str
    name: str
    listen: Address
    peers: Mapping[str, Address]
    data: str
    security: Security
    groups: Mapping[str, GroupConfig]
    limits: Limits = field(default_factory=Limits)
    snapshots: SnapshotSettings = field(default_factory=SnapshotSettings)
    disk_bound_ns: int = 0
    elections_at_once: int = 64
    scrub_bytes_per_s: int = SCRUB_BYTES_PER_S
    bootstrap: bool = False
    zone: str = ""
    split: SplitSettings = field(default_factory=SplitSettings)
    replicated: Mapping[str, DataConfig] = field(default_factory=dict)
    data_budget: Budget = field(default_factory=Budget)
    versions: Versions = SPOKEN
    quarantine: QuarantineLimits = field(default_factory=QuarantineLimits)
    reunion: ReunionSettings = field(default_factory=ReunionSettings)

    def __post_init__(self) -> None:
        if not SPOKEN.oldest <= self.versions.oldest <= self.versions.newest <= SPOKEN.newest:
            raise InvalidInput(
                f"this release speaks protocol versions {SPOKEN}, not {self.versions}",
                where="versions",
            )
        for group, config in self.groups.items():
            self.check_group(group, config)
        for name, data in self.replicated.items():
            check_name(name, "replicated")
            strangers = sorted(set(data.members) - {self.name, *self.peers})
            if strangers or (data.members and self.name not in data.members):
                raise InvalidInput(
                    f"its members are {', '.join(data.members)}",
                    where=f"replicated.{name}",
                    remedy="They must be this node and nodes named under peers",
                )
        if self.disk_bound_ns < 0 or self.elections_at_once <= 0:
            raise InvalidInput(
                f"disk_bound_ns {self.disk_bound_ns} must not be below 0, and elections_at_once "
                f"{self.elections_at_once} must be positive"
            )

    def check_group(self, group: str, config: GroupConfig) -> None:
        """Whether this node could take part in such a group.

        Raises:
            InvalidInput: it says why not.
        """
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
        settings = config.settings
        longest = 2 * max(settings.max_append_bytes, settings.max_proposal_bytes)
        if longest > self.limits.max_frame_bytes:
            raise InvalidInput(
                f"{longest // 2} bytes of entries may not fit a frame of "
                f"{self.limits.max_frame_bytes}",
                where=where,
                remedy="Make max_frame_bytes at least twice max_append_bytes and "
                "max_proposal_bytes",
            )

"""A node's metrics, gathered when somebody asks.

This module exists so that observing costs nothing while nobody looks: a scrape reads the same
variables that the node works with. Labels stay bounded: groups can be thousands, so sums over all
of them always come, and a group has lines of its own only if it was named or there are few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from mcpcore.node.group import Group
from mcpcore.node.node import Node
from mcpcore.observe.families import counter, counters, gauge, gauges, histogram
from mcpcore.raft.outcome import Role
from mcpcore.raft.split import SplitState

GROUPS_LABELLED = 32
"""So many groups have lines of their own, if none are named."""


class NodeCollector(Collector):
    """Metrics of one node. Register it with any registry; it must be asked on the node's own loop.

    Args:
        node: a started node.
        groups: the groups that get lines of their own; None: all, if they are few.
    """

    def __init__(self, node: Node, groups: Collection[str] | None = None) -> None:
        self._node = node
        self._named = groups

    def collect(self) -> Iterator[Metric]:
        """All families, as they are now."""
        node = self._node
        facts = node.facts()
        groups = [node.group(name) for name in node.groups]
        yield gauges(
            "node_info",
            "Always 1; who this is.",
            ("cluster", "node", "zone", "version"),
            [((facts["cluster"], facts["node"], facts["zone"], facts["version"]), 1)],
        )
        yield gauge("node_uptime_seconds", "Since the node started.", facts["uptime_s"])
        yield from _of_disk(node, facts)
        yield from _of_peers(facts)
        yield from _of_clock(facts)
        yield from _of_all(node, groups)
        yield from _of_each([group for group in groups if self._labelled(group.name, len(groups))])
        yield from _of_data(facts)

    def describe(self) -> list[Metric]:
        """Nothing: registering must not ask a node that may not have started."""
        return []

    def _labelled(self, name: str, count: int) -> bool:
        return count <= GROUPS_LABELLED if self._named is None else name in self._named


def _of_disk(node: Node, facts: dict[str, object]) -> Iterator[Metric]:
    stats = node.log_stats
    yield counter("storage_syncs", "Batches written and synced.", stats.syncs)
    yield counter(
        "storage_writes",
        "Calls that became durable; divided by the syncs, what group commit saves.",
        stats.submissions,
    )
    yield counter("storage_written_bytes", "Bytes written to the log.", stats.bytes_written)
    if stats.sync_times is not None:
        yield histogram("storage_sync_seconds", "One write and its sync.", stats.sync_times)
    log_bytes = facts["log_bytes"]
    if isinstance(log_bytes, int):
        yield gauge("storage_log_bytes", "What the log takes on the disk.", log_bytes)
    waiting_s = facts["disk_waiting_s"]
    assert isinstance(waiting_s, float)
    yield gauge("storage_waiting_seconds", "How long the oldest write has waited.", waiting_s)
    yield gauge("storage_stalled", "1 while the disk does not answer.", bool(facts["disk_stalled"]))
    yield gauge("storage_full", "1 while the disk has no room.", bool(facts["disk_full"]))


def _of_peers(facts: dict[str, object]) -> Iterator[Metric]:
    peers = facts["peers"]
    assert isinstance(peers, dict)
    rows = sorted(peers.items())
    yield gauges(
        "peer_connected",
        "1 while a session with the peer stands.",
        ("peer",),
        [((name,), stats["connected"]) for name, stats in rows],
    )
    yield gauges(
        "peer_contact_age_seconds",
        "Since the last byte of the peer arrived; no line before the first.",
        ("peer",),
        [
            ((name,), stats["received_age_s"])
            for name, stats in rows
            if stats["received_age_s"] is not None
        ],
    )
    for what, key, about in (
        ("peer_received_bytes", "bytes_in", "Bytes received from the peer."),
        ("peer_sent_bytes", "bytes_out", "Bytes sent to the peer."),
        ("peer_dropped_frames", "dropped", "Frames that gave way in a full queue."),
        ("peer_refused_frames", "refused", "Frames that no session or no room stood for."),
    ):
        yield counters(what, about, ("peer",), [((name,), stats[key]) for name, stats in rows])
    yield gauges(
        "peer_queued_bytes",
        "Bytes that wait to be sent.",
        ("peer",),
        [((name,), stats["queued_bytes"]) for name, stats in rows],
    )


def _of_clock(facts: dict[str, object]) -> Iterator[Metric]:
    clock = facts["clock"]
    assert isinstance(clock, dict)
    yield gauges(
        "clock_state",
        "1 for the state that the node's clock is in.",
        ("state",),
        [((clock["state"],), 1)],
    )
    yield gauge("clock_may_lease", "1 while leases may rely on this clock.", clock["may_lease"])
    view = clock["view"]
    for name, key, unit, about in (
        ("clock_offset_seconds", "offset_ns", 1e9, "Offset to the cluster's time."),
        ("clock_uncertainty_seconds", "uncertainty_ns", 1e9, "How far that may be wrong."),
        ("clock_skew_ppm", "skew_ppm", 1, "Rate against the cluster's time."),
        ("peer_round_trip_seconds", "delay_ns", 1e9, "The shortest round trip lately."),
    ):
        label = "peer" if name.startswith("peer") else "node"
        rows = [((row["node"],), row[key] / unit) for row in view if row[key] is not None]
        yield gauges(name, about, (label,), rows)
    yield counters(
        "clock_steps",
        "Steps seen on a node's clock.",
        ("node",),
        [((row["node"],), row["steps"]) for row in view],
    )


def _of_all(node: Node, groups: list[Group]) -> Iterator[Metric]:
    roles = Counter("failed" if group.failure else group.raft.state.role.value for group in groups)
    yield gauges(
        "raft_groups",
        "Groups here, by the role of this node in them.",
        ("role",),
        [((role,), roles[role]) for role in (*[each.value for each in Role], "failed")],
    )
    states = [group.raft.state for group in groups]
    yield gauge("raft_groups_asleep", "Groups with nothing to do.", sum(s.quiet for s in states))
    yield gauge(
        "raft_groups_leaderless",
        "Groups of which no leader is known here.",
        sum(not state.leader for state in states),
    )
    yield gauge(
        "raft_commit_lag_entries_max",
        "Entries stored and not known to be committed, of the group that has most.",
        max((state.log.last_index - state.commit for state in states), default=0),
    )
    yield gauge(
        "raft_apply_lag_entries_max",
        "Entries committed and not applied, of the group that has most.",
        max((group.raft.state.commit - group.applied for group in groups), default=0),
    )
    verdicts = node.verdicts_now()
    yield gauges(
        "raft_verdict_groups",
        "Groups here, by the verdict of this node on them.",
        ("verdict",),
        [((each.value,), verdicts[each]) for each in SplitState],
    )
    meters = node.meters
    yield histogram(
        "raft_proposal_seconds",
        "From appending a proposal to applying it, on leaders; one at a time is timed per group.",
        meters.proposals,
    )
    yield counter("raft_elections", "Elections that members here stood in.", meters.elections)
    yield counter("raft_elections_won", "Of these, won.", meters.offices_won)
    yield counter(
        "raft_leader_changes", "How often a group learned of a leader.", meters.leaders_seen
    )
    yield counters(
        "requests_refused",
        "Requests of clients that were refused, by the name of the error.",
        ("error",),
        [((name,), count) for name, count in sorted(meters.refusals.items())],
    )


def _of_each(groups: list[Group]) -> Iterator[Metric]:
    def rows(value: str) -> list[tuple[tuple[str], float]]:
        return [((group.name,), _figure(group, value)) for group in groups]

    for name, about in (
        ("term", "The term."),
        ("is_leader", "1 where this node leads."),
        ("commit_index", "The highest index known to be committed."),
        ("applied_index", "The highest index applied."),
        ("last_index", "The end of the log."),
        ("log_first_index", "The first index that the log still has."),
    ):
        yield gauges(f"raft_{name}", about, ("group",), rows(name))
    yield gauges(
        "raft_follower_lag_entries",
        "On the leader: entries that a member is not known to have.",
        ("group", "peer"),
        [
            ((group.name, peer), group.raft.state.log.last_index - progress.match)
            for group in groups
            for peer, progress in sorted(group.raft.state.progress.items())
        ],
    )
    snapshots = [(group.name, group.snapshots.status()) for group in groups if group.snapshots]
    yield gauges(
        "snapshot_index",
        "Where the newest snapshot ends.",
        ("group",),
        [((name,), status["index"]) for name, status in snapshots],
    )
    yield gauges(
        "snapshot_bytes",
        "Size of the newest snapshot.",
        ("group",),
        [((name,), status["bytes"]) for name, status in snapshots],
    )


def _figure(group: Group, name: str) -> float:
    state = group.raft.state
    match name:
        case "term":
            return state.term
        case "is_leader":
            return state.is_leader
        case "commit_index":
            return state.commit
        case "applied_index":
            return group.applied
        case "last_index":
            return state.log.last_index
        case _:
            return state.log.base.index + 1


def _of_data(facts: dict[str, object]) -> Iterator[Metric]:
    replicated = facts.get("replicated")
    assert isinstance(replicated, dict)
    for name, key, about in (
        ("crdt_entries", "entries", "Entries of a replicated datum."),
        ("crdt_buffered_bytes", "buffered_bytes", "Changes that wait to be sent."),
    ):
        rows = [((data,), status[key]) for data, status in sorted(replicated.items())]
        yield gauges(name, about, ("data",), rows)
    yield counters(
        "crdt_refused",
        "Changes of others that were refused.",
        ("data",),
        [((data,), status["refused"]) for data, status in sorted(replicated.items())],
    )

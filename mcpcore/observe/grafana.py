"""A Grafana dashboard for the metrics, as the JSON that Grafana imports.

This module exists so that the panels are a table a person can read, and the boilerplate around them
is written once. Pure.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple


class Panel(NamedTuple):
    """One panel.

    Args:
        queries: PromQL, and how each line is called.
        about: what to look for.
    """

    title: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    about: str


def _quantile(share: float, metric: str) -> str:
    return f"histogram_quantile({share}, sum by (le, instance) (rate({metric}_bucket[1m])))"


ROWS: Final = (
    ("Is it well?", (
        Panel("Verdicts", "short",
              (('sum by (verdict) (mcpcore_raft_verdict_groups{verdict!="healthy"})',
                "{{verdict}}"),),
              "Groups that some node does not call healthy. Above zero for long: look."),
        Panel("Groups without a leader", "short",
              (("mcpcore_raft_groups_leaderless", "{{instance}}"),),
              "On every node at once: no quorum. On one node: that node is cut off."),
        Panel("Elections", "short",
              (("sum by (instance) (increase(mcpcore_raft_elections_total[5m]))", "{{instance}}"),),
              "In five minutes. A calm cluster holds none."),
        Panel("Contact age", "s",
              (("mcpcore_peer_contact_age_seconds", "{{instance}} - {{peer}}"),),
              "Since the last byte of a peer. Straight lines upwards are cuts."),
    )),
    ("How fast is it?", (
        Panel("Proposals", "s",
              ((_quantile(0.5, "mcpcore_raft_proposal_seconds"), "{{instance}} p50"),
               (_quantile(0.99, "mcpcore_raft_proposal_seconds"), "{{instance}} p99")),
              "From appending to applying, on leaders; a sample."),
        Panel("Syncs", "s",
              ((_quantile(0.5, "mcpcore_storage_sync_seconds"), "{{instance}} p50"),
               (_quantile(0.99, "mcpcore_storage_sync_seconds"), "{{instance}} p99")),
              "No proposal is quicker than one of these and a round trip."),
        Panel("Writes", "ops",
              (("sum by (instance) (rate(mcpcore_storage_writes_total[1m]))", "{{instance}}"),),
              "Calls that became durable."),
        Panel("Round trips", "s",
              (("mcpcore_peer_round_trip_seconds", "{{instance}} - {{peer}}"),),
              "The shortest lately."),
    )),
    ("What is behind?", (
        Panel("Followers' lag", "short",
              (("mcpcore_raft_follower_lag_entries", "{{group}} {{peer}}"),),
              "Entries that a member is not known to have."),
        Panel("Log", "bytes", (("mcpcore_storage_log_bytes", "{{instance}}"),),
              "Falls when snapshots let go of it."),
        Panel("Clock offset", "s",
              (("mcpcore_clock_offset_seconds", "{{node}} by {{instance}}"),),
              "Against the cluster's time."),
        Panel("Clock uncertainty", "s",
              (("mcpcore_clock_uncertainty_seconds", "{{node}} by {{instance}}"),),
              "How far the offset may be wrong; leases and stale reads live on it."),
    )),
    ("Sagas and replicated data", (
        Panel("Dead letters", "short", (("mcpcore_saga_parked", "{{instance}}"),),
              "Sagas that wait for a person."),
        Panel("Open sagas", "short",
              (("sum by (status) (mcpcore_saga_open)", "{{status}}"),), "By status."),
        Panel("Breakers", "short", (("mcpcore_saga_breaker_open", "{{target}}"),),
              "1: nothing is let through."),
        Panel("Bytes to peers", "Bps",
              (("rate(mcpcore_peer_sent_bytes_total[1m])", "{{instance}} to {{peer}}"),),
              "All traffic between nodes."),
    )),
)  # fmt: skip
"""Rows of four panels."""


def dashboard() -> dict[str, Any]:
    """What ``json.dumps`` makes an importable dashboard of."""
    panels: list[dict[str, Any]] = []
    for number, (title, row) in enumerate(ROWS):
        top = number * 9
        panels.append({
            "type": "row", "title": title, "id": len(panels) + 1, "collapsed": False,
            "gridPos": {"h": 1, "w": 24, "x": 0, "y": top}, "panels": [],
        })  # fmt: skip
        for place, panel in enumerate(row):
            panels.append(_panel(panel, len(panels) + 1, place * 6, top + 1))
    return {
        "uid": "mcpcore",
        "title": "mcpcore",
        "tags": ["mcpcore"],
        "schemaVersion": 39,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {
            "list": [
                {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"}
            ]
        },
        "panels": panels,
    }


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "type": "timeseries",
        "id": number,
        "title": panel.title,
        "description": panel.about,
        "datasource": source,
        "gridPos": {"h": 8, "w": 6, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "expr": query, "legendFormat": name, "datasource": source}
            for at, (query, name) in enumerate(panel.queries)
        ],
    }

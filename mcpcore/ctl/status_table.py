"""How a status looks: a table that fits the terminal, sentences below it, or JSON.

This module exists so that the same facts read well at 80 columns and at 200: each column has a
rank, and the least important go first when there is no room. It decides nothing about health.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mcpcore.ctl.output import readable
from mcpcore.observe.health import Health, NodeRow, Replica

_GAP: Final = 2
_BAD: Final = "bold red"
_GOOD: Final = "green"


class _Line(NamedTuple):
    """One line of the table: a node, or one of its groups."""

    node: NodeRow
    replica: Replica | None


class _Column(NamedTuple):
    """A column of the table.

    Args:
        rank: what goes first when there is no room: the highest.
        cell: the text in a line; "" where there is nothing to say.
        right: whether it stands to the right, as numbers do.
    """

    heading: str
    rank: int
    cell: Callable[[_Line], str]
    right: bool = True


def render(cluster: str, health: Health, width: int) -> Group:
    """A status as a table of at most ``width`` columns, and what is wrong in words."""
    lines = [
        _Line(node, replica)
        for node in health.nodes
        for replica in node.replicas.values() or [None]
    ]
    columns = _fitting(lines, width, several_groups=len(health.groups) > 1)
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(
            column.heading, justify="right" if column.right else "left", overflow="fold"
        )
    ill = {problem.node for problem in health.problems if problem.node}
    for line in lines:
        style = _style(line, ill)
        table.add_row(*(Text(column.cell(line) or "-", style=style) for column in columns))
    parts: list[RenderableType] = [table, ""]
    parts += [Text(f"! {_printable(problem.text)}", style=_BAD) for problem in health.problems]
    if not health.problems:
        parts.append(Text(_all_is_well(cluster, health), style=_GOOD))
    return Group(*parts)


def to_json(cluster: str, health: Health) -> dict[str, Any]:
    """A status as plain values; docs/mcpctl.md names the keys."""
    return {
        "cluster": cluster,
        "healthy": not health.problems,
        "problems": [asdict(problem) for problem in health.problems],
        "nodes": [_node_to_json(node) for node in health.nodes],
    }


class Screen:
    """A status that is shown again and again: in place on a terminal, one after another in a pipe.

    Use it as a context manager.
    """

    def __init__(self, cluster: str, *, as_json: bool) -> None:
        self._cluster = cluster
        self._as_json = as_json
        self._live: Live | None = None
        if sys.stdout.isatty() and not as_json:
            self._live = Live(console=Console(), screen=True, auto_refresh=False)

    @classmethod
    def once(cls, cluster: str, health: Health, *, as_json: bool) -> None:
        """Show one status."""
        if as_json:
            typer.echo(json.dumps(to_json(cluster, health)))
            return
        console = Console()
        console.print(render(cluster, health, console.width), highlight=False)

    def show(self, health: Health) -> None:
        """Show the next status."""
        if self._live is None:
            self.once(self._cluster, health, as_json=self._as_json)
        else:
            width = self._live.console.width
            self._live.update(render(self._cluster, health, width), refresh=True)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()


# --- Columns ------------------------------------------------------------------------------------


def _told(key: str, show: Callable[[Any], str]) -> Callable[[_Line], str]:
    """A cell from the node's own account."""

    def cell(line: _Line) -> str:
        status = line.node.account.status
        value = None if status is None else status.get(key)
        return "" if value is None else show(value)

    return cell


def _of_replica(show: Callable[[Replica], str]) -> Callable[[_Line], str]:
    return lambda line: "" if line.replica is None else show(line.replica)


def _role(line: _Line) -> str:
    if line.node.account.status is None:
        return "unreachable"
    return "" if line.replica is None else line.replica.role


def _peers(line: _Line) -> str:
    if line.node.account.status is None:
        return ""
    return f"{line.node.peers_connected}/{line.node.peers}"


def _agreement(replica: Replica) -> str:
    if replica.agrees is None:
        return ""
    return "same" if replica.agrees else "DIFFERS"


def _verdict(replica: Replica) -> str:
    return "" if replica.verdict is None else replica.verdict.state.value


def _bytes(count: int) -> str:
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1000 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.3g} {units[0]}"


def _duration(seconds: float) -> str:
    for length_s, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * length_s:
            return f"{seconds // length_s:.0f}{unit}"
    return f"{seconds:.0f}s"


_COLUMNS: Final = (
    _Column("node", 0, lambda line: line.node.label, right=False),
    _Column("endpoint", 6, lambda line: line.node.account.endpoint, right=False),
    _Column("version", 14, _told("version", str), right=False),
    _Column("up", 13, _told("uptime_s", _duration)),
    _Column("log", 10, _told("log_bytes", _bytes)),
    _Column("disk wait", 12, _told("disk_waiting_s", lambda wait_s: f"{wait_s * 1e3:.0f} ms")),
    _Column("peers", 8, _peers),
    _Column("clock", 15, _told("clock", lambda clock: str(clock["state"])), right=False),
    _Column("group", 0, _of_replica(lambda replica: replica.group), right=False),
    _Column("role", 0, _role, right=False),
    _Column("verdict", 1, _of_replica(_verdict), right=False),
    _Column("term", 2, _of_replica(lambda replica: str(replica.term))),
    _Column("last", 9, _of_replica(lambda replica: str(replica.last_index))),
    _Column("commit", 7, _of_replica(lambda replica: str(replica.commit))),
    _Column("applied", 3, _of_replica(lambda replica: str(replica.applied))),
    _Column("lag", 4, _of_replica(lambda replica: str(replica.lag))),
    _Column("state", 5, _of_replica(_agreement), right=False),
    _Column("digest", 11, _of_replica(lambda replica: replica.digest[:8]), right=False),
)


def _fitting(lines: list[_Line], width: int, *, several_groups: bool) -> list[_Column]:
    """The columns for which there is room; at least those of rank 0."""
    columns = [column for column in _COLUMNS if several_groups or column.heading != "group"]
    widths = {
        column.heading: max(len(text) for text in (column.heading, *map(column.cell, lines)))
        for column in columns
    }
    while sum(widths[column.heading] + _GAP for column in columns) - _GAP > width:
        last = max(columns, key=lambda column: column.rank)
        if last.rank == 0:
            break
        columns.remove(last)
    return columns


def _style(line: _Line, ill: set[str]) -> str:
    if line.node.account.status is None or (line.replica and line.replica.agrees is False):
        return _BAD
    if line.node.label in ill:
        return "yellow"
    return "bold" if line.replica is not None and line.replica.leads else ""


def _all_is_well(cluster: str, health: Health) -> str:
    told = [f"cluster {cluster}: all {len(health.nodes)} nodes answer"]
    for group in health.groups:
        leads = [
            (node.label, node.replicas[group].term)
            for node in health.nodes
            if group in node.replicas and node.replicas[group].leads
        ]
        told += [f"{label} leads {group} in term {term}" for label, term in leads]
    return "; ".join(told)


def _printable(text: str) -> str:
    return readable(text.encode("utf-8", "replace"), keep="\\")


def _node_to_json(node: NodeRow) -> dict[str, Any]:
    account = node.account
    told: dict[str, Any] = {
        "node": node.label,
        "endpoint": account.endpoint,
        "reachable": account.status is not None,
        "error": account.error,
    }
    if account.status is not None:
        told |= {key: value for key, value in account.status.items() if key not in told}
        told["groups"] = {
            name: {
                **account.status["groups"][name],
                "lag": replica.lag,
                "agrees": replica.agrees,
            }
            for name, replica in node.replicas.items()
        }
    return told

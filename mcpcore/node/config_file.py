"""A node's configuration file: ``node.toml`` in, ``NodeConfig`` out.

This module exists so that a node is described in one file that a person can write, and so that
every mistake in it is told before anything starts. It reads files and nothing else: it must never
open a socket, make a directory or import asyncio itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, TypeVar

from mcpcore.crdt import Budget
from mcpcore.errors import InvalidInput
from mcpcore.node.config import SCRUB_BYTES_PER_S
from mcpcore.node.data_config import DataConfig
from mcpcore.node.kv.local import KeyValueNode
from mcpcore.node.machine import StateMachine
from mcpcore.node.node import GroupConfig, NodeConfig
from mcpcore.node.policies.machine import PolicyMachine
from mcpcore.node.toml_table import Table, nearest, read_toml
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.handshake import SPOKEN, Versions
from mcpcore.node.transport.identity import check_name
from mcpcore.node.transport.limits import Limits
from mcpcore.node.transport.security import Plaintext, Security, Tls
from mcpcore.raft.quarantine import QuarantineLimits
from mcpcore.raft.reunion import Intervene, ReunionSettings
from mcpcore.raft.settings import SECOND, RaftSettings
from mcpcore.raft.split import SplitSettings

T = TypeVar("T")

MACHINES: Final[Mapping[str, Callable[[], StateMachine]]] = {
    "kv": KeyValueNode,
    "policy": PolicyMachine,
}
"""What may stand after ``machine =``, and what makes it."""

_ADDRESS: Final = '"127.0.0.1:7101"'


@dataclass(frozen=True, slots=True)
class ObserveAt:
    """The table ``[observe]``.

    Args:
        listen: where `/metrics`, `/healthz` and `/readyz` are served.
        groups: which groups have lines of their own; None: all, if they are few.
        traces: whether calls are told as spans of OpenTelemetry.
    """

    listen: Address
    groups: tuple[str, ...] | None = None
    traces: bool = False


@dataclass(frozen=True, slots=True)
class NodeFile:
    """A configuration file that was read and found good.

    Args:
        path: the file.
        config: what ``Node`` takes.
        machines: the kind of each group's state machine, by the group's name.
        observe: where metrics and health are told; None: nowhere.
    """

    path: Path
    config: NodeConfig
    machines: Mapping[str, str]
    observe: ObserveAt | None = None

    def machine(self, group: str) -> StateMachine:
        """A new state machine for a group: what ``Node`` takes as its second argument. A group
        that is made at run time is a key-value store.
        """
        return MACHINES[self.machines.get(group, "kv")]()


def load_node_config(path: str | Path) -> NodeFile:
    """Read ``node.toml``. Paths in it start at its own directory; the keys are in docs/mcpctl.md.

    Raises:
        InvalidInput: it cannot be used. The error names the file, the line, the key, what was
            expected, and the nearest known word.
    """
    root = read_toml(path)
    cluster = name_at(root, "cluster", '"demo"')
    node = name_at(root, "node", '"us-east-1"')
    listen = address_at(root, "listen", listening=True)
    data = root.path("data", f'"data/{node}"')
    bootstrap = root.flag("bootstrap", False)
    zone = name_at(root, "zone", '"aws"') if "zone" in root else ""
    versions = _versions(root)
    security = read_security(root, owner=f"node-{node}")
    security.admit(listen, root.where("listen"))
    peers = _peers(root.table("peers"), node, security)
    groups_table = root.table("groups")
    groups, machines = {}, {}
    for group in groups_table.keys:
        _checked_name(groups_table, group)
        groups[group], machines[group] = _group(groups_table.table(group), {node, *peers})
    if not groups:
        raise InvalidInput(
            "no group is described",
            where=str(root.file),
            remedy=f'Add one: [groups.main] and below it voters = ["{node}"]',
        )
    limits = _limits(root.table("limits"))
    split = _split(root.table("split"))
    quarantine = _in_seconds(QuarantineLimits, root.table("quarantine"))
    reunion = _reunion(root.table("reunion"))
    scrub_bytes_per_s = SCRUB_BYTES_PER_S
    if "scrub_bytes_per_s" in root:
        scrub_bytes_per_s = root.integer("scrub_bytes_per_s")
        if scrub_bytes_per_s < 0:
            root.refuse("scrub_bytes_per_s", "is below zero", "0 switches scrubbing off")
    replicated = _replicated(root.table("replicated"))
    data_budget = Budget()
    if "data_bytes_per_s" in root:
        data_budget = _made(Budget, {"bytes_per_s": root.integer("data_bytes_per_s")}, root,
                            {"budget": "data_bytes_per_s"})  # fmt: skip
    observe = None
    if "observe" in root:
        table = root.table("observe")
        at = address_at(table, "listen", listening=True)
        named = table.texts("groups", '["main"]') if "groups" in table else None
        observe = ObserveAt(at, named, table.flag("traces", False))
    root.finish()
    config = NodeConfig(
        cluster=cluster,
        name=node,
        listen=listen,
        peers=peers,
        data=str(data),
        security=security,
        groups=groups,
        limits=limits,
        scrub_bytes_per_s=scrub_bytes_per_s,
        bootstrap=bootstrap,
        zone=zone,
        split=split,
        quarantine=quarantine,
        reunion=reunion,
        replicated=replicated,
        data_budget=data_budget,
        versions=versions,
    )
    return NodeFile(root.file, config, machines, observe)


# --- What node files and client profiles have in common -----------------------------------------


def name_at(table: Table, key: str, example: str) -> str:
    """A name: of a cluster, a node, a client.

    Raises:
        InvalidInput: it is missing or no name.
    """
    return check_name(table.text(key, example), table.where(key))


def address_at(table: Table, key: str, *, listening: bool = False) -> Address:
    """An address ``host:port``.

    Raises:
        InvalidInput: it is missing or no address.
    """
    text = table.text(key, _ADDRESS)
    return Address.parse(text, where=table.where(key), listening=listening)


def read_security(root: Table, *, owner: str) -> Security:
    """How connections are protected: a table ``[tls]``, or ``plaintext = true``.

    Args:
        owner: whose certificate the examples in error messages name.

    Raises:
        InvalidInput: neither or both stand there, or a file of the table cannot be used.
    """
    plaintext = root.flag("plaintext", False)
    if "tls" not in root:
        if not plaintext:
            raise InvalidInput(
                "it says neither [tls] nor plaintext = true",
                where=str(root.file),
                remedy="Add a table [tls] with ca, certificate and key (`mcpctl certs init` makes "
                "the files), or plaintext = true for a cluster on loopback",
            )
        return Plaintext(allow_plaintext=True)
    table = root.table("tls")
    if plaintext:
        root.refuse("plaintext", "is true, and there is a table [tls] too", "Remove one of them")
    ca = table.path("ca", '"certs/ca.crt"')
    certificate = table.path("certificate", f'"certs/{owner}.crt"')
    key = table.path("key", f'"certs/{owner}.key"')
    table.finish()
    for part, file in (("ca", ca), ("certificate", certificate), ("key", key)):
        if not file.is_file():
            table.refuse(
                part, f"there is no file {file}", "`mcpctl certs init` makes a set that fits"
            )
    return Tls(ca, certificate, key)


# --- Inside -------------------------------------------------------------------------------------


def _peers(table: Table, node: str, security: Security) -> dict[str, Address]:
    """The other nodes. The node itself may stand there, so that all nodes may share the table."""
    peers: dict[str, Address] = {}
    taken: dict[Address, str] = {}
    for peer in table.keys:
        _checked_name(table, peer)
        address = address_at(table, peer)
        if address in taken:
            table.refuse(peer, f"{address} is the address of {taken[address]} too")
        taken[address] = peer
        if peer != node:
            security.admit(address, table.where(peer))
            peers[peer] = address
    return peers


def _versions(root: Table) -> Versions:
    """``protocol_max = 1`` keeps a node to an older version while others are not upgraded yet."""
    if "protocol_max" not in root:
        return SPOKEN
    newest = root.integer("protocol_max")
    if not SPOKEN.oldest <= newest <= SPOKEN.newest:
        root.refuse("protocol_max", f"this release speaks versions {SPOKEN}, not {newest}")
    return Versions(SPOKEN.oldest, newest)


def _replicated(table: Table) -> dict[str, DataConfig]:
    found = {}
    for name in table.keys:
        _checked_name(table, name)
        each = table.table(name)
        given: dict[str, Any] = {}
        if "grows_only" in each:
            given["grows_only"] = each.flag("grows_only", False)
        if "members" in each:
            given["members"] = each.texts("members", '["us-east-1", "edge"]')
        if "entries_max" in each:
            given["entries_max"] = each.integer("entries_max")
        each.finish()
        found[name] = _made(DataConfig, given, each, {})
    return found


def _group(table: Table, nodes: set[str]) -> tuple[GroupConfig, str]:
    voters = table.texts("voters", '["us-east-1", "hangzhou", "edge"]')
    for voter in voters:
        if voter not in nodes:
            table.refuse(
                "voters",
                f"{voter!r} is neither this node nor among [peers]",
                nearest(voter, nodes),
            )
    if not voters:
        table.refuse("voters", "is empty", "A group needs at least one voter, better three")
    machine = table.text("machine", '"kv"') if "machine" in table else "kv"
    if machine not in MACHINES:
        table.refuse("machine", f"{machine!r} is no machine", nearest(machine, MACHINES))
    return GroupConfig(voters, _settings(table)), machine


def _settings(table: Table) -> RaftSettings:
    """Windows follow the links unless the file says within what floors, 0 for not at all."""
    moving = "election_floor_s" not in table and "heartbeat_floor_s" not in table
    settings = _in_seconds(RaftSettings, table)
    return settings.with_usual_floors() if moving else settings


def _split(table: Table) -> SplitSettings:
    return _in_seconds(SplitSettings, table)


def _reunion(table: Table) -> ReunionSettings:
    """The gap is the split detector's; when to ask, and from how many times the gap on."""
    given: dict[str, Any] = {}
    if "intervention_factor" in table:
        given["intervention_factor"] = table.number("intervention_factor")
    if "intervene" in table:
        known = {str(case.value): case for case in Intervene}
        word = table.text("intervene", '"when split loses"')
        if word not in known:
            table.refuse(
                "intervene", f"{word!r} is none of {', '.join(known)}", nearest(word, known)
            )
        given["intervene"] = known[word]
    table.finish()
    return _made(ReunionSettings, given, table, {})


def _in_seconds(kind: Callable[..., T], table: Table) -> T:
    """Every field of ``kind``; those in nanoseconds stand in the file in seconds, as ``..._s``."""
    given: dict[str, Any] = {}
    spelled = {}
    for field in fields(kind):  # type: ignore[arg-type]  # a dataclass, called to make one
        key = field.name.removesuffix("_ns") + "_s" if field.name.endswith("_ns") else field.name
        spelled[field.name] = key
        if key not in table:
            continue
        if key != field.name:
            given[field.name] = round(table.number(key) * SECOND)
        elif type(field.default) is bool:
            given[field.name] = table.flag(key, field.default)
        elif type(field.default) is float:
            given[field.name] = table.number(key)
        else:
            given[field.name] = table.integer(key)
    table.finish()
    return _made(kind, given, table, spelled)


def _limits(table: Table) -> Limits:
    given: dict[str, Any] = {}
    for field in fields(Limits):
        if field.name in table:
            whole = type(field.default) is int
            given[field.name] = table.integer(field.name) if whole else table.number(field.name)
    table.finish()
    return _made(Limits, given, table, {})


def _made(
    make: Callable[..., T], given: dict[str, Any], table: Table, spelled: Mapping[str, str]
) -> T:
    """Build a value whose own checks name its fields; say where those stand in the file."""
    try:
        return make(**given)
    except InvalidInput as error:
        field = error.where.rpartition(".")[2]
        raise InvalidInput(
            error.what, where=table.where(spelled.get(field, field)), remedy=error.remedy
        ) from None


def _checked_name(table: Table, key: str) -> None:
    check_name(key, table.where(key))

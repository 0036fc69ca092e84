"""A scenario's file: TOML in, ``Scenario`` out.

This module exists so that an experiment can be written down by a person, sent to another one and
run again, and so that every mistake in it is told with its line before anything starts. The keys
are described in docs/experiments.md. It reads files and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

from mcpcore.errors import InvalidInput
from mcpcore.experiment.scenario import (
    ROLES,
    VOTER,
    Clocks,
    Expectations,
    Groups,
    Nemesis,
    Region,
    Scenario,
    Step,
    WorkloadSpec,
)
from mcpcore.experiment.workloads import KINDS as WORKLOADS
from mcpcore.node.toml_table import Table, nearest, read_toml
from mcpcore.node.transport.handshake import SPOKEN
from mcpcore.sim.delay import Link
from mcpcore.sim.schedule import KINDS as FAULTS
from mcpcore.sim.schedule import Schedule

T = TypeVar("T")

_NODES_MAX: Final = 100
_GROUPS_MAX: Final = 10_000


def shipped() -> dict[str, Path]:
    """The scenarios that come with the library, by name."""
    home = Path(str(resources.files("mcpcore.experiment") / "scenarios"))
    return {path.stem: path for path in sorted(home.glob("*.toml"))}


def find_scenario(name: str) -> Path:
    """The file of a scenario: a path, or the name of one that is shipped.

    Raises:
        InvalidInput: there is none.
    """
    path = Path(name)
    if path.suffix == ".toml" or path.exists():
        return path
    known = shipped()
    if name not in known:
        raise InvalidInput(
            f"no scenario is called {name!r}",
            where="scenario",
            remedy=f"{nearest(name, known)} A path ends with .toml",
        )
    return known[name]


def load_scenario(path: str | Path, changes: Mapping[str, object] | None = None) -> Scenario:
    """Read a scenario.

    Args:
        changes: values to put in the place of what the file says, by their path in it:
            ``groups.election_timeout_s``, or with a star for every name, ``links.*.loss``.

    Raises:
        InvalidInput: it cannot be used. The error names the file, the line, the key, what was
            expected, and the nearest known word.
    """
    root = read_toml(path)
    for place, value in (changes or {}).items():
        root.replace(place, value)
    name = root.text("name", f'"{Path(path).stem}"')
    about = root.text("about", '"what this shows"') if "about" in root else ""
    duration_s = _positive(root, "duration_s", 60.0)
    settle_s = _positive(root, "settle_s", 60.0)
    regions = _regions(root.table("regions"))
    links, local = _links(root.table("links"), {region.name for region in regions})
    groups = _groups(root.table("groups"))
    clocks = _clocks(root.table("clocks"))
    workloads = _workloads(root.table("workloads"))
    nemesis = _nemesis(root.table("nemesis")) if root.holds_table("nemesis") else None
    expect = _expectations(root.table("expect"))
    faults = _faults(root)
    steps = _steps(root)
    root.finish()
    try:
        return Scenario(
            name=name,
            about=about,
            duration_s=duration_s,
            settle_s=settle_s,
            regions=regions,
            links=links,
            local=local,
            groups=groups,
            clocks=clocks,
            workloads=workloads,
            faults=faults,
            steps=steps,
            nemesis=nemesis,
            expect=expect,
        )
    except InvalidInput as error:
        where = f"{path}: {error.where}"
        raise InvalidInput(error.what, where=where, remedy=error.remedy) from None


# --- the parts ------------------------------------------------------------------------------------


def _regions(table: Table) -> tuple[Region, ...]:
    regions = []
    for name in table.keys:
        region = table.table(name)
        nodes = region.integer("nodes") if "nodes" in region else 1
        if nodes < 0:
            region.refuse("nodes", f"is {nodes}", "Write 0 for a place with clients only")
        role = region.text("role", '"learner"') if "role" in region else VOTER
        if role not in ROLES:
            region.refuse("role", f"is {role!r}", f"One of {', '.join(ROLES)}")
        region.finish()
        regions.append(Region(name, nodes, role))
    total = sum(region.nodes for region in regions)
    if not 1 <= total <= _NODES_MAX:
        raise InvalidInput(
            f"{total} nodes in all, and 1 to {_NODES_MAX} are possible",
            where=table.where(),
            remedy="Add regions: [regions.us-east-1] and below it nodes = 1",
        )
    return tuple(regions)


def _links(table: Table, regions: set[str]) -> tuple[dict[tuple[str, str], Link], Link]:
    links: dict[tuple[str, str], Link] = {}
    local = Link()
    for key in table.keys:
        link = _link(table, key)
        if key == "local":
            local = link
            continue
        a, arrow, b = (part.strip() for part in key.partition(" - "))
        unknown = sorted({a, b} - regions)
        if not arrow or unknown:
            told = f"no region is called {', '.join(unknown)}" if arrow else "is no pair of regions"
            table.refuse(
                key, told, 'Write it like [links."us-east-1 - hangzhou"], or [links.local]'
            )
        if {(a, b), (b, a)} & links.keys() or a == b:
            table.refuse(key, "is told twice, or leads nowhere", "Each pair has one link")
        links[a, b] = link
    return links, local


def _link(table: Table, key: str) -> Link:
    given = table.table(key)
    values: dict[str, Any] = {}
    if "delay" in given:
        shape = given.table("delay")
        values["delay"] = {
            name: shape.text(name, '"lognormal"') if name == "kind" else shape.number(name)
            for name in shape.keys
        }
    for each in (*fields(Link), None):
        name = each.name if each is not None else "delay_ms"
        if name != "delay" and name in given:
            whole = name in ("bandwidth_bps", "queue_bytes", "mtu")
            values[name] = given.integer(name) if whole else given.number(name)
    given.finish()
    try:
        return Link.from_mapping(values, where=given.where())
    except InvalidInput as error:
        where = error.where if str(table.file) in error.where else f"{given.where()}: {error.where}"
        raise InvalidInput(error.what, where=where, remedy=error.remedy) from None


def _groups(table: Table) -> Groups:
    usual = Groups()
    count = table.integer("count") if "count" in table else usual.count
    if not 1 <= count <= _GROUPS_MAX:
        table.refuse("count", f"is {count}", f"1 to {_GROUPS_MAX} groups are possible")
    groups = Groups(
        count,
        _positive(table, "election_timeout_s", usual.election_timeout_s),
        _positive(table, "heartbeat_s", usual.heartbeat_s),
        table.integer("protocol") if "protocol" in table else usual.protocol,
    )
    if not SPOKEN.oldest <= groups.protocol <= SPOKEN.newest:
        table.refuse("protocol", f"is {groups.protocol}", f"This release speaks {SPOKEN}")
    if groups.heartbeat_s * 2 > groups.election_timeout_s:
        table.refuse(
            "heartbeat_s",
            f"is {groups.heartbeat_s:g}, which leaves no room for a lost one within "
            f"{groups.election_timeout_s:g} s",
            "Make the election timeout at least twice the heartbeat, better five times",
        )
    table.finish()
    return groups


def _clocks(table: Table) -> Clocks:
    clocks = Clocks(
        _positive(table, "offset_ms", 0.0, zero=True), _positive(table, "drift_ppm", 0.0, zero=True)
    )
    table.finish()
    return clocks


def _workloads(table: Table) -> tuple[WorkloadSpec, ...]:
    specs = []
    for kind in table.keys:
        if kind not in WORKLOADS:
            table.refuse(kind, "is no workload", nearest(kind, WORKLOADS))
        given = table.table(kind)
        usual = WorkloadSpec(kind)
        clients = given.integer("clients") if "clients" in given else usual.clients
        keys = given.integer("keys") if "keys" in given else usual.keys
        for name, value in (("clients", clients), ("keys", keys)):
            if not 1 <= value <= 10_000:
                given.refuse(name, f"is {value}", "1 to 10000 are possible")
        rate = _positive(given, "rate_per_s", usual.rate_per_s)
        given.finish()
        specs.append(WorkloadSpec(kind, clients, rate, keys))
    return tuple(specs)


def _nemesis(table: Table) -> Nemesis:
    kinds = table.texts("kinds", '["partition", "kill"]')
    for kind in kinds:
        if kind not in FAULTS:
            table.refuse("kinds", f"names {kind!r}, which is no fault", nearest(kind, FAULTS))
    count = table.integer("count") if "count" in table else 6
    if not 1 <= count <= 1000 or not kinds:
        table.refuse("count", f"is {count}", "1 to 1000 faults, of one kind at least")
    table.finish()
    return Nemesis(kinds, count)


def _expectations(table: Table) -> Expectations:
    usual = Expectations()

    def bound(name: str) -> float | None:
        return _positive(table, name, 0.0) if name in table else None

    least = (
        table.integer("acknowledged_at_least")
        if "acknowledged_at_least" in table
        else usual.acknowledged_at_least
    )
    expect = Expectations(
        converged_within_s=bound("converged_within_s"),
        silence_at_most_s=bound("silence_at_most_s"),
        acknowledged_at_least=least,
        faults_take_effect=table.flag("faults_take_effect", usual.faults_take_effect),
        leaders_at_most=table.integer("leaders_at_most") if "leaders_at_most" in table else None,
    )
    table.finish()
    return expect


def _faults(root: Table) -> Schedule:
    if "fault" not in root:
        return Schedule()
    faults = [
        fault
        for where, table in root.tables("fault")
        for fault in Schedule.from_tables([table], where=where).faults
    ]
    return Schedule(tuple(faults))


def _steps(root: Table) -> tuple[Step, ...]:
    if "step" not in root:
        return ()
    steps = []
    for where, given in root.tables("step"):
        fields_ = dict(given)
        if unknown := sorted(fields_.keys() - {"at_s", "do", "node", "by"}):
            raise InvalidInput(
                f"unknown: {', '.join(unknown)}",
                where=where,
                remedy="A step has at_s, do, node and perhaps by",
            )
        at_s, texts = fields_.get("at_s"), [fields_.get(key, "") for key in ("do", "node", "by")]
        if isinstance(at_s, bool) or not isinstance(at_s, int | float) or not 0 <= at_s < 1e6:
            raise InvalidInput(f"at_s is {at_s!r}", where=where, remedy="Seconds from the start")
        if not all(isinstance(text, str) for text in texts) or not texts[1]:
            raise InvalidInput(
                "do, node and by are names, and node is needed",
                where=where,
                remedy='For example do = "add", node = "seoul"',
            )
        try:
            steps.append(Step(float(at_s), *texts))
        except InvalidInput as error:
            raise InvalidInput(
                error.what, where=f"{where}: {error.where}", remedy=error.remedy
            ) from None
    return tuple(sorted(steps, key=lambda step: step.at_s))


def _positive(table: Table, key: str, usual: float, *, zero: bool = False) -> float:
    if key not in table:
        return usual
    value = table.number(key)
    if value < 0 or (value == 0 and not zero) or value > 1e6:
        table.refuse(key, f"is {value:g}", "It must be above zero, and at most a million")
    return value

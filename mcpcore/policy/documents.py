"""Policies as files that people write: a document is plain data, in YAML or TOML, both ways.

This module exists so that what is read, written and read again is the same policy, and so that a
mistake is told with its place. It knows the words of a document and nothing of files or formats'
syntax, which is :mod:`mcpcore.policy.notation`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mcpcore.errors import InvalidInput
from mcpcore.policy import conditions
from mcpcore.policy.conditions import ALWAYS, All, AnyOf, Cel, Clause, Condition, Missing, Not
from mcpcore.policy.model import AccessRule, Effect, Plane, Statement, make_statement
from mcpcore.policy.network import NetworkRule, Peer, Ports
from mcpcore.policy.operators import OPERATORS
from mcpcore.policy.patterns import Names, check_pattern
from mcpcore.policy.roles import Edge, check_edge
from mcpcore.policy.selectors import EXISTS, IN, Requirement, Selector

_ACCESS_WORDS: Final = {"name", "effect", "principal", "action", "resource", "condition", "plane"}
_NETWORK_WORDS: Final = {
    "name", "effect", "plane", "direction", "namespace", "pods", "peers", "ports",
}  # fmt: skip
_CLAUSE_WORDS: Final = {"key", "negated", "of", "missing"}


@dataclass(frozen=True, slots=True)
class Named:
    """A statement and its place in a document."""

    statement: Statement
    name: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """What a tenant says in one file."""

    tenant: str
    name: str = "main"
    statements: tuple[Named, ...] = ()
    roles: tuple[Edge, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


# --- reading ------------------------------------------------------------------------------------


def read_document(data: object, where: str = "document") -> Document:
    """Read a document from plain data.

    Raises:
        InvalidInput: a word that does not exist, or a value that cannot be used; with its place.
    """
    table = _table(data, {"tenant", "document", "statements", "roles", "settings"}, where)
    tenant = _text(table, "tenant", where)
    if "/" in tenant:
        raise InvalidInput(f"{tenant!r} is no tenant", where=f"{where}, tenant", remedy="No slash")
    settings = table.get("settings", {})
    if not isinstance(settings, Mapping) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in settings.items()
    ):
        raise InvalidInput("keys and values are text", where=f"{where}, settings")
    statements = [
        _placed_statement(item, tenant, f"{where}, statement {i}")
        for i, item in enumerate(_list(table, "statements", where), 1)
    ]
    names = [named.name for named in statements if named.name]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput(f"two statements are called {twice[0]!r}", where=where)
    return Document(
        tenant,
        _text(table, "document", where, "main"),
        tuple(statements),
        tuple(_edge(item, f"{where}, role {i}")
              for i, item in enumerate(_list(table, "roles", where), 1)),
        dict(settings),
    )  # fmt: skip


def _edge(item: object, where: str) -> Edge:
    table = _table(item, {"member", "role"}, where)
    try:
        return check_edge(table.get("member"), table.get("role"))
    except InvalidInput as error:
        raise InvalidInput(error.what, where=where, remedy=error.remedy) from error


def _placed_statement(item: object, author: str, where: str) -> Named:
    """A statement; what is wrong inside is told with its place."""
    try:
        return _statement(item, author, where)
    except InvalidInput as error:
        if error.where.startswith(where):
            raise
        inner = f"{where}, {error.where}" if error.where else where
        raise InvalidInput(error.what, where=inner, remedy=error.remedy) from error


def _statement(item: object, author: str, where: str) -> Named:
    plane = item.get("plane", "rbac") if isinstance(item, Mapping) else "rbac"
    words = _NETWORK_WORDS if plane == Plane.NETWORK else _ACCESS_WORDS
    table = _table(item, words, where)
    rule = _network(table, where) if plane == Plane.NETWORK else _access(table, where)
    statement = make_statement(str(plane), _text(table, "effect", where), author, rule.to_wire())
    return Named(statement, _text(table, "name", where, ""))


def _access(table: Mapping[str, Any], where: str) -> AccessRule:
    return AccessRule(
        _names(table, "principal", where),
        _names(table, "action", where),
        _names(table, "resource", where),
        read_condition(table.get("condition", []), f"{where}, condition"),
    )


def _names(table: Mapping[str, Any], word: str, where: str) -> Names:
    place = f"{where}, {word}"
    if word not in table:
        raise InvalidInput(f"{word!r} is missing", where=where, remedy="Give a pattern, or several")
    value = table[word]
    if isinstance(value, Mapping):
        inner = _table(value, {"any", "except"}, place)
        some, none = inner.get("any", ["*"]), inner.get("except", [])
    else:
        some, none = value, []
    return Names(_patterns(some, place), _patterns(none, place))


def _patterns(value: object, where: str) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(check_pattern(item, where) for item in items)


def read_condition(data: object, where: str = "condition", depth: int = 0) -> Condition:
    """Read a condition from plain data: a clause, or a list of which all must hold.

    Raises:
        InvalidInput: as :func:`read_document`.
    """
    if depth > conditions.DEPTH_MAX:
        raise InvalidInput("nested too deeply", where=where)
    if isinstance(data, list | tuple):
        parts = tuple(read_condition(item, where, depth + 1) for item in data)
        return parts[0] if len(parts) == 1 else All(parts)
    if not isinstance(data, Mapping):
        raise InvalidInput(f"{data!r} is no condition", where=where, remedy="Give key and operator")
    match dict(data):
        case {"all": list() as items, **rest} if not rest:
            return All(tuple(read_condition(item, where, depth + 1) for item in items))
        case {"any": list() as items, **rest} if not rest:
            return AnyOf(tuple(read_condition(item, where, depth + 1) for item in items))
        case {"not": part, **rest} if not rest:
            return Not(read_condition(part, where, depth + 1))
        case {"cel": str(expression), **rest} if not rest:
            return conditions.from_wire(["cel", expression])
    return _clause(data, where)


def _clause(data: Mapping[str, Any], where: str) -> Clause:
    table = _table(data, _CLAUSE_WORDS | set(OPERATORS), where)
    operators = [word for word in table if word in OPERATORS]
    if len(operators) != 1 or "key" not in table:
        raise InvalidInput(
            "a clause is a key and one operator",
            where=where,
            remedy="Such as {key: mfa, is: true}",
        )
    missing = table.get("missing", "unknown")
    missing = str(missing).lower() if isinstance(missing, bool) else missing
    return conditions.checked_clause(
        operators[0],
        _text(table, "key", where),
        table[operators[0]],
        bool(table.get("negated", False)),
        table.get("of", "one"),
        missing,
    )


def _network(table: Mapping[str, Any], where: str) -> NetworkRule:
    peers = table.get("peers", [])
    everybody = peers == "everybody"
    if not everybody and not isinstance(peers, list):
        raise InvalidInput("a list of peers, or everybody", where=f"{where}, peers")
    direction = _text(table, "direction", where)
    subject = _selector(table.get("pods", {}), f"{where}, pods")
    rule: list[object] = [
        direction,
        check_pattern(table.get("namespace"), f"{where}, namespace"),
        subject.to_wire(),
        [] if everybody else [_peer(peer, f"{where}, peers").to_wire() for peer in peers],
        [_ports(each, f"{where}, ports").to_wire() for each in _list(table, "ports", where)],
        everybody,
    ]
    return NetworkRule.from_wire(rule)


def _peer(item: object, where: str) -> Peer:
    table = _table(item, {"pods", "namespaces", "cidr", "except"}, where)
    pods = _selector(table["pods"], where) if "pods" in table else None
    namespaces = _selector(table["namespaces"], where) if "namespaces" in table else None
    but = tuple(str(each) for each in _list(table, "except", where))
    peer = Peer(pods, namespaces, _text(table, "cidr", where, ""), but)
    peer.check()
    return peer


def _ports(item: object, where: str) -> Ports:
    table = _table(item, {"protocol", "port", "end"}, where)
    wire = [table.get("protocol", "TCP"), table.get("port"), table.get("end")]
    return Ports.from_wire(wire)


def _selector(data: object, where: str) -> Selector:
    """``{app: web, tier: [a, b], old: null}`` or a list of ``{key, operator, values}``."""
    if isinstance(data, list):
        rows = []
        for item in data:
            table = _table(item, {"key", "operator", "values"}, where)
            rows.append([table.get("key"), table.get("operator"), table.get("values", [])])
        return Selector.from_wire(rows)
    if not isinstance(data, Mapping):
        raise InvalidInput("labels, or a list of demands on labels", where=where)
    rows = [[k, IN, v if isinstance(v, list) else [v]] for k, v in data.items()]
    return Selector.from_wire(rows)


def _table(data: object, words: set[str], where: str) -> Mapping[str, Any]:
    if not isinstance(data, Mapping):
        raise InvalidInput(f"a table is expected, not {data!r:.60}", where=where)
    unknown = sorted(str(word) for word in data if word not in words)
    if unknown:
        raise InvalidInput(
            f"{unknown[0]!r} means nothing here",
            where=where,
            remedy=f"Words are {', '.join(sorted(words))}",
        )
    return data


def _text(table: Mapping[str, Any], word: str, where: str, default: str | None = None) -> str:
    value = table.get(word, default)
    if not isinstance(value, str) or (not value and default is None):
        problem = f"{value!r} is no text" if word in table else f"{word!r} is missing"
        raise InvalidInput(problem, where=f"{where}, {word}", remedy="Put it in quotes")
    return value


def _list(table: Mapping[str, Any], word: str, where: str) -> list[Any]:
    value = table.get(word, [])
    if not isinstance(value, list):
        raise InvalidInput("a list is expected", where=f"{where}, {word}")
    return value


# --- writing ------------------------------------------------------------------------------------


def write_document(document: Document) -> dict[str, Any]:
    """A document as plain data; reading it gives the document back."""
    data: dict[str, Any] = {"tenant": document.tenant, "document": document.name}
    if document.settings:
        data["settings"] = dict(document.settings)
    if document.roles:
        data["roles"] = [{"member": member, "role": role} for member, role in document.roles]
    data["statements"] = [write_statement(n.statement, n.name) for n in document.statements]
    return data


def write_statement(statement: Statement, name: str = "") -> dict[str, Any]:
    """A statement as plain data."""
    data: dict[str, Any] = {"name": name} if name else {}
    data["effect"] = str(statement.effect)
    rule = statement.rule
    if isinstance(rule, AccessRule):
        data["principal"] = _plain_names(rule.principals)
        data["action"] = _plain_names(rule.actions)
        data["resource"] = _plain_names(rule.resources)
        if rule.condition != ALWAYS:
            data["condition"] = write_condition(rule.condition)
        return data
    data |= {"plane": "network", "direction": str(rule.direction), "namespace": rule.namespace}
    if rule.subject.requirements:
        data["pods"] = _plain_selector(rule.subject)
    if rule.everybody:
        data["peers"] = "everybody"
    elif statement.effect is not Effect.ISOLATE or rule.peers:
        data["peers"] = [_plain_peer(peer) for peer in rule.peers]
    if rule.ports:
        data["ports"] = [_plain_ports(ports) for ports in rule.ports]
    return data


def _plain_names(names: Names) -> Any:
    if names.none_of:
        return {"any": list(names.any_of), "except": list(names.none_of)}
    return names.any_of[0] if len(names.any_of) == 1 else list(names.any_of)


def write_condition(condition: Condition) -> Any:
    """A condition as plain data."""
    match condition:
        case All(parts):
            return {"all": [write_condition(part) for part in parts]}
        case AnyOf(parts):
            return {"any": [write_condition(part) for part in parts]}
        case Not(part):
            return {"not": write_condition(part)}
        case Cel(expression):
            return {"cel": expression}
    clause = condition
    values: Any = list(clause.values)
    data: dict[str, Any] = {
        "key": clause.key,
        clause.operator: values[0] if len(values) == 1 else values,
    }
    if clause.negated:
        data["negated"] = True
    if clause.quantifier != "one":
        data["of"] = str(clause.quantifier)
    if clause.missing is not Missing.UNKNOWN:
        data["missing"] = str(clause.missing)
    return data


def _plain_selector(selector: Selector) -> Any:
    if all(r.operator == IN and len(r.values) == 1 for r in selector.requirements):
        plain = {r.key: r.values[0] for r in selector.requirements}
        if len(plain) == len(selector.requirements):
            return plain
    return [_plain_requirement(r) for r in selector.requirements]


def _plain_requirement(requirement: Requirement) -> dict[str, Any]:
    data: dict[str, Any] = {"key": requirement.key, "operator": requirement.operator}
    if requirement.values or requirement.operator not in (EXISTS,):
        data["values"] = list(requirement.values)
    return data


def _plain_peer(peer: Peer) -> dict[str, Any]:
    if peer.cidr:
        return {"cidr": peer.cidr, **({"except": list(peer.but)} if peer.but else {})}
    data: dict[str, Any] = {}
    if peer.namespaces is not None:
        data["namespaces"] = _plain_selector(peer.namespaces)
    if peer.pods is not None:
        data["pods"] = _plain_selector(peer.pods)
    return data


def _plain_ports(ports: Ports) -> dict[str, Any]:
    data: dict[str, Any] = {"protocol": ports.protocol}
    if ports.port is not None:
        data["port"] = ports.port
    if ports.end is not None:
        data["end"] = ports.end
    return data

"""Kubernetes NetworkPolicy, with its own meaning.

This module exists so that a policy is read as what it is, a set: an isolation of the pods that it
selects, for each of its directions, and permits. Two policies never have an order, and "deny all"
is only an isolation that permits nothing.

Source: the Kubernetes documentation, "Network Policies"; API reference of networking.k8s.io/v1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from mcpcore.errors import InvalidInput, Unsupported
from mcpcore.policy.dialects.common import (
    Exported,
    Imported,
    Losses,
    forbids_of,
    permits_of,
    plain,
    rows,
    table,
    texts,
)
from mcpcore.policy.dialects.kubernetes_rbac import read_selector, unpacked
from mcpcore.policy.model import Effect, Statement
from mcpcore.policy.network import Direction, NetworkRule, Peer, Ports
from mcpcore.policy.patterns import literal
from mcpcore.policy.selectors import IN, Selector

GROUP: Final = "networking.k8s.io"
_TYPES: Final = {"Ingress": Direction.INGRESS, "Egress": Direction.EGRESS}


# --- importing ----------------------------------------------------------------------------------


def import_network(objects: Iterable[object], author: str) -> Imported:
    """Read network policies.

    Raises:
        InvalidInput: not a policy, or one that the API server would refuse.
        Unsupported: another kind or API group.
    """
    statements: list[Statement] = []
    for each in unpacked(objects, GROUP, ("NetworkPolicy",)):
        statements += _read(each, author)
    return Imported(tuple(dict.fromkeys(statements)))


def _read(manifest: Mapping[str, Any], author: str) -> list[Statement]:
    metadata = table(manifest.get("metadata"), "NetworkPolicy, metadata")
    namespace, name = str(metadata.get("namespace", "default")), metadata.get("name", "")
    where = f"NetworkPolicy {name}"
    spec = table(manifest.get("spec"), where, "podSelector", "policyTypes", "ingress", "egress")
    subject = read_selector(spec.get("podSelector") or {}, f"{where}, podSelector")
    statements = []
    for direction in _directions(spec, where):
        isolation = NetworkRule(direction, literal(namespace), subject)
        statements.append(Statement(Effect.ISOLATE, isolation, author))
        inward = direction is Direction.INGRESS
        for item in rows(spec, str(direction), where):
            place = f"{where}, {direction}"
            rule = table(
                item if item is not None else {}, place, "from" if inward else "to", "ports"
            )
            peers = [_peer(p, place) for p in rows(rule, "from" if inward else "to", place)]
            ports = [_ports(p, place) for p in rows(rule, "ports", place)]
            permit = NetworkRule(
                direction, literal(namespace), subject, tuple(peers), tuple(ports), not peers
            )
            statements.append(Statement(Effect.PERMIT, permit, author))
    return statements


def _directions(spec: Mapping[str, Any], where: str) -> list[Direction]:
    """Without policyTypes: ingress always, egress if there is a rule for it."""
    types = texts(spec, "policyTypes", where)
    unknown = [each for each in types if each not in _TYPES]
    if unknown:
        raise InvalidInput(
            f"{unknown[0]!r} is no policy type", where=where, remedy="Ingress or Egress"
        )
    if types:
        return [_TYPES[each] for each in dict.fromkeys(types)]
    more = [Direction.EGRESS] if rows(spec, "egress", where) else []
    return [Direction.INGRESS, *more]


def _peer(item: object, where: str) -> Peer:
    words = table(item, where, "podSelector", "namespaceSelector", "ipBlock")
    pods, namespaces, block = (
        words.get(word) for word in ("podSelector", "namespaceSelector", "ipBlock")
    )
    if block is not None:
        if pods is not None or namespaces is not None:
            raise InvalidInput("ipBlock stands alone", where=where, remedy="Make two peers of it")
        inner = table(block, f"{where}, ipBlock", "cidr", "except")
        peer = Peer(cidr=str(inner.get("cidr", "")), but=tuple(texts(inner, "except", where)))
    else:
        peer = Peer(
            None if pods is None else read_selector(pods, where),
            None if namespaces is None else read_selector(namespaces, where),
        )
    peer.check()
    return peer


def _ports(item: object, where: str) -> Ports:
    words = table(item, where, "protocol", "port", "endPort")
    port = words.get("port")
    return Ports.from_wire([words.get("protocol") or "TCP", port, words.get("endPort")])


# --- exporting ----------------------------------------------------------------------------------


def export_network(statements: Iterable[Statement], *, narrow: bool = False) -> Exported:
    """Write network policies: one for each statement.

    A policy that permits also isolates. So a permit whose pods nothing isolates is left out unless
    an isolation covers it, since Kubernetes would isolate what is free here: that is narrower, and
    told. A forbid cannot be said.

    Raises:
        ExportRefused: the result would allow more.
    """
    statements = list(statements)
    losses = Losses("Kubernetes NetworkPolicy", narrow)
    permits = losses.shed(permits_of(statements), forbids_of(statements))
    _free_forbids(statements, losses)
    isolations = [s for s in statements if s.effect is Effect.ISOLATE]
    documents = []
    for statement in (*isolations, *permits):
        rule = statement.rule
        if not isinstance(rule, NetworkRule):
            losses.unsaid(statement, "is about access; export it as RBAC")
            continue
        try:
            written = _written(statement, rule)
        except Unsupported as error:
            losses.unsaid(statement, error.what)
            continue
        if statement.effect is Effect.PERMIT and not _isolated(rule, isolations):
            losses.narrower.append(f"{statement}: isolates its pods there, which are free here")
        documents.append(written)
    losses.narrower += [
        f"{s}: delegations are not written" for s in statements if s.effect is Effect.DELEGATE
    ]
    return losses.finish(documents)


def _free_forbids(statements: list[Statement], losses: Losses) -> None:
    """A forbid takes away where nothing isolates, too; no permit needs to be there for that."""
    losses.wider += [
        f"{s}: no forbids there, and what nothing isolates would be free"
        for s in forbids_of(statements)
        if isinstance(s.rule, NetworkRule)
        and not _isolated(s.rule, [i for i in statements if i.effect is Effect.ISOLATE])
    ]


def _isolated(rule: NetworkRule, isolations: list[Statement]) -> bool:
    """Whether some isolation surely covers all that a rule is about."""
    return any(
        isinstance(each.rule, NetworkRule)
        and each.rule.direction is rule.direction
        and each.rule.namespace in (rule.namespace, "*")
        and set(each.rule.subject.requirements) <= set(rule.subject.requirements)
        for each in isolations
    )


def _written(statement: Statement, rule: NetworkRule) -> dict[str, Any]:
    namespace = plain(rule.namespace)
    if namespace is None:
        raise Unsupported("a NetworkPolicy is about one namespace")
    inward = rule.direction is Direction.INGRESS
    rules: list[dict[str, Any]] = []
    if statement.effect is Effect.PERMIT and (rule.everybody or rule.peers):
        written: dict[str, Any] = {}
        if not rule.everybody:
            written["from" if inward else "to"] = [_written_peer(peer) for peer in rule.peers]
        if rule.ports:
            written["ports"] = [_written_ports(ports) for ports in rule.ports]
        rules.append(written)
    name = f"mcpcore-{statement.id[:12]}"
    return {
        "apiVersion": f"{GROUP}/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "podSelector": written_selector(rule.subject),
            "policyTypes": ["Ingress" if inward else "Egress"],
            str(rule.direction): rules,
        },
    }


def written_selector(selector: Selector) -> dict[str, Any]:
    """A label selector as Kubernetes writes it."""
    labels = [r for r in selector.requirements if r.operator == IN and len(r.values) == 1]
    data: dict[str, Any] = {}
    if len({r.key for r in labels}) == len(labels) == len(selector.requirements):
        if labels:
            data["matchLabels"] = {r.key: r.values[0] for r in labels}
        return data
    data["matchExpressions"] = [
        {"key": r.key, "operator": r.operator, **({"values": list(r.values)} if r.values else {})}
        for r in selector.requirements
    ]
    return data


def _written_peer(peer: Peer) -> dict[str, Any]:
    if peer.cidr:
        block: dict[str, Any] = {"cidr": peer.cidr}
        if peer.but:
            block["except"] = list(peer.but)
        return {"ipBlock": block}
    data = {}
    if peer.pods is not None:
        data["podSelector"] = written_selector(peer.pods)
    if peer.namespaces is not None:
        data["namespaceSelector"] = written_selector(peer.namespaces)
    return data


def _written_ports(ports: Ports) -> dict[str, Any]:
    data: dict[str, Any] = {"protocol": ports.protocol}
    if ports.port is not None:
        data["port"] = ports.port
    if ports.end is not None:
        data["endPort"] = ports.end
    return data

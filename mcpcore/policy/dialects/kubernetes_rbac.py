"""Kubernetes RBAC: roles and bindings, with their own meaning.

This module exists so that what a cluster would answer is what we answer: rules only add, names of
resources restrict, a cluster role bound in a namespace counts there alone, aggregated roles are put
together from their selectors.

Names: a resource is ``NAMESPACE/GROUP/RESOURCE/NAME``, with ``_cluster`` for what has no namespace
and ``_url`` for paths that are no resource; a subresource keeps its slash (``pods/log``) as ``|``,
so that it stays one part. Principals are ``_cluster/user/NAME``, ``_cluster/group/NAME`` and
``NAMESPACE/serviceaccount/NAME``.

Source: the Kubernetes documentation, "Using RBAC Authorization".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

from mcpcore.errors import InvalidInput, Unsupported
from mcpcore.policy.conditions import ALWAYS
from mcpcore.policy.dialects.common import (
    Exported,
    Imported,
    Losses,
    escaped,
    forbids_of,
    permits_of,
    plain,
    rows,
    table,
    texts,
)
from mcpcore.policy.model import AccessRule, Effect, Request, Statement
from mcpcore.policy.patterns import Names, literal
from mcpcore.policy.selectors import Selector

CLUSTER: Final = "_cluster"
URL: Final = "_url"
GROUP: Final = "rbac.authorization.k8s.io"
_SUB: Final = "|"
_NO_PATHS: Final = (f"{URL}/*",)
_KINDS: Final = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
_RULE_WORDS: Final = ("apiGroups", "resources", "verbs", "resourceNames", "nonResourceURLs")


@dataclass(frozen=True, slots=True)
class _Target:
    """What a rule is about: either resources or paths, never both."""

    verbs: tuple[str, ...]
    groups: tuple[str, ...]
    resources: tuple[str, ...]
    names: tuple[str, ...]
    urls: tuple[str, ...]


# --- names --------------------------------------------------------------------------------------


def request(
    user: str,
    verb: str,
    resource: str = "",
    *,
    group: str = "",
    namespace: str = "",
    name: str = "",
    subresource: str = "",
    url: str = "",
    groups: Iterable[str] = (),
) -> Request:
    """A question as the API server asks it.

    Args:
        user: the name that the authenticator gives; ``system:serviceaccount:NS:NAME`` is known.
        group: the API group; empty is the core group.
        url: the path, for a request that is for no resource.
        groups: the groups that the authenticator gives.

    Raises:
        InvalidInput: a part with a slash, which no request to a cluster has.
    """
    if any("/" in part for part in (resource, group, namespace, name, subresource)):
        raise InvalidInput("no part of a request holds a slash", where="request to Kubernetes")
    if url:
        where = f"{URL}/{url}"
    else:
        whole = f"{resource}{_SUB}{subresource}" if subresource else resource
        where = f"{namespace or CLUSTER}/{group}/{whole}/{name}"
    names = frozenset(f"{CLUSTER}/group/{each}" for each in groups)
    return Request(user_name(user), verb, where, groups=names)


def user_name(user: str) -> str:
    """The principal of a user; service accounts live in their namespaces."""
    parts = user.split(":")
    if len(parts) == 4 and parts[:2] == ["system", "serviceaccount"]:
        return f"{parts[2]}/serviceaccount/{parts[3]}"
    return f"{CLUSTER}/user/{user}"


# --- importing ----------------------------------------------------------------------------------


def import_rbac(objects: Iterable[object], author: str) -> Imported:
    """Read roles and bindings. A binding to a role that is not there gives nothing.

    Args:
        objects: manifests as plain data, ``List`` objects too; other kinds are refused.
        author: the tenant in whose name the statements are.

    Raises:
        InvalidInput: not a manifest, or one that the API server would refuse.
        Unsupported: another kind or API group.
    """
    roles: dict[tuple[str, str], list[_Target]] = {}
    labelled: dict[tuple[str, str], Mapping[str, str]] = {}
    aggregated: list[tuple[tuple[str, str], list[Selector]]] = []
    bindings: list[Mapping[str, Any]] = []
    for each in unpacked(objects, GROUP, _KINDS):
        kind, namespace, name = each["kind"], *_identity(each)
        where = f"{kind} {name}"
        if kind.endswith("Binding"):
            bindings.append(each)
            continue
        key = (namespace if kind == "Role" else "", name)
        roles[key] = [_target(rule, kind, where) for rule in rows(each, "rules", where)]
        labelled[key] = each.get("metadata", {}).get("labels") or {}
        if each.get("aggregationRule") is not None:
            rule = table(each["aggregationRule"], where, "clusterRoleSelectors")
            selectors = rows(rule, "clusterRoleSelectors", where)
            aggregated.append((key, [read_selector(each, where) for each in selectors]))
    _aggregate(roles, labelled, aggregated)
    statements: list[Statement] = []
    remarks: list[str] = []
    for binding in bindings:
        statements += _bound(binding, roles, author, remarks)
    return Imported(tuple(dict.fromkeys(statements)), remarks=tuple(remarks))


def unpacked(objects: Iterable[object], group: str, kinds: tuple[str, ...]) -> list[Any]:
    """Manifests of some kinds, ``List`` objects taken apart.

    Raises:
        InvalidInput: not a manifest.
        Unsupported: another kind or API group.
    """
    found: list[Any] = []
    for each in objects:
        manifest = table(each, "manifest")
        kind, version = manifest.get("kind"), str(manifest.get("apiVersion", ""))
        if isinstance(kind, str) and kind.endswith("List") and "items" in manifest:
            items = rows(manifest, "items", kind)
            inner = kind.removesuffix("List")
            whole = [{"kind": inner, "apiVersion": version, **item} if inner else item
                     for item in items if isinstance(item, Mapping)]  # fmt: skip
            found += unpacked(whole, group, kinds)
        elif kind not in kinds or version.partition("/")[0] != group:
            raise Unsupported(
                f"{kind!r} of {version!r} is not read here", where="manifest",
                remedy=f"Give {', '.join(kinds)} of {group}",
            )  # fmt: skip
        else:
            found.append(manifest)
    return found


def _identity(manifest: Mapping[str, Any]) -> tuple[str, str]:
    metadata = table(manifest.get("metadata"), f"{manifest['kind']}, metadata")
    name, namespace = metadata.get("name"), metadata.get("namespace", "default")
    if not isinstance(name, str) or not name or not isinstance(namespace, str) or not namespace:
        raise InvalidInput("a manifest has a name", where=f"{manifest['kind']}, metadata")
    return namespace, name


def read_selector(data: object, where: str) -> Selector:
    """A Kubernetes label selector.

    Raises:
        InvalidInput: not one.
        Unsupported: a word that a selector does not have.
    """
    words = table(data, where, "matchLabels", "matchExpressions")
    wire: list[object] = [
        [key, "In", [value]]
        for key, value in sorted(table(words.get("matchLabels") or {}, where).items())
    ]
    for item in rows(words, "matchExpressions", where):
        row = table(item, where, "key", "operator", "values")
        wire.append([row.get("key"), row.get("operator"), texts(row, "values", where)])
    return Selector.from_wire(wire)


def _target(rule: object, kind: str, where: str) -> _Target:
    words = table(rule, where, *_RULE_WORDS)
    verbs, groups, resources, names, urls = (
        texts(words, word, where) for word in ("verbs", "apiGroups", "resources",
                                               "resourceNames", "nonResourceURLs")
    )  # fmt: skip
    if not verbs:
        raise InvalidInput("a rule has at least one verb", where=where)
    if urls and (groups or resources or names):
        raise InvalidInput("a rule is about resources or about paths, not both", where=where)
    if urls and kind == "Role":
        raise InvalidInput("only a ClusterRole can be about paths", where=where)
    if not urls and not (groups and resources):
        raise InvalidInput("a rule names API groups and resources", where=where)
    return _Target(*(tuple(each) for each in (verbs, groups, resources, names, urls)))


def _aggregate(
    roles: dict[tuple[str, str], list[_Target]],
    labelled: Mapping[tuple[str, str], Mapping[str, str]],
    aggregated: list[tuple[tuple[str, str], list[Selector]]],
) -> None:
    """Fill aggregated roles until nothing changes; one may aggregate another one."""
    for key, _ in aggregated:
        roles[key] = []  # the control plane overwrites what the manifest says
    for _ in range(len(aggregated) + 1):
        for key, selectors in aggregated:
            gathered: list[_Target] = []
            for other in sorted(roles):
                chosen = any(s.matches(labelled[other]) for s in selectors)
                if other != key and not other[0] and chosen:
                    gathered += roles[other]
            roles[key] = list(dict.fromkeys(gathered))


def _bound(
    binding: Mapping[str, Any],
    roles: Mapping[tuple[str, str], list[_Target]],
    author: str,
    remarks: list[str],
) -> list[Statement]:
    namespace, name = _identity(binding)
    where = f"{binding['kind']} {name}"
    everywhere = binding["kind"] == "ClusterRoleBinding"
    reference = table(binding.get("roleRef"), f"{where}, roleRef", "apiGroup", "kind", "name")
    kind = reference.get("kind")
    if kind not in ("Role", "ClusterRole") or (everywhere and kind == "Role"):
        raise InvalidInput(f"cannot refer to {kind!r}", where=where)
    key = (namespace if kind == "Role" else "", str(reference.get("name")))
    if key not in roles:
        remarks.append(f"{where} refers to {kind} {key[1]}, which is not there; it gives nothing")
        return []
    subjects = rows(binding, "subjects", where)
    people = tuple(_subject(each, namespace, everywhere, where) for each in subjects)
    if not people:
        return []
    statements = []
    for target in roles[key]:
        if target.urls and not everywhere:
            remarks.append(f"{where}: paths that are no resource count in ClusterRoleBindings only")
            continue
        rule = AccessRule(
            Names(people),
            Names(tuple("*" if verb == "*" else literal(verb) for verb in target.verbs)),
            _resources(target, "*" if everywhere else literal(namespace)),
        )
        statements.append(Statement(Effect.PERMIT, rule, author))
    return statements


def _subject(item: object, namespace: str, everywhere: bool, where: str) -> str:
    subject = table(item, f"{where}, subjects", "kind", "name", "namespace", "apiGroup")
    kind, name = subject.get("kind"), subject.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidInput("a subject has a name", where=where)
    if kind == "User":
        return literal(user_name(name))
    if kind == "Group":
        return escaped(CLUSTER, "group", name)
    if kind == "ServiceAccount":
        home = subject.get("namespace") or ("" if everywhere else namespace)
        if not home:
            raise InvalidInput(f"the service account {name} needs a namespace", where=where)
        return escaped(str(home), "serviceaccount", name)
    raise InvalidInput(f"{kind!r} is no subject", where=where)


def _resources(target: _Target, namespace: str) -> Names:
    if target.urls:
        return Names(tuple(f"{URL}/{_url(url)}" for url in target.urls))
    names = tuple(literal(name) for name in target.names) or ("*",)
    # No part of a request holds a slash, so no star reaches into the next part. Only paths do, and
    # a rule for all namespaces is not about paths.
    patterns = tuple(
        f"{namespace}/{group}/{resource}/{name}"
        for group, resource, name in product(
            [_part(group) for group in target.groups],
            [_resource(resource) for resource in target.resources],
            names,
        )
    )
    return Names(patterns, _NO_PATHS if namespace == "*" else ())


def _part(text: str) -> str:
    return "*" if text == "*" else literal(text)


def _resource(text: str) -> str:
    """``*`` is every resource and subresource; ``*/scale`` that subresource of every resource."""
    if text == "*":
        return "*"
    whole, _, sub = text.partition("/")
    if not sub:
        return literal(text)
    return f"{'*' if whole == '*' else literal(whole)}{_SUB}{literal(sub)}"


def _url(text: str) -> str:
    """A star counts at the end only."""
    return literal(text[:-1]) + "*" if text.endswith("*") else literal(text)


# --- exporting ----------------------------------------------------------------------------------


def export_rbac(statements: Iterable[Statement], *, narrow: bool = False) -> Exported:
    """Write roles and bindings: one of each for a statement.

    RBAC has no forbid and no condition. A permit with a condition is left out (narrower); a forbid
    is refused, or with ``narrow`` the permits that it may touch are left out.

    Raises:
        ExportRefused: the result would allow more.
    """
    statements = list(statements)
    losses = Losses("Kubernetes RBAC", narrow)
    permits = losses.shed(permits_of(statements), forbids_of(statements))
    documents: list[dict[str, Any]] = []
    for statement in permits:
        rule = statement.rule
        if not isinstance(rule, AccessRule):
            losses.unsaid(statement, "is about the network; export it as NetworkPolicy")
            continue
        try:
            documents += _written(statement, rule)
        except Unsupported as error:
            losses.unsaid(statement, error.what)
    for statement in statements:
        if statement.effect is Effect.ISOLATE:
            losses.unsaid(statement, "is about the network; export it as NetworkPolicy")
        elif statement.effect is Effect.DELEGATE:
            losses.unsaid(statement, "delegations are not written")
    return losses.finish(documents)


def _written(statement: Statement, rule: AccessRule) -> list[dict[str, Any]]:
    if rule.condition != ALWAYS:
        raise Unsupported("RBAC has no conditions")
    exceptions = rule.resources.none_of
    if rule.principals.none_of or rule.actions.none_of or exceptions not in ((), _NO_PATHS):
        raise Unsupported("RBAC has no exceptions")
    people = [_written_subject(pattern) for pattern in rule.principals.any_of]
    verbs = [_whole(pattern, "verb") for pattern in rule.actions.any_of]
    by_namespace: dict[str, list[dict[str, Any]]] = {}
    for pattern in rule.resources.any_of:
        namespace, written = _written_rule(pattern, verbs)
        by_namespace.setdefault(namespace, []).append(written)
    documents = []
    for namespace, rules in by_namespace.items():
        kind = "ClusterRole" if namespace == "*" else "Role"
        metadata: dict[str, Any] = {"name": f"mcpcore-{statement.id[:12]}"}
        if kind == "Role":
            metadata["namespace"] = namespace
        head = {"apiVersion": f"{GROUP}/v1", "metadata": metadata}
        documents.append({**head, "kind": kind, "rules": rules})
        reference = {"apiGroup": GROUP, "kind": kind, "name": metadata["name"]}
        documents.append(
            {**head, "kind": f"{kind}Binding", "roleRef": reference, "subjects": people}
        )
    return documents


def _whole(pattern: str, what: str) -> str:
    """A part that RBAC can say: all of it, or a text without wildcards."""
    text = "*" if pattern == "*" else plain(pattern)
    if text is None or not text:
        raise Unsupported(f"RBAC cannot say {pattern!r} for a {what}")
    return text


def _written_subject(pattern: str) -> dict[str, Any]:
    text = _whole(pattern, "subject")
    match text.split("/", 2):
        case ["_cluster", "user", name]:
            return {"apiGroup": GROUP, "kind": "User", "name": name}
        case ["_cluster", "group", name]:
            return {"apiGroup": GROUP, "kind": "Group", "name": name}
        case [namespace, "serviceaccount", name]:
            return {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    raise Unsupported(f"{text!r} is no subject of RBAC")


def _written_rule(pattern: str, verbs: list[str]) -> tuple[str, dict[str, Any]]:
    if pattern.startswith(f"{URL}/"):
        url = pattern.removeprefix(f"{URL}/")
        head = url[:-1] if url.endswith("*") and not url.endswith("\\*") else url
        text = _whole(head, "path") if head else ""
        return "*", {"nonResourceURLs": [text + url[len(head) :]], "verbs": verbs}
    match pattern.split("/", 3):
        case [namespace, group, resource, name]:
            rule: dict[str, Any] = {
                "apiGroups": ["" if not group else _whole(group, "group")],
                "resources": [_written_resource(resource)],
                "verbs": verbs,
            }
            if name != "*":
                rule["resourceNames"] = [_whole(name, "name")]
            return _whole(namespace, "namespace"), rule
    raise Unsupported(f"{pattern!r} is no NAMESPACE/GROUP/RESOURCE/NAME")


def _written_resource(pattern: str) -> str:
    whole, _, sub = pattern.partition(_SUB)
    if not sub:
        return _whole(whole, "resource")
    return f"{_whole(whole, 'resource')}/{_whole(sub, 'subresource')}"

"""Azure role-based access control: definitions, assignments and deny assignments.

This module exists so that ``NotActions`` is read as what it is: a subtraction inside one role,
which another role may give back, and no deny. Assignments reach down from their scope; deny
assignments beat them all. Control operations and operations on data are two worlds.

Names: a resource is ``NAMESPACE/SCOPE`` with the scope in small letters and without its first
slash (the root scope is empty); an action is ``control:OPERATION`` or ``data:OPERATION`` in small
letters; a principal is ``NAMESPACE/OBJECT-ID``. Management groups do not show in a scope: they come
with the request, as the fact ``azure:management-groups``.

Source: the Azure documentation, "Understand Azure role definitions", "Understand scope", "Azure
deny assignments".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mcpcore.errors import InvalidInput, Unsupported
from mcpcore.policy.conditions import ALWAYS, AnyOf, Clause, Condition, Missing, Quantifier
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
from mcpcore.policy.model import AccessRule, Effect, Request, Statement
from mcpcore.policy.patterns import Names, literal

NAMESPACE: Final = "azure"
MANAGEMENT: Final = "azure:management-groups"
_MANAGEMENT_GROUP: Final = "providers/microsoft.management/managementgroups/"
ALL_PRINCIPALS: Final = "00000000-0000-0000-0000-000000000000"
_CONTROL: Final = "control:"
_DATA: Final = "data:"


@dataclass(frozen=True, slots=True)
class _Permission:
    actions: Names
    data_actions: Names


def request(
    principal: str,
    action: str,
    scope: str,
    *,
    data: bool = False,
    groups: Iterable[str] = (),
    above: Iterable[str] = (),
    namespace: str = NAMESPACE,
) -> Request:
    """A question as Azure Resource Manager asks it.

    Args:
        principal: an object id.
        scope: the full id of the resource, beginning with a slash.
        data: whether the operation is one on data.
        groups: object ids of the groups that the principal is in, nested ones too.
        above: ids of the management groups that the subscription is in, at any depth.
    """
    names = frozenset(f"{namespace}/{group.lower()}" for group in groups)
    kind = _DATA if data else _CONTROL
    facts = {MANAGEMENT: tuple(each.rpartition("/")[2].lower() for each in above)}
    where = f"{namespace}/{_scope(scope)}"
    who = f"{namespace}/{principal.lower()}"
    return Request(who, f"{kind}{action.lower()}", where, facts, names)


def _scope(scope: str) -> str:
    return scope.strip("/").lower()


# --- importing ----------------------------------------------------------------------------------


def import_roles(
    definitions: Iterable[object],
    assignments: Iterable[object],
    author: str,
    *,
    deny_assignments: Iterable[object] = (),
    namespace: str = NAMESPACE,
) -> Imported:
    """Read role definitions, role assignments and deny assignments, as the REST API or the CLI
    writes them. An assignment of a role that is not there gives nothing.

    Raises:
        InvalidInput: not such an object.
        Unsupported: a condition (ABAC), which is not carried over.
    """
    roles = {}
    for each in definitions:
        definition = _flat(each, "role definition")
        for key in ("id", "name"):
            if isinstance(definition.get(key), str):
                roles[definition[key].lower()] = _permissions(definition, "role definition")
    statements: list[Statement] = []
    remarks: list[str] = []
    for each in assignments:
        assignment = _flat(each, "role assignment")
        _no_condition(assignment, "role assignment")
        role = str(assignment.get("roleDefinitionId", "")).lower()
        found = roles.get(role) or roles.get(role.rpartition("/")[2])
        who = assignment.get("principalId")
        if not isinstance(who, str) or not who:
            raise InvalidInput("names no principalId", where="role assignment")
        if found is None:
            remarks.append(f"the role {role or '?'} is not there; its assignment gives nothing")
            continue
        where = _where(str(assignment.get("scope", "/")), namespace, deeper=True)
        people = Names.of(f"{literal(namespace)}/{literal(who.lower())}")
        statements += _written(Effect.PERMIT, people, found, where, author)
    for each in deny_assignments:
        statements += _denial(_flat(each, "deny assignment"), author, namespace)
    return Imported(tuple(dict.fromkeys(statements)), remarks=tuple(remarks))


def _flat(item: object, where: str) -> dict[str, Any]:
    """The REST API nests under ``properties``, the CLI does not; names begin either way."""
    outer = table(item, where)
    properties = outer.get("properties")
    merged = {**outer, **(properties if isinstance(properties, Mapping) else {})}
    return {key[:1].lower() + key[1:]: value for key, value in merged.items()}


def _no_condition(item: Mapping[str, Any], where: str) -> None:
    if item.get("condition"):
        raise Unsupported(
            "conditions of Azure are not carried over", where=where,
            remedy="Leave this assignment out, or take its condition away",
        )  # fmt: skip


def _permissions(definition: Mapping[str, Any], where: str) -> list[_Permission]:
    listed = rows(definition, "permissions", where) if "permissions" in definition else [definition]
    found = []
    for item in listed:
        permission = {key[:1].lower() + key[1:]: value for key, value in table(item, where).items()}
        _no_condition(permission, where)
        names = [
            Names(
                tuple(kind + _operation(text) for text in texts(permission, some, where)),
                tuple(kind + _operation(text) for text in texts(permission, none, where)),
            )
            for kind, some, none in (
                (_CONTROL, "actions", "notActions"),
                (_DATA, "dataActions", "notDataActions"),
            )
        ]
        found.append(_Permission(*names))
    return found


def _operation(text: str) -> str:
    """A star is the only wildcard."""
    return literal(text.lower()).replace("\\*", "*")


def _where(scope: str, namespace: str, *, deeper: bool) -> tuple[Names, Condition]:
    """The scope itself and, unless told otherwise, everything below it."""
    inner = _scope(scope)
    whole = f"{literal(namespace)}/{literal(inner)}"
    if not inner:
        return Names((f"{whole}*",) if deeper else (whole,)), ALWAYS
    if deeper and inner.startswith(_MANAGEMENT_GROUP):
        group = inner.removeprefix(_MANAGEMENT_GROUP)
        inside = Clause(
            "equals", MANAGEMENT, (group,), quantifier=Quantifier.ANY, missing=Missing.FALSE
        )
        itself = Clause("equals", "resource", (f"{namespace}/{inner}",))
        return Names.of(f"{literal(namespace)}/*"), AnyOf((inside, itself))
    return Names((whole, f"{whole}/*") if deeper else (whole,)), ALWAYS


def _written(
    effect: Effect,
    people: Names,
    permissions: Iterable[_Permission],
    where: tuple[Names, Condition],
    author: str,
) -> list[Statement]:
    return [
        Statement(effect, AccessRule(people, names, *where), author)
        for permission in permissions
        for names in (permission.actions, permission.data_actions)
        if names.any_of
    ]


def _denial(item: Mapping[str, Any], author: str, namespace: str) -> list[Statement]:
    where = "deny assignment"
    _no_condition(item, where)
    people = _denied(item, "principals", namespace)
    if not people:
        raise InvalidInput("names no principals", where=where)
    names = Names(people, _denied(item, "excludePrincipals", namespace))
    deeper = not item.get("doNotApplyToChildScopes", False)
    place = _where(str(item.get("scope", "/")), namespace, deeper=deeper)
    return _written(Effect.FORBID, names, _permissions(item, where), place, author)


def _denied(item: Mapping[str, Any], word: str, namespace: str) -> tuple[str, ...]:
    found = []
    for row in rows(item, word, "deny assignment"):
        who = row.get("id") if isinstance(row, Mapping) else row
        if not isinstance(who, str) or not who:
            raise InvalidInput("a principal has an id", where=f"deny assignment, {word}")
        everybody = who == ALL_PRINCIPALS
        found.append("*" if everybody else f"{literal(namespace)}/{literal(who.lower())}")
    return tuple(found)


# --- exporting ----------------------------------------------------------------------------------


def export_roles(
    statements: Iterable[Statement], *, narrow: bool = False, namespace: str = NAMESPACE
) -> Exported:
    """Write a role definition and an assignment for each statement and place.

    Users cannot make deny assignments, and NotActions is none. So a forbid is refused, or with
    ``narrow`` the permits that it may touch are left out.

    Raises:
        ExportRefused: the result would allow more.
    """
    statements = list(statements)
    losses = Losses("Azure", narrow)
    documents: list[dict[str, Any]] = []
    for statement in losses.shed(permits_of(statements), forbids_of(statements)):
        try:
            documents += _role(statement, namespace)
        except Unsupported as error:
            losses.unsaid(statement, error.what)
    for statement in statements:
        if statement.effect in (Effect.ISOLATE, Effect.DELEGATE):
            losses.unsaid(statement, "Azure has role assignments only")
    return losses.finish(documents)


def _role(statement: Statement, namespace: str) -> list[dict[str, Any]]:
    rule = statement.rule
    if not isinstance(rule, AccessRule):
        raise Unsupported("it is about the network")
    if rule.condition != ALWAYS or rule.principals.none_of or rule.resources.none_of:
        raise Unsupported("conditions and exceptions are not written")
    people = [_inside(pattern, namespace) for pattern in rule.principals.any_of]
    scopes = _scopes(rule.resources.any_of, namespace)
    name = f"mcpcore-{statement.id[:12]}"
    definition = {
        "name": name,
        "permissions": [
            {
                "actions": _operations(rule.actions.any_of, _CONTROL),
                "notActions": _operations(rule.actions.none_of, _CONTROL),
                "dataActions": _operations(rule.actions.any_of, _DATA),
                "notDataActions": _operations(rule.actions.none_of, _DATA),
            }
        ],
        "assignableScopes": [f"/{scope}" for scope in scopes],
    }
    return [
        {"roleDefinition": definition},
        *(
            {"roleAssignment": {"roleDefinitionId": name, "principalId": who, "scope": f"/{scope}"}}
            for who in people
            for scope in scopes
        ),
    ]


def _operations(patterns: Iterable[str], kind: str) -> list[str]:
    found = []
    for pattern in patterns:
        if not pattern.startswith((_CONTROL, _DATA)):
            raise Unsupported(f"{pattern!r} is neither control: nor data:")
        if "?" in pattern or plain(pattern.replace("*", "")) is None:
            raise Unsupported(f"{pattern!r} needs a wildcard that Azure does not have")
        if pattern.startswith(kind):
            found.append(pattern.removeprefix(kind).replace("\\", ""))
    return found


def _inside(pattern: str, namespace: str) -> str:
    text = plain(pattern)
    if text is None or not text.startswith(f"{namespace}/"):
        raise Unsupported(f"{pattern!r} is no principal in the namespace {namespace}")
    return text.removeprefix(f"{namespace}/")


def _scopes(patterns: tuple[str, ...], namespace: str) -> list[str]:
    """A scope is said by itself and everything below it, together."""
    found = []
    for pattern in patterns:
        if pattern == f"{literal(namespace)}/*":
            found.append("")
        elif pattern.endswith("/*"):
            whole = pattern.removesuffix("/*")
            if whole not in patterns:
                raise Unsupported(f"{pattern!r}: a scope of Azure includes itself")
            found.append(_inside(whole, namespace))
        elif f"{pattern}/*" not in patterns:
            raise Unsupported(f"{pattern!r}: a scope of Azure includes what is below it")
    return found

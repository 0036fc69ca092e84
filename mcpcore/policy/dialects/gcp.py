"""Google Cloud IAM: allow policies (bindings) and deny policies.

This module exists so that a hierarchy of allow and deny policies answers here as it does there:
deny rules first, at every level; then bindings, inherited from above. A binding's condition that
cannot be told gives nothing; a deny rule's condition that cannot be told denies.

Names: a resource is ``NAMESPACE/PATH`` where the path is its whole line of ancestors
(``organizations/1/folders/2/projects/p/buckets/b``); a principal is ``NAMESPACE/MEMBER`` as
bindings write it (``user:ann@example.com``).

Source: the Google Cloud documentation, "Understanding allow policies", "Deny policies", "Overview
of IAM Conditions".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from mcpcore.errors import InvalidInput, Unsupported
from mcpcore.policy import conditions
from mcpcore.policy.conditions import ALWAYS, Cel, Condition
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

NAMESPACE: Final = "gcp"
_MEMBERS: Final = ("user:", "serviceAccount:", "group:", "domain:", "principal://",
                   "principalSet://")  # fmt: skip
_DENY_PREFIXES: Final = {
    "principal://goog/subject/": "user:",
    "principalSet://goog/group/": "group:",
    "principal://iam.googleapis.com/projects/-/serviceAccounts/": "serviceAccount:",
}


def request(
    member: str,
    permission: str,
    resource: str,
    context: Mapping[str, object] | None = None,
    *,
    groups: Iterable[str] = (),
    namespace: str = NAMESPACE,
) -> Request:
    """A question as Google Cloud asks it.

    Args:
        member: as a binding writes it, such as ``user:ann@example.com``; empty for anonymous.
        permission: such as ``storage.buckets.delete``.
        resource: the whole line of ancestors.
        context: facts for conditions: ``request.time``, ``resource.name``, ``resource.type``, ...
        groups: the groups that the member is in, nested ones too, as ``group:NAME``.
    """
    names = {f"{namespace}/allUsers", *(f"{namespace}/{group}" for group in groups)}
    if member:
        names.add(f"{namespace}/allAuthenticatedUsers")
    kind, _, address = member.partition(":")
    if kind in ("user", "serviceAccount") and "@" in address:
        names.add(f"{namespace}/domain:{address.rpartition('@')[2]}")
    where = f"{namespace}/{resource.strip('/')}"
    return Request(
        f"{namespace}/{member or 'anonymous'}", permission, where, context or {}, frozenset(names)
    )


# --- importing ----------------------------------------------------------------------------------


def import_allow(
    policy: object,
    resource: str,
    roles: Mapping[str, Iterable[str]],
    author: str,
    *,
    namespace: str = NAMESPACE,
) -> Imported:
    """Read the allow policy of one resource.

    Args:
        resource: what it is attached to, with its whole line of ancestors.
        roles: each role's permissions. A role that is not there gives nothing.

    Raises:
        InvalidInput: not an allow policy.
        Unsupported: a member or condition that is not carried over.
    """
    words = table(policy, "allow policy", "bindings", "etag", "version", "auditConfigs", "kind")
    statements: list[Statement] = []
    remarks: list[str] = []
    for i, item in enumerate(rows(words, "bindings", "allow policy"), 1):
        where = f"binding {i}"
        binding = table(item, where, "role", "members", "condition", "bindingId")
        role = binding.get("role")
        people = [_member(text, where) for text in texts(binding, "members", where)]
        if not isinstance(role, str):
            raise InvalidInput("names no role", where=where)
        if role not in roles:
            remarks.append(f"{where}: the permissions of {role} are not known; it gives nothing")
            continue
        known = [text for text in people if text]
        remarks += [f"{where}: a deleted member gets nothing"] * (len(people) - len(known))
        permissions = tuple(literal(each) for each in roles[role])
        if not known or not permissions:
            continue
        rule = AccessRule(
            Names(tuple(f"{literal(namespace)}/{literal(text)}" for text in known)),
            Names(permissions),
            Names(_below(resource, namespace)),
            _condition(binding.get("condition"), where),
        )
        statements.append(Statement(Effect.PERMIT, rule, author))
    return Imported(tuple(dict.fromkeys(statements)), remarks=tuple(remarks))


def import_deny(
    policy: object, resource: str, author: str, *, namespace: str = NAMESPACE
) -> Imported:
    """Read a deny policy attached to a resource.

    Raises:
        InvalidInput: not a deny policy.
        Unsupported: a principal or condition that is not carried over.
    """
    words = table(policy, "deny policy")
    statements = []
    for i, item in enumerate(rows(words, "rules", "deny policy"), 1):
        where = f"deny rule {i}"
        rule = table(table(item, where).get("denyRule"), where, "deniedPrincipals",
                     "exceptionPrincipals", "deniedPermissions", "exceptionPermissions",
                     "denialCondition")  # fmt: skip
        denied, spared = (
            tuple(_denied(text, namespace, where) for text in texts(rule, word, where))
            for word in ("deniedPrincipals", "exceptionPrincipals")
        )
        barred, free = (
            tuple(_permission(text, where) for text in texts(rule, word, where))
            for word in ("deniedPermissions", "exceptionPermissions")
        )
        if not denied or not barred:
            raise InvalidInput("a deny rule has principals and permissions", where=where)
        body = AccessRule(
            Names(denied, spared),
            Names(barred, free),
            Names(_below(resource, namespace)),
            _condition(rule.get("denialCondition"), where),
        )
        statements.append(Statement(Effect.FORBID, body, author))
    return Imported(tuple(dict.fromkeys(statements)))


def _below(resource: str, namespace: str) -> tuple[str, ...]:
    whole = f"{literal(namespace)}/{literal(resource.strip('/'))}".rstrip("/")
    return whole, f"{whole}/*"


def _member(text: str, where: str) -> str:
    if text in ("allUsers", "allAuthenticatedUsers") or text.startswith(_MEMBERS):
        return text
    if text.startswith("deleted:"):
        return ""
    raise Unsupported(
        f"the member {text!r} is not known", where=where,
        remedy=f"Known are {', '.join(_MEMBERS)} allUsers, allAuthenticatedUsers",
    )  # fmt: skip


def _denied(text: str, namespace: str, where: str) -> str:
    if text == "principalSet://goog/public:all":
        return "*"
    for prefix, kind in _DENY_PREFIXES.items():
        if text.startswith(prefix):
            return f"{literal(namespace)}/{literal(kind + text.removeprefix(prefix))}"
    if text.startswith(("principal://", "principalSet://")):
        return f"{literal(namespace)}/{literal(text)}"
    raise Unsupported(f"the principal {text!r} is not known in deny rules", where=where)


def _permission(text: str, where: str) -> str:
    """``storage.googleapis.com/buckets.delete`` is the permission ``storage.buckets.delete``."""
    service, slash, rest = text.partition("/")
    if not slash or not service.endswith(".googleapis.com"):
        raise InvalidInput(
            f"{text!r} is no permission of a deny rule", where=where,
            remedy="They are SERVICE.googleapis.com/RESOURCE.ACTION",
        )  # fmt: skip
    name = f"{service.removesuffix('.googleapis.com')}.{rest}"
    return literal(name).replace("\\*", "*")


def _condition(item: object, where: str) -> Condition:
    if item is None:
        return ALWAYS
    words = table(item, f"{where}, condition", "expression", "title", "description", "location")
    expression = words.get("expression")
    if not isinstance(expression, str):
        raise InvalidInput("has no expression", where=f"{where}, condition")
    try:
        return conditions.from_wire(["cel", expression])
    except InvalidInput as error:
        raise Unsupported(error.what, where=f"{where}, condition", remedy=error.remedy) from error


# --- exporting ----------------------------------------------------------------------------------


def export_allow(
    statements: Iterable[Statement],
    resource: str,
    *,
    narrow: bool = False,
    namespace: str = NAMESPACE,
) -> Exported:
    """Write custom roles and one allow policy for a resource.

    Only statements about everything at and below this resource go in. A forbid is refused, or with
    ``narrow`` the permits that it may touch are left out: deny policies are another kind of object,
    with permissions of their own that not every service has.

    Raises:
        ExportRefused: the result would allow more.
    """
    statements = list(statements)
    losses = Losses("Google Cloud", narrow)
    documents: list[dict[str, Any]] = []
    bindings = []
    for statement in losses.shed(permits_of(statements), forbids_of(statements)):
        try:
            role, binding = _binding(statement, resource, namespace)
        except Unsupported as error:
            losses.unsaid(statement, error.what)
            continue
        documents.append(role)
        bindings.append(binding)
    for statement in statements:
        if statement.effect in (Effect.ISOLATE, Effect.DELEGATE):
            losses.unsaid(statement, "Google Cloud has bindings only")
    return losses.finish([*documents, {"version": 3, "bindings": bindings}])


def _binding(
    statement: Statement, resource: str, namespace: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    rule = statement.rule
    if not isinstance(rule, AccessRule):
        raise Unsupported("it is about the network")
    if rule.principals.none_of or rule.actions.none_of or rule.resources.none_of:
        raise Unsupported("bindings have no exceptions")
    if set(rule.resources.any_of) != set(_below(resource, namespace)):
        raise Unsupported(f"it is not about everything at and below {resource}")
    members = [_inside(pattern, namespace) for pattern in rule.principals.any_of]
    permissions = [plain(pattern) for pattern in rule.actions.any_of]
    if None in permissions:
        raise Unsupported("roles list permissions without wildcards")
    name = f"mcpcore_{statement.id[:12]}"
    binding: dict[str, Any] = {"role": name, "members": members}
    if isinstance(rule.condition, Cel):
        binding["condition"] = {"title": name, "expression": rule.condition.expression}
    elif rule.condition != ALWAYS:
        raise Unsupported("conditions that did not come as CEL are not written as CEL")
    return {"name": name, "includedPermissions": permissions}, binding


def _inside(pattern: str, namespace: str) -> str:
    text = plain(pattern)
    if text is None or not text.startswith(f"{namespace}/"):
        raise Unsupported(f"{pattern!r} is no member in the namespace {namespace}")
    name = text.removeprefix(f"{namespace}/")
    return _member(name, "member")

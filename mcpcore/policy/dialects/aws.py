"""AWS IAM: policy documents, and how the layers of one account and of two decide.

This module exists so that a policy document answers here as it does there: an explicit deny beats
every allow, and without an allow it is a deny. ``Not...`` elements, wildcards and policy variables
keep their meaning; so do keys that a request does not have, which AWS settles by the operator.

Names: a resource is ``NAMESPACE/ARN``, a principal ``NAMESPACE/ARN``, ``NAMESPACE/account/NUMBER``
(everybody of it), ``NAMESPACE/service/NAME``, ``.../federated/NAME`` or ``.../canonical/NAME``.
Actions and condition keys are in small letters, since AWS does not tell cases apart.

Source: the AWS IAM user guide, "Policy evaluation logic" and "IAM JSON policy elements reference".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mcpcore.errors import InvalidInput, Unsupported
from mcpcore.policy.conditions import All, Clause, Condition, Missing, Quantifier
from mcpcore.policy.dialects.common import Imported, rows, table, texts
from mcpcore.policy.engine import Engine
from mcpcore.policy.model import AccessRule, Decision, Effect, Reason, Request, Statement
from mcpcore.policy.patterns import Names, escape_backslashes, literal

NAMESPACE: Final = "aws"
VARIABLES_SINCE: Final = "2012-10-17"
_VERSIONS: Final = (VARIABLES_SINCE, "2008-10-17")
_ELEMENTS: Final = (
    "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource",
    "Condition",
)  # fmt: skip
OPERATORS: Final[dict[str, tuple[str, bool]]] = {
    "stringequals": ("equals", False),
    "stringnotequals": ("equals", True),
    "stringequalsignorecase": ("equals-ignoring-case", False),
    "stringnotequalsignorecase": ("equals-ignoring-case", True),
    "stringlike": ("like", False),
    "stringnotlike": ("like", True),
    "numericequals": ("number-equals", False),
    "numericnotequals": ("number-equals", True),
    "numericlessthan": ("less", False),
    "numericlessthanequals": ("at-most", False),
    "numericgreaterthan": ("more", False),
    "numericgreaterthanequals": ("at-least", False),
    "dateequals": ("time-equals", False),
    "datenotequals": ("time-equals", True),
    "datelessthan": ("before", False),
    "datelessthanequals": ("until", False),
    "dategreaterthan": ("after", False),
    "dategreaterthanequals": ("since", False),
    "bool": ("is", False),
    "binaryequals": ("bytes-equal", False),
    "ipaddress": ("in-network", False),
    "notipaddress": ("in-network", True),
    "arnequals": ("arn-like", False),
    "arnlike": ("arn-like", False),
    "arnnotequals": ("arn-like", True),
    "arnnotlike": ("arn-like", True),
}
"""AWS's operator, in small letters, to ours and whether it is negated."""


# --- requests -----------------------------------------------------------------------------------


def request(
    principal: str,
    action: str,
    resource: str,
    context: Mapping[str, object] | None = None,
    *,
    namespace: str = NAMESPACE,
) -> Request:
    """A question as AWS asks it.

    Args:
        principal: an ARN; or ``service/NAME``, ``federated/NAME``, ``canonical/NAME``. A session of
            an assumed role answers to its role, and everybody to their account.
        context: condition keys, in any case; a tuple is a key with many values.
    """
    groups = {f"{namespace}/account/{account}" for account in [account_of(principal)] if account}
    role = _role_of(principal)
    if role:
        groups.add(f"{namespace}/{role}")
    facts = {key.lower(): value for key, value in (context or {}).items()}
    return Request(
        f"{namespace}/{principal}", action.lower(), f"{namespace}/{resource}", facts,
        frozenset(groups),
    )  # fmt: skip


def account_of(arn: str) -> str:
    """The account in an ARN; empty if it has none."""
    parts = arn.split(":", 5)
    return parts[4] if len(parts) == 6 and parts[0] == "arn" else ""


def _role_of(principal: str) -> str:
    """The role of ``arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION``."""
    parts = principal.split(":", 5)
    if len(parts) == 6 and parts[2] == "sts" and parts[5].startswith("assumed-role/"):
        return f"arn:{parts[1]}:iam::{parts[4]}:role/{parts[5].split('/')[1]}"
    return ""


# --- importing ----------------------------------------------------------------------------------


def import_policy(
    document: object, author: str, *, principal: str = "", namespace: str = NAMESPACE
) -> Imported:
    """Read a policy document.

    Args:
        document: the document as plain data.
        author: the tenant in whose name the statements are.
        principal: whom an identity-based policy is attached to; its statements name nobody. Empty
            for a resource-based policy, whose statements name principals.

    Raises:
        InvalidInput: not a policy document, or one that AWS would refuse.
        Unsupported: an element, operator or version that is not carried over.
    """
    policy = table(document, "policy", "Version", "Id", "Statement")
    version = policy.get("Version", "2008-10-17")
    if version not in _VERSIONS:
        raise Unsupported(f"{version!r} is no version", where="policy", remedy=f"Use {_VERSIONS}")
    listed = policy.get("Statement")
    items = [listed] if isinstance(listed, Mapping) else rows(policy, "Statement", "policy")
    statements = [
        _statement(item, author, principal, namespace, version == VARIABLES_SINCE, i)
        for i, item in enumerate(items, 1)
    ]
    return Imported(tuple(dict.fromkeys(statements)))


def _statement(
    item: object, author: str, principal: str, namespace: str, variables: bool, number: int
) -> Statement:
    words = table(item, f"statement {number}", *_ELEMENTS)
    where = f"statement {words.get('Sid') or number}"
    effect = words.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise InvalidInput(f"{effect!r} is no effect", where=where, remedy="Allow or Deny")
    actions = _either(words, "Action", where)
    resources = _either(words, "Resource", where, optional=not principal)
    if principal:
        if "Principal" in words or "NotPrincipal" in words:
            raise InvalidInput(
                "an identity-based policy names no principal", where=where,
                remedy="Leave out the principal it is attached to, if this is resource-based",
            )  # fmt: skip
        people = Names.of(f"{literal(namespace)}/{literal(principal)}")
    else:
        people = _people(words, namespace, where)
    rule = AccessRule(
        people,
        _names(actions, lambda text: escape_backslashes(text.lower(), variables=False), "*"),
        _names(
            resources,
            lambda text: f"{literal(namespace)}/{escape_backslashes(text, variables=variables)}",
            f"{literal(namespace)}/*",
        ),
        _condition(words.get("Condition"), where, variables),
    )
    return Statement(Effect.PERMIT if effect == "Allow" else Effect.FORBID, rule, author)


def _either(
    words: Mapping[str, Any], element: str, where: str, *, optional: bool = False
) -> tuple[bool, list[str]]:
    """An element or its ``Not`` twin: whether negated, and its values."""
    found = [word for word in (element, f"Not{element}") if word in words]
    if not found and optional:
        return False, ["*"]
    if len(found) != 1:
        raise InvalidInput(f"exactly one of {element} and Not{element}", where=where)
    values = texts(words, found[0], where, single=True)
    if not values:
        raise InvalidInput(f"{found[0]} is empty", where=where)
    return found[0].startswith("Not"), values


def _names(element: tuple[bool, list[str]], pattern: Any, everything: str) -> Names:
    negated, values = element
    patterns = tuple(pattern(value) for value in values)
    return Names((everything,), patterns) if negated else Names(patterns)


def _people(words: Mapping[str, Any], namespace: str, where: str) -> Names:
    found = [word for word in ("Principal", "NotPrincipal") if word in words]
    if len(found) != 1:
        raise InvalidInput(
            "a resource-based policy has exactly one of Principal and NotPrincipal", where=where,
            remedy="Name the principal that it is attached to, if this is identity-based",
        )  # fmt: skip
    value = words[found[0]]
    people: list[str] = []
    if value == "*":
        people.append("*")
    else:
        kinds = table(value, f"{where}, principal", "AWS", "Service", "Federated", "CanonicalUser")
        for kind in kinds:
            for name in texts(kinds, kind, where, single=True):
                people.append(_person(kind, name, namespace, where))
    if not people:
        raise InvalidInput("nobody is named", where=f"{where}, principal")
    return Names(("*",), tuple(people)) if found[0] == "NotPrincipal" else Names(tuple(people))


def _person(kind: str, name: str, namespace: str, where: str) -> str:
    if kind != "AWS":
        folder = {"Service": "service", "Federated": "federated", "CanonicalUser": "canonical"}
        return f"{literal(namespace)}/{folder[kind]}/{literal(name)}"
    if name == "*":
        return "*"
    if "*" in name or "?" in name:
        raise InvalidInput(
            f"{name!r}: principals have no wildcards", where=where,
            remedy='Use "*" alone, with a condition on aws:PrincipalArn',
        )  # fmt: skip
    account = name if name.isdigit() else account_of(name) if name.endswith(":root") else ""
    return f"{literal(namespace)}/{f'account/{account}' if account else literal(name)}"


def _condition(block: object, where: str, variables: bool) -> Condition:
    if block is None:
        return All()
    clauses: list[Condition] = []
    for operator, keys in table(block, f"{where}, Condition").items():
        for key, value in table(keys, f"{where}, {operator}").items():
            values = value if isinstance(value, list | tuple) else [value]
            if not all(isinstance(v, str | int | float | bool) for v in values):
                raise InvalidInput("text is expected", where=f"{where}, {operator} {key}")
            if not values:
                raise InvalidInput("a key has values", where=f"{where}, {operator} {key}")
            clauses.append(_clause(operator, key, values, where, variables))
    return clauses[0] if len(clauses) == 1 else All(tuple(clauses))


def _clause(operator: str, key: str, values: Sequence[Any], where: str, variables: bool) -> Clause:
    quantifier, base = Quantifier.ONE, operator.lower()
    for prefix, meant in (("forallvalues:", Quantifier.ALL), ("foranyvalue:", Quantifier.ANY)):
        if base.startswith(prefix):
            quantifier, base = meant, base.removeprefix(prefix)
    plain = [str(v).lower() if isinstance(v, bool) else str(v) for v in values]
    if base == "null":
        if plain[0].lower() not in ("true", "false") or len(plain) != 1:
            raise InvalidInput("Null is true or false", where=f"{where}, {operator}")
        return Clause("present", key.lower(), ("true",), plain[0].lower() == "true")
    if_exists = base.endswith("ifexists")
    base = base.removesuffix("ifexists")
    if base not in OPERATORS:
        raise Unsupported(
            f"there is no condition operator {operator!r}", where=where,
            remedy=f"Known are {', '.join(sorted(OPERATORS))}, Null",
        )  # fmt: skip
    ours, negated = OPERATORS[base]
    if not variables and any("${" in value for value in plain):
        raise Unsupported("variables need Version 2012-10-17", where=f"{where}, {operator}")
    if ours in ("like", "arn-like"):
        plain = [escape_backslashes(value, variables=variables) for value in plain]
    missing = Missing.TRUE if if_exists or negated else Missing.FALSE
    if quantifier is Quantifier.ANY and not if_exists:
        missing = Missing.FALSE
    return Clause(ours, key.lower(), tuple(plain), negated, quantifier, missing)


# --- layers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the layers say together.

    Args:
        layer: which one settled it: ``explicit deny``, ``organization``, ``resource``,
            ``identity``, ``boundary`` or ``session``.
    """

    decision: Decision
    layer: str

    def __bool__(self) -> bool:
        return self.decision.allowed


def evaluate(
    question: Request,
    *,
    identity: Iterable[Statement] = (),
    resource: Iterable[Statement] = (),
    boundary: Iterable[Statement] | None = None,
    session: Iterable[Statement] | None = None,
    organization: Sequence[Iterable[Statement]] = (),
    resource_account: str = "",
) -> Evaluation:
    """Judge a request by every layer that AWS knows.

    Args:
        identity: of the principal and its groups.
        resource: of the resource.
        boundary: the permissions boundary, if there is one.
        session: the session policies, if there are any.
        organization: service control policies, level by level from the root; each must allow.
        resource_account: whose the resource is; by default what its ARN says, else the principal's.
    """
    layers: dict[str, list[Statement]] = {"identity": list(identity), "resource": list(resource)}
    if boundary is not None:
        layers["boundary"] = list(boundary)
    if session is not None:
        layers["session"] = list(session)
    levels = [list(level) for level in organization]
    everything = [s for layer in (*layers.values(), *levels) for s in layer]
    denied = Engine([s for s in everything if s.effect is Effect.FORBID]).decide(question)
    if denied.reason in (Reason.FORBIDDEN, Reason.UNKNOWN):
        return Evaluation(denied, "explicit deny")
    engines = {name: Engine(layer) for name, layer in layers.items()}
    for level in levels:
        allowed = Engine(level).decide(question)
        if not allowed:
            return Evaluation(allowed, "organization")
    ours = account_of(question.principal.partition("/")[2])
    theirs = resource_account or account_of(question.resource.partition("/")[2]) or ours
    by_resource = engines["resource"].decide(question)
    direct = by_resource and _names_the_principal(engines["resource"], question)
    if ours == theirs and direct:
        return Evaluation(by_resource, "resource")
    if not ours and by_resource:
        return Evaluation(by_resource, "resource")  # a service or anonymous: no identity to ask
    if ours != theirs and not by_resource:
        return Evaluation(by_resource, "resource")
    for name in ("identity", "boundary", "session"):
        if name in engines:
            told = engines[name].decide(question)
            limits = name != "identity" or not (
                ours == theirs and by_resource and not _by_account(engines["resource"], question)
            )
            if not told and limits:
                return Evaluation(told, name)
    return Evaluation(Decision(True, Reason.PERMITTED), "identity")


def _names_the_principal(engine: Engine, question: Request) -> bool:
    """Whether a permit of the resource names this very principal, or everybody.

    A permit for the account only lets the account decide; one for a role does not lift the
    boundary or the session policies of its sessions.
    """
    alone = Request(question.principal, question.action, question.resource, question.context)
    return engine.decide(alone).allowed


def _by_account(engine: Engine, question: Request) -> bool:
    """Whether the resource permits by the account alone, and not by role."""
    roles = frozenset(group for group in question.groups if "/account/" not in group)
    narrowed = Request(
        question.principal, question.action, question.resource, question.context, roles
    )
    return not engine.decide(narrowed).allowed

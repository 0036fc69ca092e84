"""What a policy is made of: statements, requests, decisions.

This module exists so that a statement is one immutable value with one name, the hash of its
content: two clouds that say the same say one thing. It knows nothing of replicas, of time, or of
who may say what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from hashlib import blake2b
from typing import Final, TypeAlias

import msgpack

from mcpcore.errors import InvalidInput
from mcpcore.policy import conditions
from mcpcore.policy.conditions import ALWAYS, Condition
from mcpcore.policy.network import NetworkRule
from mcpcore.policy.patterns import Names, check_pattern

ID_BYTES: Final = 16


class Effect(StrEnum):
    """What a statement does where it matches."""

    PERMIT = "permit"
    """Allows, unless something forbids. On the network: allows what an isolation would refuse."""
    FORBID = "forbid"
    """Denies, whatever permits."""
    ISOLATE = "isolate"
    """Network only: denies what no permit allows. (Where nothing isolates, traffic is free.)"""
    DELEGATE = "delegate"
    """Lets other tenants permit, within these actions and resources, on the author's behalf."""

    @property
    def tightens(self) -> bool:
        """Whether adding it can only take away."""
        return self in (Effect.FORBID, Effect.ISOLATE)


class Plane(StrEnum):
    """Which kind of request a statement is about."""

    ACCESS = "rbac"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class AccessRule:
    """Who may (not) do what to what, and when."""

    principals: Names
    actions: Names
    resources: Names
    condition: Condition = ALWAYS

    def to_wire(self) -> list[object]:
        """Plain lists; equal rules give equal ones."""
        return [
            self.principals.to_wire(),
            self.actions.to_wire(),
            self.resources.to_wire(),
            conditions.to_wire(self.condition),
        ]

    @classmethod
    def from_wire(cls, wire: object) -> AccessRule:
        """Read :meth:`to_wire` back.

        Raises:
            InvalidInput: not that shape.
        """
        match wire:
            case [principals, actions, resources, condition]:
                return cls(
                    _names(principals, "principal"),
                    _names(actions, "action"),
                    _names(resources, "resource"),
                    conditions.from_wire(condition),
                )
        raise InvalidInput("not a rule about access", where="statement")

    def overlaps(self, other: AccessRule) -> bool:
        """Whether one request may match both; principals and conditions are not looked at, since
        roles and facts decide there.
        """
        return self.actions.overlaps(other.actions) and self.resources.overlaps(other.resources)

    def __str__(self) -> str:
        text = f"{self.principals}: {self.actions} on {self.resources}"
        return text if self.condition == ALWAYS else f"{text} when {self.condition}"


def _names(wire: object, where: str) -> Names:
    match wire:
        case [[*some], [*none]]:
            return Names(
                tuple(check_pattern(p, where) for p in some),
                tuple(check_pattern(p, where) for p in none),
            )
    raise InvalidInput("two lists of patterns are expected", where=where)


Rule: TypeAlias = AccessRule | NetworkRule


@dataclass(frozen=True)
class Statement:
    """One sentence of a policy. Equal content is the same statement, whoever stores it.

    Args:
        effect: permit, forbid, isolate or delegate.
        rule: what it is about.
        author: the tenant that says so.
    """

    effect: Effect
    rule: Rule
    author: str

    @property
    def plane(self) -> Plane:
        """Which kind of request it is about."""
        return Plane.ACCESS if isinstance(self.rule, AccessRule) else Plane.NETWORK

    @cached_property
    def id(self) -> str:
        """The hash of its content, 32 hexadecimal digits."""
        packed = msgpack.packb(self.to_wire(), use_bin_type=True)
        return blake2b(packed, digest_size=ID_BYTES).hexdigest()

    def to_wire(self) -> list[object]:
        """Plain lists; equal statements give equal ones."""
        return [str(self.plane), str(self.effect), self.author, self.rule.to_wire()]

    @classmethod
    def from_wire(cls, wire: object) -> Statement:
        """Read :meth:`to_wire` back.

        Raises:
            InvalidInput: not that shape, or an effect that its plane does not have.
        """
        match wire:
            case [str(plane), str(effect), str(author), rule]:
                return make_statement(plane, effect, author, rule)
        raise InvalidInput("not a statement", where="statement")

    def overlaps(self, other: Statement) -> bool:
        """Whether one request may concern both. May say yes too often, never no."""
        if isinstance(self.rule, AccessRule) and isinstance(other.rule, AccessRule):
            return self.rule.overlaps(other.rule)
        if isinstance(self.rule, NetworkRule) and isinstance(other.rule, NetworkRule):
            return self.rule.overlaps(other.rule)
        return False

    def __str__(self) -> str:
        return f"{self.effect} {self.rule}"


def make_statement(plane: str, effect: str, author: str, rule: object) -> Statement:
    """A statement of parts that came from outside.

    Raises:
        InvalidInput: a part that cannot be used.
    """
    if not author or "/" in author:
        raise InvalidInput(f"{author!r} is no tenant", where="author", remedy="No slash, not empty")
    try:
        what, kind = Effect(effect), Plane(plane)
    except ValueError as error:
        raise InvalidInput(str(error), where="statement") from error
    if kind is Plane.NETWORK:
        if what is Effect.DELEGATE:
            raise InvalidInput("network rules cannot be delegated", where="effect")
        return Statement(what, NetworkRule.from_wire(rule), author)
    if what is Effect.ISOLATE:
        raise InvalidInput("only network rules isolate", where="effect", remedy="Use forbid")
    return Statement(what, AccessRule.from_wire(rule), author)


@dataclass(frozen=True)
class Request:
    """May this principal do this to that?

    Args:
        principal: who, as ``namespace/name``.
        action: what.
        resource: on what, as ``namespace/name``.
        context: further facts, by key; values are text, numbers, truth values, or tuples of them.
        groups: names that the principal's identity provider vouches for.
    """

    principal: str
    action: str
    resource: str
    context: Mapping[str, object] = field(default_factory=dict)
    groups: frozenset[str] = frozenset()

    @cached_property
    def facts(self) -> Mapping[str, object]:
        """What conditions can ask for: the context, and the three names."""
        return {
            **self.context,
            "principal": self.principal,
            "action": self.action,
            "resource": self.resource,
        }

    def __str__(self) -> str:
        return f"{self.principal} {self.action} {self.resource}"


class Reason(StrEnum):
    """Why a decision is what it is."""

    PERMITTED = "a permit matches and nothing forbids it"
    OPEN = "nothing isolates this endpoint"
    FORBIDDEN = "a forbid matches"
    UNKNOWN = "a forbid matches as far as can be told, and one that cannot be told denies"
    NO_PERMIT = "no permit matches"
    NO_GRANT = "the resource's tenant does not grant it"
    NO_ACCEPTANCE = "the resource's tenant grants it, and the principal's tenant does not accept"
    ISOLATED = "the endpoint is isolated and no permit matches"


@dataclass(frozen=True, slots=True)
class Decision:
    """Allowed or not, why, and which statements make it so.

    Args:
        determining: ids of statements; a policy of these alone decides the same.
    """

    allowed: bool
    reason: Reason
    determining: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.allowed

"""How one value of a request is compared with one value of a policy.

This module exists so that each comparison is one small function with one meaning. A function says
yes or no, or raises :class:`Mismatch` where the two cannot be compared at all; what that means for
a decision is the condition's affair. It must never guess a type: text that reads as a number is a
number only for operators on numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from mcpcore.policy.patterns import matcher

Scalar: TypeAlias = "str | int | float | bool"


class Mismatch(Exception):
    """Two values that this operator cannot compare."""


def text(value: object) -> str:
    """A value as text: truth values in small letters, numbers as they are written."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise Mismatch


def number(value: object) -> float | int:
    """A value as a number."""
    if isinstance(value, bool):
        raise Mismatch
    if isinstance(value, int | float):
        return value
    if not isinstance(value, str):
        raise Mismatch
    try:
        return int(value) if value.strip("+-").isdigit() else float(value)
    except ValueError:
        raise Mismatch from None


def moment(value: object) -> float:
    """A value as seconds since the epoch: ISO 8601, or the number itself."""
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise Mismatch
        return value.timestamp()
    if not isinstance(value, str):
        return number(value)
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return number(value)
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def truth(value: object) -> bool:
    """A value as a truth value."""
    told = text(value).lower()
    if told not in ("true", "false"):
        raise Mismatch
    return told == "true"


@lru_cache(maxsize=4096)
def network(value: str) -> IPv4Network | IPv6Network:
    """A range of addresses, or one address; bits beyond the prefix are ignored."""
    try:
        return ip_network(value, strict=False)
    except ValueError:
        raise Mismatch from None


@lru_cache(maxsize=4096)
def address(value: str) -> IPv4Address | IPv6Address:
    """An address."""
    try:
        return ip_address(value)
    except ValueError:
        raise Mismatch from None


def in_network(value: object, wanted: object) -> bool:
    """Whether an address lies in a range."""
    return address(text(value)) in network(text(wanted))


def arn_like(value: object, wanted: object) -> bool:
    """Compare the six parts of two ARNs one by one; a star does not reach over a colon, unless the
    pattern ends with it early.
    """
    parts, patterns = text(value).split(":", 5), text(wanted).split(":", 5)
    if len(parts) != 6:
        return False
    if len(patterns) < 6:
        if not patterns[-1].endswith("*"):
            return False
        patterns += ["*"] * (6 - len(patterns))
    return all(matcher(pattern)(part) for part, pattern in zip(parts, patterns, strict=True))


OPERATORS: Final[dict[str, Callable[[object, object], bool]]] = {
    "equals": lambda a, b: text(a) == text(b),
    "equals-ignoring-case": lambda a, b: text(a).casefold() == text(b).casefold(),
    "like": lambda a, b: matcher(text(b))(text(a)),
    "number-equals": lambda a, b: number(a) == number(b),
    "less": lambda a, b: number(a) < number(b),
    "at-most": lambda a, b: number(a) <= number(b),
    "more": lambda a, b: number(a) > number(b),
    "at-least": lambda a, b: number(a) >= number(b),
    "time-equals": lambda a, b: moment(a) == moment(b),
    "before": lambda a, b: moment(a) < moment(b),
    "until": lambda a, b: moment(a) <= moment(b),
    "after": lambda a, b: moment(a) > moment(b),
    "since": lambda a, b: moment(a) >= moment(b),
    "is": lambda a, b: truth(a) is truth(b),
    "bytes-equal": lambda a, b: text(a) == text(b),
    "in-network": in_network,
    "arn-like": arn_like,
    "present": lambda a, b: True,
}
"""By name. ``present`` only asks whether the key is there."""

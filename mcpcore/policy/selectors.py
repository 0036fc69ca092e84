"""Label selectors: which pods, which namespaces.

This module exists so that "empty means everything" and "absent means not asked" are said once. It
knows labels and nothing else.

Source: the Kubernetes API reference, LabelSelector; "NotIn" and "DoesNotExist" hold where the key
is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mcpcore.errors import InvalidInput

IN: Final = "In"
NOT_IN: Final = "NotIn"
EXISTS: Final = "Exists"
DOES_NOT_EXIST: Final = "DoesNotExist"
_WITH_VALUES: Final = {IN: True, NOT_IN: True, EXISTS: False, DOES_NOT_EXIST: False}


@dataclass(frozen=True, slots=True)
class Requirement:
    """One demand on labels."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet it."""
        if self.operator == EXISTS:
            return self.key in labels
        if self.operator == DOES_NOT_EXIST:
            return self.key not in labels
        inside = labels.get(self.key) in self.values if self.key in labels else False
        return inside if self.operator == IN else not inside

    def excludes(self, other: Requirement) -> bool:
        """Whether no labels can meet both."""
        if self.key != other.key:
            return False
        operators = {self.operator, other.operator}
        if DOES_NOT_EXIST in operators:
            return bool(operators & {IN, EXISTS})
        if operators == {IN}:
            return not set(self.values) & set(other.values)
        if operators == {IN, NOT_IN}:
            wanted, barred = (self, other) if self.operator == IN else (other, self)
            return set(wanted.values) <= set(barred.values)
        return False

    def __str__(self) -> str:
        if self.operator == IN:
            return f"{self.key}={'|'.join(self.values)}"
        if self.operator == NOT_IN:
            return f"{self.key}!={'|'.join(self.values)}"
        return self.key if self.operator == EXISTS else f"!{self.key}"


@dataclass(frozen=True, slots=True)
class Selector:
    """All of some demands; without any, everything."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def of(cls, labels: Mapping[str, str]) -> Selector:
        """What has these labels."""
        return cls(tuple(Requirement(k, IN, (v,)) for k, v in sorted(labels.items())))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet every demand."""
        return all(requirement.matches(labels) for requirement in self.requirements)

    def overlaps(self, other: Selector) -> bool:
        """Whether some labels may meet both."""
        return not any(a.excludes(b) for a in self.requirements for b in other.requirements)

    def to_wire(self) -> list[object]:
        """Plain lists."""
        return [[r.key, r.operator, list(r.values)] for r in self.requirements]

    @classmethod
    def from_wire(cls, wire: object) -> Selector:
        """Read :meth:`to_wire` back.

        Raises:
            InvalidInput: not that shape, or an operator that does not exist.
        """
        if not isinstance(wire, list | tuple):
            raise InvalidInput("not a label selector", where="selector")
        return cls(tuple(_requirement(item) for item in wire))

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements) or "all"


def _requirement(wire: object) -> Requirement:
    match wire:
        case [str(key), str(operator), [*values]] if key:
            if operator not in _WITH_VALUES or not all(isinstance(v, str) for v in values):
                raise InvalidInput(
                    f"{operator!r} with {values!r} is no demand on the label {key}",
                    where="selector",
                    remedy="Operators are In, NotIn, Exists, DoesNotExist; label values are text",
                )
            if bool(values) is not _WITH_VALUES[operator]:
                need = "needs values" if _WITH_VALUES[operator] else "takes no values"
                raise InvalidInput(f"{operator} {need}", where=f"selector, label {key}")
            return Requirement(key, operator, tuple(str(value) for value in values))
    raise InvalidInput(f"{wire!r} is no demand on a label", where="selector")

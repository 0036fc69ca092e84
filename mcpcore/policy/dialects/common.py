"""What all dialects share: how faithful an export is, and reading foreign data with its place.

This module exists so that "wider is refused" is one rule in one place. An export is *exact*,
*narrower* (it allows less) or refused. It must never know a dialect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mcpcore.errors import ExportRefused, InvalidInput, Unsupported
from mcpcore.policy.model import Effect, Statement
from mcpcore.policy.patterns import literal, parse
from mcpcore.policy.roles import Edge


class Fidelity(StrEnum):
    """What an export allows, compared with the policy."""

    EXACT = "exact"
    """The same."""
    NARROWER = "narrower"
    """Less: something could not be said, and was left out on the safe side."""
    WIDER = "wider"
    """More; such an export is refused."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A foreign policy as statements.

    Args:
        statements: what it says.
        roles: role edges that it says.
        remarks: what a reader should know, a sentence each.
    """

    statements: tuple[Statement, ...]
    roles: tuple[Edge, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exported:
    """A policy in a foreign dialect.

    Args:
        documents: plain data, ready for JSON or YAML.
        fidelity: exact or narrower.
        losses: what was left out, a sentence each.
    """

    documents: tuple[Mapping[str, Any], ...]
    fidelity: Fidelity
    losses: tuple[str, ...] = ()


@dataclass
class Losses:
    """What an export cannot say, and whether that would allow more.

    Args:
        dialect: the name for messages.
        narrow: whether permits may be left out for a forbid that cannot be said.
    """

    dialect: str
    narrow: bool = False
    narrower: list[str] = field(default_factory=list)
    wider: list[str] = field(default_factory=list)

    def unsaid(self, statement: Statement, why: str) -> None:
        """A statement cannot be said: harmless for what gives, dangerous for what takes."""
        text = f"{statement}: {why}"
        (self.wider if statement.effect.tightens else self.narrower).append(text)

    def shed(self, permits: Sequence[Statement], forbids: Iterable[Statement]) -> list[Statement]:
        """The permits that stay when these forbids cannot be said.

        With ``narrow`` every permit that overlaps one of them is left out, which is safe; without,
        the export will be refused.
        """
        forbids = list(forbids)
        if not forbids:
            return list(permits)
        if not self.narrow:
            touched = [f for f in forbids if any(p.overlaps(f) for p in permits)]
            self.wider += [f"{f}: no forbids there" for f in touched]
            return list(permits)
        kept = [p for p in permits if not any(p.overlaps(f) for f in forbids)]
        lost = [p for p in permits if p not in kept]
        self.narrower += [f"{p}: left out, since a forbid may touch it" for p in lost]
        return kept

    def finish(self, documents: Iterable[Mapping[str, Any]]) -> Exported:
        """The export.

        Raises:
            ExportRefused: it would be wider.
        """
        if self.wider:
            raise ExportRefused(self.dialect, tuple(self.wider))
        fidelity = Fidelity.NARROWER if self.narrower else Fidelity.EXACT
        return Exported(tuple(documents), fidelity, tuple(self.narrower))


def table(data: object, where: str, *words: str) -> Mapping[str, Any]:
    """A mapping of foreign data; words that are not listed are refused, if any are listed.

    Raises:
        InvalidInput: not a mapping.
        Unsupported: a word that is not listed.
    """
    if not isinstance(data, Mapping):
        raise InvalidInput(f"an object is expected, not {data!r:.60}", where=where)
    unknown = sorted(str(word) for word in data if words and word not in words)
    if unknown:
        raise Unsupported(
            f"{unknown[0]!r} is not supported", where=where,
            remedy=f"Supported are {', '.join(sorted(words))}",
        )  # fmt: skip
    return data


def rows(data: Mapping[str, Any], word: str, where: str) -> list[Any]:
    """A list of foreign data; absent and null are empty.

    Raises:
        InvalidInput: not a list.
    """
    value = data.get(word)
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise InvalidInput("a list is expected", where=f"{where}, {word}")
    return list(value)


def texts(data: Mapping[str, Any], word: str, where: str, *, single: bool = False) -> list[str]:
    """A list of text; with ``single`` also one text by itself.

    Raises:
        InvalidInput: something else.
    """
    value = data.get(word)
    if single and isinstance(value, str):
        return [value]
    found = rows(data, word, where)
    if not all(isinstance(item, str) for item in found):
        raise InvalidInput("text is expected", where=f"{where}, {word}")
    return found


def plain(pattern: str) -> str | None:
    """The text that a pattern without wildcards stands for; None if it has any."""
    parsed = parse(pattern)
    return parsed.head if parsed.exact else None


def escaped(*parts: str) -> str:
    """Parts joined by slashes, as a pattern of exactly that."""
    return "/".join(literal(part) for part in parts)


def permits_of(statements: Iterable[Statement]) -> list[Statement]:
    """Those that permit."""
    return [s for s in statements if s.effect is Effect.PERMIT]


def forbids_of(statements: Iterable[Statement]) -> list[Statement]:
    """Those that forbid."""
    return [s for s in statements if s.effect is Effect.FORBID]

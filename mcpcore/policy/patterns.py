"""Patterns over names: what matches, what two patterns have in common, where a literal part ends.

This module exists so that every plane and every dialect means the same by ``*`` and ``?``. A
pattern is text; ``*`` stands for any characters, also none and also slashes, ``?`` for one
character, and a backslash takes the meaning from the character after it. ``${key}`` stands for a
value of the request. It must never know what the names name.

A name is ``namespace/local``: what comes before the first slash is the namespace, which a tenant
owns; the rest may be anything, an ARN for example.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from mcpcore.errors import InvalidInput

Matcher: TypeAlias = Callable[[str], bool]

PATTERN_LENGTH_MAX: Final = 2048
_SPECIAL: Final = re.compile(r"([\\*?$])")
_BARRED: Final = re.compile("[\x00-\x1f\ud800-\udfff]")
_TOKEN: Final = re.compile(r"\\(.)|(\*+)|(\?)|\$\{([^{}]+)\}|([^\\*?$]+|\$|\\)", re.DOTALL)


def literal(text: str) -> str:
    """A pattern that matches exactly this text."""
    return _SPECIAL.sub(r"\\\1", text)


def escape_backslashes(text: str, *, variables: bool) -> str:
    """A pattern of a dialect that has wildcards and no backslash; ``variables``: has ``${key}``."""
    text = text.replace("\\", "\\\\")
    return text if variables else text.replace("$", "\\$")


def namespace_of(name: str) -> str:
    """The namespace of a name: what stands before the first slash."""
    return name.partition("/")[0]


@dataclass(frozen=True, slots=True)
class Parsed:
    """A pattern taken apart.

    Args:
        head: the literal text that every match begins with.
        exact: whether ``head`` is the whole pattern.
        variables: the keys that it takes from the request.
    """

    head: str
    exact: bool
    variables: tuple[str, ...]


@lru_cache(maxsize=65_536)
def parse(pattern: str) -> Parsed:
    """Take a pattern apart."""
    head: list[str] = []
    literal_so_far, variables = True, []
    for escaped, star, question, variable, plain in _TOKEN.findall(pattern):
        if star or question or variable:
            literal_so_far = False
            if variable:
                variables.append(_variable(variable)[0])
        elif literal_so_far:
            head.append(escaped or plain)
    return Parsed("".join(head), literal_so_far, tuple(variables))


def _variable(inside: str) -> tuple[str, str | None]:
    """The key of ``${key}`` or ``${key, 'default'}``, and the default."""
    key, comma, default = inside.partition(",")
    return key.strip(), default.strip().strip("'") if comma else None


@lru_cache(maxsize=65_536)
def matcher(pattern: str) -> Matcher:
    """What tells whether a text matches. Its time grows with the text and not with its tricks.

    A pattern with variables matches nothing until :func:`fill` has put their values in.
    """
    parsed = parse(pattern)
    if parsed.variables:
        return _never
    if parsed.exact:
        return parsed.head.__eq__
    if pattern == "*":
        return _always
    if pattern[-1] == "*" and parse(pattern[:-1]).exact and not pattern.endswith("\\*"):
        head = parsed.head
        return lambda text: text.startswith(head)
    compiled = re.compile(_expression(pattern), re.DOTALL)
    return lambda text: compiled.fullmatch(text) is not None


def _always(text: str) -> bool:
    return True


def _never(text: str) -> bool:
    return False


def _expression(pattern: str) -> str:
    """A regular expression. Chunks between stars are atomic, since the leftmost is good enough: so
    nothing is ever tried twice.
    """
    chunks, chunk = [], ""
    for escaped, star, question, _variable_name, plain in _TOKEN.findall(pattern):
        if star:
            chunks.append(chunk)
            chunk = ""
        else:
            chunk += "." if question else re.escape(escaped or plain)
    if not chunks:
        return chunk
    middle = "".join(f"(?>.*?{each})" for each in chunks[1:] if each)
    return f"{chunks[0]}{middle}.*{chunk}"


def fill(pattern: str, values: Mapping[str, object]) -> str | None:
    """Put the request's values in place of variables; None if one is missing.

    ``${*}``, ``${?}`` and ``${$}`` stand for these characters themselves. A value is text, never a
    pattern.
    """
    missing = False

    def put(found: re.Match[str]) -> str:
        nonlocal missing
        inside = found[4]
        if inside is None:
            return found[0]
        if inside in ("*", "?", "$"):
            return literal(inside)
        key, default = _variable(inside)
        value = values.get(key, values.get(key.lower(), default))
        if isinstance(value, tuple | list) or value is None:
            missing = True
            return ""
        return literal(str(value))

    filled = _TOKEN.sub(put, pattern)
    return None if missing else filled


@lru_cache(maxsize=16_384)
def overlap(a: str, b: str) -> bool:
    """Whether some text may match both patterns. Variables count as anything."""
    return _meet(_tokens(a), _tokens(b))


def _tokens(pattern: str) -> tuple[str, ...]:
    """One token a character: itself, or "" for any one, or "*" doubled for any number."""
    tokens: list[str] = []
    for escaped, star, question, variable, plain in _TOKEN.findall(pattern):
        if star or variable:
            tokens.append("**")
        elif question:
            tokens.append("")
        else:
            tokens.extend(escaped or plain)
    return tuple(tokens)


def _meet(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
    """Walk both patterns at once, as one walks two automata."""
    row = _closed({0}, b)
    for step in a:
        if step == "**":
            row = set(range(min(row), len(b) + 1)) if row else row
            continue
        following: set[int] = set()
        for j in row:
            if j < len(b):
                if b[j] == "**":
                    following.add(j)
                elif b[j] == step or not step or not b[j]:
                    following.add(j + 1)
        row = _closed(following, b)
        if not row:
            return False
    return len(b) in row


def _closed(row: set[int], b: tuple[str, ...]) -> set[int]:
    """Add what is reached by letting stars of ``b`` stand for nothing."""
    closed = set(row)
    for start in row:
        j = start
        while j < len(b) and b[j] == "**":
            j += 1
            closed.add(j)
    return closed


@dataclass(frozen=True, slots=True)
class Names:
    """Names that match one of some patterns and none of others.

    Args:
        any_of: patterns; empty means nothing at all.
        none_of: patterns that take names out again.
    """

    any_of: tuple[str, ...]
    none_of: tuple[str, ...] = ()

    @classmethod
    def of(cls, *patterns: str) -> Names:
        """Everything that matches one of these."""
        return cls(tuple(patterns))

    @classmethod
    def all_but(cls, *patterns: str) -> Names:
        """Everything except what matches one of these."""
        return cls(("*",), tuple(patterns))

    def matches(self, name: str) -> bool:
        """Whether a name is meant. Variables match nothing; see :meth:`filled`."""
        return any(matcher(p)(name) for p in self.any_of) and not any(
            matcher(p)(name) for p in self.none_of
        )

    def matches_any(self, names: Iterable[str], others: Iterable[str] | None = None) -> bool:
        """Whether one of a subject's names is meant, and none of the others (by default of the
        same) is taken out.
        """
        names = tuple(names)
        others = names if others is None else tuple(others)
        return any(matcher(p)(name) for p in self.any_of for name in names) and not any(
            matcher(p)(name) for p in self.none_of for name in others
        )

    @property
    def has_variables(self) -> bool:
        """Whether values of the request belong into it."""
        return any(parse(p).variables for p in (*self.any_of, *self.none_of))

    def filled(self, values: Mapping[str, object]) -> Names:
        """With the request's values. What misses one matches nothing; missing in ``none_of``
        takes everything out, since nobody knows what it should have taken.
        """
        some = [fill(p, values) for p in self.any_of]
        none = [fill(p, values) for p in self.none_of]
        return Names(
            tuple(p for p in some if p is not None),
            ("*",) if None in none else tuple(p for p in none if p is not None),
        )

    def overlaps(self, other: Names) -> bool:
        """Whether both may mean one name; may say yes where ``none_of`` keeps them apart."""
        return any(overlap(a, b) for a in self.any_of for b in other.any_of)

    def namespaces(self) -> tuple[str, ...]:
        """The namespace of each pattern, or ``*`` where the pattern leaves it open."""
        found = []
        for pattern in self.any_of:
            parsed = parse(pattern)
            settled = "/" in parsed.head or parsed.exact
            found.append(namespace_of(parsed.head) if settled else "*")
        return tuple(dict.fromkeys(found))

    def to_wire(self) -> list[object]:
        """Plain lists."""
        return [list(self.any_of), list(self.none_of)]

    def __str__(self) -> str:
        text = ", ".join(self.any_of) or "nothing"
        return f"{text} except {', '.join(self.none_of)}" if self.none_of else text


def check_pattern(pattern: object, where: str) -> str:
    """Return a pattern that can be used.

    Raises:
        InvalidInput: no text, empty, too long, or with control characters.
    """
    if not isinstance(pattern, str) or not pattern:
        raise InvalidInput(
            f"{pattern!r} is no pattern",
            where=where,
            remedy="Give text; in YAML put quotes around what looks like a number or a truth value",
        )
    if len(pattern) > PATTERN_LENGTH_MAX:
        raise InvalidInput(f"a pattern of {len(pattern)} characters is too long", where=where)
    if _BARRED.search(pattern):
        raise InvalidInput(f"{pattern!r} holds a character that no name has", where=where)
    return pattern

"""A part of the Common Expression Language: what IAM conditions of GCP are written in.

This module exists so that conditions written for GCP keep their meaning here. It reads comparisons,
``&& || !``, ``in`` with a list, ``+`` and ``-`` of times and durations, and the functions below.
Anything else is refused when the expression is read, never when a request is judged. So is
``matches``: a tenant's regular expression could take for ever. It must never read a clock:
``request.time`` comes with the request.

Source: the CEL language definition (github.com/google/cel-spec): errors on one side of ``&&`` and
``||`` are absorbed by the other side.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from mcpcore.errors import InvalidInput
from mcpcore.policy.operators import Mismatch, moment

Node: TypeAlias = Callable[[Mapping[str, object]], Any]
EXPRESSION_LENGTH_MAX: Final = 4096
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<text>r?\"(?:[^\"\\]|\\.)*\"|r?'(?:[^'\\]|\\.)*')|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<sign>&&|\|\||==|!=|<=|>=|[<>!()\[\],.+\-]))"
)
_DURATION: Final = re.compile(r"-?(?:\d+(?:\.\d+)?(?:h|ms|m|s))+")
_UNITS_S: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DEPTH_MAX: Final = 48


@dataclass(frozen=True, slots=True)
class Program:
    """An expression that was read."""

    expression: str
    evaluate: Node

    def truth(self, facts: Mapping[str, object]) -> bool | None:
        """True, false, or None: an error, or no truth value."""
        try:
            told = self.evaluate(facts)
        except Mismatch:
            return None
        return told if isinstance(told, bool) else None


@lru_cache(maxsize=4096)
def compile_cel(expression: str) -> Program:
    """Read an expression.

    Raises:
        InvalidInput: not CEL, or a part of CEL that is not supported.
    """
    if len(expression) > EXPRESSION_LENGTH_MAX:
        raise InvalidInput(f"longer than {EXPRESSION_LENGTH_MAX} characters", where="CEL")
    parser = _Parser(expression)
    node = parser.either()
    parser.expect_end()
    return Program(expression, node)


class _Parser:
    """Recursive descent, one method a level of binding."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.tokens: list[tuple[str, str]] = []
        self.at = 0
        self.depth = 0
        position = 0
        while expression[position:].strip():
            found = _TOKEN.match(expression, position)
            if found is None:
                raise self._refused(f"{expression[position:].strip()[:20]!r} is not understood")
            self.tokens.append((str(found.lastgroup), found[found.lastgroup or 0]))
            position = found.end()

    def _refused(self, what: str) -> InvalidInput:
        return InvalidInput(
            what,
            where=f"CEL {self.expression[:60]!r}",
            remedy="Supported are comparisons, && || !, in, strings, numbers, timestamp(), "
            "duration(), startsWith, endsWith, contains, size, extract, get...() of times",
        )

    def peek(self) -> str:
        """The next token's text; empty at the end."""
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, *wanted: str) -> str:
        """The next token's text if it is one of these, else nothing."""
        if (
            self.at < len(self.tokens)
            and self.peek() in wanted
            and self.tokens[self.at][0] != "text"
        ):
            self.at += 1
            return self.tokens[self.at - 1][1]
        return ""

    def expect(self, wanted: str) -> None:
        """Take this token, or refuse."""
        if not self.take(wanted):
            raise self._refused(f"{wanted!r} is missing before {self.peek()[:20]!r}")

    def expect_end(self) -> None:
        """Refuse what is left over."""
        if self.at < len(self.tokens):
            raise self._refused(f"{self.peek()[:20]!r} is left over")

    def either(self) -> Node:
        """``a || b``."""
        self.depth += 1
        if self.depth > _DEPTH_MAX:
            raise self._refused("nested too deeply")
        nodes = [self.both()]
        while self.take("||"):
            nodes.append(self.both())
        self.depth -= 1
        return nodes[0] if len(nodes) == 1 else _absorbing(nodes, deciding=True)

    def both(self) -> Node:
        """``a && b``."""
        nodes = [self.relation()]
        while self.take("&&"):
            nodes.append(self.relation())
        return nodes[0] if len(nodes) == 1 else _absorbing(nodes, deciding=False)

    def relation(self) -> Node:
        """``a == b`` and its like, and ``a in [b]``."""
        left = self.sum()
        sign = self.take("==", "!=", "<", "<=", ">", ">=", "in")
        if not sign:
            return left
        right = self.sum()
        return lambda facts: _compare(sign, left(facts), right(facts))

    def sum(self) -> Node:
        """``a + b``, ``a - b``."""
        left = self.unary()
        while sign := self.take("+", "-"):
            left = _sum(sign, left, self.unary())
        return left

    def unary(self) -> Node:
        """``!a``, ``-a``."""
        if self.take("!"):
            part = self.unary()
            return lambda facts: not _of(bool, part(facts))
        if self.take("-"):
            part = self.unary()
            return lambda facts: -_of((int, float), part(facts))
        return self.member()

    def member(self) -> Node:
        """A name, a literal, a list, braces; then fields, indexes and calls."""
        if self.take("("):
            node = self.either()
            self.expect(")")
        elif self.take("["):
            items = self.arguments("]")
            node = lambda facts: [item(facts) for item in items]  # noqa: E731
        else:
            node = self.primary()
        while sign := self.take(".", "["):
            if sign == "[":
                (key,) = self.arguments("]")
                node = _index(node, key)
                continue
            kind, name = self.tokens[self.at] if self.at < len(self.tokens) else ("", "")
            self.at += 1
            if kind != "name" or not self.take("("):
                raise self._refused(f".{name} of what is no name")
            node = self.method(name, node)
        return node

    def method(self, name: str, subject: Node) -> Node:
        """A call on a value."""
        arguments = self.arguments(")")
        if name not in _METHODS:
            raise self._refused(f"the function {name} is not supported")
        method = _METHODS[name]
        return lambda facts: _called(method, subject(facts), *(a(facts) for a in arguments))

    def primary(self) -> Node:
        """A literal, a function of its own, or a dotted name."""
        if self.at >= len(self.tokens):
            raise self._refused("it ends too early")
        kind, text = self.tokens[self.at]
        self.at += 1
        if kind == "text":
            value: object = ast.literal_eval(text)
            return lambda facts: value
        if kind == "number":
            figure = float(text) if "." in text else int(text)
            return lambda facts: figure
        if kind != "name":
            raise self._refused(f"{text!r} begins no value")
        if text in ("true", "false", "null"):
            constant = {"true": True, "false": False, "null": None}[text]
            return lambda facts: constant
        if self.take("("):
            return self.function(text)
        return self.path(text)

    def function(self, name: str) -> Node:
        """``timestamp(x)`` and its like."""
        arguments = self.arguments(")")
        if name not in _FUNCTIONS or len(arguments) != 1:
            raise self._refused(f"the function {name} is not supported")
        function, argument = _FUNCTIONS[name], arguments[0]
        return lambda facts: _called(function, argument(facts))

    def path(self, first: str) -> Node:
        """``a.b.c``, looked up as one key; what follows a call is no longer part of it."""
        names = [first]
        while self.peek() == "." and self.tokens[self.at + 1 : self.at + 2]:
            after = self.tokens[self.at + 2][1] if self.at + 2 < len(self.tokens) else ""
            if self.tokens[self.at + 1][0] != "name" or after == "(":
                break
            names.append(self.tokens[self.at + 1][1])
            self.at += 2
        return _lookup(".".join(names))

    def arguments(self, end: str) -> list[Node]:
        """Values up to a closing brace."""
        nodes: list[Node] = []
        while not self.take(end):
            if nodes:
                self.expect(",")
            nodes.append(self.either())
        return nodes


def _absorbing(nodes: list[Node], *, deciding: bool) -> Node:
    """``||`` (deciding is true) or ``&&``: one deciding side is enough, errors elsewhere or not."""

    def evaluate(facts: Mapping[str, object]) -> bool:
        failed = False
        for node in nodes:
            try:
                if bool(_of(bool, node(facts))) is deciding:
                    return deciding
            except Mismatch:
                failed = True
        if failed:
            raise Mismatch
        return not deciding

    return evaluate


def _lookup(path: str) -> Node:
    def evaluate(facts: Mapping[str, object]) -> object:
        if path in facts:
            value = facts[path]
        else:
            value = facts
            for name in path.split("."):
                if not isinstance(value, Mapping) or name not in value:
                    raise Mismatch
                value = value[name]
        if path == "request.time":
            return _timestamp(value)
        return value

    return evaluate


def _index(subject: Node, key: Node) -> Node:
    def evaluate(facts: Mapping[str, object]) -> object:
        try:
            return subject(facts)[key(facts)]
        except (KeyError, IndexError, TypeError):
            raise Mismatch from None

    return evaluate


def _sum(sign: str, left: Node, right: Node) -> Node:
    def evaluate(facts: Mapping[str, object]) -> object:
        a, b = left(facts), right(facts)
        if isinstance(a, bool) or isinstance(b, bool):
            raise Mismatch
        try:
            return a + b if sign == "+" else a - b
        except (TypeError, OverflowError):
            raise Mismatch from None

    return evaluate


def _of(kind: type | tuple[type, ...], value: object) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise Mismatch
    return value


def _compare(sign: str, a: Any, b: Any) -> bool:
    if sign == "in":
        if isinstance(b, list | tuple | set | frozenset):
            return any(_same(a, item) for item in b)
        if isinstance(b, Mapping):
            return bool(a in b)
        raise Mismatch
    if sign in ("==", "!="):
        return _same(a, b) is (sign == "==")
    if isinstance(a, bool) is not isinstance(b, bool):
        raise Mismatch
    try:
        told = {"<": a.__lt__, "<=": a.__le__, ">": a.__gt__, ">=": a.__ge__}[sign](b)
    except (AttributeError, TypeError):
        raise Mismatch from None
    if told is NotImplemented:
        try:  # an integer beside a float
            return bool({"<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[sign])
        except TypeError:
            raise Mismatch from None
    return bool(told)


def _same(a: object, b: object) -> bool:
    return a == b and isinstance(a, bool) is isinstance(b, bool)


def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except (TypeError, ValueError, AttributeError, OverflowError, KeyError, OSError):
        raise Mismatch from None


def _timestamp(value: object) -> datetime:
    if isinstance(value, datetime):
        return value if value.utcoffset() is not None else value.replace(tzinfo=UTC)
    return datetime.fromtimestamp(moment(value), UTC)


def _duration(value: object) -> timedelta:
    text = _of(str, value)
    if _DURATION.fullmatch(text) is None:
        raise Mismatch
    seconds = sum(
        float(figure) * _UNITS_S[unit]
        for figure, unit in re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s)", text)
    )
    return timedelta(seconds=-seconds if text.startswith("-") else seconds)


def _field(read: Callable[[datetime], int]) -> Callable[..., int]:
    def field(value: object, zone: str = "UTC") -> int:
        when: datetime = _of(datetime, value)
        return read(when.astimezone(ZoneInfo(_of(str, zone))))

    return field


def _extract(text: str, template: str) -> str:
    """GCP's ``extract``: what stands in the place of ``{name}``."""
    head, _, rest = _of(str, template).partition("{")
    tail = rest.partition("}")[2]
    start = _of(str, text).find(head)
    if start < 0:
        return ""
    found = text[start + len(head) :]
    if not tail:
        return found
    end = found.find(tail)
    return found[:end] if end >= 0 else ""


_METHODS: Final[dict[str, Callable[..., Any]]] = {
    "startsWith": lambda text, head: _of(str, text).startswith(_of(str, head)),
    "endsWith": lambda text, tail: _of(str, text).endswith(_of(str, tail)),
    "contains": lambda text, part: _of(str, part) in _of(str, text),
    "size": len,
    "extract": _extract,
    "lowerAscii": lambda text: _of(str, text).lower(),
    "upperAscii": lambda text: _of(str, text).upper(),
    "getFullYear": _field(lambda when: when.year),
    "getMonth": _field(lambda when: when.month - 1),
    "getDate": _field(lambda when: when.day),
    "getDayOfMonth": _field(lambda when: when.day - 1),
    "getDayOfWeek": _field(lambda when: when.isoweekday() % 7),
    "getDayOfYear": _field(lambda when: when.timetuple().tm_yday - 1),
    "getHours": _field(lambda when: when.hour),
    "getMinutes": _field(lambda when: when.minute),
    "getSeconds": _field(lambda when: when.second),
}
_FUNCTIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "timestamp": _timestamp,
    "duration": _duration,
    "size": len,
    "int": int,
    "double": float,
}

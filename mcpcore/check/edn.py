"""EDN, the notation in which Jepsen and its relatives write histories: read and written.

This module exists so that published histories can be judged as they are. It knows the notation and
nothing of what it says. It must never guess: what it cannot read is refused with line and column.

Vectors and lists become tuples, sets frozensets, maps dicts; tags and metadata are dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mcpcore.errors import InvalidInput


class Keyword(str):
    """``:read``. Equal to the string ``read``, and written with its colon."""

    __slots__ = ()


class Symbol(str):
    """A bare word such as ``...``; written without quotes."""

    __slots__ = ()


class Form(NamedTuple):
    """One top-level value and where it starts, both counted from 1."""

    value: Any
    line: int
    column: int


_TOKEN = re.compile(
    r"""[\s,]*(?:
      (?P<comment>;[^\n]*)
    | (?P<discard>\#_)
    | (?P<set>\#\{)
    | (?P<tag>\#[^\s,{\[("#]*)
    | (?P<open>[\[({])
    | (?P<close>[\])}])
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<char>\\(?:newline|space|tab|return|u[0-9a-fA-F]{4}|.))
    | (?P<keyword>:[^\s,;"\[\](){}]+)
    | (?P<meta>\^)
    | (?P<word>[^\s,;"\[\](){}]+)
    | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_CLOSER = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_INTEGER = re.compile(r"[+-]?\d+N?\Z")
_FLOAT = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?M?\Z")
_RATIO = re.compile(r"[+-]?\d+/\d+\Z")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "b": "\b", "f": "\f"}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CHARACTERS = {"newline": "\n", "space": " ", "tab": "\t", "return": "\r"}
_WORDS: Mapping[str, Any] = {"nil": None, "true": True, "false": False}
_DEEPEST = 200


class Malformed(InvalidInput):
    """A history cannot be read; says line, column and what was expected there."""

    def __init__(self, line: int, column: int, found: str, expected: str) -> None:
        self.line = line
        self.column = column
        self.expected = expected
        super().__init__(
            f"found {found}", where=f"line {line}, column {column}", remedy=f"Expected {expected}."
        )


class _Nest:
    """A collection that is being read."""

    __slots__ = ("at", "items", "opener", "skips")

    def __init__(self, opener: str, at: int) -> None:
        self.opener = opener
        self.at = at
        self.items: list[Any] = []
        self.skips = 0


class _Reader:
    def __init__(self, text: str, first_line: int) -> None:
        self.text = text
        self.first_line = first_line

    def refuse(self, at: int, found: str, expected: str) -> Malformed:
        line = self.text.count("\n", 0, at) + self.first_line
        column = at - (self.text.rfind("\n", 0, at) + 1) + 1
        return Malformed(line, column, found, expected)

    def forms(self) -> Iterator[Form]:
        text, match = self.text, _TOKEN.match
        nests: list[_Nest] = []
        skips = 0  # values that #_ or ^ told us to drop, outside any collection
        place, line, counted_to, start = 0, self.first_line, 0, 0
        while True:
            token = match(text, place)
            if token is None:
                at = place + len(text[place:]) - len(text[place:].lstrip(" \t\r\n,"))
                raise self.refuse(at, _told(text, at), "a value")
            kind = token.lastgroup
            assert kind is not None
            at, place = token.start(kind), token.end()
            word = token.group(kind)
            if kind == "comment" or kind == "tag":
                continue
            if kind in ("discard", "meta"):
                if nests:
                    nests[-1].skips += 1
                else:
                    skips += 1
                continue
            if not nests:
                start = at
            if kind == "end":
                if nests:
                    nest = nests[-1]
                    raise self.refuse(
                        at, "the end", f"{_CLOSER[nest.opener]} to close the {nest.opener} "
                        f"of {self.place(nest.at)}"
                    )  # fmt: skip
                return
            if kind in ("open", "set"):
                nests.append(_Nest(word, at))
                if len(nests) > _DEEPEST:
                    raise self.refuse(at, "yet another level", f"at most {_DEEPEST} levels")
                continue
            if kind == "close":
                if not nests or _CLOSER[nests[-1].opener] != word:
                    wanted = _CLOSER[nests[-1].opener] if nests else "a value"
                    raise self.refuse(at, f"'{word}'", wanted)
                nest = nests.pop()
                value = self.collection(nest)
            else:
                value = self.atom(kind, word, at)
            if nests:
                if nests[-1].skips:
                    nests[-1].skips -= 1
                else:
                    nests[-1].items.append(value)
            elif skips:
                skips -= 1
            else:
                line += text.count("\n", counted_to, start)
                counted_to = start
                yield Form(value, line, start - (text.rfind("\n", 0, start) + 1) + 1)

    def place(self, at: int) -> str:
        line = self.text.count("\n", 0, at) + self.first_line
        return f"line {line}, column {at - (self.text.rfind(chr(10), 0, at) + 1) + 1}"

    def collection(self, nest: _Nest) -> Any:
        if nest.opener in ("[", "("):
            return tuple(nest.items)
        try:
            if nest.opener == "#{":
                return frozenset(nest.items)
            if len(nest.items) % 2:
                raise self.refuse(nest.at, "a map with a key and no value", "pairs")
            return dict(zip(nest.items[::2], nest.items[1::2], strict=True))
        except TypeError as error:
            raise self.refuse(nest.at, "a map inside a set or a key", "simple keys") from error

    def atom(self, kind: str, word: str, at: int) -> Any:
        if kind == "keyword":
            return Keyword(word[1:])
        if kind == "string":
            return _ESCAPE.sub(self.unescape(at), word[1:-1]) if "\\" in word else word[1:-1]
        if kind == "char":
            name = word[1:]
            if len(name) == 5 and name[0] == "u":
                return chr(int(name[1:], 16))
            return _CHARACTERS.get(name, name)
        if word in _WORDS:
            return _WORDS[word]
        if _INTEGER.match(word):
            return int(word.rstrip("N"))
        if _FLOAT.match(word):
            return float(word.rstrip("M"))
        if _RATIO.match(word):
            above, below = word.split("/")
            if int(below) == 0:
                raise self.refuse(at, f"'{word}'", "a number")
            return int(above) / int(below)
        if word[0].isdigit():
            raise self.refuse(at, f"'{word}'", "a number")
        return Symbol(word)

    def unescape(self, at: int) -> Any:
        def one(match: re.Match[str]) -> str:
            if match[1]:
                return chr(int(match[1], 16))
            if match[2] not in _ESCAPES:
                raise self.refuse(at, f"the escape \\{match[2]}", 'one of \\n \\t \\r \\" \\\\')
            return _ESCAPES[match[2]]

        return one


def _told(text: str, at: int) -> str:
    return f"'{text[at : at + 12]}'" if at < len(text) else "the end"


def read_edn(text: str, *, first_line: int = 1) -> Iterator[Form]:
    """Every top-level value of ``text`` in order.

    Raises:
        Malformed: not EDN; says line, column and what was expected.
    """
    return _Reader(text, first_line).forms()


def write_edn(value: Any) -> str:
    """A value in EDN, maps in the order of their keys as given, sets sorted."""
    if value is None:
        return "nil"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, Keyword):
        return ":" + value
    if isinstance(value, Symbol):
        return str(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r") + '"'
    if isinstance(value, (bytes, bytearray)):
        return f'#hex "{value.hex()}"'
    if isinstance(value, Mapping):
        pairs = (f"{write_edn(k)} {write_edn(v)}" for k, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, (set, frozenset)):
        return "#{" + " ".join(sorted(write_edn(item) for item in value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(write_edn(item) for item in value) + "]"
    return str(value)

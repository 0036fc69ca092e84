"""Reading a TOML file so that every mistake in it is named with its place.

This module exists so that whoever writes a configuration by hand learns in one line which file,
which line, which key, what was expected there and what was probably meant. It knows TOML's kinds
and nothing of what the keys mean. It must never import asyncio or touch anything but the one file.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from mcpcore.errors import InvalidInput

T = TypeVar("T")

_HEADER: Final = re.compile(r"\s*\[(?P<path>[^\[\]]+)\]\s*(?:#.*)?\Z")
_ENTRY: Final = re.compile(r"\s*(?P<path>[A-Za-z0-9_\-.\"' ]+?)\s*=")
_KINDS: Final[Mapping[type, str]] = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "an array",
    dict: "a table",
}


class Table:
    """One table of a TOML file. Every key must be asked for; ``finish`` refuses those that weren't.

    Args:
        file: the file it stands in; relative paths in it start at the file's directory.
        values: what ``tomllib`` read.
        path: the keys that lead here.
        lines: the file's lines, to tell where a key stands.
    """

    def __init__(
        self, file: Path, values: dict[str, Any], path: tuple[str, ...], lines: list[str]
    ) -> None:
        self.file = file
        self._values = values
        self._path = path
        self._lines = lines
        self._known: dict[str, None] = {}

    # --- what stands there ----------------------------------------------------------------------

    def __contains__(self, key: str) -> bool:
        self._known[key] = None
        return key in self._values

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that stand in the file, in its order."""
        return tuple(self._values)

    def holds_table(self, key: str) -> bool:
        """Whether a table stands there."""
        return type(self._values.get(key)) is dict

    def text(self, key: str, example: str) -> str:
        """A string that must be there and must not be empty.

        Raises:
            InvalidInput: it is missing, of another kind, or empty.
        """
        found = self._typed(key, str, example)
        if not found:
            self.refuse(key, "is empty", f"Write it like {key} = {example}")
        return found

    def path(self, key: str, example: str) -> Path:
        """A path; a relative one starts at the directory of the file.

        Raises:
            InvalidInput: it is missing, of another kind, or empty.
        """
        return self.file.parent / Path(self.text(key, example)).expanduser()

    def flag(self, key: str, default: bool) -> bool:
        """True or false.

        Raises:
            InvalidInput: it is of another kind.
        """
        return self._typed(key, bool, "true") if key in self else default

    def integer(self, key: str) -> int:
        """A whole number.

        Raises:
            InvalidInput: it is missing or of another kind.
        """
        return self._typed(key, int, "1000")

    def number(self, key: str) -> float:
        """A number, whole or not, but not infinite.

        Raises:
            InvalidInput: it is missing, of another kind, infinite or not a number.
        """
        found = self._required(key, "1.5")
        if type(found) not in (int, float) or not math.isfinite(found):
            self._wrong_kind(key, found, float, "1.5")
        return float(found)

    def texts(self, key: str, example: str) -> tuple[str, ...]:
        """An array of strings.

        Raises:
            InvalidInput: it is missing, of another kind, or holds something else or twice the same.
        """
        found = self._typed(key, list, example)
        for position, item in enumerate(found):
            if type(item) is not str:
                self.refuse(
                    key,
                    f"item {position + 1} is {_kind(item)}, not a string",
                    f"Write it like {key} = {example}",
                )
            if item in found[:position]:
                self.refuse(key, f"{item!r} stands there twice", "Name each once")
        return tuple(found)

    def table(self, key: str) -> Table:
        """A table; an absent one is empty.

        Raises:
            InvalidInput: something else stands there.
        """
        found = self._values.get(key, {})
        self._known[key] = None
        if type(found) is not dict:
            self._wrong_kind(key, found, dict, "")
        return Table(self.file, found, (*self._path, key), self._lines)

    def tables(self, key: str) -> list[tuple[str, dict[str, Any]]]:
        """The tables under a header in double brackets: where each stands, and what is in it.

        Raises:
            InvalidInput: something else stands there.
        """
        found = self._typed(key, list, f"[[{key}]] (two brackets, a header of its own)")
        if not all(type(item) is dict for item in found):
            self.refuse(key, "holds something that is no table", f"Write [[{key}]] for each")
        header = re.compile(rf"\s*\[\[\s*{re.escape(key)}\s*\]\]")
        lines = [number for number, line in enumerate(self._lines, 1) if header.match(line)]
        places = [f"{self.file}, line {line}" for line in lines]
        if len(places) != len(found):  # written as an array of inline tables
            places = [f"{self.where(key)}, item {number}" for number in range(1, len(found) + 1)]
        return list(zip(places, found, strict=True))

    def replace(self, place: str, value: object) -> None:
        """Put a value in the place of what the file says.

        Args:
            place: keys joined by dots; a star means every key of a table. The last key need not
                exist yet.

        Raises:
            InvalidInput: there is no such table.
        """
        *above, last = place.split(".")
        tables = [self._values]
        for key in above:
            tables = [
                child
                for table in tables
                for name, child in table.items()
                if key in ("*", name) and type(child) is dict
            ]
        if not tables or not last or last == "*":
            raise InvalidInput(
                "leads to no table of the file",
                where=f"{self.file}: {place}",
                remedy="Write it like groups.election_timeout_s, or links.*.loss",
            )
        for table in tables:
            table[last] = value

    # --- what is wrong --------------------------------------------------------------------------

    def finish(self) -> None:
        """Refuse every key that nobody has asked for.

        Raises:
            InvalidInput: there is one; its nearest relative is named.
        """
        for key in self._values:
            if key not in self._known:
                what = "is no table known here" if self.holds_table(key) else "is no key known here"
                self.refuse(key, what, nearest(key, self._known))

    def refuse(self, key: str, what: str, remedy: str = "") -> NoReturn:
        """Raise an error about a key.

        Raises:
            InvalidInput: always.
        """
        raise InvalidInput(what, where=self.where(key), remedy=remedy)

    def where(self, key: str = "") -> str:
        """Where a key stands, for people: the file, the line if it can be told, the path."""
        path = (*self._path, key) if key else self._path
        dotted = ".".join(path)
        line = _find_line(self._lines, path)
        place = f"{self.file}, line {line}" if line else str(self.file)
        return f"{place}: {dotted}" if dotted else place

    # --- inside ---------------------------------------------------------------------------------

    def _required(self, key: str, example: str) -> Any:
        if key not in self:
            where = self.where() if self._path else str(self.file)
            close = get_close_matches(key, self._values, n=1)
            remedy = f"Add a line like {key} = {example}"
            if close:
                remedy = f"Was {close[0]!r} meant to be {key!r}? It looks like {key} = {example}"
            raise InvalidInput(f"{key!r} is missing", where=where, remedy=remedy)
        return self._values[key]

    def _typed(self, key: str, kind: type[T], example: str) -> T:
        found = self._required(key, example)
        if type(found) is not kind:
            self._wrong_kind(key, found, kind, example)
        return found

    def _wrong_kind(self, key: str, found: object, kind: type, example: str) -> NoReturn:
        remedy = f"Write it like {key} = {example}" if example else ""
        self.refuse(key, f"is {_kind(found)}, and {_KINDS[kind]} is expected", remedy)


def read_toml(path: str | Path) -> Table:
    """Read a file into its root table.

    Raises:
        InvalidInput: it cannot be read, or is no TOML; the line is told.
    """
    file = Path(path)
    try:
        text = file.read_bytes().decode()
    except OSError as error:
        raise InvalidInput(
            f"the file cannot be read: {error.strerror or error}",
            where=str(file),
            remedy="Name a TOML file that exists and may be read",
        ) from None
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"byte {error.start} is not UTF-8, so this is no TOML file", where=str(file)
        ) from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"this is no TOML: {error}", where=str(file)) from None
    return Table(file, values, (), text.splitlines())


def nearest(word: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known word, or all of them if none is near."""
    words = sorted(known)
    # Ratios alone would not see that "cert" is short for "certificate".
    close = get_close_matches(word, words, n=1) or [
        known for known in words if known.startswith(word) or word.startswith(known)
    ]
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"Known here: {', '.join(words)}" if words else "Nothing is known here"


def _kind(value: object) -> str:
    kind = _KINDS.get(type(value))
    if kind is None:
        return "a date or time"  # the only other kind that TOML has
    return f"{kind} ({value!r})" if isinstance(value, str | int | float) else kind


def _find_line(lines: list[str], path: tuple[str, ...]) -> int | None:
    """The line on which ``path`` begins, counted from 1; None if it is not plain to see.

    A hint for people, not a parser: it knows headers, dotted and quoted keys, nothing more.
    """
    section: tuple[str, ...] = ()
    for number, line in enumerate(lines, 1):
        header = _HEADER.match(line)
        entry = _ENTRY.match(line)
        if header:
            section = _split(header["path"])
            if section == path:
                return number
        elif entry and (*section, *_split(entry["path"])) == path:
            return number
    return None


def _split(dotted: str) -> tuple[str, ...]:
    quoted = re.findall(r"\"([^\"]*)\"|'([^']*)'|([^.\s\"']+)", dotted)
    return tuple("".join(parts) for parts in quoted)

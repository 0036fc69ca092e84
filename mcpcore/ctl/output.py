"""Bytes and records on a screen, in a pipe, and as JSON.

This module exists so that no key and no value is ever damaged, and none can move the cursor of
whoever looks at it: pipes get bytes as they are, terminals get them with what is not printable
spelled out. It must never import what talks to a cluster.
"""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any

import typer


def readable(data: bytes, *, keep: str = "") -> str:
    """Bytes as printable text, which can be turned back.

    ``\\xNN`` is a byte (no UTF-8, or a control character of ASCII), ``\\uNNNN`` a
    character that is not printable, ``\\\\`` a backslash.

    Args:
        keep: characters to leave as they are, although they are not printable.
    """
    text = data.decode("utf-8", "surrogateescape")
    return "".join(char if char in keep else _spelled(char) for char in text)


def _spelled(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if char == "\\":
        return "\\\\"
    if char.isprintable():
        return char
    if code < 0x80:
        return char.encode("unicode_escape").decode()
    # Not "\\x85", which would be the byte: this is a character, of two bytes in UTF-8.
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def as_json(name: str, data: bytes) -> dict[str, str]:
    """A member of a JSON object: text as it is; bytes that are not UTF-8 under NAME_base64."""
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": b64encode(data).decode()}


def say_json(value: object) -> None:
    """Print one value as one line of JSON."""
    typer.echo(json.dumps(value))


def say_bytes(data: bytes) -> None:
    """Print a value: exactly, into a pipe or a file; readable, on a terminal."""
    if sys.stdout.isatty():
        typer.echo(readable(data, keep="\n\t\\"))
    else:
        typer.echo(data, nl=False)


def say_table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table. Numbers stand to the right; text that is too long is folded, never cut."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, heading in enumerate(headings):
        numbers = lines and all(isinstance(line[position], int) for line in lines)
        table.add_column(heading, overflow="fold", justify="right" if numbers else "left")
    for line in lines:
        table.add_row(*(Text(str(cell)) for cell in line))
    Console().print(table)

"""How old an answer may be, as it is asked for on the command line, and as it is told.

This module exists so that `--stale` and `--max-age` mean the same wherever they stand. It is loaded
for `--help`: it must never import what talks to a cluster.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mcpcore.errors import InvalidInput

if TYPE_CHECKING:
    from mcpcore.raft.staleness import StalenessBound

_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_LENGTH = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|)\s*")

StaleFlag = Annotated[
    bool,
    typer.Option("--stale", help="From any node, and say how old the answer may be."),
]
MaxAge = Annotated[
    str,
    typer.Option(
        "--max-age", metavar="2s", show_default=False,
        help="With --stale: refuse an answer that may be older (500ms, 2s, 1m).",
    ),
]  # fmt: skip


def max_age_s(text: str) -> float | None:
    """The length of time that was asked for, in seconds; None if nothing was.

    Raises:
        InvalidInput: it is none.
    """
    if not text:
        return None
    found = _LENGTH.fullmatch(text)
    if found is None:
        raise InvalidInput(
            f"{text!r} is no length of time",
            where="--max-age",
            remedy="Write 500ms, 2s, 1m or 1h",
        )
    return float(found[1]) * _UNITS[found[2]]


def as_json(bound: StalenessBound | None) -> dict[str, Any]:
    """The member of a JSON object that says how old the answer is."""
    if bound is None:
        return {"staleness": None}
    return {
        "staleness": {
            "at_most_ms": bound.at_most_ms,
            "at_most_entries": bound.at_most_entries,
            "known_at_ns": bound.known_at_ns,
        }
    }


def in_words(bound: StalenessBound | None) -> str:
    """The same for people."""
    if bound is None:
        return "how old this is, the node cannot tell"
    from datetime import UTC, datetime

    known_at = datetime.fromtimestamp(bound.known_at_ns / 1e9, UTC)
    return f"{bound}, as known at {known_at:%H:%M:%S}.{known_at.microsecond // 1000:03} UTC"

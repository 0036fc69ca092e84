"""Two runs side by side: what is better, what is worse.

This module exists so that "before and after" is read off one table. Pure: results in, rows out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Compared(NamedTuple):
    """One thing that both runs tell; a number's change is ``second - first``."""

    name: str
    first: str
    second: str
    change: str = ""


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Compared]:
    """Compare two ``results.json``."""
    rows = [
        Compared(name, str(first[name]), str(second[name]))
        for name in ("scenario", "world", "seed", "verdict")
    ]
    rows.append(_number("converged, s", _converged(first), _converged(second), 2))
    rows.append(_number("longest silence, s", first["silence_s"], second["silence_s"], 2))
    rows.append(_number("leaderships begun", first["leaders"], second["leaders"], 0))
    kinds = dict.fromkeys([*first["figures"], *second["figures"]])
    for kind in kinds:
        ours, theirs = first["figures"].get(kind, {}), second["figures"].get(kind, {})
        for field, digits in (
            ("acknowledged", 0),
            ("unknown", 0),
            ("p50_ms", 1),
            ("p99_ms", 1),
            ("max_ms", 1),
        ):
            name = f"{kind}: {field.replace('_', ' ')}"
            rows.append(_number(name, ours.get(field), theirs.get(field), digits))
    broken = {
        promise["name"]: None
        for results in (first, second)
        for promise in results["promises"]
        if promise["verdict"] != "ok"
    }
    rows += [Compared(name, _found(first, name), _found(second, name)) for name in broken]
    return rows


def _converged(results: Mapping[str, Any]) -> float | None:
    converged = results["converged"]
    return None if converged is None else converged["s"]


def _found(results: Mapping[str, Any], name: str) -> str:
    for promise in results["promises"]:
        if promise["name"] == name:
            return f"{promise['verdict']}: {promise['found']}"
    return "-"


def _number(name: str, first: float | None, second: float | None, digits: int) -> Compared:
    def told(value: float | None) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    if first is None or second is None:
        return Compared(name, told(first), told(second))
    change = second - first
    share = f" ({change / first:+.0%})" if first else ""
    return Compared(name, told(first), told(second), f"{change:+.{digits}f}{share}")

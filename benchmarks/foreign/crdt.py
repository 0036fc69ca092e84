"""pycrdt: a map whose every change is turned into bytes, and perhaps applied elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from pycrdt import Doc, Map


def updates(count: int, keys: int) -> Iterator[bytes]:
    doc: Any = Doc()
    there = doc.get("m", type=Map)
    state = doc.get_state()
    for i in range(count):
        there[f"key{i % keys}"] = i
        update = doc.get_update(state)
        state = doc.get_state()
        yield update


def handle(order: dict[str, Any]) -> dict[str, Any]:
    """Microseconds and bytes an operation."""
    copy: Any = Doc()
    sent, began_s = 0, time.perf_counter()
    for update in updates(order["count"], order["keys"]):
        if order["apply"]:
            copy.apply_update(update)
        sent += len(update)
    took_s = time.perf_counter() - began_s
    return {"us": took_s / order["count"] * 1e6, "bytes": sent / order["count"]}

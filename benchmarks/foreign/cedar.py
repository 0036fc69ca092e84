"""cedarpy: decisions over a text of policies, which its interface parses at every call."""

from __future__ import annotations

import time
from typing import Any

import cedarpy


def handle(order: dict[str, Any]) -> dict[str, Any]:
    """Microseconds of each decision."""
    micros = []
    for principal, action, resource in order["requests"]:
        told = {
            "principal": f'U::"{principal}"',
            "action": f'A::"{action}"',
            "resource": f'R::"{resource}"',
            "context": {},
        }
        began_s = time.perf_counter()
        cedarpy.is_authorized(told, order["policies"], [])
        micros.append((time.perf_counter() - began_s) * 1e6)
    return {"us": micros}

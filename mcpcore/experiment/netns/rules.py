"""Cuts as iptables rules: what to write, and how to read back what they have stopped.

This module exists so that the one place that knows what a cut *is* on a real machine can be read
and tested without one. Text in, text out; it must never run anything.

HAZARD: a rule stands in the INPUT chain of whoever *receives*. A rule on OUTPUT would make the
sender's own call fail (EPERM); a partition does not tell the sender anything.

Both rules of a direction are needed: a connection that the receiver opened carries the peer port
as source, one that the sender opened carries it as destination.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_COUNTED: Final = re.compile(r"^\[(?P<packets>\d+):\d+\] -A INPUT -s (?P<source>[0-9.]+)/32 ")

DROP: Final = "DROP"
REJECT: Final = "REJECT --reject-with tcp-reset"
"""Answer whatever comes with a reset, as a machine does that knows nothing of the connection."""


def batch(add: bool, sources: Iterable[str], port: int, target: str = DROP) -> str:
    """Lines for ``iptables-restore --noflush``: take or give back what comes from some addresses.

    Args:
        add: put the rules first in the chain, or take them away.
        sources: IPv4 addresses of the senders.
        port: the peer port, the same on every node.
        target: what becomes of the packets.
    """
    how = "-I" if add else "-D"
    lines = [
        f"{how} INPUT -s {source}/32 -p tcp -m tcp --{side}port {port} -j {target}"
        for source in sources
        for side in ("d", "s")
    ]
    return "\n".join(["*filter", *lines, "COMMIT", ""])


def stopped(saved: str, target: str = DROP) -> dict[str, int]:
    """How many packets from each address the rules have stopped, from ``iptables-save -c``."""
    counts: dict[str, int] = {}
    for line in saved.splitlines():
        found = _COUNTED.match(line)
        if found is not None and line.endswith(f" -j {target}"):
            source = found["source"]
            counts[source] = counts.get(source, 0) + int(found["packets"])
    return counts

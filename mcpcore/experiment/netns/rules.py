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

_COUNTED: Final = re.compile(
    r"^\[(?P<packets>\d+):\d+\] -A INPUT -s (?P<source>[0-9.]+)/32 "
    r"-p tcp -m tcp --[ds]port \d+ (?:! --tcp-flags RST RST )?"
    r"(?:-m (?P<match>\w+) .*)?-j (?P<target>.+)$"
)

DROP: Final = "DROP"
REJECT: Final = "REJECT --reject-with tcp-reset"
"""Answer whatever comes with a reset, as a machine does that knows nothing of the connection."""


def batch(add: bool, sources: Iterable[str], port: int, target: str = DROP, match: str = "") -> str:
    """Lines for ``iptables-restore --noflush``: take or give back what comes from some addresses.

    Args:
        add: put the rules first in the chain, or take them away.
        sources: IPv4 addresses of the senders.
        port: the peer port, the same on every node.
        target: what becomes of the packets.
        match: which of them: ``losing``, ``larger_than``, or all.
    """
    how = "-I" if add else "-D"
    # A reset that is answered with a reset would never arrive.
    which = "! --tcp-flags RST RST " if target == REJECT else f"{match} " if match else ""
    lines = [
        f"{how} INPUT -s {source}/32 -p tcp -m tcp --{side}port {port} {which}-j {target}"
        for source in sources
        for side in ("d", "s")
    ]
    return "\n".join(["*filter", *lines, "COMMIT", ""])


def losing(chance: float) -> str:
    """Some packets only, drawn by the kernel."""
    return f"-m statistic --mode random --probability {chance:.6f}"


def larger_than(size_bytes: int) -> str:
    """Packets of more bytes, headers included."""
    return f"-m length --length {size_bytes + 1}:65535"


def stopped(saved: str, target: str = DROP, match: str = "") -> dict[str, int]:
    """How many packets from each address the rules have stopped, from ``iptables-save -c``.

    Args:
        match: the name of the match of the rules to count (``statistic``, ``length``), or none.
    """
    counts: dict[str, int] = {}
    for line in saved.splitlines():
        found = _COUNTED.match(line)
        if found is not None and (found["match"] or "", found["target"]) == (match, target):
            source = found["source"]
            counts[source] = counts.get(source, 0) + int(found["packets"])
    return counts

"""What to do about a problem: one line for each kind that ``health`` finds.

This module exists so that the page, the terminal and the manual give the same advice. It must
never decide what is a problem.
"""

from __future__ import annotations

from typing import Final

REMEDIES: Final = {
    "unreachable": "Look whether its process runs and whether the link to it stands.",
    "misplaced": "Correct the endpoints in your profile.",
    "duplicate": "Correct the endpoints in your profile.",
    "no-leader": "Wait one election timeout. If it stays: no quorum is in contact; look at the "
    "nodes that are silent and at the links. Nodes lost for good: mcpctl recover.",
    "two-leaders": "Stop writing, keep the logs, and report it.",
    "stale-leader": "Nothing is lost: it cannot commit. Look at the links around it.",
    "lag": "Wait: it catches up by itself. If it does not, look at its disk and its links.",
    "divergence": "Stop writing and compare the replicas; rebuild the odd one.",
    "standing": "Promote it, or correct its membership: mcpctl member list.",
    "unasked": "Add its endpoint to your profile.",
    "disk": "Look at the disk. Its leaders stepped down; nothing is lost.",
    "clock": "Look at its NTP. Leases are refused there meanwhile: mcpctl clocks.",
    "link": "Look at the route and the firewall between the two.",
    "views": "Look at the link that is named: it is cut in one direction, or bridged.",
    "verdict": "Stale reads are served there, writes are refused. Look at the links; it returns by "
    "itself, unless it says intervention: then read the plan of mcpctl group reunite.",
}
"""By ``Problem.kind``."""

WORST_FIRST: Final = (
    "two-leaders", "divergence", "no-leader", "verdict", "unreachable", "disk", "views",
    "stale-leader", "link", "standing", "lag", "clock", "misplaced", "duplicate", "unasked",
)  # fmt: skip
"""In which order people want to read them."""

BAD: Final = frozenset(("two-leaders", "divergence", "no-leader", "verdict", "unreachable"))
"""Kinds for which somebody should get up at night; the others can wait for the morning."""

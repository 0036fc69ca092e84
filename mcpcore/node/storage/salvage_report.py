"""What a damaged log lost, in words and in plain values.

This module exists so that the log file, `mcpctl log`, the report beside the damaged files and a
node's status say the same. Pure; it decides nothing.
"""

from __future__ import annotations

from typing import Any

from mcpcore.node.storage.contract import Identity
from mcpcore.node.storage.salvage import Salvage, Verdict


def in_words(found: Salvage) -> list[str]:
    """What was lost and what follows, one sentence each, the worst first."""
    lines = []
    if found.names_lost:
        lines.append(
            "groups may be lost by name: this node is a new one, and a group that is not in its "
            "log takes no part here until it is admitted anew"
        )
    for finding in sorted(found.findings, key=lambda finding: finding.state.name):
        name = finding.state.name
        if finding.verdict is Verdict.FORGOTTEN:
            lines.append(
                f"group {name} has lost its newest term and vote, so it may have promised anything "
                "to anybody: it begins again empty, and takes no part until it is admitted anew"
            )
        elif finding.verdict is Verdict.IN_DOUBT:
            gaps = ", ".join(
                str(first) if first == last else f"{first} to {last or 'the end'}"
                for first, last in finding.missing()
            )
            lines.append(
                f"group {name} is in doubt: its log lacks {gaps or 'proof that it is whole'}; "
                "it does not vote until it has that back from the others"
            )
    for damage in found.damages:
        lines.append(f"{damage.path}, byte {damage.offset} to {damage.end}: {damage.problem}")
    return lines


def as_data(found: Salvage, owner: Identity | None) -> dict[str, Any]:
    """The same in plain values, for a report that programs read."""
    return {
        "node": owner.node if owner else None,
        "cluster": owner.cluster if owner else None,
        "incarnation": owner.incarnation if owner else None,
        "names_lost": found.names_lost,
        "groups": {
            finding.state.name: {
                "verdict": finding.verdict.value,
                "term": finding.state.hard_state.term,
                "base": finding.state.base.index,
                "intact_to": finding.prefix[-1].index
                if finding.prefix
                else finding.state.base.index,
                "missing": finding.missing(),
                "last_known": list(finding.last_known),
            }
            for finding in found.findings
        },
        "damages": [
            {
                "path": damage.path,
                "offset": damage.offset,
                "end": damage.end,
                "problem": damage.problem,
                "only_contents": damage.resolved,
            }
            for damage in found.damages
        ],
    }

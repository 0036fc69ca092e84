"""What a group refuses because it is split, or was."""

from __future__ import annotations

from mcpcore.errors.root import CoordinationError, Rejected


class GroupReadOnly(Rejected):
    """This side of the group has no leader with a quorum, so it takes no writes. Nothing happened.

    Write to the side that has a quorum, or wait: service returns by itself once contact is back.
    Reads with a stated staleness are still served.

    Args:
        reason: why, as the verdict says it.
        since_ms: for how long.
        might_lead: who leads as far as this node was told; empty if nobody knows.
    """

    def __init__(self, group: str, reason: str, *, since_ms: int, might_lead: str = "") -> None:
        self.group = group
        self.reason = reason
        self.since_ms = since_ms
        self.might_lead = might_lead
        ask = f"Try {might_lead}" if might_lead else "Ask another node, or wait"
        super().__init__(
            f"group {group}: read-only on this node for {since_ms / 1000:.1f} s: {reason}. {ask}; "
            "reads with a stated staleness are served here"
        )


class StalenessNotPromised(Rejected):
    """How old the state here may be cannot be bounded as asked; nothing was read.

    Args:
        at_most_ms: what could be promised instead; None if nothing can.
        asked_ms: what was asked.
        passing: whether asking this node again in a moment may do.
    """

    def __init__(self, group: str, *, asked_ms: int, at_most_ms: int | None, reason: str) -> None:
        self.passing = False
        self.group = group
        self.asked_ms = asked_ms
        self.at_most_ms = at_most_ms
        self.reason = reason
        instead = "no bound can" if at_most_ms is None else f"at most {at_most_ms} ms can"
        super().__init__(
            f"group {group}: a state at most {asked_ms} ms old cannot be promised, {instead}: "
            f"{reason}; ask another node, or allow more"
        )


class ReunionRefused(Rejected):
    """The gap is so large that an operator must approve the reunion; nothing was changed.

    Args:
        gap_entries: by how many entries the two sides differ.
        limit_entries: from how many on an operator decides.
    """

    def __init__(self, group: str, gap_entries: int, limit_entries: int) -> None:
        self.group = group
        self.gap_entries = gap_entries
        self.limit_entries = limit_entries
        super().__init__(
            f"group {group}: {gap_entries} entries lie between the two sides, from {limit_entries} "
            f"on an operator decides: `mcpctl group reunite {group}` shows the plan and asks"
        )


class QuarantineFull(CoordinationError):
    """Entries were truncated that the quarantine has no room for; only their number is on record.

    Export and discard what is there, then rewrite the file; raise the limit if this happens again.

    Args:
        count: how many were not kept.
        first_index: the first of them.
        limit_bytes: how large the file may be.
    """

    def __init__(self, count: int, first_index: int, limit_bytes: int) -> None:
        self.count = count
        self.first_index = first_index
        self.limit_bytes = limit_bytes
        super().__init__(
            f"quarantine: no room for {count} truncated entries from index {first_index} on within "
            f"{limit_bytes} bytes; export and discard what is there, or raise the limit"
        )

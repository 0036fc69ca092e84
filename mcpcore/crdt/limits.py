"""Every bound and every wait of anti-entropy, in one value.

This module exists so that nothing in the protocol is unbounded without a number that somebody can
read and change. It decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mcpcore.crdt.budget import Budget


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one replica's anti-entropy.

    Args:
        message_bytes: how large our messages get, unless one entry alone is larger.
        receive_bytes_max: larger messages are refused unread.
        buffer_bytes_max: the delta buffer, for all peers together.
        outbox_messages_max: answers, and parts of repairs, that wait for a peer's budget. Beyond
            it the oldest are dropped, and the next digest makes up for them.
        digest_every_ns: how often digests are sent.
        retry_after_ns: when deltas without an answer are sent again.
        overhead_bytes: what the transport adds to a message; the budget pays for that too.
        events_ahead_max: how far one delta may advance any replica's numbers.
        ahead_ns_max: how far timestamps may lie ahead of the wall clock that ``receive`` is told.
    """

    message_bytes: int = 16 * 1024
    receive_bytes_max: int = 4 * 1024 * 1024
    buffer_bytes_max: int = 4 * 1024 * 1024
    outbox_messages_max: int = 1024
    digest_every_ns: int = 5_000_000_000
    retry_after_ns: int = 1_000_000_000
    overhead_bytes: int = 0
    events_ahead_max: int = 1 << 40
    ahead_ns_max: int = 500_000_000
    budget: Budget = field(default_factory=Budget)

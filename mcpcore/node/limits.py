"""Every bound and every wait of a connection, in one value.

This module exists so that no queue and no wait of the transport is without a number that somebody
can read and change. Plain data; it decides nothing and imports nothing that acts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from mcpcore.errors import InvalidInput
from mcpcore.node.framing import HEADER_BYTES, MAX_FRAME_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds in bytes and counts, waits in seconds. The defaults suit a cluster across a WAN.

    Raises:
        InvalidInput: a value is not positive, or two of them contradict each other.
    """

    max_frame_bytes: int = MAX_FRAME_BYTES
    """The longest payload, sent or received. The same on every node."""
    max_queue_bytes: int = 64 * 1024 * 1024
    """How much may wait for one slow peer."""
    max_queue_frames: int = 65_536
    """How many frames may wait for one slow peer."""
    max_client_queue_bytes: int = 64 * 1024 * 1024
    """How much may wait for one client that does not read; beyond it, the client is let go."""
    max_client_queue_frames: int = 16_384
    """How many frames may wait for one client that does not read."""
    max_clients: int = 1_024
    """How many clients and administrators may be connected at once."""
    ping_interval_s: float = 1.0
    """A connection over which nothing was sent for so long sends a ping."""
    idle_timeout_s: float = 3.0
    """A connection over which nothing was received for so long is dead."""
    client_stall_timeout_s: float = 30.0
    """A client that has read none of what waits for it for so long is let go."""
    connect_timeout_s: float = 3.0
    """From dialling until the other side's TCP and TLS have answered."""
    handshake_timeout_s: float = 3.0
    """From then on until both sides have said who they are."""
    tls_handshake_timeout_s: float = 5.0
    """For those who called us: from TCP until TLS is established."""
    linger_s: float = 1.0
    """How long a goodbye may take to leave before the connection is cut."""
    backoff_min_s: float = 0.05
    """The ceiling of the wait before the first new attempt; it doubles with every failure..."""
    backoff_max_s: float = 2.0
    """...up to this one. The wait itself is drawn from the upper half below the ceiling."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise InvalidInput(
                    f"{value!r} is not a positive number", where=f"limits.{field.name}"
                )
        self._at_least("max_queue_bytes", self.max_frame_bytes + HEADER_BYTES)
        self._at_least("max_client_queue_bytes", self.max_frame_bytes + HEADER_BYTES)
        self._at_least("idle_timeout_s", 2 * self.ping_interval_s)
        self._at_least("backoff_max_s", self.backoff_min_s)
        if self.max_frame_bytes >= 1 << 32:
            raise InvalidInput(
                f"{self.max_frame_bytes} does not fit the four bytes of a frame's length",
                where="limits.max_frame_bytes",
                remedy="Stay below 4 GiB; 32 MiB is plenty",
            )

    def _at_least(self, name: str, lowest: float) -> None:
        if getattr(self, name) < lowest:
            raise InvalidInput(
                f"{getattr(self, name)} is below {lowest}, which the other limits call for",
                where=f"limits.{name}",
                remedy=f"Raise it to {lowest} or more, or lower the others",
            )

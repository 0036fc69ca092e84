"""How fast a peer may be sent to: a token bucket that holds the peak, not only the mean.

This module exists because a network is hurt by peaks: the previous generation broadcast full states
at 3.2 times its bandwidth. The bucket is cut so that no window of the stated length, wherever it
begins, carries more than the budget allows. It must never read a clock.
"""

from __future__ import annotations

from dataclasses import dataclass

from mcpcore.errors import InvalidInput

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Budget:
    """At most ``bytes_per_s`` on the mean of any window of ``window_ns``.

    Args:
        burst_share: how much of one window's bytes may leave at once. What is reserved for bursts
            is taken off the steady rate.
    """

    bytes_per_s: int = 1 << 20
    window_ns: int = NS_PER_S
    burst_share: float = 0.25

    def __post_init__(self) -> None:
        if self.bytes_per_s <= 0 or self.window_ns <= 0 or not 0 < self.burst_share < 1:
            raise InvalidInput(
                "a budget needs bytes, a window, and a burst share between 0 and 1", where="budget"
            )

    @property
    def window_bytes(self) -> int:
        """What one window may carry."""
        return self.bytes_per_s * self.window_ns // NS_PER_S

    @property
    def burst_bytes(self) -> int:
        """What may leave at once after a quiet time; larger messages wait for a full bucket."""
        return max(1, int(self.window_bytes * self.burst_share))


class TokenBucket:
    """Bytes that may leave now. Tokens are counted in byte-nanoseconds, so nothing is rounded."""

    __slots__ = ("_at_ns", "_full", "_rate", "_tokens", "budget")

    def __init__(self, budget: Budget, now_ns: int) -> None:
        self.budget = budget
        self._full = budget.burst_bytes * budget.window_ns
        self._rate = budget.window_bytes - budget.burst_bytes
        self._tokens = self._full
        self._at_ns = now_ns

    def take(self, size_bytes: int, now_ns: int) -> bool:
        """Take tokens for a message, or say that it must wait.

        A message beyond the burst leaves from a full bucket only, and leaves a debt behind, so
        that nothing is stuck for ever. The peak holds for all messages up to the burst.
        """
        self._refill(now_ns)
        if self._tokens < min(size_bytes * self.budget.window_ns, self._full):
            return False
        self._tokens -= size_bytes * self.budget.window_ns
        return True

    def ready_ns(self, size_bytes: int, now_ns: int) -> int:
        """When :meth:`take` will agree, if nothing else is taken before."""
        self._refill(now_ns)
        lack = min(size_bytes * self.budget.window_ns, self._full) - self._tokens
        return now_ns if lack <= 0 else now_ns - (-lack // max(1, self._rate))

    def _refill(self, now_ns: int) -> None:
        if now_ns > self._at_ns:
            self._tokens = min(self._full, self._tokens + (now_ns - self._at_ns) * self._rate)
            self._at_ns = now_ns

"""How fast missing state may flow to a member that came back.

This module exists so that a reunion never floods the link that has just healed: heartbeats that
queue behind a backlog would be taken for a dead leader, and the cut would begin anew. What the
link carries is measured from the answers (the largest delivery rate of the last two seconds, as
BBR has it), and the rate stays about it by the delay that the backlog itself causes, as LEDBAT has
it (RFC 6817): below the target it grows, above it shrinks, so that other traffic is given way. A
token bucket and a window keep to it. It must never read a clock or send.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from mcpcore.errors import InvalidInput
from mcpcore.raft.settings import MILLISECOND, SECOND

_BASE_WINDOW_NS = 60 * SECOND
_BANDWIDTH_WINDOW_NS = 2 * SECOND
_ANSWERS_MAX = 1024
_EXTREMES_MAX = 1024


@dataclass(frozen=True, slots=True)
class PacingSettings:
    """Bounds of the flow.

    Args:
        target_delay_ns: how much waiting in the network the backlog may cause. Well below the
            heartbeat interval, so that no window notices.
        floor_bytes_per_s: never slower than this, or a reunion might never end.
        ceiling_bytes_per_s: never faster.
        burst_ns: how much may leave at once, as time at the present rate.

    Raises:
        InvalidInput: a bound makes no sense, by name.
    """

    target_delay_ns: int = 25 * MILLISECOND
    floor_bytes_per_s: int = 64 << 10
    ceiling_bytes_per_s: int = 1 << 30
    burst_ns: int = 10 * MILLISECOND

    def __post_init__(self) -> None:
        for name in ("target_delay_ns", "floor_bytes_per_s", "ceiling_bytes_per_s", "burst_ns"):
            value = getattr(self, name)
            if type(value) is not int or value <= 0:
                raise InvalidInput(f"must be a positive whole number, not {value!r}", where=name)
        if self.floor_bytes_per_s > self.ceiling_bytes_per_s:
            raise InvalidInput(
                f"{self.floor_bytes_per_s} exceeds ceiling_bytes_per_s {self.ceiling_bytes_per_s}",
                where="floor_bytes_per_s",
            )


class Pacer:
    """The flow to one member: ask :meth:`wait_ns`, send, report the answers.

    Args:
        now_ns: the sender's monotonic clock.
    """

    __slots__ = (
        "_answers",
        "_bandwidths",
        "_bases",
        "_changed_ns",
        "_delivered",
        "_filled_ns",
        "_in_flight",
        "_searching",
        "_settings",
        "_tokens",
        "bytes_per_s",
    )

    def __init__(self, settings: PacingSettings, now_ns: int) -> None:
        self._settings = settings
        self.bytes_per_s = settings.floor_bytes_per_s
        """The present rate."""
        self._searching = True
        self._tokens = 0
        self._in_flight = 0
        self._delivered = 0
        self._filled_ns = self._changed_ns = now_ns
        self._answers: deque[tuple[int, int]] = deque([(now_ns, 0)], _ANSWERS_MAX)
        self._bases = _Extreme(_BASE_WINDOW_NS)
        self._bandwidths = _Extreme(_BANDWIDTH_WINDOW_NS)

    @property
    def measured_bytes_per_s(self) -> int:
        """What the link has lately been seen to carry; 0 before the first answer."""
        return -self._bandwidths.least

    def wait_ns(self, size_bytes: int, now_ns: int) -> int:
        """How long to wait before so many bytes may leave; 0 means now, and takes them.

        Ask again after that long, or at the next answer, whichever comes first.
        """
        self._fill(now_ns)
        settings = self._settings
        round_ns = self._bases.least + settings.target_delay_ns
        window = self.bytes_per_s * round_ns // SECOND
        if self._bases and self._in_flight and self._in_flight + size_bytes > window:
            return max(round_ns // 4, 1)
        # More than a whole burst may leave once the bucket is full, and is paid for afterwards.
        need = min(size_bytes, self._burst())
        if self._tokens < need:
            return -(-(need - self._tokens) * SECOND // self.bytes_per_s)
        self._tokens -= size_bytes
        self._in_flight += size_bytes
        return 0

    def answered(self, size_bytes: int, sent_ns: int, now_ns: int) -> None:
        """What was sent then was answered now."""
        round_trip_ns = max(now_ns - sent_ns, 1)
        self._in_flight = max(0, self._in_flight - size_bytes)
        self._delivered += size_bytes
        since = self._delivered - self._delivered_at(sent_ns)
        self._answers.append((now_ns, self._delivered))
        self._bases.note(round_trip_ns, now_ns)
        self._bandwidths.note(-(since * SECOND // round_trip_ns), now_ns)
        queued_ns, target_ns = round_trip_ns - self._bases.least, self._settings.target_delay_ns
        if queued_ns * 2 > target_ns:
            self._searching = False
        if now_ns - self._changed_ns < round_trip_ns:
            return  # what this rate causes is not seen yet
        self._changed_ns = now_ns
        self._fill(now_ns)
        if self._searching:
            self._change(2 * self.measured_bytes_per_s)
        else:
            gain = 1 + (target_ns - queued_ns) / target_ns / 8
            self._change(int(self.measured_bytes_per_s * max(gain, 0.5)))

    def lost(self, size_bytes: int, now_ns: int) -> None:
        """Something was not answered in time: the link carries less than we thought."""
        self._searching = False
        self._in_flight = max(0, self._in_flight - size_bytes)
        self._changed_ns = now_ns
        self._fill(now_ns)
        self._change(self.bytes_per_s // 2)
        self._bandwidths.forget()
        self._bandwidths.note(-self.bytes_per_s, now_ns)

    def _change(self, bytes_per_s: int) -> None:
        settings = self._settings
        self.bytes_per_s = max(
            settings.floor_bytes_per_s, min(settings.ceiling_bytes_per_s, bytes_per_s)
        )

    def _burst(self) -> int:
        return max(1, self.bytes_per_s * self._settings.burst_ns // SECOND)

    def _fill(self, now_ns: int) -> None:
        earned = self.bytes_per_s * (now_ns - self._filled_ns) // SECOND
        if earned > 0:
            self._tokens = min(self._tokens + earned, self._burst())
            self._filled_ns = now_ns

    def _delivered_at(self, at_ns: int) -> int:
        """How much had been answered by then, as far back as is remembered."""
        for when_ns, delivered in reversed(self._answers):
            if when_ns <= at_ns:
                return delivered
        return self._answers[0][1]


class _Extreme:
    """The least value of a sliding window of time; 0 if there is none."""

    __slots__ = ("_rising", "_window_ns")

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._rising: deque[tuple[int, int]] = deque()

    def __bool__(self) -> bool:
        return bool(self._rising)

    @property
    def least(self) -> int:
        return self._rising[0][1] if self._rising else 0

    def note(self, value: int, now_ns: int) -> None:
        rising = self._rising
        while rising and rising[-1][1] >= value:
            rising.pop()
        rising.append((now_ns, value))
        while now_ns - rising[0][0] > self._window_ns or len(rising) > _EXTREMES_MAX:
            rising.popleft()

    def forget(self) -> None:
        self._rising.clear()

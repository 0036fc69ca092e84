"""When a protocol must stop writing, and when it may go on.

This module exists so that the two water marks are one small promise: a protocol is told to pause
exactly once before it is told to resume.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcpcore.sim.loop import HostLoop

_HIGH_BYTES = 64 * 1024


class WaterMarks(asyncio.Transport):
    """Write flow control for a transport."""

    loop: HostLoop
    _protocol: asyncio.BaseProtocol | None = None
    _paused = False
    _high = _HIGH_BYTES
    _low = _HIGH_BYTES // 4

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks, in bytes; asyncio's defaults for what is not given.

        Raises:
            ValueError: not ``high >= low >= 0``.
        """
        if high is None:
            high = _HIGH_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._mark()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and the high mark."""
        return self._low, self._high

    def _mark(self) -> None:
        """Tell the protocol if a mark was crossed."""
        size = self.get_write_buffer_size()
        if self._protocol is None:
            return
        if size > self._high and not self._paused:
            self._paused = True
            self._tell(self._protocol.pause_writing)
        elif size <= self._low and self._paused:
            self._paused = False
            self._tell(self._protocol.resume_writing)

    def _tell(self, method: Callable[[], None]) -> None:
        try:
            method()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the loop's handler decides, as in asyncio
            self.loop.call_exception_handler(
                {
                    "message": "protocol failed in flow control",
                    "exception": error,
                    "transport": self,
                    "protocol": self._protocol,
                }
            )

"""Which host's code runs at this moment, if any.

This module exists so that stand-ins for ``time.time`` and the like can ask one cheap question. It
holds one variable and no behaviour; the scheduler alone writes it.
"""

from __future__ import annotations

from threading import get_ident
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcpcore.sim.host import Host
    from mcpcore.sim.loop import HostLoop


class _Current:
    """The loop whose step runs, and the thread in which its world runs."""

    __slots__ = ("loop", "thread")

    def __init__(self) -> None:
        self.loop: HostLoop | None = None
        self.thread = 0


current = _Current()


def loop_here() -> HostLoop | None:
    """Return the loop whose step runs in this thread; ``None`` outside of a simulated host."""
    loop = current.loop
    return loop if loop is not None and get_ident() == current.thread else None


def host_here() -> Host | None:
    """Return the host whose code runs in this thread; ``None`` outside of a simulated host."""
    loop = loop_here()
    return loop.host if loop is not None else None

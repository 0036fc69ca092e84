"""Whether a host's code may run now: dead, paused, busy, slow.

This module exists so that "a crashed host runs no more code" is one gate through which every step
passes, and so that whatever may not run yet is kept in its order. It decides about handles and
never looks into them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcpcore.sim.handle import SimHandle

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator
    from typing import Any

    from mcpcore.sim.host import Host
    from mcpcore.sim.order import Order
    from mcpcore.sim.timeline import Timeline

GATE_DEAD = 1
GATE_PAUSED = 2
GATE_BUSY = 4
GATE_SLOW = 8


class Gate:
    """The part of a host's loop that says when its steps run."""

    host: Host
    timeline: Timeline
    generators: list[AsyncGenerator[Any, Any]]
    signal_handlers: dict[int, Any]
    _ready: Order
    _closed: bool

    def __init__(self) -> None:
        self.gate = 0
        self.grave: list[object] = []
        """What a dead life leaves behind: kept, since freeing a coroutine runs its ``finally``."""
        self._parked: list[SimHandle] = []
        self._busy_until_ns = 0

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Return the unfinished tasks, oldest first."""
        raise NotImplementedError

    def admit(self, handle: SimHandle) -> bool:
        """Whether ``handle`` may run now; if not, keep it for later, or for ever."""
        gate = self.gate
        if gate & GATE_DEAD:
            self.grave.append(handle)
            return False
        if gate & GATE_PAUSED:
            self._parked.append(handle)
            return False
        if gate & GATE_BUSY:
            if self._busy_until_ns > self.timeline.now_ns:
                self._parked.append(handle)
                return False
            self.gate &= ~GATE_BUSY
        return True

    def stay_busy(self) -> None:
        """Charge the step that just ran for its time: nothing else runs here until it is over."""
        timeline = self.timeline
        lead_ns = timeline.lead_ns + self.host.step_cost_ns
        timeline.lead_ns = 0
        if lead_ns and not self.gate & GATE_DEAD:
            self._busy_until_ns = timeline.now_ns + lead_ns
            self.gate |= GATE_BUSY
            timeline.at(self._busy_until_ns, self._unpark)

    def pause(self) -> None:
        """Run nothing until :meth:`resume`."""
        self.gate |= GATE_PAUSED

    def resume(self) -> None:
        """Go on where :meth:`pause` stopped, in the same order."""
        self.gate &= ~GATE_PAUSED
        self._unpark()

    def sleep_on(self) -> None:
        """Put back the timers that came due while the monotonic clock stood still."""
        shown_ns = self.host.clock.monotonic_ns(self.timeline.now_ns)
        due = [handle for handle in self._parked if handle.mono_ns <= shown_ns]
        for handle in self._parked:
            if handle.mono_ns > shown_ns:
                true_ns = self.host.clock.true_ns_at(handle.mono_ns)
                self.timeline.add_timer(true_ns, handle)
        self._parked = due

    def _unpark(self) -> None:
        if not self.gate & GATE_PAUSED:
            parked, self._parked = self._parked, []
            for handle in parked:
                self._ready.append(handle)

    def die(self) -> None:
        """Run no more code of this life, ever; keep all of it, so that nothing is finalised."""
        self.gate |= GATE_DEAD
        self._closed = True
        self.grave.append(self.timeline.take_handles_of(self))
        self.grave.append((self._parked, self.tasks(), self.generators, self.signal_handlers))
        self._parked = []

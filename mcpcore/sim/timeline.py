"""The one queue of everything that will happen in a world.

This module exists so that virtual time has a single owner: integer nanoseconds, a heap of
``(time, sequence)``, a ready queue, and a loop that takes the next thing, records it and runs it.
It knows hosts only as loops with a gate (dead, paused, busy). It must never look at a real clock or
a real selector, and it must never order anything by hash, address or name.
"""

from __future__ import annotations

import gc
import heapq
from asyncio import _get_running_loop, _set_running_loop
from collections.abc import Callable
from sys import get_asyncgen_hooks, set_asyncgen_hooks
from threading import get_ident
from typing import Any

from mcpcore.errors import InvalidInput, SimulationStuck
from mcpcore.sim.current import current
from mcpcore.sim.gate import GATE_SLOW
from mcpcore.sim.handle import SimHandle, SimTask
from mcpcore.sim.loop import HostLoop
from mcpcore.sim.order import Order
from mcpcore.sim.trace import CHUNK, Trace

NEVER_NS = 1 << 62
"""A true time that does not come."""

COLLECT_EVERY_STEPS = 50_000
"""Finalisers run at these steps and at no other, so that they run at the same ones each time."""


class Wire:
    """Something the world itself does at a moment: a packet arrives, a disk answers.

    Unlike a handle it belongs to no host and runs no code of the program under test.
    """

    __slots__ = ("act", "args", "cancelled", "cause")

    def __init__(self, act: Callable[..., object], args: tuple[Any, ...], cause: int) -> None:
        self.act = act
        self.args = args
        self.cause = cause
        self.cancelled = False


class Timeline:
    """Virtual time.

    Args:
        trace: where every step is recorded.
        ready: the ready queue, see :mod:`mcpcore.sim.order`.
        steps_per_instant_max: how many steps may run without time going on before the world is
            declared to spin.
    """

    def __init__(
        self, trace: Trace, ready: Order, *, steps_per_instant_max: int = 1_000_000
    ) -> None:
        self.now_ns = 0
        self.trace = trace
        self.ready = ready
        self.lead_ns = 0
        """How long the running step has already computed or slept, beyond ``now_ns``."""
        self.steps = 0
        self.at_instant: Callable[[], None] | None = None
        """Called with all hosts at rest, each time before virtual time goes on."""
        self.stop_requested = False
        self._running = False
        self._heap: list[tuple[int, int, SimHandle | Wire]] = []
        self._sequence = 0
        self._cancelled = 0
        self._steps_per_instant_max = steps_per_instant_max
        self._collect_at = COLLECT_EVERY_STEPS

    # --- putting things in ----------------------------------------------------------------------

    def at(self, when_ns: int, act: Callable[..., object], *args: Any) -> Wire:
        """Let the world itself do ``act`` at a true time (not before now)."""
        wire = Wire(act, args, self.trace.cause)
        self._sequence += 1
        heapq.heappush(self._heap, (max(when_ns, self.now_ns), self._sequence, wire))
        return wire

    def after(self, delay_ns: int, act: Callable[..., object], *args: Any) -> Wire:
        """Let the world itself do ``act`` in ``delay_ns``, counted from the running step's now."""
        return self.at(self.now_ns + self.lead_ns + delay_ns, act, *args)

    def add_timer(self, when_ns: int, handle: SimHandle) -> None:
        """Wake ``handle`` at a true time."""
        self._sequence += 1
        heapq.heappush(self._heap, (when_ns, self._sequence, handle))

    def timer_cancelled(self) -> None:
        """Count a cancelled timer, and drop them all once they are the greater part."""
        self._cancelled += 1
        if self._cancelled > 200 and self._cancelled * 2 > len(self._heap):
            # In place: the running loop holds a reference to this very list.
            self._heap[:] = [
                entry
                for entry in self._heap
                if not (isinstance(entry[2], SimHandle) and entry[2]._cancelled)
            ]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def retime(self, loop: HostLoop) -> None:
        """Compute a host's timers anew, after its monotonic clock changed its pace."""
        clock = loop.host.clock
        self._heap[:] = [
            (max(self.now_ns, clock.true_ns_at(item.mono_ns)), sequence, item)
            if isinstance(item, SimHandle) and item._loop is loop and 0 <= item.mono_ns < NEVER_NS
            else (when_ns, sequence, item)
            for when_ns, sequence, item in self._heap
        ]
        heapq.heapify(self._heap)

    def take_handles_of(self, loop: object) -> list[SimHandle]:
        """Remove and return every timer of a dead host, so that nothing of it is ever freed."""
        mine: list[SimHandle] = []
        rest: list[tuple[int, int, SimHandle | Wire]] = []
        for entry in self._heap:
            item = entry[2]
            if isinstance(item, SimHandle) and item._loop is loop:
                mine.append(item)
            else:
                rest.append(entry)
        self._heap[:] = rest
        heapq.heapify(self._heap)
        return mine

    # --- running --------------------------------------------------------------------------------

    def next_ns(self) -> int:
        """True time of the next thing to happen; ``NEVER_NS`` if nothing will."""
        if self.ready:
            return self.now_ns
        return self._heap[0][0] if self._heap else NEVER_NS

    def run(self, until_ns: int) -> None:
        """Run everything up to and including ``until_ns``, or until a stop is requested.

        Afterwards ``now_ns`` is ``until_ns`` (unless stopped), even if less was left to do.

        Raises:
            SimulationStuck: code ran on and on without ever waiting.
            InvalidInput: called by code that this very timeline runs.
        """
        if self._running:
            raise InvalidInput(
                "the world is running already",
                where="World.run",
                remedy="Code on a host awaits; only the test outside runs the world.",
            )
        self._running = True
        self.stop_requested = False
        thread_before, current.thread = current.thread, get_ident()
        outer_loop, outer_hooks = _get_running_loop(), get_asyncgen_hooks()
        loop_before, current.loop = current.loop, None
        try:
            while not self.stop_requested:
                if self.ready:
                    self._run_ready()
                    continue
                if self.at_instant is not None:
                    current.loop = None
                    self.at_instant()
                    if self._has_news():
                        continue
                if not self._advance(until_ns):
                    return
        finally:
            self._running = False
            current.loop = loop_before
            current.thread = thread_before
            _set_running_loop(outer_loop)
            set_asyncgen_hooks(*outer_hooks)

    def collect(self, loop: HostLoop) -> None:
        """Run the finalisers of what is garbage now; they see the time of ``loop``'s host."""
        before = current.loop, current.thread
        current.loop, current.thread = loop, get_ident()
        try:
            gc.collect()
        finally:
            current.loop, current.thread = before

    def _has_news(self) -> bool:
        return self.stop_requested or len(self.ready) > 0

    def _advance(self, until_ns: int) -> bool:
        """Move time to the next moment and wake what waits for it; false if that is too late."""
        heap = self._heap
        if not heap or heap[0][0] > until_ns:
            self.trace.now_ns = self.now_ns = max(until_ns, self.now_ns)
            return False
        trace = self.trace
        now_ns = heap[0][0]
        trace.now_ns = self.now_ns = now_ns
        ready = self.ready
        while heap and heap[0][0] <= now_ns:
            item = heapq.heappop(heap)[2]
            if item.__class__ is SimHandle:
                if item._cancelled:
                    self._cancelled -= 1
                else:
                    item._scheduled = False
                    ready.append(item)
            elif not item.cancelled:
                trace.cause = item.cause
                item.act(*item.args)
        trace.cause = 0
        return True

    def _run_ready(self) -> None:
        """Run ready handles until none is left. The hot path: everything is a local name."""
        ready = self.ready
        trace = self.trace
        chunk = trace.chunk
        record = chunk.append
        popleft = ready.popleft
        now_ns = self.now_ns
        limit = self._steps_per_instant_max
        label = ""
        running = current.loop
        while ready:
            handle = popleft()
            if handle._cancelled:
                continue
            loop = handle._loop
            if loop.gate and not loop.admit(handle):
                continue
            callback = handle._callback
            if loop is not running:
                running = current.loop = loop
                _set_running_loop(loop)
                set_asyncgen_hooks(loop.asyncgen_started, loop.asyncgen_dropped)
            owner = getattr(callback, "__self__", None)
            label = owner.label if owner.__class__ is SimTask else loop.label_of(callback)
            record((now_ns, label))
            if len(chunk) >= CHUNK:
                trace.close_chunk()
            trace.cause = handle.cause
            try:
                handle._context.run(callback, *handle._args)
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # noqa: BLE001 - the host's handler decides, as in asyncio
                loop.callback_failed(error, label)
            if self.lead_ns or loop.gate & GATE_SLOW:
                loop.stay_busy()
            if self.stop_requested:
                break
            limit -= 1
            if limit < 0:
                raise SimulationStuck(
                    f"{self._steps_per_instant_max} steps ran without virtual time going on; "
                    "the last one",
                    waiting=(label,),
                )
        self.steps += self._steps_per_instant_max - limit
        trace.cause = 0
        if self.steps >= self._collect_at:
            self._collect_at = self.steps + COLLECT_EVERY_STEPS
            gc.collect()

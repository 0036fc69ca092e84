"""A world: hosts, a network between them, and one time for all.

This module exists so that a test says ``with World(seed=7) as world`` and has everything: hosts to
run code on, verbs to break things with, promises to keep, a digest that stands for the whole run.
It composes; each part decides for itself in its own module.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any

from mcpcore.errors import InvalidInput, PropertyViolated, SimulationStuck
from mcpcore.sim.clock import HostClock
from mcpcore.sim.entropy import stream
from mcpcore.sim.faults import FaultPlan, Injected, inject
from mcpcore.sim.host import Host, Main
from mcpcore.sim.network import Network, NetworkLimits
from mcpcore.sim.oracles import Promises
from mcpcore.sim.order import make_order
from mcpcore.sim.patches import patches
from mcpcore.sim.schedule import Fault, Schedule
from mcpcore.sim.timeline import NEVER_NS, Timeline
from mcpcore.sim.trace import KEEP, Trace

_S = 1_000_000_000
EPOCH_NS = 1_767_225_600 * _S
"""2026-01-01T00:00:00Z, when worlds begin unless told otherwise."""
_FAREWELL_S = 20.0
_FAREWELL_ROUNDS = 2


class World:
    """A simulated world.

    Use it as a context manager: leaving it ends every host in order and gives real time back.

    Args:
        seed: everything random comes from this number.
        order: which ready task runs next: ``fifo`` (as asyncio), ``random`` or ``pct``.
        epoch_ns: true wall-clock time at the beginning, nanoseconds since 1970.
        limits: what every host's TCP does.
        trace_keep: how many trace entries stay readable; the digest covers all.
        steps_per_instant_max: steps without time going on before the world counts as stuck.

    Raises:
        InvalidInput: an unknown order.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        order: str = "fifo",
        epoch_ns: int = EPOCH_NS,
        limits: NetworkLimits | None = None,
        trace_keep: int = KEEP,
        steps_per_instant_max: int = 1_000_000,
    ) -> None:
        self.seed = seed
        self.order = order
        self.epoch_ns = epoch_ns
        self.trace = Trace(keep=trace_keep)
        ready = make_order(order, stream(seed, "schedule"))
        self.timeline = Timeline(self.trace, ready, steps_per_instant_max=steps_per_instant_max)
        self.network = Network(self.timeline, seed, limits or NetworkLimits())
        self.hosts: dict[str, Host] = {}
        self.marks: dict[str, int] = {}
        """How often each ``sometimes(label)`` was reached."""
        self.promises = Promises(self)
        self.plan = FaultPlan(self)
        self.schedule_override: Schedule | None = None
        """Takes the place of whatever schedule a scenario applies: for replaying and shrinking."""
        self.applied = Schedule()
        """The schedule that was applied."""
        self._checks: list[Callable[[], None]] = []
        self._main_failed: tuple[Host, BaseException] | None = None
        self._entered = False
        self._closed = False
        self.control = self._make_host("world", index=-1, region="", clock=None, main=None)

    # --- entering and leaving ---------------------------------------------------------------------

    def __enter__(self) -> World:
        if self._closed or self._entered:
            raise InvalidInput(
                "a world is entered once", where="World", remedy="Make another from the same seed."
            )
        patches.enter()
        self._entered = True
        self._gc_was_on = gc.isenabled()
        # Finalisers must run at the same steps each time: collection is ours to trigger, and looks
        # only at what was made since.
        gc.disable()
        gc.freeze()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _must_be_entered(self) -> None:
        if self._closed or not self._entered:
            raise InvalidInput(
                "the world is closed" if self._closed else "the world is not entered",
                where="World",
                remedy="Write `with World(...) as world:` and run it inside.",
            )

    def close(self) -> None:
        """End every live host in order: cancel its tasks and let them clean up. Idempotent."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._entered:
                self._farewell()
        finally:
            for host in (*self.hosts.values(), self.control):
                host.loop.close()
            if self._entered:
                self.timeline.collect(self.control.loop)
                gc.unfreeze()
                if self._gc_was_on:
                    gc.enable()
                patches.leave()

    def _farewell(self) -> None:
        """Let the living clean up, for a while; what does not end by then is buried as it is."""
        self.timeline.at_instant = None
        living = [host for host in (*self.hosts.values(), self.control) if host.is_alive]
        for host in living:
            host.resume()
            host.loop.leaving = True
        for _ in range(_FAREWELL_ROUNDS):
            for host in living:
                for task in host.loop.tasks():
                    task.cancel()
            self._run_while(lambda: any(host.loop.tasks() for host in living), _FAREWELL_S)
            for host in living:
                for end in list(host.streams):
                    end.abort()
            # Protocols hear that their connections are gone, and whoever waited for that goes on.
            self._run_while(lambda: any(host.streams for host in living), _FAREWELL_S)
        for host in living:
            if host.loop.tasks():
                host.crash()

    def _run_while(self, busy: Callable[[], bool], for_s: float) -> None:
        self.timeline.run(self.timeline.now_ns)
        deadline_ns = self.timeline.now_ns + int(for_s * _S)
        while busy() and self.timeline.next_ns() < deadline_ns:
            self.timeline.run(self.timeline.next_ns())

    # --- hosts ------------------------------------------------------------------------------------

    def host(
        self,
        name: str,
        main: Main | None = None,
        *,
        region: str = "",
        offset_ns: int = 0,
        drift_ppm: float = 0.0,
        start: bool = True,
    ) -> Host:
        """Add a host, and start ``main`` on it.

        Args:
            name: its name: in DNS, in the trace, in faults.
            main: an ``async def`` without parameters: the host's process, run at each start.
            region: which region's links it uses.
            offset_ns: how far its wall clock is ahead of the truth.
            drift_ppm: how much too fast its clocks run.
            start: false to start it later with :meth:`Host.start`.

        Raises:
            InvalidInput: the name is taken or cannot name a host.
        """
        if name in self.hosts or name == self.control.name:
            raise InvalidInput(f"there is a host {name!r} already", where="host")
        clock = HostClock(self.epoch_ns, offset_ns=offset_ns, drift_ppm=drift_ppm)
        made = self._make_host(name, index=len(self.hosts), region=region, clock=clock, main=main)
        self.hosts[name] = made
        if start:
            made.start()
        return made

    def _make_host(
        self, name: str, *, index: int, region: str, clock: HostClock | None, main: Main | None
    ) -> Host:
        made = Host(
            name,
            index=index,
            region=region,
            clock=clock or HostClock(self.epoch_ns),
            timeline=self.timeline,
            network=self.network,
            seed=self.seed,
            main=main,
        )
        made.on_main_done = self._main_done
        made.marks = self.marks
        self.network.add(made)
        return made

    def _main_done(self, host: Host, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and self._main_failed is None:
            self._main_failed = (host, error)
            self.timeline.stop_requested = True

    def __getitem__(self, name: str) -> Host:
        found = self.hosts.get(name)
        if found is None:
            raise InvalidInput(
                f"no host {name!r}", where="World", remedy=f"Hosts: {', '.join(self.hosts)}."
            )
        return found

    # --- breaking and healing ---------------------------------------------------------------------

    def apply(self, schedule: Schedule) -> None:
        """Let each fault of a schedule happen at its time.

        Raises:
            InvalidInput: a fault names no host of this world, or its time has passed.
        """
        chosen = schedule if self.schedule_override is None else self.schedule_override
        chosen.check_hosts(self.hosts)
        self.applied = chosen
        for fault in chosen.faults:
            self.plan.add(fault)

    def inject(
        self, kind: str, *on: str, among: Sequence[str] | None = None, **fields: Any
    ) -> Injected:
        """Carry out one fault now; ``end()`` of what is returned takes it back.

        Args:
            among: the hosts that "all" and "the others" mean; all of the world's if None.

        Raises:
            InvalidInput: an unknown kind, host or field.
        """
        try:
            fault = Fault(self.now_s, kind, tuple(on), **fields)
        except TypeError as error:
            raise InvalidInput(str(error), where=f"fault {kind}") from error
        made = inject(self, fault, among)
        self.plan.injected.append(made)
        return made

    def heal(self, names: Iterable[str] | None = None) -> None:
        """Let no further fault begin, and mend hosts and the paths between them.

        Args:
            names: these hosts only; what is broken elsewhere stays broken. All, if ``None``.
        """
        self.plan.stop()
        members = list(self.hosts) if names is None else list(names)
        self.trace.note("world", "heal", *members)
        if names is None:
            self.plan.end_all()
            self.network.repair()
        for path in self.network.between(members, members):
            path.bends.clear()
            path.settle()
            self.network.open(path)
        for name in members:
            self[name].heal()

    # --- time -------------------------------------------------------------------------------------

    @property
    def now_ns(self) -> int:
        """True time, nanoseconds since the world began."""
        return self.timeline.now_ns

    @property
    def now_s(self) -> float:
        """True time, seconds since the world began."""
        return self.timeline.now_ns / _S

    @property
    def digest(self) -> str:
        """One number for everything that has happened so far."""
        return self.trace.digest()

    def at(self, when_s: float, act: Callable[..., object], *args: Any) -> None:
        """Do ``act`` at a true time: a fault, say. Code of no host runs it."""
        self.timeline.at(int(when_s * _S), act, *args)

    def check_each_instant(self, check: Callable[[], None]) -> None:
        """Call ``check`` with all hosts at rest, each time before virtual time goes on."""
        self._checks.append(check)
        self.timeline.at_instant = self._run_checks

    def _run_checks(self) -> None:
        for check in self._checks:
            check()

    def run(self, for_s: float) -> None:
        """Let this many virtual seconds pass.

        Raises:
            BaseException: what a host's main let escape, as it is, with a note that says where.
            SimulationStuck: code ran on and on without ever waiting.
            PropertyViolated: a promise was broken.
        """
        self._run_to(self.timeline.now_ns + int(for_s * _S))

    def _run_to(self, until_ns: int) -> None:
        self._must_be_entered()
        try:
            self.timeline.run(until_ns)
        except PropertyViolated as broken:
            broken.add_note(self._where(self.control))
            raise
        if self._main_failed is not None:
            host, error = self._main_failed
            self._main_failed = None
            error.add_note(self._where(host))
            raise error

    def _where(self, host: Host) -> str:
        return f"on host {host.name} at {self.now_s:.9f} s of virtual time, seed {self.seed}"

    def run_until(
        self, done: Callable[[], bool] | asyncio.Future[Any], *, within_s: float = 3_600.0
    ) -> None:
        """Run until ``done``: a future is done, or a predicate is true with all hosts at rest.

        Raises:
            PropertyViolated: not within ``within_s`` virtual seconds.
            SimulationStuck: nothing is left that could happen.
            BaseException: as :meth:`run`.
        """
        deadline_ns = self.timeline.now_ns + int(within_s * _S)
        reached = done.done if isinstance(done, asyncio.Future) else done

        def look() -> None:
            if reached():
                self.timeline.stop_requested = True

        self._checks.append(look)
        before, self.timeline.at_instant = self.timeline.at_instant, self._run_checks
        try:
            if not reached():
                self._run_to(deadline_ns)
            if reached():
                return
            if self.timeline.next_ns() == NEVER_NS:
                raise SimulationStuck(
                    "nothing is left that could happen, and these tasks wait",
                    waiting=tuple(self.waiting()),
                )
            raise PropertyViolated(
                "run_until", at_s=self.now_s, found=f"not reached within {within_s} s"
            )
        finally:
            self._checks.remove(look)
            self.timeline.at_instant = before

    def call(
        self, host: Host | str, coro: Coroutine[Any, Any, Any], *, within_s: float = 3_600.0
    ) -> Any:
        """Run ``coro`` on a host, and the world with it, until it is done; return its result.

        Raises:
            BaseException: whatever ``coro`` raised; else as :meth:`run_until`.
        """
        try:
            self._must_be_entered()
            where = self[host] if isinstance(host, str) else host
        except InvalidInput:
            coro.close()
            raise
        task = where.spawn(coro)
        self.run_until(task, within_s=within_s)
        return task.result()

    def waiting(self) -> list[str]:
        """Names of the unfinished tasks of live hosts, as ``host/task``."""
        return [
            str(getattr(task, "label", task.get_name()))
            for host in (*self.hosts.values(), self.control)
            if host.is_alive
            for task in host.loop.tasks()
        ]


def run(coro: Coroutine[Any, Any, Any], *, seed: int = 0, within_s: float = 3_600.0) -> Any:
    """Run one coroutine in a world of its own: ``asyncio.run`` in virtual time.

    Raises:
        BaseException: whatever ``coro`` raised; else as :meth:`World.run_until`.
    """
    with World(seed) as world:
        return world.call(world.host("main"), coro, within_s=within_s)

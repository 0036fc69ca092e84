"""The event loop that code on a simulated host sees: one loop for each life of a host.

This module exists so that unmodified asyncio programs run in virtual time. Each host has a loop of
its own, as each process has in production, and all loops share one :class:`Timeline`; a crash ends
a loop for good and a restart makes another. The loop tells *this host's* monotonic time, wakes
timers strictly after their deadline, and refuses by name whatever it does not simulate. It must
never touch a real socket, selector, thread, signal or clock.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context, copy_context
from math import ceil
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, TypeVarTuple

from mcpcore.errors import InvalidInput, SimulationStuck
from mcpcore.sim.current import loop_here
from mcpcore.sim.endpoints import Endpoints
from mcpcore.sim.gate import GATE_DEAD, Gate
from mcpcore.sim.handle import SimHandle, SimTask
from mcpcore.sim.unsupported import Unsupported

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from mcpcore.sim.host import Host
    from mcpcore.sim.timeline import Timeline

_S = 1_000_000_000
_FOREVER_NS = 1 << 61
_READS_AT_ONE_INSTANT_MAX = 200_000
# Bound before any world is entered: see `patches`.
_all_tasks = asyncio.all_tasks
_log = logging.getLogger("asyncio")

_Ts = TypeVarTuple("_Ts")
_T = TypeVar("_T")
ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]


# The mix-ins take more general arguments than typeshed's overloads spell out.
class HostLoop(Gate, Endpoints, Unsupported, asyncio.AbstractEventLoop):  # type: ignore[misc]
    """asyncio for one life of one host.

    Args:
        host: whose code runs here.
        timeline: the queue shared by all hosts.
        life: which life of the host this is, from 1.
    """

    def __init__(self, host: Host, timeline: Timeline, life: int) -> None:
        self.host = host
        self.timeline = timeline
        self.life = life
        Gate.__init__(self)
        self.generators: list[AsyncGenerator[Any, Any]] = []
        self._ready = timeline.ready
        self._reads_at_ns = -1
        self._reads_due = 0
        self._closed = False
        self._debug = False
        self._labels: dict[object, str] = {}
        self._serial = life * 1_000_000_000
        self._named: dict[str, int] = {}
        self._task_factory: Any = None
        self._exception_handler: ExceptionHandler | None = None
        self._executor_draw = host.stream("executor", life)
        self.uuid_clock = 0
        self.leaving = False
        """Whether the world is ending: a cancellation that escapes is then no error."""
        self.signal_handlers: dict[int, Any] = {}
        """As set by ``signal.signal`` and :meth:`add_signal_handler`; without one, a host dies."""

    def __repr__(self) -> str:
        return f"<HostLoop {self.host.name} life={self.life} t={self.timeline.now_ns / 1e9:.6f}s>"

    # --- time -----------------------------------------------------------------------------------

    def true_ns(self) -> int:
        """Return true time as the running step sees it, its own computing included."""
        return self.timeline.now_ns + self.timeline.lead_ns

    def monotonic_ns(self) -> int:
        """Read the host's monotonic clock.

        Raises:
            SimulationStuck: code polls the clock, which moves only while code waits.
        """
        clock = self.host.clock
        clock.reads += 1
        if clock.reads > self._reads_due:
            self._look_for_polling()
        return clock.monotonic_ns(self.timeline.now_ns + self.timeline.lead_ns)

    def wall_ns(self) -> int:
        """Read the host's wall clock.

        Raises:
            SimulationStuck: code polls the clock, which moves only while code waits.
        """
        clock = self.host.clock
        clock.reads += 1
        if clock.reads > self._reads_due:
            self._look_for_polling()
        return clock.wall_ns(self.timeline.now_ns + self.timeline.lead_ns)

    def _look_for_polling(self) -> None:
        now_ns = self.true_ns()
        if now_ns == self._reads_at_ns:
            raise SimulationStuck(
                "code reads the clock over and over without waiting, and simulated time moves only "
                "while code waits (asyncio.sleep, time.sleep)",
                waiting=(self.host.name,),
            )
        self._reads_at_ns = now_ns
        self._reads_due = self.host.clock.reads + _READS_AT_ONE_INSTANT_MAX

    def time(self) -> float:
        """Monotonic seconds, as ``time.monotonic()`` on this host."""
        timeline = self.timeline
        return self.host.clock.monotonic_ns(timeline.now_ns + timeline.lead_ns) / _S

    # --- scheduling -----------------------------------------------------------------------------

    def call_soon(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> SimHandle:
        """Run ``callback`` after what is already scheduled."""
        if self._closed:
            raise RuntimeError("Event loop is closed")
        handle = SimHandle(
            self,
            callback,
            args,
            copy_context() if context is None else context,
            self.timeline.trace.cause,
        )
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*_Ts], object], *args: *_Ts, context: Context | None = None
    ) -> SimHandle:
        """Same as :meth:`call_soon`: a simulated host has one thread."""
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> SimHandle:
        """Run ``callback`` strictly more than ``delay`` seconds of this host's clock from now."""
        timeline = self.timeline
        now_mono_ns = self.host.clock.monotonic_ns(timeline.now_ns + timeline.lead_ns)
        wait_ns = ceil(delay * _S) if delay < 1e9 else _FOREVER_NS
        return self._add_timer(
            now_mono_ns + wait_ns, now_mono_ns / _S + delay, callback, args, context
        )

    def call_at(
        self,
        when: float,
        callback: Callable[[*_Ts], object],
        *args: *_Ts,
        context: Context | None = None,
    ) -> SimHandle:
        """Run ``callback`` when :meth:`time` shows more than ``when``."""
        when_ns = ceil(when * _S) if when < 1e9 else _FOREVER_NS
        return self._add_timer(when_ns, when, callback, args, context)

    def _add_timer(
        self,
        mono_ns: int,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> SimHandle:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        timeline = self.timeline
        # Strictly after: code that compares `loop.time() < when` on waking would spin otherwise.
        # The second term makes up for what a float loses once uptimes reach months.
        mono_ns = max(0, mono_ns) + 1 + (mono_ns >> 51)
        handle = SimHandle(
            self,
            callback,
            args,
            copy_context() if context is None else context,
            timeline.trace.cause,
            mono_ns,
            when,
        )
        now_ns = timeline.now_ns
        true_ns = self.host.clock.true_ns_at(mono_ns)
        timeline.add_timer(true_ns if true_ns > now_ns else now_ns, handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.timeline.timer_cancelled()

    # --- tasks and futures ------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future that belongs to this loop."""
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        """Start ``coro``. Unnamed tasks are called after it and counted per host."""
        if self._closed:
            raise RuntimeError("Event loop is closed")
        if name is None:
            stem = getattr(coro, "__name__", type(coro).__name__)
            count = self._named[stem] = self._named.get(stem, 0) + 1
            name = f"{stem}-{count}"
        if self._task_factory is not None:
            if context is not None:
                options["context"] = context
            made: asyncio.Task[Any] = self._task_factory(self, coro, **options)
            made.set_name(name)  # asyncio's own names count through the whole process
            return made
        self._serial += 1
        # asyncio hashes the task while it initialises it, and an eager one runs at once: serial
        # number and label must be there before.
        task = SimTask.__new__(SimTask)
        task.serial = self._serial
        task.label = f"{self.host.name}/{name}"
        task.__init__(coro, loop=self, name=name, context=context, **options)  # type: ignore[misc]
        return task

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Return the unfinished tasks, oldest first."""
        return sorted(_all_tasks(self), key=hash)

    def set_task_factory(self, factory: Any) -> None:
        """Let ``factory(loop, coro, **options)`` make the tasks; ``None`` for ours."""
        if factory is not None and not callable(factory):
            raise TypeError("task factory must be a callable or None")
        self._task_factory = factory

    def get_task_factory(self) -> Any:
        """Return the factory in force, or ``None``."""
        return self._task_factory

    def label_of(self, callback: Callable[..., object]) -> str:
        """Return the name under which a plain callback appears in the trace."""
        key = getattr(callback, "__qualname__", None)
        if key is None:
            while isinstance(callback, functools.partial):
                callback = callback.func
            key = getattr(callback, "__qualname__", type(callback).__qualname__)
        label = self._labels.get(key)
        if label is None:
            label = self._labels[key] = f"{self.host.name}/{key}"
        return label

    # --- threads: inline, later, and only one at a time -------------------------------------------

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """Call ``func`` on this host a little later, in one piece, as a thread pool might."""
        if asyncio.iscoroutinefunction(func):
            raise TypeError("coroutines cannot be used with run_in_executor()")
        future: asyncio.Future[_T] = self.create_future()
        least_ns, most_ns = self.host.executor_delay_ns
        delay_ns = self._executor_draw.randint(least_ns, most_ns)
        handle = SimHandle(
            self, self._work, (future, func, args), copy_context(), self.timeline.trace.cause
        )
        self.timeline.add_timer(self.true_ns() + delay_ns, handle)
        return future

    def _work(
        self, future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        if future.cancelled():
            return
        try:
            result = func(*args)
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except StopIteration as error:
            future.set_exception(RuntimeError(f"StopIteration from {func!r}: {error}"))
        except BaseException as error:  # noqa: BLE001 - handed to whoever awaits, as asyncio does
            future.set_exception(error)
        else:
            future.set_result(result)

    def set_default_executor(self, executor: Any) -> None:
        """Accept and ignore: work is always done inline."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Nothing to shut down."""

    # --- asynchronous generators ------------------------------------------------------------------

    def asyncgen_started(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Remember a generator, so that a crash does not finalise it."""
        self.generators.append(generator)
        if len(self.generators) > 1_000:
            self.generators = [each for each in self.generators if each.ag_frame is not None]  # type: ignore[attr-defined]

    def asyncgen_dropped(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Close a generator that nobody iterates any more."""
        if not self._closed:
            self.call_soon(self.create_task, generator.aclose())

    async def shutdown_asyncgens(self) -> None:
        """Close every unfinished generator."""
        generators, self.generators = self.generators, []
        for generator in generators:
            await generator.aclose()

    # --- errors -----------------------------------------------------------------------------------

    def callback_failed(self, error: BaseException, label: str) -> None:
        """Handle what a callback or a task let escape."""
        if isinstance(error, SystemExit):
            self.host.exited(error.code)
            return
        if self.leaving and isinstance(error, asyncio.CancelledError):
            return
        self.call_exception_handler({"message": f"Exception in {label}", "exception": error})

    def set_exception_handler(self, handler: ExceptionHandler | None) -> None:
        """Let ``handler(loop, context)`` see unhandled errors; ``None`` for ours."""
        if handler is not None and not callable(handler):
            raise TypeError(f"A callable object or None is expected, got {handler!r}")
        self._exception_handler = handler

    def get_exception_handler(self) -> ExceptionHandler | None:
        """Return the handler in force, or ``None``."""
        return self._exception_handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log the error as asyncio does, and count it against the host."""
        error = context.get("exception")
        kind = type(error).__name__ if error is not None else ""
        message = str(context.get("message", "unhandled error"))
        self.host.unhandled.append((message, error))
        self.timeline.trace.note(self.host.name, "unhandled", message.partition(" at 0x")[0], kind)
        _log.error("%s: %s", self.host.name, message, exc_info=error)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Tell the handler; if it fails itself, tell ours."""
        if self.gate & GATE_DEAD:
            return
        if self._exception_handler is None:
            self.default_exception_handler(context)
            return
        try:
            self._exception_handler(self, context)
        except Exception as error:  # noqa: BLE001 - a broken handler must not stop the world
            self.default_exception_handler(
                {"message": "Unhandled error in exception handler", "exception": error}
            )

    # --- signals ----------------------------------------------------------------------------------

    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """Call back when the world sends this host a signal, see :meth:`Host.signal`."""
        self.signal_handlers[sig] = lambda _number, _frame: callback(*args)

    def remove_signal_handler(self, sig: int) -> bool:
        """Forget a handler; true if there was one."""
        return self.signal_handlers.pop(sig, None) is not None

    def deliver_signal(self, sig: int) -> bool:
        """Run the handler of ``sig``, if any; false if the process would die of it."""
        handler = self.signal_handlers.get(sig)
        if callable(handler):
            self.call_soon(handler, sig, None)
        return handler is not None

    # --- life -------------------------------------------------------------------------------------

    def run_forever(self) -> NoReturn:
        """Refuse: the world runs its loops."""
        raise self._own_loop("loop.run_forever()")

    def run_until_complete(self, future: Any) -> NoReturn:
        """Refuse: the world runs its loops."""
        if isinstance(future, Coroutine):
            future.close()
        raise self._own_loop("loop.run_until_complete()")

    def stop(self) -> NoReturn:
        """Refuse: the world runs its loops."""
        raise self._own_loop("loop.stop()")

    def _own_loop(self, call: str) -> InvalidInput:
        return InvalidInput(
            f"{call}: the world runs this loop", remedy="Use World.run() or World.run_until()."
        )

    def is_running(self) -> bool:
        """Whether code of this host runs at this moment."""
        return loop_here() is self

    def is_closed(self) -> bool:
        """Whether this life is over."""
        return self._closed

    def close(self) -> None:
        """End this life in order: nothing can be scheduled any more."""
        self._closed = True

    def get_debug(self) -> bool:
        """Whether asyncio's debug mode was asked for."""
        return self._debug

    def set_debug(self, enabled: bool) -> None:
        """Remember the wish; the simulator's own checks are always on."""
        self._debug = enabled

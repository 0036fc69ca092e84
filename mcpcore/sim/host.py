"""A simulated machine: a name, an address, clocks, a disk, randomness, and a process that can die.

This module exists so that what belongs to one machine is in one place and what happens to it (it
crashes, is killed, paused, slowed, restarted, wiped) is one method each. A host's code never holds
a :class:`Host`; it knows where it runs by the loop that runs it.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import random
import signal as signals
import socket as real
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from mcpcore.errors import InvalidInput
from mcpcore.sim.disk import SimDisk
from mcpcore.sim.endpoints import numeric
from mcpcore.sim.entropy import stream
from mcpcore.sim.gate import GATE_DEAD, GATE_PAUSED, GATE_SLOW
from mcpcore.sim.loop import HostLoop

if TYPE_CHECKING:
    from mcpcore.sim.clock import HostClock
    from mcpcore.sim.datagram import SimDatagrams
    from mcpcore.sim.network import Network
    from mcpcore.sim.server import SimServer
    from mcpcore.sim.stream import SimStream
    from mcpcore.sim.timeline import Timeline

Main = Callable[[], Awaitable[object]]

_FIRST_PORT = 49_152
_graveyard: list[object] = []
"""What dead lives leave behind, for as long as the process lives: freeing a suspended coroutine
would run its ``finally``. Long campaigns recycle their worker processes for this reason."""
# One reference too many, so that the interpreter does not free it on its way out either.
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_graveyard))


class Host:
    """One machine of a world. Made by :meth:`World.host`.

    Args:
        name: its name, in DNS and in the trace.
        index: its number in the world, from 0; the control host is -1.
        region: which region's links it uses.
        clock: its clocks.
        timeline: the world's time.
        network: the world's network.
        seed: the world's seed.
        main: what its process runs, at each start.
    """

    def __init__(
        self,
        name: str,
        *,
        index: int,
        region: str,
        clock: HostClock,
        timeline: Timeline,
        network: Network,
        seed: int,
        main: Main | None,
    ) -> None:
        if not name or any(each in name for each in "/ \t\n,"):
            raise InvalidInput(f"{name!r} cannot name a host", where="host")
        self.name = name
        self.region = region
        number = index + 1 if index >= 0 else 0xFFFFFE
        self.address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        self.is_control = index < 0
        self.clock = clock
        self.network = network
        self.timeline = timeline
        self.main = main
        self.seed = seed
        self.life = 0
        self.is_powered = True
        self.step_cost_ns = 0
        self.executor_delay_ns = (20_000, 200_000)
        self.unhandled: list[tuple[str, BaseException | None]] = []
        self.exit_code: object = None
        self.hooks: dict[str, tuple[random.Random, bool]] = {}
        self.marks: dict[str, int] = {}
        """Situations that code said it reached; shared by all hosts of a world."""
        self.listeners: dict[int, SimServer] = {}
        self.streams: dict[SimStream, None] = {}
        self.datagram_ports: dict[int, SimDatagrams] = {}
        self.task: asyncio.Task[Any] | None = None
        """The process's main task in this life."""
        self.on_main_done: Callable[[Host, asyncio.Task[Any]], None] | None = None
        self._paused_at_ns: int | None = None
        self._suspended = False
        self._next_port = _FIRST_PORT
        self.disk = SimDisk(self, self.stream("disk"))
        self.random: random.Random
        self.loop: HostLoop
        self._new_life()

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.state}>"

    @property
    def state(self) -> str:
        """``running``, ``paused``, ``killed`` (machine up, process gone) or ``crashed``."""
        if not self.is_powered:
            return "crashed"
        if self.loop.gate & GATE_DEAD:
            return "killed"
        return "paused" if self.loop.gate & GATE_PAUSED else "running"

    @property
    def is_alive(self) -> bool:
        """Whether the process exists, running or paused."""
        return self.is_powered and not self.loop.gate & GATE_DEAD

    def stream(self, *labels: str | int) -> random.Random:
        """Return one of this host's own random streams."""
        return stream(self.seed, "host", self.name, *labels)

    # --- life -------------------------------------------------------------------------------------

    def _new_life(self) -> None:
        self.life += 1
        self.loop = HostLoop(self, self.timeline, self.life)
        self.random = self.stream("user", self.life)
        self.exit_code = None
        if self.step_cost_ns:
            self.loop.gate |= GATE_SLOW

    def spawn(
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None
    ) -> asyncio.Task[Any]:
        """Start a task on this host.

        Raises:
            InvalidInput: the host is down.
        """
        if not self.is_alive:
            coro.close()
            raise InvalidInput(f"the host is {self.state}", where=self.name, remedy="Restart it.")
        return self.loop.create_task(coro, name=name)

    def start(self, main: Main | None = None) -> asyncio.Task[Any] | None:
        """Run ``main`` (by default the one given at creation) as this host's process."""
        if main is not None:
            self.main = main
        self.timeline.trace.note(self.name, "start", self.life)
        if self.main is not None:
            self.task = self.spawn(_main(self.main), name="main")
            self.task.add_done_callback(self._main_done)
        return self.task

    def _main_done(self, task: asyncio.Task[Any]) -> None:
        if self.on_main_done is not None:
            self.on_main_done(self, task)

    def _end(self, *, silently: bool) -> None:
        loop = self.loop
        for endpoint in (*self.streams, *self.datagram_ports.values()):
            loop.grave.append(endpoint)
        for stream_end in list(self.streams):
            stream_end.die(silently=silently)
        loop.grave.extend((self.listeners, self.task))
        self.streams = {}
        self.datagram_ports = {}
        self.listeners = {}
        loop.die()
        _graveyard.append(loop)
        self._paused_at_ns = None

    def crash(self) -> bool:
        """Cut the power: no more code runs, nobody is told, unsynced writes are lost or torn.

        Returns whether there was anything to cut.
        """
        if not self.is_powered:
            return False
        self.timeline.trace.note(self.name, "crash")
        if self.is_alive:
            self._end(silently=True)
        self.is_powered = False
        self.disk.power_lost()
        return True

    def kill(self) -> bool:
        """Kill the process as SIGKILL does: the kernel lives on and closes its sockets.

        What was written stays written: it is in the page cache. Returns whether it was alive.
        """
        if not self.is_alive:
            return False
        self.timeline.trace.note(self.name, "kill")
        self._end(silently=False)
        return True

    def exited(self, code: object) -> None:
        """End the process because its code raised ``SystemExit``."""
        if self.is_alive:
            self.timeline.trace.note(self.name, "exit", str(code))
            self._end(silently=False)
            self.exit_code = code

    def restart(self, main: Main | None = None) -> asyncio.Task[Any] | None:
        """Start the process again: after a crash, a kill, or (killing it first) while it runs."""
        self.kill()
        was_powered, self.is_powered = self.is_powered, True
        self._new_life()
        task = self.start(main)
        if not was_powered:
            self.network.retry(self)
        return task

    def wipe(self) -> None:
        """Crash, if need be, and lose the whole disk."""
        self.crash()
        self.timeline.trace.note(self.name, "wipe")
        self.disk.wipe()

    def pause(self) -> bool:
        """Stop the process as SIGSTOP does: its clocks go on, the kernel keeps what arrives."""
        if not self.is_alive or self._paused_at_ns is not None:
            return False
        self.timeline.trace.note(self.name, "pause")
        self._paused_at_ns = self.timeline.now_ns
        self.loop.pause()
        return True

    def suspend(self) -> bool:
        """Stop the machine as closing a laptop does: its monotonic clock stands still too."""
        self._suspended = self.pause()
        return self._suspended

    def resume(self) -> bool:
        """Let the process go on; everything that became due meanwhile is due now."""
        if self._paused_at_ns is None or not self.is_alive:
            return False
        self.timeline.trace.note(self.name, "resume")
        if self._suspended:
            now_ns = self.timeline.now_ns
            self.clock.resume_after_suspend(now_ns, now_ns - self._paused_at_ns)
            self._suspended = False
            self.timeline.retime(self.loop)
            self.loop.sleep_on()
        self._paused_at_ns = None
        self.loop.resume()
        return True

    def heal(self) -> None:
        """Make the host whole: running, fast, its disk honest. Its clocks keep their drift."""
        if not self.is_alive:
            self.restart()
        self.resume()
        self.slow(0)
        self.disk.heal()
        self.clock.end_strobe()
        self.clock.thaw()

    def slow(self, step_cost_us: float) -> None:
        """Let each step of code take this long; 0 makes the host fast again."""
        self.step_cost_ns = round(step_cost_us * 1_000)
        if self.step_cost_ns:
            self.loop.gate |= GATE_SLOW
        else:
            self.loop.gate &= ~GATE_SLOW

    def signal(self, number: int = signals.SIGTERM) -> None:
        """Send a signal: its handler runs, or the process dies of it."""
        self.timeline.trace.note(self.name, "signal", int(number))
        if self.is_alive and not self.loop.deliver_signal(number):
            self.kill()

    def drift(self, ppm: float) -> None:
        """Let both clocks run ``ppm`` too fast from now on."""
        self.clock.drift(self.timeline.now_ns, ppm)
        self.timeline.retime(self.loop)

    # --- names and ports --------------------------------------------------------------------------

    def resolve(self, name: str | bytes | None) -> str:
        """Return the address of a name, as this host sees it.

        Raises:
            socket.gaierror: no host of that name.
        """
        text = name.decode() if isinstance(name, bytes) else name
        if text in (None, "", "localhost", "::1"):
            return "127.0.0.1"
        assert text is not None
        if (address := numeric(text)) is not None:
            return "127.0.0.1" if address == "0.0.0.0" else address
        found = self.network.by_name.get(text)
        if found is None:
            raise real.gaierror(real.EAI_NONAME, f"Name or service not known: {text!r}")
        return found.address

    def find(self, address: str) -> Host | None:
        """Return the host that has an address, as seen from here."""
        if address.startswith("127."):
            return self
        return self.network.by_address.get(address)

    def addresses(
        self, name: str | bytes | None, port: str | int | None, family: int, kind: int, proto: int
    ) -> list[tuple[int, int, int, str, tuple[str, int]]]:
        """Answer ``getaddrinfo``; there is only IPv4 here.

        Raises:
            socket.gaierror: no host of that name, or no such family.
        """
        if family not in (0, real.AF_INET):
            raise real.gaierror(real.EAI_FAMILY, "only IPv4 is simulated")
        target = (self.resolve(name), int(port or 0))
        kinds = {real.SOCK_STREAM: real.IPPROTO_TCP, real.SOCK_DGRAM: real.IPPROTO_UDP}
        return [
            (real.AF_INET, each, protocol, "", target)
            for each, protocol in kinds.items()
            if kind in (0, each) and proto in (0, protocol)
        ]

    def bindable(self, name: str | None) -> str:
        """Return the address that ``name`` asks to listen on.

        Raises:
            OSError: it is not ours.
        """
        if name in (None, "", "0.0.0.0", "::"):
            return "0.0.0.0"
        address = self.resolve(name)
        if self.find(address) is not self:
            raise OSError(errno.EADDRNOTAVAIL, f"Cannot assign requested address: {name}")
        return address

    def next_port(self) -> int:
        """Return a port that nobody uses."""
        while True:
            port = self._next_port
            self._next_port = port + 1 if port < 65_535 else _FIRST_PORT
            if port not in self.listeners and port not in self.datagram_ports:
                return port


async def _main(main: Main) -> object:
    return await main()

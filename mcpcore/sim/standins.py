"""What ``time``, ``random``, ``uuid`` and their like answer inside a world.

This module exists so that each stand-in is a few lines that ask the current host, and the real
thing when no simulated host runs in this thread (another thread, or code outside of the world). It
only makes the table; :mod:`mcpcore.sim.patches` puts it in place.
"""

from __future__ import annotations

import datetime
import os
import random
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from mcpcore.errors import NotSimulated
from mcpcore.sim.current import host_here, loop_here
from mcpcore.sim.host import Host
from mcpcore.sim.loop import HostLoop
from mcpcore.sim.sockets import RealSocket, SimSocket

_S = 1_000_000_000
_GREGORIAN_NS = 0x01B21DD213814000 * 100

Table = dict[tuple[Any, str], Any]


def make_table() -> Table:
    """Return what stands in for what: ``{(module or class, attribute): replacement}``."""
    table: Table = {}
    _clocks(table)
    _calendar(table)
    _entropy(table)
    _identity(table)
    _signals(table)
    _fences(table)
    return table


def _clocks(table: Table) -> None:
    def put(name: str, simulated: Callable[[HostLoop], int | float]) -> None:
        real = getattr(time, name)

        def stand_in() -> int | float:
            loop = loop_here()
            return real() if loop is None else simulated(loop)

        stand_in.__name__ = stand_in.__qualname__ = name
        table[time, name] = stand_in

    put("time_ns", lambda loop: loop.wall_ns())
    put("time", lambda loop: loop.wall_ns() / _S)
    for name in ("monotonic", "perf_counter", "process_time", "thread_time"):
        put(f"{name}_ns", lambda loop: loop.monotonic_ns())
        put(name, lambda loop: loop.monotonic_ns() / _S)

    real_sleep, real_gettime, real_gettime_ns = (
        time.sleep,
        time.clock_gettime,
        time.clock_gettime_ns,
    )

    def sleep(seconds: float) -> None:
        loop = loop_here()
        if loop is None:
            real_sleep(seconds)
            return
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        loop.timeline.lead_ns += int(seconds * _S)

    def clock_gettime_ns(clock: int) -> int:
        loop = loop_here()
        if loop is None:
            return real_gettime_ns(clock)
        return loop.wall_ns() if clock == time.CLOCK_REALTIME else loop.monotonic_ns()

    def clock_gettime(clock: int) -> float:
        return real_gettime(clock) if loop_here() is None else clock_gettime_ns(clock) / _S

    table[time, "sleep"] = sleep
    table[time, "clock_gettime"] = clock_gettime
    table[time, "clock_gettime_ns"] = clock_gettime_ns


def _calendar(table: Table) -> None:
    for name in ("gmtime", "localtime", "ctime"):
        table[time, name] = _with_default_now(getattr(time, name))
    real_strftime, real_asctime = time.strftime, time.asctime

    def strftime(pattern: str, when: Any = None) -> str:
        return real_strftime(pattern, *_parts(when))

    def asctime(when: Any = None) -> str:
        return real_asctime(*_parts(when))

    table[time, "strftime"] = strftime
    table[time, "asctime"] = asctime
    table[datetime, "datetime"] = _SimDatetime


def _parts(when: Any) -> tuple[Any, ...]:
    if when is not None:
        return (when,)
    # The module's attribute, on purpose: inside a world it is the stand-in.
    return () if loop_here() is None else (time.localtime(),)


def _with_default_now(real: Callable[..., Any]) -> Callable[..., Any]:
    def stand_in(seconds: float | None = None) -> Any:
        if seconds is None and (loop := loop_here()) is not None:
            seconds = loop.wall_ns() / _S
        return real() if seconds is None else real(seconds)

    return stand_in


_RealDatetime = datetime.datetime


class _AnyDatetime(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _RealDatetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _RealDatetime)


class _SimDatetime(_RealDatetime, metaclass=_AnyDatetime):
    """``datetime.datetime`` whose "now" is the host's. Its instances are plain datetimes."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        return _RealDatetime(*args, **options)

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        loop = loop_here()
        if loop is None:
            return _RealDatetime.now(tz)
        seconds, rest_ns = divmod(loop.wall_ns(), _S)
        whole = _RealDatetime.fromtimestamp(seconds, tz)
        return whole.replace(microsecond=rest_ns // 1_000)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(datetime.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> Any:
        return cls.now()


def _entropy(table: Table) -> None:
    real_urandom, real_seed = os.urandom, random.Random.seed

    def urandom(size: int) -> bytes:
        host = host_here()
        return real_urandom(size) if host is None else host.random.randbytes(size)

    def getrandom(size: int, flags: int = 0) -> bytes:
        return urandom(size)

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        host = host_here()
        if a is None and host is not None:
            a = host.random.getrandbits(256)
        real_seed(self, a, version)

    table[os, "urandom"] = urandom
    if hasattr(os, "getrandom"):
        table[os, "getrandom"] = getrandom
    table[random.Random, "seed"] = seed
    for name in _RANDOM_FUNCTIONS:
        if hasattr(random, name):
            table[random, name] = _random_function(name, getattr(random, name))


_RANDOM_FUNCTIONS = (
    "betavariate",
    "binomialvariate",
    "choice",
    "choices",
    "expovariate",
    "gammavariate",
    "gauss",
    "getrandbits",
    "getstate",
    "lognormvariate",
    "normalvariate",
    "paretovariate",
    "randbytes",
    "randint",
    "random",
    "randrange",
    "sample",
    "seed",
    "setstate",
    "shuffle",
    "triangular",
    "uniform",
    "vonmisesvariate",
    "weibullvariate",
)


def _random_function(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def stand_in(*args: Any, **options: Any) -> Any:
        host = host_here()
        function = real if host is None else getattr(host.random, name)
        return function(*args, **options)

    stand_in.__name__ = stand_in.__qualname__ = name
    return stand_in


def _identity(table: Table) -> None:
    real_uuid1, real_getnode = uuid.uuid1, uuid.getnode
    real_pid, real_name, real_fqdn = os.getpid, socket.gethostname, socket.getfqdn
    real_getaddrinfo, real_gethostbyname = socket.getaddrinfo, socket.gethostbyname

    def getnode() -> int:
        host = host_here()
        return real_getnode() if host is None else _node(host)

    def uuid1(node: int | None = None, clock_seq: int | None = None) -> uuid.UUID:
        loop = loop_here()
        if loop is None:
            return real_uuid1(node, clock_seq)
        loop.uuid_clock = max(loop.uuid_clock + 1, (loop.wall_ns() + _GREGORIAN_NS) // 100)
        ticks = loop.uuid_clock
        sequence = loop.host.random.getrandbits(14) if clock_seq is None else clock_seq
        return uuid.UUID(
            fields=(
                ticks & 0xFFFFFFFF,
                ticks >> 32 & 0xFFFF,
                ticks >> 48 & 0x0FFF,
                sequence >> 8 & 0x3F,
                sequence & 0xFF,
                _node(loop.host) if node is None else node,
            ),
            version=1,
        )

    def getpid() -> int:
        host = host_here()
        return real_pid() if host is None else 1_000 + host.life

    def gethostname() -> str:
        host = host_here()
        return real_name() if host is None else host.name

    def getfqdn(name: str = "") -> str:
        host = host_here()
        return real_fqdn(name) if host is None else name or host.name

    def getaddrinfo(
        host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Any:
        here = host_here()
        if here is None:
            return real_getaddrinfo(host, port, family, type, proto, flags)
        return here.addresses(host, port, family, type, proto)

    def gethostbyname(name: str) -> str:
        here = host_here()
        return real_gethostbyname(name) if here is None else here.resolve(name)

    table[uuid, "getnode"] = getnode
    table[uuid, "uuid1"] = uuid1
    table[os, "getpid"] = getpid
    table[socket, "gethostname"] = gethostname
    table[socket, "getfqdn"] = getfqdn
    table[socket, "getaddrinfo"] = getaddrinfo
    table[socket, "gethostbyname"] = gethostbyname


def _node(host: Host) -> int:
    """A hardware address, locally administered, made from the host's network address."""
    return 0x02_00_00000000 | int.from_bytes(socket.inet_aton(host.address), "big")


class _AnySocket(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, RealSocket | SimSocket)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, RealSocket | SimSocket)


class _SocketStandIn(RealSocket, metaclass=_AnySocket):
    """``socket.socket`` that makes simulated ones on simulated hosts."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        if loop_here() is not None:
            return SimSocket(*args, **options)
        return RealSocket(*args, **options)


def _fences(table: Table) -> None:
    table[socket, "socket"] = _SocketStandIn
    threads = "Use loop.run_in_executor() or asyncio.to_thread(), which run inline."
    processes = "Put the other process on a host of its own, or inject its result."
    for owner, name, call, remedy in (
        (threading.Thread, "start", "threading.Thread.start()", threads),
        (subprocess.Popen, "__init__", "subprocess.Popen()", processes),
        (os, "fork", "os.fork()", processes),
        (os, "system", "os.system()", processes),
        (os, "_exit", "os._exit()", "Raise SystemExit."),
    ):
        table[owner, name] = _fence(getattr(owner, name), call, remedy)


def _signals(table: Table) -> None:
    real_signal, real_getsignal = signal.signal, signal.getsignal
    real_raise, real_kill = signal.raise_signal, os.kill

    def set_handler(number: int, handler: Any) -> Any:
        loop = loop_here()
        if loop is None:
            return real_signal(number, handler)
        before = loop.signal_handlers.pop(number, signal.SIG_DFL)
        if handler != signal.SIG_DFL:
            loop.signal_handlers[number] = handler
        return before

    def get_handler(number: int) -> Any:
        loop = loop_here()
        if loop is None:
            return real_getsignal(number)
        return loop.signal_handlers.get(number, signal.SIG_DFL)

    def raise_signal(number: int) -> None:
        host = host_here()
        if host is None:
            real_raise(number)
        else:
            host.signal(number)

    def kill(pid: int, number: int) -> None:
        host = host_here()
        if host is None:
            real_kill(pid, number)
        elif pid == os.getpid():
            host.signal(number)
        else:
            raise NotSimulated(f"os.kill({pid}, ...)", remedy="Only os.getpid() exists here.")

    table[signal, "signal"] = set_handler
    table[signal, "getsignal"] = get_handler
    table[signal, "raise_signal"] = raise_signal
    table[os, "kill"] = kill


def _fence(real: Callable[..., Any], call: str, remedy: str) -> Callable[..., Any]:
    def stand_in(*args: Any, **options: Any) -> Any:
        if loop_here() is not None:
            raise NotSimulated(call, remedy=remedy)
        return real(*args, **options)

    stand_in.__name__ = getattr(real, "__name__", call)
    return stand_in

"""How a world carries out a fault, takes it back, and knows whether it did anything.

This module exists so that no fault can be silently without effect: each injected fault counts what
it touched (packets, steps, clock readings, disk operations), and one that touched nothing is
reported. It translates; the damage is done by the host, the network, the clock and the disk.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mcpcore.errors import InvalidInput
from mcpcore.sim.schedule import Fault

if TYPE_CHECKING:
    from mcpcore.sim.host import Host
    from mcpcore.sim.network import Path
    from mcpcore.sim.world import World

_S = 1_000_000_000
_STROBE_PERIOD_NS = 200_000_000


@dataclass(slots=True)
class Injected:
    """A fault that was carried out.

    Args:
        fault: what was asked for.
        undo: takes it back; once is enough, twice is harmless.
        touched: how many things it has affected so far.
    """

    fault: Fault
    undo: Callable[[], None]
    touched: Callable[[], int]
    over: bool = field(default=False)

    def end(self) -> None:
        """Take the fault back, unless that was done."""
        if not self.over:
            self.over = True
            self.undo()

    def __str__(self) -> str:
        count = self.touched()
        return f"{self.fault}: {count} effect{'' if count == 1 else 's'}"


def inject(world: World, fault: Fault, among: Sequence[str] | None = None) -> Injected:
    """Carry out ``fault`` now, whatever its ``at_s`` says.

    Args:
        among: the hosts that "all", "the others" and "everybody" mean; all of the world's if None.

    Raises:
        InvalidInput: it names a host that does not exist.
    """
    names = list(world.hosts if among is None else among)
    on = list(fault.on) or names
    to = list(fault.to) or [name for name in names if name not in on]
    world.trace.note("world", "fault", str(fault))
    if fault.kind in _BETWEEN:
        return _between(world, fault, names, on, to)
    if fault.kind in _LINKS:
        return _bend(world, fault, on, to)
    hosts = [world[name] for name in on]
    if fault.kind.startswith("clock_") or fault.kind == "leap_second":
        return _clocks(world, fault, hosts)
    if fault.kind.startswith("disk_"):
        return _disks(fault, hosts)
    return _processes(fault, hosts)


# --- the network ---------------------------------------------------------------------------------

_BETWEEN = frozenset(
    ("partition", "one_way", "isolate", "bridge", "majority_ring", "flapping", "clog", "reset")
)
_LINKS = {
    "slow_link": "extra_ms",
    "lossy": "loss",
    "bursty": "loss",
    "duplicate": "duplicate",
    "reorder": "reorder",
    "fragment": "fragment",
    "narrow": "bandwidth_bps",
    "mtu_hole": "mtu",
}
_WHOLE_NUMBERS = frozenset(("bandwidth_bps", "mtu"))


def _paths_cut(
    world: World, fault: Fault, everybody: list[str], on: list[str], to: list[str]
) -> list[Path]:
    network = world.network
    match fault.kind:
        case "one_way" | "clog":
            return network.between(on, to)
        case "isolate":
            pairs = [(a, b) for a in everybody for b in everybody if a != b]
            return [p for a, b in pairs if a in on or b in on for p in network.between([a], [b])]
        case "bridge":
            others = [name for name in everybody if name not in on]
            half = len(others) // 2
            left, right = others[:half], others[half:]
            return network.between(left, right) + network.between(right, left)
        case "majority_ring":
            return _ring(world, everybody)
        case _:
            return network.between(on, to) + network.between(to, on)


def _ring(world: World, names: Sequence[str]) -> list[Path]:
    """Leave each host its nearest neighbours on a ring: just enough for a majority."""
    count = len(names)
    reach = (count // 2 + 1) // 2
    paths = []
    for i, source in enumerate(names):
        for j, target in enumerate(names):
            distance = min((i - j) % count, (j - i) % count)
            if distance > reach:
                paths.extend(world.network.between([source], [target]))
    return paths


def _between(
    world: World, fault: Fault, everybody: list[str], on: list[str], to: list[str]
) -> Injected:
    network = world.network
    if fault.kind == "reset":
        count = _reset(world, on, to)
        return Injected(fault, _nothing, lambda: count)
    paths = _paths_cut(world, fault, everybody, on, to)
    before = sum(path.touched for path in paths)

    def touched() -> int:
        return sum(path.touched for path in paths) - before

    if fault.kind == "clog":
        network.hold(paths)
        return Injected(fault, lambda: network.release(paths), touched)
    network.cut(paths)
    if fault.kind != "flapping":
        return Injected(fault, lambda: network.mend(paths), touched)

    made = Injected(fault, _nothing, touched)
    closed = [True]

    def flap() -> None:
        if made.over:
            return
        closed[0] = not closed[0]
        (network.cut if closed[0] else network.mend)(paths)
        world.timeline.after(int(fault.value * _S), flap)

    def stop() -> None:
        if closed[0]:
            network.mend(paths)

    made.undo = stop
    world.timeline.after(int(fault.value * _S), flap)
    return made


def _reset(world: World, on: list[str], to: list[str]) -> int:
    count = 0
    for ours, theirs in ((on, to), (to, on)):
        for name in ours:
            for end in list(world[name].streams):
                if end.path.target.name in theirs:
                    end.reset_by_network()
                    count += 1
    return count


def _bend(world: World, fault: Fault, on: list[str], to: list[str]) -> Injected:
    network = world.network
    others = to or on
    pairs = [(a, b) for a in on for b in others if a != b]
    paths = network.between(on, others) + network.between(others, on) if pairs else []
    paths = list(dict.fromkeys(paths))
    name = _LINKS[fault.kind]
    changes: dict[str, float | int] = {name: fault.value}
    if name in _WHOLE_NUMBERS:
        changes[name] = int(fault.value)
    if fault.kind == "bursty":
        changes["burst"] = 0.8
    unbend = network.bend(paths, **changes)
    counts_packets = name in ("extra_ms", "bandwidth_bps")
    before = sum(path.packets if counts_packets else path.touched for path in paths)

    def touched() -> int:
        return sum(path.packets if counts_packets else path.touched for path in paths) - before

    return Injected(fault, unbend, touched)


# --- machines and processes -----------------------------------------------------------------------


def _processes(fault: Fault, hosts: list[Host]) -> Injected:
    struck: list[Host] = []
    for host in hosts:
        match fault.kind:
            case "crash":
                hit = host.crash()
            case "kill":
                hit = host.kill()
            case "wipe":
                hit = host.is_powered
                host.wipe()
            case "pause":
                hit = host.pause()
            case "suspend":
                hit = host.suspend()
            case _:
                hit = host.is_alive
                host.slow(fault.value)
        if hit:
            struck.append(host)
    lives = [host.life for host in struck]

    def undo() -> None:
        for host, life in zip(struck, lives, strict=True):
            if host.life != life:
                continue  # somebody else restarted it meanwhile
            if fault.kind in ("crash", "kill", "wipe"):
                host.restart()
            elif fault.kind == "slow":
                host.slow(0)
            else:
                host.resume()

    return Injected(fault, undo, lambda: len(struck))


# --- clocks ---------------------------------------------------------------------------------------


def _clocks(world: World, fault: Fault, hosts: list[Host]) -> Injected:
    reads = sum(host.clock.reads for host in hosts)
    now_ns = world.now_ns
    by_ns = int(fault.value * _S)
    for host in hosts:
        clock = host.clock
        match fault.kind:
            case "clock_step":
                clock.step(now_ns, by_ns)
            case "clock_drift":
                host.drift(clock.drift_ppm + fault.value)
            case "clock_slew":
                clock.slew(now_ns, fault.value)
            case "clock_strobe":
                clock.strobe(now_ns, swing_ns=by_ns, period_ns=_STROBE_PERIOD_NS)
            case "clock_freeze":
                clock.freeze(now_ns)
            case "leap_second":
                clock.step(now_ns, -_S)
            case _:
                raise AssertionError(f"a clock fault without an implementation: {fault.kind}")

    def undo() -> None:
        for host in hosts:
            clock = host.clock
            match fault.kind:
                case "clock_step":
                    clock.step(world.now_ns, -by_ns)
                case "clock_drift":
                    host.drift(clock.drift_ppm - fault.value)
                case "clock_slew":
                    clock.slew(world.now_ns, 0.0)
                case "clock_strobe":
                    clock.end_strobe()
                case "clock_freeze":
                    clock.thaw()

    return Injected(fault, undo, lambda: sum(host.clock.reads for host in hosts) - reads)


# --- disks ----------------------------------------------------------------------------------------

_COUNTED = {
    "disk_lost_sync": ("losing_syncs", "lost_sync"),
    "disk_misdirect": ("misdirecting", "misdirected_write"),
    "disk_stale_read": ("stale_reads", "stale_read"),
}
_EFFECT = {
    "disk_stall": "stall",
    "disk_slow": "sync",
    "disk_error": "error",
    "disk_full": "full",
    "disk_lying_sync": "lying_sync",
    "disk_bit_rot": "bit_rot",
}


def _disks(fault: Fault, hosts: list[Host]) -> Injected:
    kind = fault.kind
    effect = _COUNTED[kind][1] if kind in _COUNTED else _EFFECT[kind]
    before = _disk_effects(hosts, effect)
    delays = [host.disk.sync_delay for host in hosts]
    for host in hosts:
        disk = host.disk
        match kind:
            case "disk_stall":
                disk.stall()
            case "disk_slow":
                slower = disk.sync_delay.least_ms + fault.value
                disk.sync_delay = replace(disk.sync_delay, least_ms=slower)
            case "disk_error":
                disk.failing = errno.EIO
            case "disk_full":
                disk.capacity_bytes = disk.used_bytes()
            case "disk_lying_sync":
                disk.lying = True
            case "disk_bit_rot":
                disk.rot(max(1, int(fault.value)))
            case _:
                setattr(disk, _COUNTED[kind][0], max(1, int(fault.value)))

    def undo() -> None:
        for host, delay in zip(hosts, delays, strict=True):
            match kind:
                case "disk_stall":
                    host.disk.unstall()
                case "disk_slow":
                    host.disk.sync_delay = delay
                case "disk_error":
                    host.disk.failing = None
                case "disk_full":
                    host.disk.capacity_bytes = None
                case "disk_lying_sync":
                    host.disk.lying = False
                case _ if kind in _COUNTED:
                    setattr(host.disk, _COUNTED[kind][0], 0)

    return Injected(fault, undo, lambda: _disk_effects(hosts, effect) - before)


def _disk_effects(hosts: list[Host], effect: str) -> int:
    return sum(
        host.disk.syncs if effect == "sync" else host.disk.touched.get(effect, 0) for host in hosts
    )


def _nothing() -> None:
    """Undo a fault that is over as soon as it happened."""


# --- whole schedules ------------------------------------------------------------------------------


class FaultPlan:
    """The faults of one world: those to come, those in force, and those that did nothing."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.injected: list[Injected] = []
        self._stopped = False

    def add(self, fault: Fault) -> None:
        """Carry out ``fault`` at its time, and end it at its time.

        Raises:
            InvalidInput: its time has passed.
        """
        world = self._world
        at_ns = int(fault.at_s * _S)
        if at_ns < world.now_ns:
            raise InvalidInput(f"{fault.at_s} s has passed", where=f"fault {fault.kind}")
        world.timeline.at(at_ns, self._begin, fault)

    def _begin(self, fault: Fault) -> None:
        if self._stopped:
            return
        made = inject(self._world, fault)
        self.injected.append(made)
        if fault.for_s:
            self._world.timeline.after(int(fault.for_s * _S), self._end, made)

    def _end(self, made: Injected) -> None:
        if not made.over:
            self._world.trace.note("world", "fault_over", str(made.fault))
            made.end()

    def stop(self) -> None:
        """Let no further fault begin."""
        self._stopped = True

    def end_all(self) -> None:
        """Let no further fault begin, and end those in force."""
        self.stop()
        for made in self.injected:
            self._end(made)

    def without_effect(self) -> list[Fault]:
        """Faults that were carried out and touched nothing."""
        return [made.fault for made in self.injected if made.touched() == 0]

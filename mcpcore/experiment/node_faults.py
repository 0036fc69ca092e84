"""Faults of processes, clocks and disks, carried out on real nodes.

This module exists so that each such fault stands beside how it is taken back and how it is known to
have had an effect. Clocks and disks are broken at the node's own seams (``steering``), never the
machine's clock; a full disk is a small tmpfs that is really full, where there is one. It must never
know of links.
"""

from __future__ import annotations

import asyncio
import errno
import random
import signal
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from mcpcore.experiment import damage
from mcpcore.experiment.process_cluster import ProcessCluster
from mcpcore.experiment.steering.page import Met, Wrongs
from mcpcore.experiment.steering.wrong_clock import WrongClock
from mcpcore.node.clocks import SystemClocks
from mcpcore.sim.schedule import Fault

STEERED: Final = frozenset(
    (
        *("clock_step", "clock_drift", "clock_slew", "clock_strobe", "clock_freeze", "leap_second"),
        *("disk_slow", "disk_stall", "disk_error", "disk_full"),
    )
)
"""Kinds for which a node must be steered."""

_STROBE_PERIOD_NS: Final = 200_000_000
_ERRNO: Final = {"disk_error": errno.EIO, "disk_full": errno.ENOSPC}
_SUFFERED: Final = {"disk_slow": "slowed", "disk_stall": "stalled"}

_LAST_BREATH_S: Final = 5.0
"""How long a node may take to end when its disk has failed."""

Undo = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault that was carried out.

    Args:
        proof: what ``effects`` counts, in words.
        effects: how many so far.
        lift: takes it back; once.
    """

    proof: str
    effects: Callable[[], Awaitable[int]]
    lift: Undo


class NodeFaults:
    """Faults of the nodes of one cluster.

    Args:
        cluster: whose nodes.
        draw: where damage to files is drawn from.
        note: told what is done in another way than the fault's name says.
    """

    def __init__(
        self, cluster: ProcessCluster, draw: random.Random, note: Callable[[str], None]
    ) -> None:
        self._cluster = cluster
        self._draw = draw
        self._note = note
        self._truth = SystemClocks()

    async def begin(self, fault: Fault, on: tuple[str, ...]) -> Struck | None:
        """Carry out a fault on nodes; None if it cannot be done to processes."""
        match fault.kind:
            case "kill" | "crash" | "wipe":
                return await self._end_processes(fault.kind, on)
            case "pause":
                return await self._pause(on)
            case "disk_bit_rot":
                return await self._rot(on, max(1, round(fault.value)))
            case "disk_full" if self._cluster.plan.small_disk_bytes and self._has_namespaces(on):
                return await self._fill(on)
            case kind if kind in STEERED and on and on[0] in self._cluster.pages:
                return await self._steer(fault, on)
            case _:
                return None

    # --- processes -------------------------------------------------------------------------------

    async def _end_processes(self, kind: str, on: tuple[str, ...]) -> Struck:
        nodes, proof = self._cluster.nodes, "ended by SIGKILL"
        await asyncio.gather(*(nodes[name].kill() for name in on))
        count = sum(nodes[name].lives[-1].status == -signal.SIGKILL for name in on)
        if kind == "crash":
            torn = [damage.tear(self._cluster.data(name), self._draw) for name in on]
            proof += f", {sum(torn)} bytes of a torn write left behind"
            self._note(
                "a crash is a kill and a torn write here: what the system has cached survives it"
            )
        elif kind == "wipe":
            lost = [damage.wipe(self._cluster.data(name)) for name in on]
            proof += f", {sum(lost)} files lost"
        return Struck(proof, _known(count), lambda: self._restart(on))

    async def _pause(self, on: tuple[str, ...]) -> Struck:
        nodes = self._cluster.nodes
        for name in on:
            nodes[name].pause()
        stopped = [name for name in on if await _is_stopped(nodes[name].pid)]

        async def resume() -> None:
            for name in on:
                nodes[name].resume()

        return Struck("stopped by SIGSTOP", _known(len(stopped)), resume)

    async def _restart(self, names: Iterable[str]) -> None:
        nodes = self._cluster.nodes
        down = [name for name in names if not nodes[name].is_running]
        for name in down:
            await nodes[name].start()
        for name in down:
            await self._cluster.wait_ready(name, timeout_s=60.0)

    async def _revive(self, names: list[str]) -> None:
        """Start nodes again that end themselves since their disk has failed."""
        nodes = self._cluster.nodes
        for name in names:
            with suppress(TimeoutError):
                await asyncio.wait_for(nodes[name].ended(), _LAST_BREATH_S)
        await self._restart(names)

    # --- files -----------------------------------------------------------------------------------

    async def _rot(self, on: tuple[str, ...], flips: int) -> Struck:
        """Stop the nodes, damage their logs, start them again: all at once, as it must be."""
        nodes = self._cluster.nodes
        await asyncio.gather(*(nodes[name].kill() for name in on))
        count = sum(damage.rot(self._cluster.data(name), flips, self._draw) for name in on)
        await self._restart(on)
        found = 0
        for name in on:
            account = await self._cluster.status(name)
            found += isinstance(account, dict) and bool(account["log_damage"])
        proof = f"bits flipped; {found} of {len(on)} nodes noticed when they started"
        return Struck(proof, _known(count), _nothing)

    async def _fill(self, on: tuple[str, ...]) -> Struck:
        """Fill the nodes' own small disks to the last block."""
        cluster = self._cluster
        full = 0
        for name in on:
            answer = await cluster.disk(name, "fill")
            full += answer["free_bytes"] == 0
        refused: set[str] = set()

        async def watch() -> None:
            while True:
                for name in on:
                    account = await cluster.status(name)
                    if isinstance(account, dict) and account["disk_full"]:
                        refused.add(name)
                await asyncio.sleep(0.2)

        watching = asyncio.get_running_loop().create_task(watch())

        async def drain() -> None:
            watching.cancel()
            for name in on:
                await cluster.disk(name, "drain")
            await self._restart(on)

        async def effects() -> int:
            return len(refused)

        return Struck(f"nodes found their disk full; no block was left on {full}", effects, drain)

    # --- what is steered -------------------------------------------------------------------------

    async def _steer(self, fault: Fault, on: tuple[str, ...]) -> Struck:
        pages = self._cluster.pages
        before = {name: pages[name].met() for name in on}
        self._change(on, fault, +1)
        kind = fault.kind
        if kind.startswith("disk_"):
            proof = {"disk_slow": "syncs took longer", "disk_stall": "syncs had to wait"}.get(
                kind, "writes and syncs failed"
            )
            field = _SUFFERED.get(kind, "failed")
        else:
            proof, field = "readings of the wrong clock", "readings"

        async def effects() -> int:
            return sum(
                _count(pages[name].met(), field) - _count(before[name], field) for name in on
            )

        async def lift() -> None:
            if kind != "leap_second":
                self._change(on, fault, -1)
            if kind == "disk_error":
                await self._revive([n for n in on if pages[n].met().failed > before[n].failed])

        return Struck(proof, effects, lift)

    def _change(self, on: tuple[str, ...], fault: Fault, sign: int) -> None:
        for name in on:
            page = self._cluster.pages[name]
            page.write(self._wronged(page.read(), fault, sign))

    def _wronged(self, wrongs: Wrongs, fault: Fault, sign: int) -> Wrongs:
        """The same with a fault more (1) or less (-1)."""
        match fault.kind:
            case "disk_slow":
                delay_ns = wrongs.sync_delay_ns + sign * round(fault.value * 1e6)
                return replace(wrongs, sync_delay_ns=delay_ns)
            case "disk_stall":
                return replace(wrongs, stalled=sign > 0)
            case "disk_error" | "disk_full":
                return replace(wrongs, errno=_ERRNO[fault.kind] if sign > 0 else 0)
            case _:
                return replace(wrongs, clock=self._wrong_clock(wrongs.clock, fault, sign))

    def _wrong_clock(self, clock: WrongClock, fault: Fault, sign: int) -> WrongClock:
        now_ns = self._truth.monotonic_ns()
        match fault.kind:
            case "clock_step":
                return clock.stepped(sign * round(fault.value * 1e9))
            case "leap_second":
                return clock.stepped(-1_000_000_000)
            case "clock_drift":
                return clock.drifting(now_ns, sign * fault.value)
            case "clock_slew":
                return clock.slewed(now_ns, sign * fault.value)
            case "clock_strobe":
                period_ns = _STROBE_PERIOD_NS if sign > 0 else 0
                return clock.strobing(now_ns, round(fault.value * 1e9), period_ns)
            case "clock_freeze" if sign > 0:
                return clock.frozen(now_ns, self._truth.wall_ns())
            case _:
                assert fault.kind == "clock_freeze", fault.kind
                return clock.thawed()

    def _has_namespaces(self, on: tuple[str, ...]) -> bool:
        return all(self._cluster.network.entrance(name) for name in on)


def _count(met: Met, field: str) -> int:
    return int(getattr(met, field))


def _known(count: int) -> Callable[[], Awaitable[int]]:
    async def effects() -> int:
        return count

    return effects


async def _nothing() -> None:
    """Take back a fault that is over as soon as it happened."""


async def _is_stopped(pid: int | None) -> bool:
    """Whether the kernel says that a process is stopped; it may take a moment."""
    for _ in range(50):
        if _state_of(pid) == "T":
            return True
        await asyncio.sleep(0.01)
    return False


def _state_of(pid: int | None) -> str:
    """One letter, as in proc(5); empty where there is no such process or no /proc."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""

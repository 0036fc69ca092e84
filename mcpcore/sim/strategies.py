"""Hypothesis strategies for faults, schedules, workloads, links and topologies.

This module exists so that a property test draws *what goes wrong* as data that shrinks: fewer
faults first, then fewer hosts, shorter, at rounder times, until the script that is left can be read
aloud. Whole kinds of fault are switched off in many examples (swarm testing), since a common
fault hides a rare one; the switches shrink towards "on".

The seed of a world is worth drawing only from a small range: a seed has no size, so it cannot
shrink in any useful sense. Needs the ``test`` extra; the simulator itself never imports this.

Source: Groce et al. 2012, "Swarm testing".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from mcpcore.errors import InvalidInput
from mcpcore.sim.delay import Delay, Link
from mcpcore.sim.schedule import KINDS, Fault, Schedule


def seeds() -> SearchStrategy[int]:
    """Seeds for worlds: few, since they do not shrink."""
    return st.integers(0, 255)


def _time_s(draw: DrawFn, most_s: float) -> float:
    """Seconds and tenths, drawn apart: dropping the tenths makes a time rounder."""
    seconds = draw(st.integers(0, max(0, int(most_s) - 1)))
    return seconds + draw(st.integers(0, 9)) / 10


def _some(draw: DrawFn, names: Sequence[str], *, all_allowed: bool) -> tuple[str, ...]:
    """At least one of ``names``, as a bit mask: one choice, and fewer bits are simpler."""
    most = (1 << len(names)) - 1 if all_allowed or len(names) == 1 else (1 << len(names)) - 2
    mask = draw(st.integers(1, most))
    return tuple(name for bit, name in enumerate(names) if mask >> bit & 1)


@st.composite
def faults(
    draw: DrawFn,
    hosts: Sequence[str],
    *,
    duration_s: float,
    kinds: Sequence[str] = tuple(KINDS),
) -> Fault:
    """One fault on some of ``hosts``, within ``duration_s`` virtual seconds."""
    possible = [kind for kind in kinds if len(hosts) > 1 or not KINDS[kind].needs_to]
    name = draw(st.sampled_from(possible))
    kind = KINDS[name]
    on = _some(draw, hosts, all_allowed=not kind.needs_to)
    others = [host for host in hosts if host not in on]
    value = 0.0
    if kind.value:
        low, high = kind.usual
        value = draw(st.sampled_from([high / 4 or 1.0, high, (low + high) / 2 or 1.0, low or 1.0]))
    return Fault(
        at_s=_time_s(draw, duration_s),
        kind=name,
        on=on,
        to=_some(draw, others, all_allowed=True) if kind.needs_to else (),
        for_s=_time_s(draw, duration_s / 2) + 0.1 if kind.lasts else 0.0,
        value=value,
    )


@st.composite
def schedules(
    draw: DrawFn,
    hosts: Sequence[str],
    *,
    duration_s: float,
    kinds: Sequence[str] = tuple(KINDS),
    faults_max: int = 8,
) -> Schedule:
    """A schedule of at most ``faults_max`` faults within ``duration_s`` virtual seconds.

    Raises:
        InvalidInput: no hosts, or no kinds.
    """
    if not hosts or not kinds:
        raise InvalidInput("nothing to draw from", where="schedules")
    drawn = [
        fault
        for fault in draw(_several(tuple(hosts), duration_s, tuple(kinds), faults_max))
        if fault is not None
    ]
    # One flag for each kind that came up; False, "not off", is the simplest boolean.
    off = {kind: draw(st.booleans()) for kind in dict.fromkeys(fault.kind for fault in drawn)}
    return Schedule(tuple(fault for fault in drawn if not off[fault.kind]))


@lru_cache(maxsize=64)
def _several(
    hosts: tuple[str, ...], duration_s: float, kinds: tuple[str, ...], faults_max: int
) -> SearchStrategy[list[Fault | None]]:
    one = faults(hosts, duration_s=duration_s, kinds=kinds)
    # "No fault" is the simplest fault: Hypothesis makes an element trivial far more readily than it
    # deletes one that took seven choices.
    return st.lists(st.none() | one, max_size=faults_max)


class Ask(NamedTuple):
    """One request of one client, for a test to carry out."""

    at_s: float
    """When, in virtual seconds from the beginning."""
    client: str
    function: str
    key: str


@st.composite
def workloads(
    draw: DrawFn,
    clients: Sequence[str],
    functions: Sequence[str],
    keys: Sequence[str],
    *,
    duration_s: float,
    asks_max: int = 40,
) -> tuple[Ask, ...]:
    """What clients ask, in order of time; shrinks to fewer requests, clients, kinds and keys.

    Whole functions are switched off in many examples, as kinds of fault are.

    Raises:
        InvalidInput: no clients, no functions, or no keys.
    """
    if not clients or not functions or not keys:
        raise InvalidInput("nothing to draw from", where="workloads")
    tenths = st.integers(0, max(0, int(duration_s * 10) - 1))
    one = st.builds(
        Ask,
        tenths.map(lambda tenth: tenth / 10),
        st.sampled_from(list(clients)),
        st.sampled_from(list(functions)),
        st.sampled_from(list(keys)),
    )
    drawn = draw(st.lists(one, max_size=asks_max))
    off = {name: draw(st.booleans()) for name in dict.fromkeys(ask.function for ask in drawn)}
    return tuple(sorted(ask for ask in drawn if not off[ask.function]))


def links() -> SearchStrategy[Link]:
    """Links from perfect to barely usable; perfect is simplest."""
    chance: SearchStrategy[float] = st.sampled_from([0.0, 0.01, 0.1, 0.3])
    fields: dict[str, SearchStrategy[Any]] = {
        "delay": st.builds(
            Delay,
            st.sampled_from(Delay.KINDS),
            st.sampled_from([0.1, 1.0, 20.0, 150.0]),
            st.sampled_from([0.0, 1.0, 50.0]),
            st.sampled_from([1.0, 0.5]),
        ),
        "loss": chance,
        "burst": chance,
        "duplicate": chance,
        "reorder": chance,
        "fragment": chance,
        "bandwidth_bps": st.sampled_from([0, 100_000_000, 1_000_000]),
    }
    return st.builds(Link, **fields)


@st.composite
def topologies(
    draw: DrawFn, *, hosts_min: int = 1, hosts_max: int = 7, regions_max: int = 3
) -> dict[str, list[str]]:
    """Hosts in regions: ``{region: [host, ...]}``; few hosts in one region are simplest."""
    count = draw(st.integers(hosts_min, hosts_max))
    regions = draw(st.integers(1, min(regions_max, count)))
    made: dict[str, list[str]] = {f"region-{index + 1}": [] for index in range(regions)}
    names = list(made)
    for index in range(count):
        region = names[index % regions]
        made[region].append(f"host-{index + 1}")
    return made

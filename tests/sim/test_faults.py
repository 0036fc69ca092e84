"""Faults are data: they read back as written, strike as asked, end as asked, and own up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings

from mcpcore.errors import InvalidInput
from mcpcore.sim import Link, World, maybe, sometimes
from mcpcore.sim.schedule import KINDS, Fault, Schedule, random_schedule
from mcpcore.sim.strategies import links, schedules, topologies

HOSTS = ["a", "b", "c", "d", "e"]


@settings(deadline=None, max_examples=40)
@given(schedules(HOSTS, duration_s=60))
def test_a_schedule_reads_back_as_it_was_written(schedule: Schedule) -> None:
    assert Schedule.from_toml(schedule.to_toml()) == schedule
    assert Schedule.from_tables(schedule.to_tables()) == schedule


async def _bustle() -> None:
    """Use everything that a fault could break: streams, datagrams, clock, disk."""
    loop = asyncio.get_running_loop()
    disk = loop.host.disk  # type: ignore[attr-defined]
    name = loop.host.name  # type: ignore[attr-defined]

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1_000):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    await asyncio.start_server(echo, "0.0.0.0", 7)
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("0.0.0.0", 9)
    )

    async def talk(other: str) -> None:
        while True:
            try:
                async with asyncio.timeout(2):
                    reader, writer = await asyncio.open_connection(other, 7)
                    try:
                        for _ in range(5):
                            writer.write(b"hello")
                            await reader.readexactly(5)
                            await asyncio.sleep(0.3)
                    finally:
                        writer.close()
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                await asyncio.sleep(0.1)

    async def store() -> None:
        number = 0
        while True:
            try:
                file = disk.open("f", create=True)
                await file.write(number % 100 * 10, b"x" * 10, sync=True)
                file.read(0, 10)
                number += 1
            except OSError:
                pass
            await asyncio.sleep(0.15)

    async with asyncio.TaskGroup() as group:
        for other in HOSTS:
            if other != name:
                group.create_task(talk(other))
        group.create_task(store())
        while True:
            for other in HOSTS:
                transport.sendto(b"x" * 600, (other, 9))
            time.time_ns()
            await asyncio.sleep(0.15)


def usual(kind: str) -> Fault:
    about = KINDS[kind]
    return Fault(
        at_s=1.0,
        kind=kind,
        on=("a",),
        to=("b",) if about.needs_to or kind == "reset" else (),
        for_s=2.0 if about.lasts else 0.0,
        value=500.0 if kind == "mtu_hole" else sum(about.usual) / 2 or 50.0 if about.value else 0.0,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fault_has_an_effect_and_ends(kind: str) -> None:
    with World(seed=2) as world:
        for name in HOSTS:
            world.host(name, _bustle)
        world.apply(Schedule((usual(kind),)))
        world.run(2.9)
        (made,) = world.plan.injected
        assert made.touched() > 0, str(made)
        world.run(0.2)
        assert made.over or not KINDS[kind].lasts
        world.heal()
        world.run(0.5)
        assert [host.state for host in world.hosts.values()] == ["running"] * 5
        assert world.plan.without_effect() == []
        assert not any(path.is_cut or path.bends for path in world.network.between(HOSTS, HOSTS))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(1, "partition", ("a",), ("b",), for_s=1),
        Fault(1, "disk_stall", ("a",), for_s=1),
        Fault(1, "clock_step", ("a",), value=5),
        Fault(1, "lossy", ("a",), ("b",), value=0.5),
    ],
    ids=str,
)
def test_a_fault_that_touched_nothing_is_reported(fault: Fault) -> None:
    with World() as world:
        world.host("a", lambda: asyncio.sleep(1e6))
        world.host("b")
        world.apply(Schedule((fault,)))
        world.run(5)
        assert world.plan.without_effect() == [fault]


def test_crashing_a_host_that_is_down_is_reported_as_without_effect() -> None:
    with World() as world:
        world.host("a")
        world.inject("crash", "a")
        world.inject("crash", "a")
        assert [made.touched() for made in world.plan.injected] == [1, 0]


def sees(world: World) -> dict[str, str]:
    return {
        a: "".join(b for b in HOSTS if a != b and not world.network.between([a], [b])[0].is_cut)
        for a in HOSTS
    }


def test_the_shapes_of_partitions_are_what_their_names_say() -> None:
    with World() as world:
        for name in HOSTS:
            world.host(name)
        shapes = {}
        for kind, on in (
            ("partition", "ab"),
            ("isolate", "c"),
            ("bridge", "c"),
            ("majority_ring", ""),
        ):
            made = world.inject(kind, *on)
            shapes[kind] = sees(world)
            made.end()
            made.end()
            assert sees(world) == {a: "".join(b for b in HOSTS if a != b) for a in HOSTS}
    assert shapes["partition"] == {"a": "b", "b": "a", "c": "de", "d": "ce", "e": "cd"}
    assert shapes["isolate"] == {"a": "bde", "b": "ade", "c": "", "d": "abe", "e": "abd"}
    assert shapes["bridge"] == {"a": "bc", "b": "ac", "c": "abde", "d": "ce", "e": "cd"}
    ring = shapes["majority_ring"]
    assert all(len(seen) + 1 == 3 for seen in ring.values()), "a bare majority of five"
    assert len({frozenset(seen + a) for a, seen in ring.items()}) == 5, "no two the same"


def test_bends_of_one_link_add_up_and_leave_in_any_order() -> None:
    with World() as world:
        world.host("a")
        world.host("b")
        world.network.default = Link()
        (path,) = world.network.between(["a"], ["b"])
        before = path.link
        slow = world.inject("slow_link", "a", to=("b",), value=100)
        lossy = world.inject("lossy", "a", to=("b",), value=0.25)
        assert (path.link.extra_ms, path.link.loss) == (100, 0.25)
        slow.end()
        assert (path.link.extra_ms, path.link.loss) == (0, 0.25)
        lossy.end()
        assert path.link == before


def test_seeded_schedules_are_the_same_for_the_same_seed_and_fit_the_hosts() -> None:
    for seed in range(50):
        drawn = random_schedule(seed, HOSTS, duration_s=30)
        assert drawn == random_schedule(seed, HOSTS, duration_s=30)
        drawn.check_hosts(HOSTS)
        assert 1 <= len(drawn) <= 6
        assert Schedule.from_toml(drawn.to_toml()) == drawn


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[fault", "not TOML"),
        ("[fault]\nat_s = 1", "two brackets"),
        ("speed = 3", "unknown: speed"),
        ("[[fault]]\nat_s = 1.0", r"fault\[0\]: kind missing"),
        ('[[fault]]\nat_s = 1.0\nkind = "meteor"', "meteor"),
        ('[[fault]]\nat_s = "soon"\nkind = "crash"', "at_s: 'soon' is not a float"),
        ('[[fault]]\nat_s = 1.0\nkind = "crash"\nhost = "a"', "no field 'host'"),
        ('[[fault]]\nat_s = 1.0\nkind = "crash"\non = "a"', "not a list of host names"),
        ('[[fault]]\nat_s = -1.0\nkind = "crash"', "not a time"),
        ('[[fault]]\nat_s = nan\nkind = "crash"', "not a time"),
        ('[[fault]]\nat_s = 1.0\nkind = "one_way"\non = ["a"]', "from `on` to `to`"),
        ('[[fault]]\nat_s = 1.0\nkind = "lossy"', "needs chance"),
        ('[[fault]]\nat_s = 1.0\nkind = "partition"\non = ["a"]\nto = ["a"]', "a on both sides"),
    ],
)
def test_a_schedule_that_cannot_be_used_says_where_and_why(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Schedule.from_toml(text, where="my.toml")


def test_a_schedule_for_other_hosts_is_refused_before_anything_happens() -> None:
    with World() as world:
        world.host("a")
        with pytest.raises(InvalidInput, match=r"fault\[1\] \(kill\): no host 'z'"):
            world.apply(Schedule((Fault(1, "crash", ("a",)), Fault(2, "kill", ("z",)))))
        world.run(5)
        with pytest.raises(InvalidInput, match="has passed"):
            world.apply(Schedule((Fault(1, "crash", ("a",)),)))


@settings(deadline=None, max_examples=30)
@given(topologies(), links())
def test_topologies_and_links_can_be_drawn_and_built(
    regions: dict[str, list[str]], link: Link
) -> None:
    with World() as world:
        world.network.default = link
        for region, names in regions.items():
            for name in names:
                world.host(name, region=region)
        assert world.network.names() == [name for names in regions.values() for name in names]


def test_maybe_misbehaves_in_some_worlds_only_and_never_outside() -> None:
    async def main() -> int:
        return sum(maybe("slow-apply") for _ in range(100))

    def fired(seed: int) -> int:
        with World(seed) as world:
            count: int = world.call(world.host("a"), main())
            assert len(list(world.trace.events("maybe"))) == count
            return count

    counts = [fired(seed) for seed in range(40)]
    assert counts == [fired(seed) for seed in range(40)]
    assert 2 < sum(count > 0 for count in counts) < 20, "armed in about a quarter of worlds"
    assert not any(maybe("slow-apply") for _ in range(100))


def test_sometimes_counts_what_was_reached() -> None:
    async def main() -> None:
        for number in range(5):
            assert sometimes("odd", number % 2 == 1) is (number % 2 == 1)
        sometimes("once")

    with World() as world:
        for name in "ab":
            world.call(world.host(name), main())
        assert world.marks == {"odd": 4, "once": 2}
    assert sometimes("outside")


def test_hypothesis_finds_and_shrinks_to_the_one_fault_that_matters() -> None:
    """The failing example must be one fault, on one host, at a round time."""
    from hypothesis import find

    def breaks(schedule: Schedule) -> bool:
        return any(fault.kind == "wipe" for fault in schedule.faults)

    smallest: Callable[..., Schedule] = find
    found = smallest(schedules(HOSTS, duration_s=60), breaks)
    (fault,) = found.faults
    assert (fault.kind, fault.at_s) == ("wipe", 0)
    assert len(fault.on) == 1

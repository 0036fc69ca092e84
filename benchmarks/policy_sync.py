"""How long an edit takes to be known at all sites: three clouds, simulated, the real node's code.

The article's figure for the same kind of work
is a P99 of 117 ms. What a message takes at least is the one-way delay of the link; so the claim is
that nothing is added to it: the P99 of an edit's way lies within 5 % of the P99 of the delays that
the links draw. Virtual time: the machine's load changes nothing, and the same seed gives the same
figures.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.harness.bench import Bench
from mcpcore.crdt.anti_entropy import State
from mcpcore.experiment.links import THREE_CLOUDS
from mcpcore.node.node import GroupConfig, Node, NodeConfig
from mcpcore.node.policies.machine import PolicyMachine
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.security import Plaintext
from mcpcore.policy import AccessRule, Author, Effect, Names, Statement, own
from mcpcore.raft.settings import RaftSettings
from mcpcore.sim import World
from mcpcore.sim.delay import Delay, Link

SITES = ("us-east-1", "hangzhou", "edge")
SHOP = Author("shop")
GROUP = "policy"
ARTICLE_MS = 117.0
DELAY = "the links' delay"


@dataclass(frozen=True)
class Figures:
    """Times in milliseconds, sorted.

    Args:
        site: from an edit to each other site.
        everywhere: from an edit to the last site.
        delay: the one-way delays of as many packets on the same links.
        furthest: the longer one of the two delays from a site.
        gift: from an edit that gives to its being in force at the last site.
    """

    site: list[float]
    everywhere: list[float]
    delay: list[float]
    furthest: list[float]
    gift: list[float]


def p(times: list[float], share: float) -> float:
    return times[min(len(times) - 1, int(len(times) * share))]


def statement(effect: Effect, number: int) -> Statement:
    rule = AccessRule(Names.of(f"shop/user/u{number}"), Names.of("*"), Names.of("shop/service/web"))
    return Statement(effect, rule, "shop")


def clouds(world: World) -> tuple[dict[str, Node], Callable[[], bool]]:
    """Three sites on the article's links; returns their nodes and whether all of them are up."""
    nodes: dict[str, Node] = {}
    security = Plaintext(allow_plaintext=True, networks=("10.0.0.0/8",))

    def main(name: str) -> Callable[[], object]:
        async def live() -> None:
            host = hosts[name]
            at = {site: Address(other.address, 7000) for site, other in hosts.items()}
            config = NodeConfig(
                cluster="clouds",
                name=name,
                listen=at[name],
                peers={site: address for site, address in at.items() if site != name},
                data="data",
                security=security,
                groups={GROUP: GroupConfig(SITES, RaftSettings())},
                bootstrap=True,
            )
            node = Node(config, lambda group: PolicyMachine(), disk=host.disk, rng=host.random)
            async with node:
                nodes[name] = node
                await node.stopped.wait()

        return live

    hosts = {name: world.host(name, main(name), start=False) for name in SITES}  # type: ignore[arg-type]
    for (source, target), quality in THREE_CLOUDS.items():
        delay = Delay("normal", quality.one_way_s * 1e3, quality.jitter_s * 1e3)
        world.network.set_link(source, target, Link(delay=delay))
    for host in hosts.values():
        host.start()

    def up() -> bool:
        return len(nodes) == len(SITES) and any(
            node.group(GROUP).raft.is_leader for node in nodes.values()
        )

    return nodes, up


def follow_edits(edits: int, seed: int) -> Figures:
    """Edit on random sites at random moments, ten a second."""
    draw = random.Random(seed)
    made: dict[str, int] = {}
    source: dict[str, str] = {}
    known: dict[str, dict[str, int]] = {}
    given: dict[str, int] = {}
    forced: dict[str, set[str]] = {}
    gift: list[float] = []
    with World(seed=seed) as world:
        nodes, up = clouds(world)
        world.run_until(up, within_s=60)
        world.run(5)
        leader = next(name for name in SITES if nodes[name].group(GROUP).raft.is_leader)

        async def begin() -> None:
            await nodes[leader].policy(GROUP).order(own("shop", "shop"))

        world.call(leader, begin())
        world.run(3)

        def listen(site: str) -> None:
            policy = nodes[site].policy(GROUP)

            def heard(news: State) -> None:
                for edit in policy.store.read(news):  # type: ignore[arg-type]
                    key = edit.body.statement.id  # type: ignore[union-attr]
                    if key in made:
                        known.setdefault(key, {})[site] = world.now_ns

            nodes[site].replicated(f"policy.{GROUP}").listeners.append(heard)

            async def follow() -> None:
                async for _ in policy.changes():
                    for key in [k for k in given if site not in forced[k]]:
                        if any(s.id == key for s in policy.store.live.engine.statements):
                            forced[key].add(site)
                            if len(forced[key]) == len(SITES):
                                gift.append((world.now_ns - given.pop(key)) / 1e6)

            world[site].spawn(follow())

        async def edit(site: str, said: Statement) -> None:
            await nodes[site].policy(GROUP).add(SHOP, said)

        for site in SITES:
            listen(site)
        for number in range(edits):
            world.run(draw.expovariate(10.0))
            site, gives = draw.choice(SITES), number % 10 == 0
            said = statement(Effect.PERMIT if gives else Effect.FORBID, number)
            made[said.id], source[said.id] = world.now_ns, site
            if gives:
                given[said.id], forced[said.id] = world.now_ns, set()
            world[site].spawn(edit(site, said))
        world.run(5)
    ways = [
        [(at - made[key]) / 1e6 for site, at in sites.items() if site != source[key]]
        for key, sites in known.items()
    ]
    assert len(ways) == edits, "every edit arrived"
    assert all(len(way) == 2 for way in ways), "and at every site"
    dice = random.Random(seed + 1)

    def one_way(a: str, b: str) -> float:
        quality = THREE_CLOUDS[a, b]
        delay = Delay("normal", quality.one_way_s * 1e3, quality.jitter_s * 1e3)
        return delay.draw_ns(dice) / 1e6

    pairs = [(key, site) for key in made for site in SITES if site != source[key]]
    drawn = {pair: one_way(source[pair[0]], pair[1]) for pair in pairs}
    last = [max(drawn[key, s] for s in SITES if s != source[key]) for key in made]
    return Figures(
        _sorted(each for way in ways for each in way),
        _sorted(max(way) for way in ways),
        _sorted(drawn.values()),
        _sorted(last),
        _sorted(gift),
    )


def _sorted(values: Iterable[float]) -> list[float]:
    return sorted(values)


def measure(bench: Bench) -> None:
    """The way of many edits, beside the delays of the links."""
    edits = 2_000 if bench.options.full else 300
    bench.answer.method = (
        f"{edits} edits at {len(SITES)} sites, seed 1, virtual time: no machine is measured. Six "
        "links with normal jitter; the delay: of as many packets on the same links. `--full` takes "
        "2,000 edits."
    )
    bench.answer.bias = f"The article's P99, of its own sync on its own links: {ARTICLE_MS:g} ms."
    bench.answer.references = (DELAY,)
    bench.progress.step("edits", {"edits": edits})
    found = follow_edits(edits, 1)
    rows = {
        "to a site": {"mcpcore": found.site, DELAY: found.delay},
        "to all sites": {"mcpcore": found.everywhere, DELAY: found.furthest},
        "a gift, in force at all sites": {"mcpcore": found.gift},
    }
    for way, subjects in rows.items():
        for subject, times in subjects.items():
            for name, share in (("p50", 0.5), ("p99", 0.99)):
                if times:
                    rounds = [p(times, share)]
                    case = {"an edit's way": way}
                    bench.figure("", subject, case, name, rounds, unit="ms", better="less")

"""The policy story on running nodes: three clouds, a cut, edits on both sides, the heal, decisions.

This module exists so that what `mcpctl demo policy` shows is what nodes do: their transport, logs,
clocks and disks, on simulated hosts in virtual time. The words of the story are those of
:mod:`mcpcore.policy.story`. It must never print.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from mcpcore.experiment.links import THREE_CLOUDS
from mcpcore.node.node import GroupConfig, Node, NodeConfig
from mcpcore.node.policies.machine import PolicyMachine
from mcpcore.node.policies.service import PolicyService
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.security import Plaintext
from mcpcore.policy import Author, own
from mcpcore.policy.rules import Mode
from mcpcore.policy.story import (
    BANK,
    CHOICES,
    CLEO,
    CLOUDS,
    CUT_OFF,
    DEPLOY,
    EVERYBODY,
    FREEZE,
    INCIDENT,
    QUESTIONS,
    SHOP,
    Scene,
)
from mcpcore.raft.settings import MILLISECOND, RaftSettings
from mcpcore.sim import World
from mcpcore.sim.delay import Delay, Link
from mcpcore.sim.faults import Injected

_GROUP: Final = "policy"
_PORT: Final = 7000
_SETTINGS: Final = RaftSettings(
    election_timeout_ns=1500 * MILLISECOND, heartbeat_ns=300 * MILLISECOND
)
_PATIENCE_S: Final = 60.0


class PolicyStory:
    """Three nodes and what happens to them. Use it as a context manager.

    Args:
        mode: guarded, or optimistic to see what goes wrong without the log.
        seed: of the world; the same seed tells the same story.
    """

    def __init__(self, mode: Mode = Mode.GUARDED, seed: int = 1) -> None:
        self._mode = mode
        self._world = World(seed=seed)
        self._nodes: dict[str, Node] = {}
        self._addresses: dict[str, Address] = {}
        self._fault: Injected | None = None
        self.gained = 0
        """Answers that the merge turned to yes although no cloud had said yes."""
        self.left = 0
        """Conflicts that are open in the end, in all clouds together."""

    def __enter__(self) -> PolicyStory:
        self._world.__enter__()
        for name in CLOUDS:
            self._world.host(name, self._main(name), start=False)
        self._addresses = {n: Address(self._world[n].address, _PORT) for n in CLOUDS}
        for (source, target), line in THREE_CLOUDS.items():
            delay = Delay("normal", line.one_way_s * 1e3, line.jitter_s * 1e3)
            self._world.network.set_link(source, target, Link(delay=delay))
        for name in CLOUDS:
            self._world[name].start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._world.__exit__(*error)

    def _main(self, name: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def live() -> None:
            host = self._world[name]
            config = NodeConfig(
                cluster="clouds",
                name=name,
                listen=self._addresses[name],
                peers={peer: at for peer, at in self._addresses.items() if peer != name},
                data="data",
                security=Plaintext(allow_plaintext=True, networks=("10.0.0.0/8",)),
                groups={_GROUP: GroupConfig(CLOUDS, _SETTINGS)},
                bootstrap=True,
            )
            rng: random.Random = host.random
            node = Node(config, lambda group: PolicyMachine(self._mode), disk=host.disk, rng=rng)
            async with node:
                self._nodes[name] = node
                await node.stopped.wait()

        return live

    # --- doing ----------------------------------------------------------------------------------

    def _policy(self, name: str) -> PolicyService:
        return self._nodes[name].policy(_GROUP)

    def _edit(self, name: str, act: Callable[[PolicyService], Any]) -> None:
        async def change() -> None:
            await act(self._policy(name))

        self._world.call(name, change())

    def _leader(self) -> str:
        for name, node in self._nodes.items():
            if _GROUP in node.groups and node.group(_GROUP).raft.is_leader:
                return name
        return ""

    def _order(self, command: bytes) -> None:
        async def propose() -> None:
            await self._policy(leader).order(command)

        leader = self._leader()
        self._world.call(leader, propose())

    def _until(self, condition: Callable[[], bool]) -> None:
        self._world.run_until(condition, within_s=_PATIENCE_S)

    def _same(self, *names: str) -> bool:
        """Whether these clouds hold the same edits and know the same log."""
        stores = [self._policy(name).store for name in names or CLOUDS]
        return all(
            store.state == stores[0].state and store.prefix.epoch == stores[0].prefix.epoch
            for store in stores
        )

    def _settled(self) -> bool:
        return self._same() and not self._policy(CLOUDS[0]).pending()

    def answers(self) -> tuple[tuple[bool, ...], ...]:
        """What each cloud answers to each question."""
        services = [self._policy(name) for name in CLOUDS]
        return tuple(tuple(s.decide(q).allowed for s in services) for q in QUESTIONS)

    # --- the story ------------------------------------------------------------------------------

    def scenes(self) -> Iterator[Scene]:
        """The story. Take the scenes in order, once."""
        yield self._beginning()
        yield self._cut()
        yield from self._heal()
        yield self._decide()

    def _beginning(self) -> Scene:
        self._until(lambda: len(self._nodes) == len(CLOUDS) and bool(self._leader()))
        for tenant in ("shop", "bank"):
            self._order(own(tenant, tenant))
        self._edit("us-east-1", lambda policy: policy.add(SHOP, DEPLOY, "deploy"))
        self._edit("us-east-1", lambda policy: policy.add(SHOP, FREEZE, "freeze"))
        self._edit(
            "us-east-1", lambda policy: policy.enrol(SHOP, "shop/user/ann", "shop/role/deployer")
        )
        began_ns = self._world.now_ns
        self._until(self._settled)
        took_ms = (self._world.now_ns - began_ns) / 1e6
        lines = (
            "Two tenants, shop and bank, own a namespace each. shop lets its deployers",
            "deploy, and forbids everybody to touch the ledger. Ordered, and in force in",
            f"all clouds, {took_ms:.0f} ms after the last edit; {self._leader()} leads the log.",
        )
        return Scene("Three clouds agree", lines, self.answers())

    def _cut(self) -> Scene:
        self._fault = self._world.inject("isolate", CUT_OFF)
        majority = [name for name in CLOUDS if name != CUT_OFF]
        self._world.run(8)
        self._until(lambda: self._leader() in majority)
        self._edit("us-east-1", lambda policy: policy.drop(SHOP, FREEZE))
        self._edit("hangzhou", lambda policy: policy.note(SHOP, "contact", "on-call@shop"))
        self._edit(
            "hangzhou",
            lambda policy: policy.enrol(SHOP, "shop/role/deployer", "shop/role/operator"),
        )
        self._until(lambda: self._same(*majority) and not self._policy(self._leader()).pending())
        edge = CUT_OFF
        self._edit(edge, lambda policy: policy.add(SHOP, CLEO, "cleo"))
        self._edit(edge, lambda policy: policy.add(SHOP, INCIDENT, "incident"))
        self._edit(edge, lambda policy: policy.note(SHOP, "contact", "cleo@shop"))
        self._edit(
            edge, lambda policy: policy.enrol(SHOP, "shop/role/operator", "shop/role/deployer")
        )
        self._edit(edge, lambda policy: policy.add(BANK, EVERYBODY, "reach"))
        waits = len(self._policy(edge).pending())
        lines = (
            "us-east-1  shop lifts its forbid over the ledger",
            "hangzhou   deployers become operators; contact is on-call@shop",
            "edge       cleo may deploy the ledger; ann may not deploy web (an incident);",
            "           operators become deployers; contact is cleo@shop;",
            "           bank permits everybody to read what is shop's",
            f"The edge has no quorum. What takes counts there at once, {waits} gifts wait.",
        )
        return Scene("The edge is cut off, and both sides edit", lines, self.answers())

    def _heal(self) -> Iterator[Scene]:
        """First the merge, as it is before the log has gone on; then what the log makes of it."""
        before = [any(row) for row in self.answers()]
        epoch = self._policy(self._leader()).store.prefix.epoch
        healed_ns = self._world.now_ns
        merged: tuple[tuple[bool, ...], ...] = ()

        def look() -> bool:
            """The moment at which all edits are in a cloud, and no more of the log than before."""
            nonlocal merged
            cloud = self._policy(self._leader() or "us-east-1")
            has = {edit.cloud for edit in cloud.store.edits()} == set(CLOUDS)
            if has and cloud.store.prefix.epoch == epoch and not merged:
                merged = tuple((cloud.decide(question).allowed,) for question in QUESTIONS)
            return self._settled()

        assert self._fault is not None
        self._fault.end()
        self._until(look)
        took_ms = (self._world.now_ns - healed_ns) / 1e6
        self.gained = sum(row[0] and not said for row, said in zip(merged, before, strict=False))
        lines = (
            "The edits flow first. What takes away counts on arrival: ann is stopped.",
            "What gives waits for the log, wherever it was said.",
            f"Answers that the merge alone turned to yes: {self.gained}.",
        )
        yield Scene("The cut heals, and the clouds merge", lines)
        ordered = (
            f"{took_ms:.0f} ms after the heal all is ordered, and in force everywhere. The",
            "permit for cleo counts, after the forbid that was lifted before it.",
        )
        east = self._policy("us-east-1")
        yield Scene(
            "The log takes what waited, in one order", ordered, self.answers(),
            tuple(east.conflicts()), east.explain(QUESTIONS[2]),
        )  # fmt: skip

    def _decide(self) -> Scene:
        lines = []
        east = self._policy("us-east-1")
        while east.conflicts():
            conflict = east.conflicts()[0]
            choice = CHOICES[conflict.kind]
            author = Author(conflict.tenants[0], document=conflict.edits[0].document)
            self._settle(author, conflict.id, choice)
            lines.append(f"{conflict.id} {conflict.kind:<13} {author.tenant} chooses {choice}")
        self._until(self._settled)
        self.left = sum(len(self._policy(name).conflicts()) for name in CLOUDS)
        lines.append(f"open conflicts in all clouds: {self.left}; same policy everywhere: yes")
        return Scene("People decide, in one cloud, for all", tuple(lines), self.answers())

    def _settle(self, author: Author, conflict: str, choice: str) -> None:
        self._edit(
            "us-east-1",
            lambda policy: policy.resolve(author, conflict, choice, "settled in the demo"),
        )

"""The operator of a run: adds, removes, replaces and upgrades nodes while clients work.

This module exists so that a scenario can say what an operator does, and so that it is done as one
would do it: asked of the cluster, again if it is refused for the moment, and done when the
configuration says so. How a process is stopped and started is handed in. It must never judge.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from mcpcore.errors import OutcomeUnknown, Rejected
from mcpcore.experiment.run import StepRecord
from mcpcore.experiment.scenario import LEADER, Scenario, Step
from mcpcore.node.client.client import Client
from mcpcore.raft.membership import AddLearner, Change, Demote, Promote, Remove
from mcpcore.raft.types import Member

_PAUSE_S: Final = 0.3


class Site(Protocol):
    """What the operator can see and touch."""

    def leader(self) -> str:
        """Who leads the first group; empty if nobody does."""
        ...

    def roles(self, group: str) -> tuple[frozenset[str], frozenset[str]]:
        """Voters and learners as the group's leader applied them; empty while nobody can tell."""
        ...

    def caught_up(self, group: str, node: str) -> bool:
        """Whether a node holds about what the leader holds."""
        ...

    def member(self, node: str) -> Member:
        """What is known about a node: address and zone."""
        ...

    async def upgrade(self, node: str) -> None:
        """Stop a node's process and start it with the newest version; returns once it serves."""
        ...


class Operator:
    """Carries out the steps of a scenario, one after the other.

    Args:
        site: the cluster. client: an administrator's connection; closed in the end.
        now_s: the run's clock.
    """

    def __init__(
        self, scenario: Scenario, site: Site, client: Client, now_s: Callable[[], float]
    ) -> None:
        self.records: list[StepRecord] = []
        self.idle = True
        """Whether nothing is under way."""
        self._scenario = scenario
        self._site = site
        self._client = client
        self._now_s = now_s
        self._told = ""

    async def found(self) -> None:
        """Make the learners learners, before clients begin."""
        learners = frozenset(self._scenario.learners)
        if learners:
            names = self._scenario.learners
            await self._everywhere([AddLearner(n, self._newcomer(n, False)) for n in names])
        await self._until(lambda group: learners <= self._site.roles(group)[1])

    async def run(self) -> None:
        """All steps of the scenario, each at its time or as soon as those before it are done."""
        steps = [*self._scenario.steps]
        self.idle = not steps
        for number, step in enumerate(steps):
            await asyncio.sleep(max(0.0, step.at_s - self._now_s()))
            node = self._site.leader() if step.node == LEADER else step.node
            name = str(Step(step.at_s, step.do, node or LEADER, step.by))
            self._told, began_s = "", self._now_s()
            self.records.append(StepRecord(name, began_s, None, "not done"))
            await self._carry_out(step, node)
            self.records[-1] = StepRecord(name, began_s, self._now_s(), self._told)
            self.idle = number == len(steps) - 1
        await self._client.close()

    async def _carry_out(self, step: Step, node: str) -> None:
        site = self._site
        match step.do:
            case "add":
                await self._everywhere((AddLearner(node, self._newcomer(node, promote=True)),))
                await self._until(lambda group: node in site.roles(group)[0])
            case "add-learner":
                await self._everywhere((AddLearner(node, self._newcomer(node, promote=False)),))
                await self._until(lambda group: node in site.roles(group)[1])
            case "promote":
                await self._until(lambda group: site.caught_up(group, node))
                await self._everywhere((Promote(node),))
                await self._until(lambda group: node in site.roles(group)[0])
            case "demote":
                await self._everywhere((Demote(node),))
                await self._until(lambda group: node in site.roles(group)[1])
            case "remove":
                await self._everywhere((Remove(node),))
                await self._until(lambda group: _gone(node, site.roles(group)))
            case "replace":
                await self._everywhere((AddLearner(step.by, self._newcomer(step.by, False)),))
                await self._until(lambda group: site.caught_up(group, step.by))
                await self._everywhere((Remove(node), Promote(step.by)))
                await self._until(
                    lambda group: step.by in site.roles(group)[0] and _gone(node, site.roles(group))
                )
            case "upgrade":
                await site.upgrade(node)

    def _newcomer(self, name: str, promote: bool) -> Member:
        return self._site.member(name)._replace(promote=promote)

    async def _everywhere(self, changes: Sequence[Change]) -> None:
        """Ask every group until it has taken the change: a repetition changes nothing."""
        for group in self._scenario.groups.names:
            while True:
                try:
                    await self._client.change_members(changes, group=group)
                    break
                except (Rejected, OutcomeUnknown) as error:
                    self._told = str(error)
                    if self.records:
                        self.records[-1] = self.records[-1]._replace(told=self._told)
                    await asyncio.sleep(_PAUSE_S)

    async def _until(self, done: Callable[[str], bool]) -> None:
        for group in self._scenario.groups.names:
            while True:
                if done(group):
                    break
                await asyncio.sleep(_PAUSE_S)


def _gone(node: str, roles: Iterable[frozenset[str]]) -> bool:
    voters, learners = roles
    return bool(voters) and node not in voters | learners

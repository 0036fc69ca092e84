"""A small orchestration service: desired state, a policy in front of it, a saga behind it.

This is an example of a program that imports mcpcore. It keeps what should run where (replicated by
a group), lets only those change it whom a policy permits (merged without conflicts, also during a
cut), and carries a change out over three clouds with a saga: all of them, or none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

from mcpcore import Client, KeyValueClient, KeyValueNode, Node, StateMachine
from mcpcore.node.policies.machine import PolicyMachine
from mcpcore.node.sagas import GroupJournal
from mcpcore.policy import (
    AccessRule,
    Author,
    Effect,
    Names,
    Request,
    Statement,
    own,
)  # fmt: skip
from mcpcore.saga import Call, Outcome, Saga, SagaEngine, Status, Step, StepFailed

TENANT = "shop"
OPERATORS = f"{TENANT}/role/operator"


class Cloud(Protocol):
    """What we need of a cloud's API. Both calls can be repeated."""

    async def deploy(self, name: str, image: str, token: str) -> None:
        """Run it. Raises ``StepFailed`` if that is certainly impossible."""
        ...

    async def remove(self, name: str, token: str) -> None:
        """Let it be as if the deployment with this token had never been asked for."""
        ...


@dataclass(frozen=True, slots=True)
class Deployment:
    """What should run, and how far that has come."""

    name: str
    image: str
    clouds: tuple[str, ...]
    state: str = "pending"
    why: str = ""


def machine(group: str) -> StateMachine:
    """What a node replicates: the policy's log in one group, keys and values in the other."""
    return PolicyMachine() if group == "policy" else KeyValueNode()


class Orchestrator:
    """The service on one node.

    Args:
        node: a started node with the groups ``main`` and ``policy``.
        client: a client of the cluster.
        clouds: the clouds' APIs, by name.
    """

    def __init__(self, node: Node, client: Client, clouds: Mapping[str, Cloud]) -> None:
        self.node = node
        self._clouds = clouds
        self._store = KeyValueClient(client)
        self._client = client
        self.rollout = Saga(
            "rollout",
            *(self._step(cloud) for cloud in clouds),
            Step(self._record, pivot=True, name="record"),
            deadline_s=120,
        )
        self.engine = SagaEngine(GroupJournal(client), [self.rollout], name=node.config.name)

    # --- what is wanted ------------------------------------------------------------------------

    async def deploy(self, who: str, name: str, image: str) -> Outcome:
        """Roll an image out over all clouds, or over none.

        Raises:
            PermissionError: the policy does not let ``who`` do this; the error says why.
            Rejected, OutcomeUnknown: as everywhere in mcpcore.
        """
        question = Request(f"{TENANT}/user/{who}", "deploy", f"{TENANT}/service/{name}")
        decision = self.node.policy("policy").decide(question)
        if not decision.allowed:
            raise PermissionError(str(self.node.policy("policy").explain(question)))
        before = await self.find(name)
        if before is not None and before.image == image and before.state == "running":
            raise ValueError(f"{name} runs {image} already")
        wanted = {"name": name, "image": image}
        outcome = await self.engine.run(self.rollout, wanted, budget_s=60)
        if outcome.status is not Status.COMPLETED:
            await self._write(Deployment(name, image, (), "failed", outcome.why))
        return outcome

    async def find(self, name: str) -> Deployment | None:
        """What is known of a deployment."""
        record = await self._store.get(f"deployment/{name}")
        if record is None:
            return None
        told = json.loads(record.value)
        return Deployment(**told | {"clouds": tuple(told["clouds"])})

    # --- who may -------------------------------------------------------------------------------

    async def found(self) -> None:
        """Wait until the cluster answers, and say who owns the names that we speak of; repeating it
        is harmless.
        """
        await self._client.propose(own(TENANT, TENANT), group="policy", timeout_s=60)
        await self._store.get("deployment/")  # the other group has a leader, too

    async def permit(self, who: str) -> None:
        """Let somebody deploy. In force once a quorum has ordered it; pending during a cut."""
        service = self.node.policy("policy")
        rule = AccessRule(Names.of(OPERATORS), Names.of("deploy"), Names.of(f"{TENANT}/service/*"))
        await service.add(Author(TENANT), Statement(Effect.PERMIT, rule, TENANT), "operators")
        await service.enrol(Author(TENANT), f"{TENANT}/user/{who}", OPERATORS)

    async def freeze(self, name: str) -> None:
        """Let nobody deploy this. In force here at once, cut off or not."""
        rule = AccessRule(Names.of("*"), Names.of("*"), Names.of(f"{TENANT}/service/{name}"))
        freeze = Statement(Effect.FORBID, rule, TENANT)
        await self.node.policy("policy").add(Author(TENANT), freeze, f"freeze {name}")

    # --- the steps of a rollout ------------------------------------------------------------------

    def _step(self, cloud: str) -> Step:
        async def deploy(call: Call) -> None:
            await self._clouds[cloud].deploy(call.input["name"], call.input["image"], call.token)

        async def remove(call: Call) -> None:
            await self._clouds[cloud].remove(call.input["name"], call.do_token)

        return Step(deploy, remove, name=f"deploy-{cloud}", target=cloud, timeout_s=5)

    async def _record(self, call: Call) -> None:
        running = Deployment(
            call.input["name"], call.input["image"], tuple(self._clouds), "running"
        )
        await self._write(running)

    async def _write(self, deployment: Deployment) -> None:
        value = json.dumps(asdict(deployment))
        await self._store.put(f"deployment/{deployment.name}", value)


class PretendCloud:
    """A cloud for trying things out: it remembers, and refuses what it has no room for."""

    def __init__(self, name: str, *, room: int = 10) -> None:
        self.name = name
        self.room = room
        self.running: dict[str, str] = {}
        self._by_token: dict[str, tuple[str, str | None]] = {}
        self._removed: set[str] = set()

    async def deploy(self, name: str, image: str, token: str) -> None:
        """See ``Cloud``."""
        if token in self._by_token or token in self._removed:
            return  # asked again, or after it was taken back
        if name not in self.running and len(self.running) >= self.room:
            raise StepFailed(f"{self.name} has no room for {name}")
        self._by_token[token] = (name, self.running.get(name))
        self.running[name] = image

    async def remove(self, name: str, token: str) -> None:
        """See ``Cloud``."""
        self._removed.add(token)
        name, before = self._by_token.pop(token, (name, self.running.get(name)))
        if before is None:
            self.running.pop(name, None)
        else:
            self.running[name] = before

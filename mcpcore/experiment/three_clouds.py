"""Three clouds, one group, two faults: the experiment behind `mcpctl demo`.

This module exists so that the demonstration is an experiment like others: a cluster of processes, a
workload, faults whose effect is confirmed, a verdict. It draws nothing; whoever wants to show it
asks for the ``scene``.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mcpcore.errors import InvalidInput
from mcpcore.experiment.demo_run import Measured
from mcpcore.experiment.left_behind import LeftBehind, left_behind
from mcpcore.experiment.links import THREE_CLOUDS
from mcpcore.experiment.operations import Operation, Replica
from mcpcore.experiment.process_cluster import GROUP, ClusterPlan, ProcessCluster
from mcpcore.experiment.pulse import Pulse
from mcpcore.experiment.replicas import settle, settled_replicas
from mcpcore.experiment.run import NodeSample
from mcpcore.experiment.sampling import sample_of_account
from mcpcore.experiment.scene import (
    Happening,
    LinkView,
    Mark,
    Mood,
    NodeView,
    Scene,
    State,
    view_nodes,
)
from mcpcore.experiment.verdict import Verdict, judge, longest_silence_s
from mcpcore.experiment.workload import Workload, WorkloadPlan
from mcpcore.node.client.client import Client

SITES: Final = ("us-east-1", "hangzhou", "edge")

SECONDS_MIN: Final = 15.0
SECONDS_MAX: Final = 3600.0

_ELECTION_TIMEOUT_S: Final = 1.5
_HEARTBEAT_S: Final = 0.3
_CLIENTS_PER_SITE: Final = 2
_WATCH_S: Final = 0.1
_SLOT_S: Final = 0.25
_CAUGHT_UP: Final = 50
"""Entries: what is always under way at this rate over these links."""

# When what happens, as a share of the whole time.
_KILL, _RESTART, _CUT, _MEND = 0.25, 0.40, 0.60, 0.80


@dataclass(frozen=True, slots=True)
class FaultReport:
    """One fault and what it cost.

    Args:
        text: what was done.
        site: to whom.
        silence_s: the longest time without an acknowledged write, by any client.
        site_silence_s: the same, for the clients at the site of the fault.
        proof: how we know that the fault took effect; empty if it did not.
    """

    text: str
    site: str
    silence_s: float
    site_silence_s: float
    proof: str


@dataclass(frozen=True, slots=True)
class Result:
    """What came out of the experiment."""

    verdict: Verdict
    faults: tuple[FaultReport, ...]
    replicas: tuple[Replica, ...]
    quiet_silence_s: float
    """The longest time without an acknowledged write before the first fault, for comparison."""
    left_behind: tuple[LeftBehind, ...]
    """What leaders accepted and nobody confirmed, where it lies in quarantine."""
    measured: Measured
    took_s: float

    @property
    def holds(self) -> bool:
        """Every promise was kept, there was something to keep, and every fault took effect."""
        effective = all(fault.proof for fault in self.faults)
        return self.verdict.holds and self.verdict.writes_acknowledged > 0 and effective


@dataclass(slots=True)
class _Strike:
    """A fault while it is under way."""

    text: str
    site: str
    began_s: float
    ended_s: float = 0.0
    proof: str = ""


class ThreeClouds:
    """The experiment. ``run`` it once; ask for the ``scene`` meanwhile.

    Args:
        directory: for certificates, configurations, data and logs.
        seconds: how long the clients go on.
        seed: of the clients' choices and the links' jitter. Processes and the operating system
            have their own, so that two runs are alike, not equal.

    Raises:
        InvalidInput: ``seconds`` leaves no room for the faults, or is beyond an hour.
    """

    def __init__(self, directory: Path, *, seconds: float = 20.0, seed: int = 0) -> None:
        check_seconds(seconds)
        self._seconds = seconds
        self._seed = seed
        self._cluster = ProcessCluster(
            ClusterPlan(
                nodes=SITES,
                links=THREE_CLOUDS,
                election_timeout_s=_ELECTION_TIMEOUT_S,
                heartbeat_s=_HEARTBEAT_S,
                limits={
                    "ping_interval_s": 0.5,
                    "idle_timeout_s": 2.0,
                    "connect_timeout_s": 2.0,
                    "backoff_max_s": 0.5,
                },
                seed=seed,
            ),
            directory,
        )
        self._pulse: Pulse | None = None
        self._began_s = 0.0
        self._phase = "making certificates and starting three processes"
        self._accounts: dict[str, dict[str, Any] | None] = dict.fromkeys(SITES)
        self._views: tuple[NodeView, ...] = ()
        self._happenings: list[Happening] = []
        self._marks: list[Mark] = []
        self._returning: set[str] = set()
        self._quarantined: dict[str, int] = {}
        self._samples: list[NodeSample] = []
        self._highest_term = 0

    # --- running ---------------------------------------------------------------------------------

    async def run(self) -> Result:
        """Do it all; in the end nothing runs any more.

        Raises:
            NodeDied: a node ended by itself.
            NotReady: the cluster did not come up, or no leader was found.
        """
        loop = asyncio.get_running_loop()
        started_s = self._began_s = loop.time()
        async with AsyncExitStack() as stack:
            cluster = await stack.enter_async_context(self._cluster)
            watching = loop.create_task(self._watch(), name="watch the nodes")
            stack.push_async_callback(_end, watching)
            leader = await cluster.leader()
            clients = {
                f"{site}/{number}": await cluster.client(site, timeout_s=15.0, attempt_s=1.2)
                for site in SITES
                for number in range(_CLIENTS_PER_SITE)
            }
            stack.push_async_callback(_hang_up, clients.values())
            self._began_s = loop.time()
            self._say(f"clients at three sites begin; {leader} leads", Mood.GOOD)
            self._pulse = Pulse(SITES, self._began_s, _SLOT_S)
            plan = WorkloadPlan(seed=self._seed, lanes_per_client=8)
            workload = Workload(clients, plan, self._pulse)
            workload.start()
            try:
                strikes = [await self._kill_the_leader(), await self._cut_the_leader_off()]
                await self._until(1.0)
                ended_s = loop.time()
                self._phase = "clients stop and wait for their last answers"
                self._say(self._phase)
                operations = await workload.stop()
            except BaseException:
                await workload.abandon()
                raise
            self._phase = "fetching and comparing the replicas"
            await settle(cluster)
            left = await left_behind(cluster)  # while the clients' sessions are still known
            await _hang_up(clients.values())
            for node in cluster.nodes.values():
                node.expect_running()
            replicas = await settled_replicas(cluster)
            self._say("replicas and quarantines fetched from all three nodes", Mood.GOOD)
            self._phase = "stopping the nodes"
        return Result(
            judge(operations, replicas),
            self._costs(strikes, operations, ended_s),
            tuple(replicas),
            longest_silence_s(operations, self._began_s + 1.0, strikes[0].began_s),
            left,
            self._measured(plan, strikes, operations, replicas, ended_s),
            loop.time() - started_s,
        )

    async def _kill_the_leader(self) -> _Strike:
        self._phase = "all three nodes are at work"
        await self._until(_KILL)
        loop = asyncio.get_running_loop()
        victim = await self._cluster.leader()
        node = self._cluster.nodes[victim]
        strike = _Strike(f"{victim} killed", victim, loop.time())
        self._phase = f"{victim} is dead"
        self._say(f"SIGKILL for {victim}, the leader (process {node.pid})", Mood.HARM, "kill")
        await node.kill()
        if node.lives[-1].status == -signal.SIGKILL:
            strike.proof = "ended by SIGKILL"
        await self._until(_RESTART)
        self._say(f"{victim} is started again, from its own log", mark="restart")
        self._returning.add(victim)
        self._phase = f"{victim} comes back"
        await node.start()
        await self._cluster.wait_ready(victim)
        strike.ended_s = loop.time()
        return strike

    async def _cut_the_leader_off(self) -> _Strike:
        await self._until(_CUT)
        loop = asyncio.get_running_loop()
        cluster, shaper = self._cluster, self._cluster.shaper
        victim = await cluster.leader()
        strike = _Strike(f"{victim} cut off", victim, loop.time())
        self._phase = f"{victim} is cut off"
        self._say(f"{victim}, the leader, is cut off from everybody, both ways", Mood.HARM, "cut")
        before = [link.bytes_delivered for link in shaper.around(victim)]
        shaper.isolate(victim)
        crossing = sum(link.bytes_delivered for link in shaper.around(victim))
        await self._until(_MEND)
        crossed = sum(link.bytes_delivered for link in shaper.around(victim)) - crossing
        if all(before) and not crossed:
            strike.proof = "no byte crossed"
        alone = self._view(victim)
        shaper.rejoin(victim)
        self._returning.add(victim)
        self._phase = f"{victim} rejoins"
        self._say("the links are mended", mark="mended")
        doomed = alone.last_index - alone.commit
        if doomed > 0:
            self._say(f"{victim} holds {doomed} entries whose commit it never learnt")
        strike.ended_s = loop.time()
        strike.text += f" {strike.ended_s - strike.began_s:.1f} s"
        return strike

    def _costs(
        self, strikes: list[_Strike], operations: list[Operation], ended_s: float
    ) -> tuple[FaultReport, ...]:
        """How long writes stopped, from each fault to the next, or to the end."""
        ends_s = [*(strike.began_s for strike in strikes[1:]), ended_s]
        return tuple(
            FaultReport(
                strike.text,
                strike.site,
                longest_silence_s(operations, strike.began_s, end_s),
                longest_silence_s(operations, strike.began_s, end_s, site=strike.site),
                strike.proof,
            )
            for strike, end_s in zip(strikes, ends_s, strict=True)
        )

    def _measured(
        self,
        plan: WorkloadPlan,
        strikes: list[_Strike],
        operations: list[Operation],
        replicas: list[Replica],
        ended_s: float,
    ) -> Measured:
        """The same run for a report."""
        began_s = self._began_s
        kill, cut = (
            (each.site, each.began_s - began_s, each.ended_s - began_s, each.proof)
            for each in strikes
        )
        return Measured(
            began_s=began_s,
            seconds=self._seconds,
            seed=self._seed,
            clients_per_site=_CLIENTS_PER_SITE,
            rate_per_s=plan.rate_per_s,
            election_timeout_s=_ELECTION_TIMEOUT_S,
            heartbeat_s=_HEARTBEAT_S,
            links=THREE_CLOUDS,
            sites=SITES,
            operations=operations,
            kill=kill,
            cut=cut,
            samples=self._samples,
            replicas=replicas,
            ended_s=ended_s - began_s,
        )

    async def _until(self, share: float) -> None:
        due_s = self._began_s + share * self._seconds
        await asyncio.sleep(max(0.0, due_s - asyncio.get_running_loop().time()))

    # --- watching --------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Ask every node how it is, through a door that no cut closes, and tell what changed."""
        while True:
            answers = await self._cluster.statuses()
            self._accounts = {
                name: answer if isinstance(answer, dict) else None
                for name, answer in answers.items()
            }
            self._sample()
            shaper = self._cluster.shaper
            cut_off = [s for s in SITES if all(link.is_cut for link in shaper.around(s))]
            running = [name for name, node in self._cluster.nodes.items() if node.is_running]
            before, self._views = self._views, view_nodes(self._accounts, running, cut_off, GROUP)
            for old, new in zip(before, self._views, strict=False):
                self._compare(old, new)
            await asyncio.sleep(_WATCH_S)

    def _sample(self) -> None:
        """Keep what nodes say, from the clients' begin on, for the report."""
        if self._pulse is not None:
            at_s = asyncio.get_running_loop().time() - self._began_s
            told = [account for account in self._accounts.values() if account]
            self._samples += [sample_of_account(at_s, account, GROUP) for account in told]

    def _compare(self, old: NodeView, new: NodeView) -> None:
        """Say what is worth saying about the change of one node."""
        if new.state is State.LEADER and new.term > self._highest_term:
            if self._highest_term:
                self._say(f"{new.name} leads term {new.term}", Mood.GOOD)
            self._highest_term = new.term
        if old.state is State.LEADER and new.cut_off and new.state is not State.LEADER:
            self._say(f"{new.name} hears no majority and gives up leading: it serves nobody")
        follows = new.state is State.FOLLOWER and bool(new.leader) and not new.cut_off
        current = new.term == self._highest_term and new.behind <= _CAUGHT_UP
        if new.name in self._returning and follows and current:
            self._returning.discard(new.name)
            if not any(view.cut_off for view in self._views):
                self._phase = "all three nodes are at work"
            self._say(f"{new.name} follows again and has caught up", Mood.GOOD)
        if new.quarantined > self._quarantined.get(new.name, 0):
            self._quarantined[new.name] = new.quarantined
            self._say(f"{new.name} keeps {new.quarantined} unconfirmed commands in quarantine")

    def _say(self, text: str, mood: Mood = Mood.PLAIN, mark: str = "") -> None:
        at_s = asyncio.get_running_loop().time() - self._began_s
        self._happenings.append(Happening(at_s, text, mood))
        if mark:
            self._marks.append(Mark(at_s, mark))

    def _view(self, name: str) -> NodeView:
        return next(view for view in self._views if view.name == name)

    # --- showing ---------------------------------------------------------------------------------

    def scene(self) -> Scene:
        """This moment. Call it within the loop that runs the experiment."""
        now_s = asyncio.get_running_loop().time()
        shaper, pulse = self._cluster.shaper, self._pulse
        pairs = ((SITES[0], SITES[1]), (SITES[0], SITES[2]), (SITES[2], SITES[1]))
        at_s = now_s - self._began_s
        return Scene(
            at_s=at_s if pulse else at_s - self._seconds,
            total_s=self._seconds,
            phase=self._phase,
            windows=f"election timeout {_ELECTION_TIMEOUT_S:g} to {2 * _ELECTION_TIMEOUT_S:g} s, "
            f"heartbeat {_HEARTBEAT_S:g} s, mutual TLS, synced to disk",
            nodes=self._views or tuple(NodeView(site, State.STARTING) for site in SITES),
            links=tuple(
                LinkView(
                    a,
                    b,
                    shaper.link(a, b).quality.one_way_s * 1e3,
                    shaper.link(a, b).is_cut and shaper.link(b, a).is_cut,
                )
                for a, b in pairs
            ),
            beats={site: pulse.beat(site, now_s) for site in SITES} if pulse else {},
            silent_s=pulse.silent_s(now_s) if pulse else 0.0,
            bars=tuple(pulse.bars(now_s)) if pulse else (),
            slot_s=_SLOT_S,
            acknowledged=pulse.acknowledged if pulse else 0,
            happenings=tuple(self._happenings),
            marks=tuple(self._marks),
        )


def check_seconds(seconds: float) -> None:
    """Refuse what is no time for this experiment.

    Raises:
        InvalidInput: too short for two faults and two recoveries, or beyond an hour.
    """
    if not SECONDS_MIN <= seconds <= SECONDS_MAX:
        raise InvalidInput(
            f"must be between {SECONDS_MIN:g} and {SECONDS_MAX:g}, not {seconds:g}",
            where="seconds",
            remedy="Two faults, and two recoveries, need a quarter of a minute at least",
        )


async def _hang_up(clients: Iterable[Client]) -> None:
    await asyncio.gather(*(client.close() for client in clients))


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    (ending,) = await asyncio.gather(task, return_exceptions=True)
    if ending is not None and not isinstance(ending, asyncio.CancelledError):
        raise ending

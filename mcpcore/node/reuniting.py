"""One group's reunions on this node: what waits for an operator, and what every long cut did.

This module exists so that what ``mcpcore.raft.reuniting`` decides is remembered across restarts and
can be asked for: the plan that waits, the answer that was given, and a report of each cut in which
this member's log lost entries, or had to wait. An answer is durable before the core hears of it. It
must never decide whether a reunion waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mcpcore.errors import InvalidInput, StorageFailed
from mcpcore.node.clocks import Clocks
from mcpcore.node.disk import Disk
from mcpcore.node.reunion_file import ReunionFile
from mcpcore.node.storage.snapshot_directory import directory_name
from mcpcore.raft.core import Raft
from mcpcore.raft.custody import Dropped
from mcpcore.raft.divergence import DivergenceReport, LogOutline, Run, Side, unanswered_commands
from mcpcore.raft.reunion import Answer, Plan
from mcpcore.raft.reunion_guard import ReunionAgreed, ReunionDone, ReunionHeldUp
from mcpcore.raft.split import SplitState, Verdict
from mcpcore.raft.types import Entry, LogPosition

logger = logging.getLogger("mcpcore.node.reunion")

UNANSWERED_MAX = 1000
"""Commands without an answer that a report names; the rest is in quarantine all the same."""


@dataclass(slots=True)
class _Episode:
    """A reunion of which the report is not finished."""

    name: str
    report: DivergenceReport
    until: int
    """The index at which both logs are equal again."""
    wall_ns: int


class Reuniting:
    """The reunions of one group on one node.

    Args:
        disk: where they are remembered.
        data: the node's data directory.
        raft: the member.
        clocks: where time is read.
    """

    def __init__(self, disk: Disk, data: str, raft: Raft, clocks: Clocks) -> None:
        self._raft = raft
        self._clocks = clocks
        self.wake: Callable[[], None] = lambda: None
        """Asks for a turn of the group."""
        self._group = raft.state.group
        self._file = ReunionFile(disk, f"{data}/reunions/{directory_name(self._group)}")
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._storing: asyncio.Task[None] | None = None
        self._stale = False
        self._episode: _Episode | None = None
        self.history: Callable[[], Sequence[Verdict]] = tuple
        """How the verdict on this group has changed."""
        if self._file.problem:
            logger.error("group %s: %s", self._group, self._file.problem)
        memory = self._file.memory
        raft.reunions.recall(split=memory.split, agreed=memory.agreed)

    # --- what is asked ---------------------------------------------------------------------------

    @property
    def held(self) -> Plan | None:
        """The plan that waits for an operator."""
        return self._raft.reunions.held

    @property
    def reports(self) -> list[dict[str, Any]]:
        """What past cuts did, the oldest first: see ``DivergenceReport.as_dict``. Beside that each
        has its ``episode``, when the logs met (``wall_ns``), whether more is to come (``open``) and
        itself in words (``text``).
        """
        return list(self._file.memory.reports)

    def refuse(self) -> None:
        """Refuse what only a member in agreement with its leader can serve.

        Raises:
            ReunionRefused: an operator must agree first.
        """
        plan = self.held
        if plan is not None and (refusal := plan.refused) is not None:
            raise refusal

    def described(self) -> dict[str, Any]:
        """What waits, and all reports, in plain values."""
        plan = self.held
        return {
            "group": self._group,
            "node": self._raft.state.id,
            "held": None if plan is None else {
                "episode": plan.gap.episode,
                "entries": plan.gap.entries,
                "limit": plan.limit_entries,
                "to_get": plan.gap.to_get,
                "to_lose": plan.gap.to_lose,
                "text": plan.text(),
            },
            "reports": self.reports,
        }  # fmt: skip

    async def agree(self, episode: str, by: str) -> None:
        """Let the reunion that waits go ahead; durable when this returns.

        Raises:
            InvalidInput: none waits, or another one does.
            StorageFailed: the disk does not take the answer; nothing was changed.
        """
        plan = self.held
        if plan is None:
            raise InvalidInput(
                "no reunion waits for an answer on this node", where=f"group {self._group}"
            )
        if plan.gap.episode != episode:
            raise InvalidInput(
                f"the answer is for {episode!r}, and {plan.gap.episode!r} waits",
                where=f"group {self._group}",
                remedy="Look at the present plan and answer that one",
            )
        answer = Answer(episode, by)
        memory = self._file.memory
        memory.agreed = answer
        try:
            async with self._lock:
                await self._file.store()
        except OSError as error:
            memory.agreed = None
            raise StorageFailed(
                f"group {self._group}: the disk did not take the answer: {error}"
            ) from error
        if self._raft.reunions.held is not None:  # else the group needed us meanwhile
            self._raft.reunions.agree(answer)
            self.wake()

    # --- what happens ----------------------------------------------------------------------------

    def judged(self, verdict: Verdict) -> None:
        """The verdict on this group changed."""
        self._raft.reunions.judged(verdict.state)
        memory = self._file.memory
        if memory.split != self._raft.state.reunion.split:
            memory.split = self._raft.state.reunion.split
            self._store()

    def lost(self, dropped: Sequence[Dropped]) -> None:
        """Entries left the log, on their way to quarantine."""
        entries = [each.entry for each in dropped if not each.covered]
        if self._episode is None and entries:
            before = entries[0].index - 1
            log = self._raft.state.log
            ancestor = LogPosition(log.term_at(before) or 0, before)
            end = max(self._raft.state.told_commit, log.last_index)
            name = f"{self._group}/{self._raft.state.id}/{entries[-1].term}.{entries[-1].index}"
            self._begin(name, ancestor, entries, dropped[0].replaced_by, end)

    @property
    def busy(self) -> bool:
        """Whether ``look`` may have something to do."""
        return self._episode is not None or bool(self._raft.state.reunion.events)

    def look(self) -> None:
        """After a turn of the group."""
        for event in self._raft.reunions.take_events():
            match event:
                case ReunionHeldUp(plan):
                    self._held_up(plan)
                case ReunionAgreed(_, answer):
                    logger.warning(
                        "group %s: the reunion %s goes ahead: %s",
                        self._group,
                        *answer[:2],
                        extra={"group": self._group, "episode": answer.episode},
                    )
                    self._file.memory.agreed = answer
                    self._store()
                case ReunionDone(answer):
                    logger.info(
                        "group %s: the reunion %s is done",
                        self._group,
                        answer.episode,
                        extra={"group": self._group, "episode": answer.episode},
                    )
                    self._file.memory.agreed = None
                    self._file.memory.split = self._raft.state.reunion.split
                    self._store()
        episode = self._episode
        if episode is not None and self.held is None and self._raft.state.commit >= episode.until:
            self._finish(episode)

    def close(self) -> None:
        """Store nothing more."""
        if self._storing is not None:
            self._storing.cancel()

    async def forget(self) -> None:
        """The group is retired: nothing of it is remembered."""
        self._episode = None
        self._file.memory = type(self._file.memory)()
        async with self._lock:
            await self._file.store()

    # --- the report ------------------------------------------------------------------------------

    def _held_up(self, plan: Plan) -> None:
        gap, state = plan.gap, self._raft.state
        logger.warning(
            "group %s: reunion refused: %s. `mcpctl group reunite %s` shows the plan and asks",
            self._group,
            plan.reason,
            self._group,
        )
        first = max(gap.ancestor.index, state.log.base.index) + 1
        entries = state.log.entries(first, state.log.last_index)
        self._begin(gap.episode, gap.ancestor, entries, state.leader, gap.theirs.index)
        # One that has nothing to lose waits at most for what it lacks.
        self._note(open=True)

    def _begin(
        self, name: str, ancestor: LogPosition, entries: Sequence[Entry], leader: str, end: int
    ) -> None:
        state = self._raft.state
        began_ns, history = self._trouble()
        outline = LogOutline.of(ancestor, entries)
        ours = Side(
            state.id,
            outline.runs,
            state.commit,
            {
                member: index
                for member, index in state.custody.acknowledged.items()
                if index > ancestor.index
            },
            unanswered_commands(entries)[:UNANSWERED_MAX],
        )
        last = Run(state.term, ancestor.index + 1, end)
        theirs = Side(
            leader,
            (last,) if end > ancestor.index else (),
            max(state.told_commit, state.commit),
            {},
        )
        report = DivergenceReport(
            self._group, ancestor, ours, theirs, began_ns, self._clocks.monotonic_ns(), history
        )
        self._episode = _Episode(name, report, end, self._clocks.wall_ns())

    def _trouble(self) -> tuple[int, tuple[Verdict, ...]]:
        """When contact was lost, and the verdicts since."""
        since: list[Verdict] = []
        for verdict in reversed(self.history()):
            if verdict.state is SplitState.HEALTHY:
                break
            since.append(verdict)
        if not since:
            return self._clocks.monotonic_ns(), ()
        first = since[-1]
        return first.at_ns - first.evidence.contact_age_ns, tuple(reversed(since))

    def _finish(self, episode: _Episode) -> None:
        """Both logs are equal again: now theirs is known, entry by entry."""
        report, state = episode.report, self._raft.state
        log = state.log
        runs = report.theirs.runs
        if report.ancestor is not None and log.base.index <= report.ancestor.index:
            since = report.ancestor.index + 1
            runs = LogOutline.of(report.ancestor, log.entries(since, episode.until)).runs
        theirs = Side(report.theirs.node, runs, state.commit, {report.theirs.node: episode.until})
        episode.report = replace(report, theirs=theirs)
        self._note(open=False)
        self._episode = None

    def _note(self, *, open: bool) -> None:
        episode = self._episode
        assert episode is not None
        self._file.memory.add(
            {
                "episode": episode.name,
                "wall_ns": episode.wall_ns,
                "open": open,
                "text": episode.report.text(),
                **episode.report.as_dict(),
            }
        )
        self._store()

    # --- the disk --------------------------------------------------------------------------------

    def _store(self) -> None:
        """Have the memory stored as it is by then; what comes meanwhile is stored once more."""
        self._stale = True
        if self._storing is None:
            # A verdict may be asked for, and so come about, outside the loop.
            self._storing = self._loop.create_task(
                self._store_all(), name=f"reunions {self._group}"
            )

    async def _store_all(self) -> None:
        try:
            while self._stale:
                self._stale = False
                async with self._lock:
                    await self._file.store()
        except OSError as error:
            logger.error("group %s: reunions are not remembered: %s", self._group, error)
        finally:
            self._storing = None

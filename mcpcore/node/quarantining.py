"""What one group's log gave up, kept on this node's disk, and what operators do about it.

This module exists so that the order *quarantine first, truncation afterwards* has somebody to wait
for: ``keep`` hands out a future, and the truncating write goes to the log when it is done. Why that
order: after a crash in between, the entries are in both places, and are handed over once more and
recognised; the other way round they would be in neither. Nothing here can stop Raft: what the disk
or the limit refuses is said loudly, counted, and the log goes on, since a member that stopped for
the sake of entries that nobody committed would endanger those that were.

It must never decide what is truncated, and it proposes only what an operator names.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any, Final

from mcpcore.errors import InvalidInput, QuarantineFull
from mcpcore.node.disk import Disk
from mcpcore.node.quarantine_disk import QuarantineFile
from mcpcore.node.storage.snapshot_directory import directory_name
from mcpcore.raft.custody import Dropped
from mcpcore.raft.quarantine import Quarantine, QuarantineLimits
from mcpcore.raft.quarantined import Fate, Quarantined, Reproposal
from mcpcore.raft.sessions import SessionAnswer, SessionStatus, SessionTable
from mcpcore.raft.types import EntryKind

logger = logging.getLogger("mcpcore.node.quarantine")

Propose = Callable[[bytes, EntryKind], Awaitable[Any]]
"""Proposes bytes as an entry of a kind; the answer has ``term``, ``index`` and ``result``."""

_UNREADABLE: Final = ".unreadable"


class Prospect(StrEnum):
    """What would come of proposing an entry again, as far as this node's state says."""

    APPLIES = "would apply"
    APPLIED = "was applied: the first answer would come again"
    MOVED_ON = "the client has moved on: it would be refused"
    SESSION_GONE = "the client's session is gone: it would be refused"
    UNPROTECTED = "outside a session: it would apply, even if it did before"
    NEVER = "not to be proposed again"


class QuarantineKeeper:
    """The quarantine of one group on one node. Nothing of it is on the disk until it is needed.

    Args:
        disk: where it lies.
        data: the node's data directory.
        group, node: whose it is.
        limits: how much is kept.
        wall_ns: reads the wall clock.
    """

    def __init__(
        self,
        disk: Disk,
        data: str,
        group: str,
        node: str,
        limits: QuarantineLimits,
        wall_ns: Callable[[], int],
    ) -> None:
        self._disk = disk
        self._path = f"{data}/quarantine/{directory_name(group)}"
        self._group = group
        self._node = node
        self._limits = limits
        self._wall_ns = wall_ns
        self._lock = asyncio.Lock()
        self._work: set[asyncio.Task[None]] = set()
        self._held: Quarantine | None = None
        self._file: QuarantineFile | None = None
        self.problem = ""
        """What could not be kept, or not be read, in words; else empty."""
        if disk.exists(self._path):
            try:
                self._open()
            except OSError as error:  # it is tried again when something is to be kept
                self._complain(f"{self._path} cannot be read: {error}")

    # --- keeping ---------------------------------------------------------------------------------

    def keep(self, dropped: Sequence[Dropped]) -> asyncio.Future[None]:
        """Keep what leaves the log; done when it is durable, or given up loudly. Never fails."""
        task = asyncio.get_running_loop().create_task(
            self._keep_or_complain(tuple(dropped)), name=f"quarantine {self._group}"
        )
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def _keep_or_complain(self, dropped: tuple[Dropped, ...]) -> None:
        try:
            await self._keep(dropped)
        except OSError as error:
            first = dropped[0].entry.index
            self._complain(f"{len(dropped)} entries from index {first} on may be lost: {error}")

    async def _keep(self, dropped: tuple[Dropped, ...]) -> None:
        async with self._lock:
            quarantine = self._open()
            try:
                kept = quarantine.keep(dropped, wall_ns=self._wall_ns())
            except QuarantineFull as full:
                if quarantine.decided and await self._rewrite():
                    kept = await self._keep_again(dropped)
                else:
                    self._complain(str(full))
                    kept = []
            commands = sum(item.fate is Fate.KEPT for item in kept)
            if commands:
                logger.warning(
                    "group %s: %d entries from index %d on, which no quorum confirmed, gave way to "
                    "the log of %s; they are in quarantine: `mcpctl quarantine list %s`",
                    self._group,
                    commands,
                    kept[0].index,
                    kept[0].replaced_by or "the others",
                    self._group,
                    extra={"group": self._group, "index": kept[0].index},
                )
            await self._flush()

    async def _keep_again(self, dropped: tuple[Dropped, ...]) -> list[Quarantined]:
        try:
            return self._open().keep(dropped, wall_ns=self._wall_ns())
        except QuarantineFull as full:
            self._complain(str(full))
            return []

    async def _flush(self) -> None:
        """Make everything durable, if need be with a new file; complain if neither goes."""
        file = self._file
        if file is None or not file.waits:
            return
        try:
            await file.flush()
        except OSError as error:
            if not await self._rewrite():
                self._complain(f"the disk did not take what was truncated: {error}")

    async def _rewrite(self) -> bool:
        assert self._held is not None
        assert self._file is not None
        whole = self._held.rewritten(self._group, self._node)
        try:
            await self._file.replace(whole)
        except OSError as error:
            logger.error("group %s: the quarantine cannot be rewritten: %s", self._group, error)
            return False
        self._file.close()
        self._file = self._held = None
        self._open()
        return True

    def _open(self) -> Quarantine:
        """The quarantine, read from its file. One that cannot be read is set aside, not lost."""
        if self._held is None:
            for _ in range(2):
                self._file = file = self._file or QuarantineFile(self._disk, self._path)
                try:
                    self._held = Quarantine(file, self._group, self._node, self._limits)
                    break
                except InvalidInput as error:
                    file.close()
                    self._file = None
                    self._set_aside(error)
        assert self._held is not None, "an empty file is a quarantine"
        for damage in self._held.damage:
            if not damage.torn:
                self._complain(
                    f"{damage.size} bytes of {self._path} at offset {damage.offset} are damaged"
                )
        return self._held

    def _set_aside(self, error: InvalidInput) -> None:
        number = 1
        while self._disk.exists(f"{self._path}{_UNREADABLE}-{number}"):
            number += 1
        aside = f"{self._path}{_UNREADABLE}-{number}"
        self._disk.rename(self._path, aside)
        self._complain(f"its file cannot be read and is kept as {aside}: {error}")

    def _complain(self, problem: str) -> None:
        self.problem = problem
        logger.error("group %s: quarantine: %s", self._group, problem)

    # --- looking ---------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many entries nobody has decided about."""
        return 0 if self._held is None else len(self._held.entries())

    def entries(self, *, every: bool = False) -> list[Quarantined]:
        """Entries that wait for a decision, by number; with ``every``, the others too."""
        if self._held is None:
            return []
        return self._held.entries(fate=None if every else Fate.KEPT)

    def show(self, number: int) -> Quarantined:
        """One entry.

        Raises:
            InvalidInput: there is no such number.
        """
        return self._open().show(number)

    def described(self, sessions: SessionTable, *, every: bool = False) -> dict[str, Any]:
        """All of it in plain values, commands cut to their first bytes."""
        held = self._held
        return {
            "group": self._group,
            "node": self._node,
            "bytes": 0 if held is None else held.size_bytes,
            "max_bytes": self._limits.max_bytes,
            "problem": self.problem,
            "overflows": [] if held is None else [each._asdict() for each in held.overflows],
            "damage": [] if held is None else [each._asdict() for each in held.damage],
            "entries": [brief(item, sessions) for item in self.entries(every=every)],
        }

    # --- deciding --------------------------------------------------------------------------------

    async def discard(self, number: int, *, by: str, note: str = "") -> Quarantined:
        """Throw an entry away, durably on record.

        Raises:
            InvalidInput: there is no such entry, or it was decided upon before.
        """
        async with self._lock:
            item = self._open().discard(number, by=by, note=note)
            await self._flush()
        return item

    def proposal(self, number: int, *, may_apply_twice: bool = False) -> Reproposal:
        """What to propose: see ``Quarantine.repropose``.

        Raises:
            InvalidInput: there is no such entry, or it may not be proposed again.
        """
        return self._open().repropose(number, may_apply_twice=may_apply_twice)

    async def reproposed(self, number: int, *, by: str, note: str) -> Quarantined:
        """Somebody proposed it, and ``note`` says what came of it; durably on record.

        Raises:
            InvalidInput: there is no such entry, or it was decided upon before.
        """
        async with self._lock:
            item = self._open().reproposed(number, by=by, note=note)
            await self._flush()
        return item

    async def repropose(
        self, number: int, propose: Propose, *, by: str, may_apply_twice: bool = False
    ) -> Quarantined:
        """Propose an entry again and record what came of it.

        Raises:
            InvalidInput: there is no such entry, or it may not be proposed again.
            Rejected, OutcomeUnknown: as ``propose`` says; nothing is recorded, and a client's
                command may be proposed again as often as need be.
        """
        again = self.proposal(number, may_apply_twice=may_apply_twice)
        applied = await propose(again.data, again.kind)
        note = came_of_it(again.kind, applied)
        return await self.reproposed(number, by=by, note=note)

    async def forget(self) -> None:
        """The group is retired: nothing of it is kept."""
        async with self._lock:
            if self._file is not None:
                self._file.close()
            self._file = self._held = None
            if self._disk.exists(self._path):
                self._disk.remove(self._path)
                await self._disk.sync_dir(self._path.rpartition("/")[0])

    def close(self) -> None:
        """Give the file back."""
        for task in self._work:
            task.cancel()
        if self._file is not None:
            self._file.close()


def came_of_it(kind: EntryKind, applied: Any) -> str:
    """What a group answered to an entry that was proposed again, in words."""
    where = f"index {applied.index}, term {applied.term}"
    if kind is not EntryKind.SESSION:
        return f"applied at {where}"
    answer = SessionAnswer.decode(applied.result)
    if answer.status is not SessionStatus.APPLIED:
        return f"refused at {where}: {answer.status.name.lower()}"
    if (answer.position.term, answer.position.index) == (applied.term, applied.index):
        return f"applied at {where}"
    return f"was applied before, at index {answer.position.index}, term {answer.position.term}"


def prospect(item: Quarantined, sessions: SessionTable) -> Prospect:
    """What would come of proposing an entry again now."""
    if item.fate is not Fate.KEPT:
        return Prospect.NEVER
    if item.kind is EntryKind.COMMAND:
        return Prospect.UNPROTECTED
    if item.session is None:
        return Prospect.NEVER
    match sessions.foresee(*item.session):
        case None:
            return Prospect.APPLIES
        case SessionStatus.APPLIED:
            return Prospect.APPLIED
        case SessionStatus.SESSION_EXPIRED:
            return Prospect.SESSION_GONE
        case _:
            return Prospect.MOVED_ON


def brief(item: Quarantined, sessions: SessionTable) -> dict[str, Any]:
    """An entry in plain values, with its prospect and without most of its bytes."""
    told = item.as_dict()
    told.update(
        data=item.data[:32].hex(),
        size_bytes=len(item.data),
        prospect=prospect(item, sessions).value,
    )
    return told

"""The seam between an engine and where its journals are kept.

This module exists so that an engine runs on memory, a file or a Raft group and cannot tell. A
journal keeps, for each saga, rows of bytes in order, and a *head* that sums them up for lists. An
append says how long it believes the journal to be: whoever is wrong is refused, so that two owners
can never both go on. It must never look into a row.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from mcpcore.errors import InvalidInput
from mcpcore.saga.state import State, Status
from mcpcore.saga.tokens import Fence

SAGA_ID_MAX = 200
"""Characters of a saga's id."""


class Head(NamedTuple):
    """A saga in one line."""

    saga: str
    definition: str
    version: str
    status: Status
    owner: str
    """The engine that runs it, or ran it last."""
    started_ns: int
    changed_ns: int
    length: int
    """Entries in its journal."""


class Story(NamedTuple):
    """A saga's whole journal."""

    head: Head
    rows: Sequence[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Which sagas are meant; what is not given does not matter.

    Args:
        status: one of these.
        definition: of this name.
        owner: run by this engine.
        started_before_ns: started before this moment (in time since 1970).
        limit: so many at most, the oldest first.
    """

    status: Collection[Status] = ()
    definition: str = ""
    owner: str = ""
    started_before_ns: int | None = None
    limit: int | None = None

    def wants(self, head: Head) -> bool:
        """Whether a saga is meant, the limit aside."""
        return (
            (not self.status or head.status in self.status)
            and (not self.definition or head.definition == self.definition)
            and (not self.owner or head.owner == self.owner)
            and (self.started_before_ns is None or head.started_ns < self.started_before_ns)
        )

    def pick(self, heads: Sequence[Head]) -> list[Head]:
        """Those that are meant, the oldest first."""
        found = sorted(
            (head for head in heads if self.wants(head)), key=lambda h: (h.started_ns, h.saga)
        )
        return found if self.limit is None else found[: self.limit]


OPEN = Query(status=(Status.RUNNING, Status.COMPENSATING, Status.PARKED))
"""Every saga that has not ended."""


class Journal(Protocol):
    """Where journals are kept. One engine at a time has it *open*; tools use it without opening.

    Every method may raise ``JournalUnavailable``: the journal does not answer at the moment.
    """

    patrol_s: float | None
    """How often to look for sagas whose engine is gone; None: only when the journal is opened."""

    async def open(self, owner: str) -> None:
        """An engine begins to work here under a name that no other engine ever had."""
        ...

    async def close(self) -> None:
        """The engine works here no more. Closing twice is harmless."""
        ...

    async def append(self, head: Head, expected: int, rows: Sequence[bytes]) -> Fence:
        """Add rows to a journal of ``expected`` rows; durable when this returns.

        Asked again with the same rows, after ``JournalUnavailable``, it finds what it did.

        Returns:
            Where they stand: later appends have greater fences.

        Raises:
            JournalMoved: it has another length; nothing was appended.
            EngineReplaced: another engine has opened the journal.
            JournalUnavailable: it may have been appended or not; ask again.
        """
        ...

    async def read(self, saga: str) -> Story | None:
        """A saga's journal; None if there is none."""
        ...

    async def heads(self, query: Query) -> list[Head]:
        """The sagas that are meant."""
        ...

    async def delete(self, saga: str) -> None:
        """Forget a saga."""
        ...

    async def gone(self, owners: Collection[str]) -> set[str]:
        """Which of these engines are certainly not at work any more: their sagas may be taken."""
        ...

    async def disturbed(self) -> set[str]:
        """Wait until somebody else wrote to journals, or is gone; returns sagas to look at anew."""
        ...


def head_of(state: State) -> Head:
    """A saga in one line."""
    return Head(
        state.saga,
        state.begun.definition,
        state.version,
        state.status,
        state.owner,
        state.started_at.at_ns,
        state.last.at_ns,
        state.length,
    )


def check_saga_id(saga: object) -> str:
    """An id of a saga.

    Raises:
        InvalidInput: it is none.
    """
    if isinstance(saga, str) and 0 < len(saga) <= SAGA_ID_MAX and saga.isprintable():
        return saga
    raise InvalidInput(
        f"{saga!r} is no id of a saga", remedy=f"It has 1 to {SAGA_ID_MAX} printable characters"
    )

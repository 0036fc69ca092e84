"""What clients asked of a cluster, and what became of it.

This module exists so that the workload, the live figures and the verdict speak of the same values.
Plain data; it decides nothing and must never read a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mcpcore.check import Outcome

__all__ = ["Kind", "Operation", "Outcome", "Replica", "Stored"]


class Kind(StrEnum):
    """What was asked."""

    PUT = "put"
    """Write a value under a key that nobody else ever writes."""
    INCREMENT = "increment"
    """Compare-and-set of a shared counter, from the number last seen to the next one."""
    READ = "read"
    """A linearizable read of a counter or of a key that was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of one lane: a lane has one operation open at a time.

    Args:
        site: where the client is.
        lane: who asked, unique among all.
        kind: what was asked.
        key: about which key.
        value: what was to be written; for an increment, the new number.
        called_s: when it was asked, on the monotonic clock of the client.
        returned_s: when the client was answered or gave up.
        outcome: what is known.
        swapped: for an increment that is OK: whether the counter was as expected.
        revision: for a write that took effect, the log index of its change; for a read, the
            ``mod_revision`` of the record that was read, 0 if there was none.
        term: of the log entry that was answered.
        index: of the log entry that was answered, or up to which log index a read's answer was
            applied. Beyond ``revision`` if the write had been sent more than once.
        read: what a read found; None if there was no such key.
        error: what the client was told instead of a result.
    """

    site: str
    lane: str
    kind: Kind
    key: str
    value: str = ""
    called_s: float
    returned_s: float
    outcome: Outcome
    swapped: bool = False
    revision: int = 0
    term: int = 0
    index: int = 0
    read: str | None = None
    error: str = ""

    @property
    def is_write(self) -> bool:
        """Whether it certainly changed the store."""
        return self.outcome is Outcome.OK and (
            self.kind is Kind.PUT or (self.kind is Kind.INCREMENT and self.swapped)
        )

    @property
    def may_have_written(self) -> bool:
        """Whether it changed the store, or nobody knows."""
        unknown = self.outcome is Outcome.UNKNOWN and self.kind is not Kind.READ
        return self.is_write or unknown

    @property
    def latency_s(self) -> float:
        """From the call to the answer."""
        return self.returned_s - self.called_s


@dataclass(frozen=True, slots=True)
class Stored:
    """One record of the store as a replica has it."""

    value: str
    create_revision: int
    mod_revision: int
    version: int


@dataclass(frozen=True, slots=True)
class Replica:
    """What one node holds in the end.

    Args:
        node: its name.
        term: its term.
        applied: up to which log index its state is applied.
        digest: of that state.
        records: all of its records, by key.
    """

    node: str
    term: int
    applied: int
    digest: str
    records: dict[str, Stored]

"""What a saga is, given its journal: the fold of its records.

This module exists so that engine, tools and tests read a journal in one and the same way. It needs
no definition, so that an operator's tool can show every saga. Pure: it must never decide what comes
next (see ``coordinator``), nor read a clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mcpcore.clock import Interval
from mcpcore.errors import JournalDamaged
from mcpcore.saga.records import (
    CancelAsked,
    DeadlinePassed,
    End,
    Ended,
    Entry,
    Migrated,
    Parked,
    Record,
    Remedy,
    Started,
    StepDone,
    StepErred,
    StepStarted,
    Taken,
    TurnedBack,
    UndoDone,
    UndoErred,
    UndoStarted,
    Unparked,
)


class Phase(StrEnum):
    """Where a step, or its compensation, stands."""

    IDLE = "idle"
    """Never started."""
    RUNNING = "running"
    """An attempt is under way, or was when the engine died."""
    WAITING = "waiting"
    """An attempt did not bring it about; perhaps another one will."""
    DONE = "done"


class Status(StrEnum):
    """Where a saga stands."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    PARKED = "parked"
    COMPLETED = "completed"
    COMPENSATED = "compensated"

    @property
    def is_end(self) -> bool:
        """Whether nothing will ever happen to it again."""
        return self in (Status.COMPLETED, Status.COMPENSATED)


@dataclass(slots=True)
class StepState:
    """One step that was ever started, or refused."""

    phase: Phase = Phase.IDLE
    attempts: int = 0
    """Since somebody last asked to try again."""
    final: bool = False
    """The last failure was for good."""
    uncertain: bool = False
    """Some attempt may have done something, and nobody knows."""
    error: str = ""
    result: Any = None
    undo: Phase = Phase.IDLE
    undo_attempts: int = 0
    undo_final: bool = False
    undo_error: str = ""
    undo_void: bool = False

    @property
    def needs_undo(self) -> bool:
        """Whether it has done something, or may have, that was not taken back."""
        return (self.phase is Phase.DONE or self.uncertain) and self.undo is not Phase.DONE


class State:
    """A saga, as far as its journal has been read.

    Raises:
        JournalDamaged: by ``apply``: the records contradict each other.
    """

    __slots__ = (
        "cancelled",
        "deadline_passed",
        "end",
        "ended_by",
        "last",
        "length",
        "note",
        "owner",
        "parked",
        "pivot_passed",
        "running",
        "saga",
        "started",
        "started_at",
        "steps",
        "stuck",
        "turned",
        "version",
        "why",
    )

    def __init__(self, saga: str) -> None:
        self.saga = saga
        self.length = 0
        self.started: Started | None = None
        self.started_at = Entry(Taken("", 0))
        self.last = self.started_at
        self.owner = ""
        self.version = ""
        self.steps: dict[str, StepState] = {}
        self.running = 0
        """Attempts under way, of steps and of compensations."""
        self.cancelled: CancelAsked | None = None
        self.deadline_passed = False
        self.turned = False
        self.why = ""
        """Why it turned back."""
        self.pivot_passed = False
        self.parked: Parked | None = None
        self.stuck: tuple[str, ...] = ()
        self.end: End | None = None
        self.ended_by = ""
        self.note = ""

    @classmethod
    def replay(cls, saga: str, entries: Iterable[Entry]) -> State:
        """The state after some entries.

        Raises:
            JournalDamaged: they are no journal of a saga.
        """
        state = cls(saga)
        for entry in entries:
            state.apply(entry)
        return state

    @property
    def status(self) -> Status:
        """Where it stands."""
        if self.end is not None:
            return Status(self.end.value)
        if self.parked is not None:
            return Status.PARKED
        return Status.COMPENSATING if self.turned else Status.RUNNING

    @property
    def begun(self) -> Started:
        """Its first record."""
        if self.started is None:
            raise JournalDamaged(self.saga, "it is empty")
        return self.started

    @property
    def results(self) -> Mapping[str, Any]:
        """Results of the steps that are done, by name."""
        return {name: st.result for name, st in self.steps.items() if st.phase is Phase.DONE}

    @property
    def errors(self) -> Mapping[str, str]:
        """Every error that was met and not overcome: of steps, and of compensations (``.undo``)."""
        found = {n: st.error for n, st in self.steps.items() if st.error}
        found |= {f"{n}.undo": st.undo_error for n, st in self.steps.items() if st.undo_error}
        return found

    def step(self, name: str) -> StepState:
        """A step's state; one that was never started is idle."""
        found = self.steps.get(name)
        if found is None:
            found = self.steps[name] = StepState()
        return found

    def apply(self, entry: Entry) -> None:
        """Take in the next entry.

        Raises:
            JournalDamaged: it cannot stand here.
        """
        record = entry.record
        if (self.started is None) is not isinstance(record, Started):
            raise JournalDamaged(self.saga, f"entry {self.length} is {type(record).__name__}")
        if self.end is not None:
            raise JournalDamaged(self.saga, f"{type(record).__name__} after its end")
        self._apply(record)
        if self.length == 0:
            self.started_at = entry
        self.length += 1
        self.last = entry

    def check(self) -> None:
        """Every promise that a saga's state makes about itself."""
        under_way = [st for st in self.steps.values() for phase in (st.phase, st.undo)
                     if phase is Phase.RUNNING]  # fmt: skip
        assert self.running == len(under_way)
        assert not (self.turned and self.pivot_passed), "after the pivot nothing turns back"
        if self.end is End.COMPENSATED and not self.ended_by:
            assert self.turned
        if self.status.is_end and not self.ended_by:
            assert not self.running, "it ended with something under way"
        for st in self.steps.values():
            if st.undo is not Phase.IDLE:
                assert self.turned, "compensation before the turn"
                assert st.phase is not Phase.RUNNING, "undone while it runs"

    # --- the records ----------------------------------------------------------------------------

    def _apply(self, record: Record) -> None:
        match record:
            case StepDone(step, result, pivot):
                st = self._ended(step)
                st.phase, st.result, st.error, st.uncertain = Phase.DONE, result, "", False
                self.pivot_passed |= pivot
            case StepStarted(step):
                st = self.step(step)
                if st.phase in (Phase.RUNNING, Phase.DONE) or self.turned:
                    raise JournalDamaged(self.saga, f"step {step} starts while {st.phase}")
                st.phase, st.final = Phase.RUNNING, False
                st.attempts += 1
                self.running += 1
            case StepErred(step, error, certain, final):
                st = self._ended(step)
                st.phase, st.error, st.final = Phase.WAITING, error, final
                st.uncertain |= not certain
            case UndoStarted(step):
                st = self.step(step)
                if not self.turned or st.undo in (Phase.RUNNING, Phase.DONE):
                    raise JournalDamaged(self.saga, f"{step} is undone while {st.undo}")
                st.undo, st.undo_final = Phase.RUNNING, False
                st.undo_attempts += 1
                self.running += 1
            case UndoDone(step, void):
                st = self._undo_ended(step)
                st.undo, st.undo_error, st.undo_void = Phase.DONE, "", void
            case UndoErred(step, error, final):
                st = self._undo_ended(step)
                st.undo, st.undo_error, st.undo_final = Phase.WAITING, error, final
            case _:
                self._apply_rare(record)

    def _apply_rare(self, record: Record) -> None:
        match record:
            case Started(_, version, _, owner):
                self.started, self.version, self.owner = record, version, owner
            case Taken(owner):
                self.owner = owner
                self._interrupt()
            case CancelAsked():
                self.cancelled = self.cancelled or record
            case DeadlinePassed():
                self.deadline_passed = True
            case TurnedBack(why):
                self.turned, self.why = True, why
            case Parked(_, steps):
                self.parked, self.stuck = record, steps
            case Unparked(remedy, steps):
                self.parked, self.stuck = None, ()
                if remedy is Remedy.SKIP and not self.turned:
                    # Before the turn only a pivot parks a saga (rule 5), or what comes after it.
                    self.pivot_passed = True
                for name in steps:
                    self._remedy(self.step(name), remedy)
            case Ended(end, by, note):
                self.end, self.ended_by, self.note = end, by, note
                self.parked = None
            case Migrated(version, rename):
                self.version = version
                self.steps = {rename.get(name, name): st for name, st in self.steps.items()}
                self.stuck = tuple(rename.get(name, name) for name in self.stuck)
            case _:
                raise JournalDamaged(self.saga, f"{type(record).__name__} is unknown")

    def _ended(self, step: str) -> StepState:
        """A step of which an attempt has ended. One that was refused never ran."""
        st = self.step(step)
        if st.phase is Phase.RUNNING:
            self.running -= 1
        elif st.phase is Phase.DONE:
            raise JournalDamaged(self.saga, f"step {step} ends twice")
        else:
            st.attempts += 1
        return st

    def _undo_ended(self, step: str) -> StepState:
        st = self.step(step)
        if st.undo is Phase.DONE or not self.turned:
            raise JournalDamaged(self.saga, f"{step} is undone while {st.undo}")
        if st.undo is Phase.RUNNING:
            self.running -= 1
        return st

    def _interrupt(self) -> None:
        for st in self.steps.values():
            if st.phase is Phase.RUNNING:
                st.phase, st.uncertain = Phase.WAITING, True
                st.error = st.error or "interrupted: its engine stopped"
            if st.undo is Phase.RUNNING:
                st.undo = Phase.WAITING
                st.undo_error = st.undo_error or "interrupted: its engine stopped"
        self.running = 0

    def _remedy(self, st: StepState, remedy: Remedy) -> None:
        if self.turned:
            st.undo_attempts, st.undo_final = 0, False
            if remedy is Remedy.SKIP:
                st.undo = Phase.DONE
        else:
            st.attempts, st.final = 0, False
            if remedy is Remedy.SKIP:
                st.phase, st.uncertain = Phase.DONE, False


def interval_of(entry: Entry) -> Interval | None:
    """When an entry was written, in the cluster's time; None if nobody could tell."""
    if entry.radius_ns < 0:
        return None
    return Interval.around(entry.at_ns, entry.radius_ns)

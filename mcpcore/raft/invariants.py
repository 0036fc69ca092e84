"""Figure 3 of the paper, as an observer of a whole group.

This module exists so that every test, simulation and experiment judges safety by the same five
sentences. It looks at all members at once, which nobody inside a group can. It must never be part
of the protocol.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mcpcore.raft.state import RaftState
from mcpcore.raft.types import Entry


class SafetyViolation(AssertionError):
    """One of the five properties of Figure 3 does not hold: a bug in the protocol or its driver."""

    def __init__(self, prop: str, fact: str) -> None:
        self.property = prop
        self.fact = fact
        super().__init__(f"{prop}: {fact}")


@dataclass(slots=True)
class _Seen:
    """What was verified about one life of one member."""

    terms: dict[int, int] = field(default_factory=dict)
    commit: int = 0
    leading: int = 0
    last_index: int = 0


class FigureThree:
    """The five safety properties; call ``observe`` after every step of a member.

    Incremental: each entry of each member is compared once, so a run of any length can be watched.
    """

    def __init__(self) -> None:
        self.leaders: dict[int, str] = {}
        self.committed: dict[int, Entry] = {}
        self._entries: dict[tuple[int, int], tuple[int, Entry]] = {}
        self._seen: dict[str, _Seen] = {}

    def restarted(self, member: str) -> None:
        """The member begins a new life: volatile facts about it start over."""
        self._seen.pop(member, None)

    def observe(self, state: RaftState) -> None:
        """Judge one member after a step.

        Raises:
            SafetyViolation: with the property's name in the paper and the fact that breaks it.
        """
        seen = self._seen.setdefault(state.id, _Seen(commit=state.log.base.index))
        self._snapshot_is_of_committed(state)
        self._log_matching(state, seen)
        if state.is_leader:
            self._election_safety(state)
            if seen.leading != state.term:
                self._leader_completeness(state)
        seen.leading = state.term if state.is_leader else 0
        seen.last_index = state.log.last_index
        self._state_machine_safety(state, seen)

    def _election_safety(self, state: RaftState) -> None:
        other = self.leaders.setdefault(state.term, state.id)
        if other != state.id:
            raise SafetyViolation(
                "Election Safety", f"both {other} and {state.id} lead term {state.term}"
            )

    def _snapshot_is_of_committed(self, state: RaftState) -> None:
        """State Machine Safety, where a snapshot stands for the entries (section 7)."""
        base = state.log.base
        known = self.committed.get(base.index)
        if known is not None and known.term != base.term:
            raise SafetyViolation(
                "State Machine Safety",
                f"{state.id} begins its log at index {base.index} of term {base.term}, where "
                f"{known} was committed",
            )

    def _log_matching(self, state: RaftState, seen: _Seen) -> None:
        """Log Matching and Leader Append-Only, over the entries that are new here."""
        log, index = state.log, state.log.last_index
        while index > log.base.index:
            entry = log.entry(index)
            if seen.terms.get(index) == entry.term:
                break
            if seen.leading == state.term and state.is_leader and index <= seen.last_index:
                raise SafetyViolation(
                    "Leader Append-Only", f"{state.id} replaced its own index {index}"
                )
            before = log.term_at(index - 1)
            assert before is not None
            known = self._entries.setdefault((index, entry.term), (before, entry))
            if known != (before, entry):
                raise SafetyViolation(
                    "Log Matching",
                    f"{state.id} has {entry} after term {before} where another log has "
                    f"{known[1]} after term {known[0]}",
                )
            seen.terms[index] = entry.term
            index -= 1
        if state.is_leader and seen.leading == state.term and log.last_index < seen.last_index:
            raise SafetyViolation(
                "Leader Append-Only",
                f"{state.id} dropped entries {log.last_index + 1} to {seen.last_index}",
            )

    def _leader_completeness(self, state: RaftState) -> None:
        for index, entry in self.committed.items():
            if index > state.log.base.index and (
                index > state.log.last_index or state.log.entry(index) != entry
            ):
                raise SafetyViolation(
                    "Leader Completeness",
                    f"{state.id} leads term {state.term} without committed index {index} "
                    f"(term {entry.term})",
                )

    def _state_machine_safety(self, state: RaftState, seen: _Seen) -> None:
        for index in range(seen.commit + 1, state.commit + 1):
            if index <= state.log.base.index:
                continue
            entry = state.log.entry(index)
            known = self.committed.setdefault(index, entry)
            if known != entry:
                raise SafetyViolation(
                    "State Machine Safety",
                    f"{state.id} commits {entry} at index {index}, where {known} was committed",
                )
        seen.commit = max(seen.commit, state.commit)

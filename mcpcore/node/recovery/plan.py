"""Which survivor carries a group on, and what that costs: the plan, before anything is done.

This module exists so that the most dangerous decision of an operator is made on facts: what is
certainly kept, what is certainly lost, and what nobody can know. Pure: surveys in, a plan out.

Choosing follows the election rule (section 5.4.1): of all survivors, the log with the highest last
term, then the highest index. It holds everything committed that any survivor holds, because
whoever led that term held it. What was committed on the missing members alone is lost, and no
survivor can say whether there was anything.

Uncommitted entries of the chosen log are kept: whether they were committed cannot be told from the
survivors, and an acknowledged write that is kept harms nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mcpcore.errors import InvalidInput, RecoveryRefused
from mcpcore.node.recovery.survey import Survey, SurveyedGroup
from mcpcore.node.storage.salvage import Verdict
from mcpcore.raft.quorum import VoteResult, vote_result
from mcpcore.raft.types import LogPosition


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """What recovering one group from these survivors means.

    Args:
        group: the group.
        chosen: the survivor with the best log.
        last: where that log ends; all of it is kept.
        certain: up to here everything was certainly committed.
        new_term: the term in which the new configuration begins.
        members: everybody in the newest configuration known.
        missing: voters of whom there is no survey.
        quorum_alive: whether the survivors could elect a leader by themselves.
        lost: (node, first, last): entries that a survivor holds and the chosen log does not.
        sessions: client sessions that were opened in the part of the log that is kept.
        warnings: what the operator must know.
    """

    group: str
    chosen: str
    last: LogPosition
    certain: int
    new_term: int
    members: tuple[str, ...]
    missing: tuple[str, ...]
    quorum_alive: bool
    lost: tuple[tuple[str, int, int], ...]
    sessions: int
    warnings: tuple[str, ...] = field(default=())

    def refuse_if_alive(self) -> None:
        """Refuse to recover what is not lost.

        Raises:
            RecoveryRefused: the survivors are a quorum.
        """
        if self.quorum_alive:
            raise RecoveryRefused(
                self.group,
                "these nodes are a quorum with sound logs, so nothing is lost",
                "Start them: they elect a leader by themselves",
            )

    def as_data(self) -> dict[str, Any]:
        """In plain values."""
        return {
            "group": self.group,
            "chosen": self.chosen,
            "kept_to": {"term": self.last.term, "index": self.last.index},
            "certainly_committed_to": self.certain,
            "new_term": self.new_term,
            "members": self.members,
            "missing": self.missing,
            "quorum_alive": self.quorum_alive,
            "lost": [
                {"node": node, "first": first, "last": last} for node, first, last in self.lost
            ],
            "sessions": self.sessions,
            "warnings": self.warnings,
        }

    def in_words(self) -> list[str]:
        """For people, one line each."""
        lines = [
            f"group {self.group}: members {', '.join(self.members)}; "
            f"missing {', '.join(self.missing) or 'nobody'}",
        ]
        if self.quorum_alive:
            lines.append("  a quorum is here with sound logs: start these nodes, recover nothing")
            return lines
        lines += [
            f"  the best log is {self.chosen}'s: it ends at index {self.last.index} of term "
            f"{self.last.term}",
            f"  kept for certain: index 1 to {self.certain}, which a snapshot covers"
            if self.certain
            else "  kept for certain: nothing; no snapshot says how far the log was committed",
            f"  kept, though perhaps never committed: index {self.certain + 1} to {self.last.index}"
            if self.last.index > self.certain
            else "  nothing beyond that",
        ]
        for node, first, last in self.lost:
            lines.append(f"  lost: index {first} to {last} of {node}, which differ or go further")
        lines.append(f"  client sessions opened in that log: {self.sessions}; they are kept")
        lines.append(f"  the new configuration would begin in term {self.new_term}")
        lines += (f"  warning: {warning}" for warning in self.warnings)
        return lines


def make_plans(surveys: Sequence[Survey]) -> list[GroupPlan]:
    """A plan for each group that any survivor holds.

    Raises:
        InvalidInput: the surveys are of different clusters, or two are of one node.
    """
    clusters = sorted({survey.cluster for survey in surveys})
    if len(clusters) != 1:
        raise InvalidInput(
            f"these are nodes of {len(clusters)} clusters: {', '.join(clusters)}",
            remedy="Name the survivors of one cluster",
        )
    by_node: dict[str, Survey] = {}
    for survey in surveys:
        other = by_node.setdefault(survey.node, survey)
        if other is not survey:
            raise InvalidInput(
                f"both {other.source} and {survey.source} are of node {survey.node}",
                remedy="Two copies of one node are one survivor: name the newer",
            )
    names = sorted({name for survey in surveys for name in survey.groups})
    return [_plan(name, by_node) for name in names]


def _plan(name: str, by_node: dict[str, Survey]) -> GroupPlan:
    held = {node: survey.groups[name] for node, survey in by_node.items() if name in survey.groups}
    usable = {node: group for node, group in held.items() if _usable(group)}
    # Names break ties, so that every operator gets the same answer.
    candidates = usable or held
    chosen = max(candidates, key=lambda node: (candidates[node].last, node))
    best = candidates[chosen]
    newest = max(held.values(), key=lambda group: group.last).configuration
    voters = newest.voters | newest.outgoing
    votes = {voter: voter in held and held[voter].sound for voter in voters}
    lost = tuple(
        (node, first, group.last.index)
        for node, group in sorted(held.items())
        if (first := _differs_from(group, best)) is not None
    )
    return GroupPlan(
        group=name,
        chosen=chosen,
        last=best.last,
        certain=max(group.base.index for group in held.values()),
        new_term=1 + max(group.term for group in held.values()),
        members=tuple(sorted(newest.members)),
        missing=tuple(sorted(voters - held.keys())),
        quorum_alive=vote_result(newest, votes) is VoteResult.WON,
        lost=lost,
        sessions=best.sessions,
        warnings=tuple(_warnings(held, chosen, voters)),
    )


def _usable(group: SurveyedGroup) -> bool:
    return group.verdict != Verdict.FORGOTTEN.value


def _differs_from(group: SurveyedGroup, best: SurveyedGroup) -> int | None:
    """The first index at which a log holds what the best one does not, or None."""
    low = max(group.base.index, best.base.index) + 1
    # Between these, neither log changes its term.
    starts = {low, best.last.index + 1, *(first for log in (group, best) for first, _ in log.runs)}
    for index in sorted(starts):
        if low <= index <= group.last.index and group.term_at(index) != best.term_at(index):
            return index
    return None


def _warnings(held: dict[str, SurveyedGroup], chosen: str, voters: frozenset[str]) -> list[str]:
    warnings = []
    missing = sorted(voters - held.keys())
    if missing:
        warnings.append(
            f"what {', '.join(missing)} committed without these survivors is lost, and nobody here "
            "can say whether there was anything"
        )
        warnings.append(
            f"{', '.join(missing)} must never start again with the old data: wipe, then add anew. "
            "A quorum of them would go on as a second group of the same name"
        )
    best = held[chosen]
    if best.last.index < max(group.base.index for group in held.values()):
        warnings.append("another survivor's snapshot covers more than the chosen log holds")
    for node, group in sorted(held.items()):
        if not group.sound:
            text = f"the log of {node} is damaged ({group.verdict})"
            if group.last_known > group.last:
                text += f": it is intact to {group.last.index} only, of {group.last_known.index}"
            warnings.append(text)
    others = sorted(held.keys() - {chosen})
    if others:
        warnings.append(
            f"{', '.join(others)} must not start with the old data either: wipe, then add anew"
        )
    return warnings

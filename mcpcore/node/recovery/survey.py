"""What one stopped node still holds of its groups: a summary that fits in a mail.

This module exists so that the logs of survivors can be compared without being in one place: a
survey is small, says where a log's terms change, and not what is in its entries. It reads, and it
judges nothing (``plan`` does).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcpcore.errors import InvalidInput
from mcpcore.node.disk import Disk
from mcpcore.node.storage.log_dump import require_log
from mcpcore.node.storage.salvage import Finding, Salvage, Verdict, salvage
from mcpcore.node.storage.salvage_scan import SalvageScan
from mcpcore.raft.types import Configuration, EntryKind, LogPosition

FORMAT = 1


@dataclass(frozen=True, slots=True)
class SurveyedGroup:
    """What a survivor holds of one group.

    Args:
        term: the newest term it knows.
        base: where its log begins; everything up to there was committed.
        last: where the part of its log that it is certain of ends.
        last_known: the last entry it holds anywhere, behind a hole perhaps.
        runs: (first index, term) wherever the term changes, from ``base`` to ``last``: two logs
            are equal up to the last index at which these agree.
        voters, outgoing, learners: of the configuration in force at ``last``.
        sessions: client sessions that were opened in the log.
        verdict: whether the log was damaged, and how badly.
    """

    term: int
    base: LogPosition
    last: LogPosition
    last_known: LogPosition
    runs: tuple[tuple[int, int], ...]
    voters: tuple[str, ...]
    outgoing: tuple[str, ...]
    learners: tuple[str, ...]
    sessions: int
    verdict: str

    @property
    def sound(self) -> bool:
        """Whether it may vote with this log."""
        return self.verdict == Verdict.SOUND.value

    @property
    def configuration(self) -> Configuration:
        """In force at ``last``."""
        return Configuration(
            frozenset(self.voters), frozenset(self.outgoing), frozenset(self.learners)
        )

    def term_at(self, index: int) -> int | None:
        """The term of an entry, or None outside of [base, last]."""
        if not self.base.index <= index <= self.last.index:
            return None
        if index == self.base.index:
            return self.base.term
        return max(run for run in self.runs if run[0] <= index)[1]


@dataclass(frozen=True, slots=True)
class Survey:
    """What one stopped node holds."""

    cluster: str
    node: str
    incarnation: str
    source: str
    """The directory or the file it comes from."""
    groups: dict[str, SurveyedGroup]

    def as_json(self) -> str:
        """For a file that travels."""
        groups = {
            name: {
                "term": group.term,
                "base": list(group.base),
                "last": list(group.last),
                "last_known": list(group.last_known),
                "runs": [list(run) for run in group.runs],
                "voters": group.voters,
                "outgoing": group.outgoing,
                "learners": group.learners,
                "sessions": group.sessions,
                "verdict": group.verdict,
            }
            for name, group in self.groups.items()
        }
        told = {"mcpcore_survey": FORMAT, "cluster": self.cluster, "node": self.node}
        told |= {"incarnation": self.incarnation, "groups": groups}
        return json.dumps(told, indent=1)


def survey(disk: Disk, directory: str) -> Survey:
    """Read a stopped node's log and change nothing.

    Raises:
        InvalidInput: there is no log, or none that says whose it is.
        OSError: it cannot be read.
    """
    require_log(disk, directory)
    scan = SalvageScan(disk, directory)
    found = salvage(list(scan), names_lost=scan.amnesia)
    if scan.identity is None:
        raise InvalidInput(
            "no file says whose log it is",
            where=directory,
            remedy="Leave this node out: nothing that it holds can be placed",
        )
    owner = scan.identity
    return Survey(owner.cluster, owner.node, owner.incarnation, directory, _groups(found))


def _groups(found: Salvage) -> dict[str, SurveyedGroup]:
    return {finding.state.name: surveyed(finding) for finding in found.findings}


def surveyed(finding: Finding) -> SurveyedGroup:
    """The summary of one group."""
    state, prefix = finding.state, finding.prefix
    configuration, sessions = state.configuration, 0
    runs: list[tuple[int, int]] = []
    for entry in prefix:
        if not runs or runs[-1][1] != entry.term:
            runs.append((entry.index, entry.term))
        if entry.kind == EntryKind.CONFIG:
            configuration = Configuration.decode(entry.data)
        sessions += entry.kind == EntryKind.SESSION and len(entry.data) == 1
    last = LogPosition(prefix[-1].term, prefix[-1].index) if prefix else state.base
    verdict = finding.verdict
    if verdict is Verdict.IN_DOUBT and not finding.certain:
        verdict = Verdict.FORGOTTEN
    return SurveyedGroup(
        state.hard_state.term,
        state.base,
        last,
        max(finding.last_known, last),
        tuple(runs),
        tuple(sorted(configuration.voters)),
        tuple(sorted(configuration.outgoing)),
        tuple(sorted(configuration.learners)),
        sessions,
        verdict.value,
    )


def read_survey(path: Path) -> Survey:
    """A survey from a file.

    Raises:
        InvalidInput: it is none.
    """
    try:
        told: Any = json.loads(path.read_text(encoding="utf-8"))
        if told["mcpcore_survey"] != FORMAT:
            raise ValueError(f"version {told['mcpcore_survey']!r}")
        groups = {str(name): _read_group(group) for name, group in told["groups"].items()}
        return Survey(
            str(told["cluster"]), str(told["node"]), str(told["incarnation"]), str(path), groups
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"is no survey: {error}",
            where=str(path),
            remedy="`mcpctl recover --survey DIR > FILE` makes one",
        ) from error


def _read_group(told: Any) -> SurveyedGroup:
    def position(key: str) -> LogPosition:
        term, index = told[key]
        return LogPosition(int(term), int(index))

    return SurveyedGroup(
        int(told["term"]),
        position("base"),
        position("last"),
        position("last_known"),
        tuple((int(first), int(term)) for first, term in told["runs"]),
        tuple(map(str, told["voters"])),
        tuple(map(str, told["outgoing"])),
        tuple(map(str, told["learners"])),
        int(told["sessions"]),
        Verdict(told["verdict"]).value,
    )

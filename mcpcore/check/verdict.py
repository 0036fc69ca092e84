"""What a judge says: a verdict, what it found, and the numbers behind it.

This module exists so that every judge answers in one shape, which text, JSON and the page can all
show. It must never import a judge. ``unknown`` is a verdict of its own here and nowhere does it
turn into ``ok``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """Whether the history keeps the promise."""

    OK = "ok"
    VIOLATED = "violated"
    UNKNOWN = "unknown"

    @property
    def exit_status(self) -> int:
        """For a shell: 0, 1 or 2."""
        return {Verdict.OK: 0, Verdict.VIOLATED: 1, Verdict.UNKNOWN: 2}[self]

    @staticmethod
    def worst(verdicts: Iterable[Verdict]) -> Verdict:
        """One violation spoils all; one unknown spoils every ok; nothing at all is ok."""
        found = set(verdicts)
        for verdict in (Verdict.VIOLATED, Verdict.UNKNOWN):
            if verdict in found:
                return verdict
        return Verdict.OK


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, or that could not be decided.

    Args:
        kind: its name in the field: ``G1c``, ``lost``, ``nonlinearizable``...
        text: sentences a tired person understands.
        operations: ids of the operations it is about, the most telling first.
        facts: the same in numbers and names, for programs.
        decided: False for a finding that only says why the verdict is unknown.
    """

    kind: str
    text: str
    operations: tuple[int, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    decided: bool = True


@dataclass(frozen=True, slots=True)
class Candidate:
    """An operation that could have come next, and what stands against it."""

    operation: int
    text: str
    against: str


@dataclass(frozen=True, slots=True)
class DeadEnd:
    """One way to explain the history that goes as far as any other, and no further.

    Args:
        linearization: operation ids in the order that this way gives them.
        state: what the object holds then.
        candidates: every operation that could come next, with what it contradicts.
    """

    linearization: tuple[int, ...]
    state: str
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What was found about one object of the history.

    Args:
        key: which object; None when the history has one.
        verdict: for this object alone.
        method: ``search`` or ``log``.
        visited: configurations the search looked at.
        operations: ids of the operations on this object, in order of call.
        linearization: an order that explains them all, when there is one.
        blocked_at: the operation whose return nothing explains, ending the shortest failing prefix.
        prefix: ids of the operations called before that return, the shortest failing prefix.
        prefix_is_shortest: False if the budget ended before that was proven.
        dead_ends: the longest explanations, the longest first.
    """

    key: Any
    verdict: Verdict
    method: str
    visited: int
    operations: tuple[int, ...] = ()
    linearization: tuple[int, ...] = ()
    blocked_at: int | None = None
    prefix: tuple[int, ...] = ()
    prefix_is_shortest: bool = True
    dead_ends: tuple[DeadEnd, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer of one judge about one history.

    Args:
        judge: who says so.
        verdict: ok, violated or unknown.
        summary: one sentence.
        findings: what is wrong; never empty when the verdict is ``violated``.
        facts: counts and measures.
        parts: per object, where the judge looks at objects one by one.
    """

    judge: str
    verdict: Verdict
    summary: str
    findings: tuple[Finding, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the history is proven to keep the promise."""
        return self.verdict is Verdict.OK

    @property
    def kinds(self) -> frozenset[str]:
        """Names of the anomalies found."""
        return frozenset(finding.kind for finding in self.findings if finding.decided)

    def check(self) -> None:
        """Every promise a judgement makes about itself."""
        if self.verdict is Verdict.VIOLATED:
            assert self.kinds, "a violation names what was violated"
        if self.verdict is Verdict.OK:
            assert not self.findings, "an ok has nothing to complain about"


def conclude(
    judge: str,
    findings: Iterable[Finding],
    summary: str,
    facts: Mapping[str, Any] | None = None,
    *,
    undecided: str = "",
) -> Judgement:
    """Put a judgement together: violated if any finding is decided, unknown if any is not.

    Args:
        undecided: why nothing can be said, if so; it counts only where nothing was violated.
    """
    found = tuple(findings)
    if any(finding.decided for finding in found):
        verdict = Verdict.VIOLATED
    elif found or undecided:
        verdict = Verdict.UNKNOWN
        if undecided:
            found = (*found, Finding("undecided", undecided, decided=False))
            summary = undecided
    else:
        verdict = Verdict.OK
    return Judgement(judge, verdict, summary, found, facts or {})

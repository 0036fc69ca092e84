"""What one member remembers about a reunion: was it split, is it held up, who agreed to what.

This module exists so that "an operator must answer first" is a small account, which a test can hold
in its hand and a driver can make durable. It asks ``reunion.decide`` and remembers; it must never
send, and never know the state of Raft: the rules that touch that are in ``reuniting``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from mcpcore.errors import InvalidInput
from mcpcore.raft.reunion import Answer, Gap, Intervene, Plan, ReunionKind, ReunionSettings, decide
from mcpcore.raft.split import SplitState


class ReunionHeldUp(NamedTuple):
    """A reunion is refused until an operator answers ``plan``."""

    plan: Plan


class ReunionAgreed(NamedTuple):
    """A reunion that was held up goes ahead; ``answer`` says who wanted that."""

    plan: Plan
    answer: Answer


class ReunionDone(NamedTuple):
    """This member has all that the leader had when the reunion went ahead."""

    answer: Answer


ReunionEvent = ReunionHeldUp | ReunionAgreed | ReunionDone
"""What a driver keeps on its disk, and tells people."""


class ReunionGuard:
    """The account of one member.

    Args:
        settings: when an operator is asked.
    """

    __slots__ = ("_agreed", "_until", "events", "held", "on_guard", "settings", "split")

    def __init__(self, settings: ReunionSettings) -> None:
        self.settings = settings
        self.split = False
        """Whether the verdict was ``split`` since the last reunion."""
        self.held: Plan | None = None
        """What an operator is asked, if a reunion is held up."""
        self.events: list[ReunionEvent] = []
        """What happened since a driver last took them."""
        self._agreed: Answer | None = None
        self._until = 0
        self.on_guard = False
        """Whether anything at all has to be looked at; else this costs one look at a flag."""
        self._watch()

    # --- what is told ----------------------------------------------------------------------------

    def judged(self, verdict: SplitState) -> None:
        """The verdict about this member's group changed to ``verdict``."""
        if verdict is SplitState.SPLIT:
            self.split = True
        elif verdict is SplitState.HEALTHY and self.held is None:
            self.split = False
            self.reached(self._until)
        self._watch()

    def recall(self, *, split: bool, agreed: Answer | None) -> None:
        """What an earlier life had made durable."""
        self.split, self._agreed = split, agreed
        self._watch()

    def agree(self, answer: Answer) -> None:
        """Let the reunion that is held up go ahead.

        Raises:
            InvalidInput: none is held up, or the answer belongs to another one.
        """
        plan = self.held
        if plan is None:
            raise InvalidInput("no reunion is held up here", where="reunion")
        if answer.episode != plan.gap.episode:
            raise InvalidInput(
                f"the answer is for {answer.episode!r}, this is {plan.gap.episode!r}",
                where="reunion",
                remedy="Look at the present plan and answer that one",
            )
        self._agreed, self.held = answer, None
        self.events.append(ReunionAgreed(plan, answer))

    def leads(self) -> None:
        """This member was elected: its log is the group's now, and it reunites with nobody."""
        self.held = None
        self.reached(self._until)
        self._watch()

    def reached(self, index: int) -> None:
        """Our log equals the leader's up to ``index``."""
        if self._until and index >= self._until:
            assert self._agreed is not None
            self.events.append(ReunionDone(self._agreed))
            self._agreed, self._until = None, 0
            self._watch()

    # --- what is asked ---------------------------------------------------------------------------

    @property
    def under_way(self) -> bool:
        """Whether a reunion that somebody agreed to is being carried out."""
        return bool(self._until)

    def refuses(self, gap: Gap) -> bool:
        """Whether this gap has to wait for an operator."""
        if self._until:
            return False
        if self.split:
            gap = replace(gap, verdict=SplitState.SPLIT)
        answer = self._agreed
        if answer is not None and answer.episode != gap.episode:
            answer = None  # it was for another reunion, of which nothing is left to do
        plan = decide(gap, self.settings, answer)
        if plan.kind is ReunionKind.INTERVENTION:
            if self.held is None or self.held.gap.episode != gap.episode:
                self.events.append(ReunionHeldUp(plan))
            self.held = plan
            return True
        self.held = None
        if answer is not None:
            self._until, self.split = gap.theirs.index, False
        return False

    def words(self) -> str:
        """What is refused and why, for a verdict; empty if nothing is."""
        return "" if self.held is None else self.held.reason

    def _watch(self) -> None:
        always = self.settings.intervene in (Intervene.ALWAYS, Intervene.WHEN_DIVERGED)
        self.on_guard = self.split or always or self._agreed is not None

    def check(self) -> None:
        """What this account promises about itself."""
        assert self.held is None or self.held.kind is ReunionKind.INTERVENTION
        assert not (self.held and self._until), "held up, or under way"
        assert not self._until or self._agreed is not None, "nothing goes ahead unasked"
        assert self.on_guard or not (self.held or self._until)

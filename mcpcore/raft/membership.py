"""What a change makes of a configuration (paper section 6, thesis chapter 4).

This module exists so that the whole algebra of membership is three pure functions over values:
``simple``, ``enter_joint`` and ``leave_joint``, with the meaning and the refusals that the field
gives them, so that its tables can be read beside ours. *When* a change may begin is the leader's
question (``reconfiguration``). It must never know a log, a role or a clock.

Changes are applied in the order given, and each is idempotent: adding a voter who votes, or
removing somebody who is not there, changes nothing.

Source of the semantics: etcd/raft's package ``confchange``, as its published tables state them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, assert_never

from mcpcore.errors import ChangeRefused, InvalidInput
from mcpcore.raft.types import UNKNOWN_MEMBER, Configuration, Member


class AddVoter(NamedTuple):
    """Make it a voter, whatever it was. ``member`` None keeps what is known about it."""

    name: str
    member: Member | None = None


class AddLearner(NamedTuple):
    """Make it a learner, whatever it was. ``member`` None keeps what is known about it."""

    name: str
    member: Member | None = None


class Promote(NamedTuple):
    """Make a member a voter."""

    name: str


class Demote(NamedTuple):
    """Make a member a learner."""

    name: str


class Remove(NamedTuple):
    """Let it take no part any more."""

    name: str


class Update(NamedTuple):
    """State anew what is known about a member; its role stays.

    An empty ``incarnation`` keeps the recorded one: who moves a member to another address does not
    mean to let any disk vote in its name.
    """

    name: str
    member: Member


class RequireZones(NamedTuple):
    """From now on an entry counts as committed when held in so many zones."""

    zones: int


Change = AddVoter | AddLearner | Promote | Demote | Remove | Update | RequireZones
"""Anything that one change of configuration may consist of."""


def simple(configuration: Configuration, changes: Iterable[Change]) -> Configuration:
    """The configuration after a change that touches at most one voter (thesis section 4.1).

    Any two majorities before and after then share a voter, so no joint phase is needed.

    Raises:
        ChangeRefused: a joint change is under way; more than one voter would change; nobody would
            vote; or the result breaks a rule.
        InvalidInput: a change is malformed.
    """
    if configuration.joint:
        raise ChangeRefused(
            "", "a joint change is under way, and a simple change cannot be made inside it"
        )
    draft = _Draft.of(configuration)
    for change in changes:
        draft.apply(change)
    draft.refuse_if_nobody_votes()
    touched = draft.voters ^ configuration.voters
    if len(touched) > 1:
        raise ChangeRefused(
            "",
            f"{len(touched)} voters would change at once ({', '.join(sorted(touched))})",
            "Make it a joint change",
        )
    return draft.finish(configuration)


def enter_joint(
    configuration: Configuration, changes: Iterable[Change], auto_leave: bool = False
) -> Configuration:
    """The joint configuration that leads to any other (paper section 6).

    Raises:
        ChangeRefused: a joint change is under way already; nobody votes before or after; or the
            result breaks a rule.
        InvalidInput: a change is malformed.
    """
    if configuration.joint:
        raise ChangeRefused("", "the configuration is already joint")
    if not configuration.voters:
        raise ChangeRefused("", "a configuration without voters cannot become joint")
    draft = _Draft.of(configuration)
    draft.outgoing = configuration.voters
    for change in changes:
        draft.apply(change)
    draft.refuse_if_nobody_votes()
    draft.auto_leave = auto_leave
    return draft.finish(configuration)


def leave_joint(configuration: Configuration) -> Configuration:
    """The configuration to which a joint one leads: the old voters are no more.

    Raises:
        ChangeRefused: there is no joint change.
    """
    if not configuration.joint:
        raise ChangeRefused("", "there is no joint change to leave")
    draft = _Draft.of(configuration)
    draft.learners |= configuration.learners_next
    draft.learners_next, draft.outgoing, draft.auto_leave = set(), frozenset(), False
    return draft.finish(configuration)


def voters_touched(configuration: Configuration, changes: Iterable[Change]) -> int:
    """How many voters these changes add or take away; more than one needs a joint change."""
    draft = _Draft.of(configuration)
    for change in changes:
        draft.apply(change)
    return len(draft.voters ^ configuration.voters)


def _refuse_unless_name(name: object) -> None:
    if type(name) is not str or not name:
        raise InvalidInput(f"a member's name must be text, not {name!r}", where="change")


@dataclass(slots=True)
class _Draft:
    """A configuration being edited."""

    voters: set[str]
    learners: set[str]
    about: dict[str, Member]
    zones_required: int
    outgoing: frozenset[str] = frozenset()
    learners_next: set[str] = field(default_factory=set)
    auto_leave: bool = False

    @classmethod
    def of(cls, configuration: Configuration) -> _Draft:
        return cls(
            set(configuration.voters),
            set(configuration.learners),
            dict(configuration.about),
            configuration.zones_required,
            configuration.outgoing,
            set(configuration.learners_next),
            configuration.auto_leave,
        )

    def knows(self, name: str) -> bool:
        return name in self.voters or name in self.learners or name in self.outgoing

    def apply(self, change: Change) -> None:
        if not isinstance(change, RequireZones):
            _refuse_unless_name(change.name)
        match change:
            case AddVoter(name, member):
                self.make_voter(name)
                self.describe(name, member)
            case AddLearner(name, member):
                self.make_learner(name)
                self.describe(name, member)
            case Promote(name):
                self.refuse_unless_known(name, "promoted")
                self.make_voter(name)
            case Demote(name):
                self.refuse_unless_known(name, "demoted")
                self.make_learner(name)
            case Remove(name):
                self.forget(name)
            case Update(name, member):
                self.refuse_unless_known(name, "described")
                self.describe(name, member)
            case RequireZones(zones):
                if type(zones) is not int or zones < 1:
                    raise InvalidInput(f"must be 1 or more, not {zones!r}", where="zones")
                self.zones_required = zones
            case _:
                assert_never(change)

    def make_voter(self, name: str) -> None:
        self.learners.discard(name)
        self.learners_next.discard(name)
        self.voters.add(name)

    def make_learner(self, name: str) -> None:
        if name in self.learners:
            return
        self.voters.discard(name)
        if name in self.outgoing:
            # It goes on voting in the outgoing half, and no voter may be a learner: later.
            self.learners_next.add(name)
        else:
            self.learners.add(name)

    def forget(self, name: str) -> None:
        self.voters.discard(name)
        self.learners.discard(name)
        self.learners_next.discard(name)
        if name not in self.outgoing:
            self.about.pop(name, None)

    def describe(self, name: str, member: Member | None) -> None:
        if member is None:
            return
        if type(member) is not Member:
            raise InvalidInput(f"must be a Member, not {member!r}", where=f"change of {name}")
        known = self.about.get(name, UNKNOWN_MEMBER)
        self.about[name] = member._replace(incarnation=member.incarnation or known.incarnation)

    def refuse_unless_known(self, name: str, what: str) -> None:
        if not self.knows(name):
            raise ChangeRefused("", f"{name} is no member and cannot be {what}", "Add it first")

    def refuse_if_nobody_votes(self) -> None:
        if not self.voters:
            raise ChangeRefused("", "nobody would be left to vote")

    def finish(self, before: Configuration) -> Configuration:
        """The configuration, if it keeps the rules."""
        for name in self.voters:
            if name in self.about:
                self.about[name] = self.about[name]._replace(promote=False)
        after = Configuration(
            frozenset(self.voters),
            self.outgoing,
            frozenset(self.learners),
            frozenset(self.learners_next),
            self.auto_leave,
            self.about,
            self.zones_required,
        )
        problem = after.problem()
        if problem:
            raise ChangeRefused("", problem)
        for name, member in before.about.items():
            # The votes of the old disk would count as those of the new one, which knows none.
            changed = member.incarnation not in ("", after.member(name).incarnation)
            if changed and before.votes(name) and after.votes(name):
                raise ChangeRefused(
                    "",
                    f"{name} votes with the disk {member.incarnation}, and another disk cannot "
                    "vote in its place at once",
                    "Demote it first, and promote it once it has caught up",
                )
        return after

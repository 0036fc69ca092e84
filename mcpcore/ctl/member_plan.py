"""A change of membership, looked at before it is made: where it leads, and what speaks against it.

This module exists so that everything an operator is told about a change (quorums, zones, who is
there to carry it) is decided from the nodes' own accounts in one place that a table can test. It
decides; it must never ask a node, wait or print.

What ``--force`` overrides is marked ``may_force``: only what is safe for consensus, whatever it
does to availability. Raft itself refuses the rest, forced or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mcpcore.observe.health import Account
from mcpcore.raft.membership import (
    AddLearner,
    Change,
    Demote,
    Promote,
    Remove,
    RequireZones,
    Update,
)
from mcpcore.raft.types import Member

LAG_SETTLED = 16
"""A learner that lacks no more entries than these has caught up, as far as a plan is concerned."""


class Objection(NamedTuple):
    """Why a change should not be made.

    Args:
        risk: what would happen.
        remedy: what to do instead.
        may_force: whether ``--force`` overrides it: it is safe for consensus.
    """

    risk: str
    remedy: str
    may_force: bool = False


@dataclass(frozen=True, slots=True)
class Side:
    """The group before or after a change.

    Args:
        voters: who votes.
        learners: who listens.
        zones: voters by zone; those without one are zones by themselves and stand under "".
    """

    voters: frozenset[str]
    learners: frozenset[str]
    zones: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def quorum(self) -> int:
        """How many voters decide."""
        return len(self.voters) // 2 + 1

    @property
    def tolerates(self) -> int:
        """How many voters may fail."""
        return len(self.voters) - self.quorum if self.voters else 0


@dataclass(frozen=True, slots=True)
class GroupView:
    """One group, put together from the accounts of the nodes.

    Args:
        leader: who leads, by its own account; empty if nobody does.
        about: what the configuration says about the members.
        outgoing: the old voters, while a joint change is under way.
        lag: by member, how many entries it lacks of the leader's log; None: not known.
        answering: nodes that answer.
        hosts: nodes that answer and have the group.
        incarnations: of the nodes that answer.
        standings: why a node takes no full part, by node; left out if nothing stands in the way.
        endpoints: where the nodes that answer were asked.
    """

    group: str
    leader: str
    voters: frozenset[str]
    learners: frozenset[str]
    outgoing: frozenset[str]
    about: Mapping[str, Member]
    lag: Mapping[str, int | None]
    answering: frozenset[str]
    hosts: frozenset[str]
    incarnations: Mapping[str, str]
    standings: Mapping[str, str]
    endpoints: Mapping[str, str] = field(default_factory=dict)

    @property
    def members(self) -> frozenset[str]:
        """Everybody who receives the log."""
        return self.voters | self.learners | self.outgoing

    def member(self, name: str) -> Member:
        """What is known about a member."""
        return self.about.get(name, Member())

    def side(self, voters: frozenset[str], learners: frozenset[str], **news: Member) -> Side:
        """The group with these members, and these facts about new ones."""
        zones: dict[str, tuple[str, ...]] = {}
        for voter in sorted(voters):
            zone = news.get(voter, self.member(voter)).zone
            zones[zone] = (*zones.get(zone, ()), voter)
        return Side(voters, learners, zones)

    @property
    def now(self) -> Side:
        """The group as it is."""
        return self.side(self.voters, self.learners)


class Step(NamedTuple):
    """One change for the leader, and what to wait for afterwards.

    Args:
        what: in words.
        changes: made together, all or nothing.
        then: ``caught-up``, ``voter`` or ``settled``.
        target: whom that concerns.
    """

    what: str
    changes: tuple[Change, ...]
    then: str
    target: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A change that is thought through.

    Args:
        title: in words.
        steps: what to do; none if the group is already as it is wanted.
        objections: what speaks against it.
        warnings: what to know before saying yes.
    """

    group: str
    title: str
    before: Side
    after: Side
    steps: tuple[Step, ...]
    objections: tuple[Objection, ...] = ()
    warnings: tuple[str, ...] = ()
    view: GroupView | None = None

    def refused(self, *, force: bool) -> tuple[Objection, ...]:
        """What stands against carrying it out."""
        return tuple(o for o in self.objections if not (force and o.may_force))


# --- Looking -------------------------------------------------------------------------------------


def view_of(group: str, accounts: Iterable[Account]) -> GroupView | None:
    """Put a group together. The leader of the newest term is asked first; None: nobody has it."""
    accounts = [account for account in accounts if account.status is not None]
    told = {str(a.status["node"]): a.status for a in accounts if a.status is not None}
    hosting = {name: status["groups"][group] for name, status in told.items()
               if group in status["groups"]}  # fmt: skip
    if not hosting:
        return None
    leaders = [(row["term"], name) for name, row in hosting.items() if row["role"] == "leader"]
    leader = max(leaders)[1] if leaders else ""
    members = {n: r for n, r in hosting.items() if n in r["members"]} or hosting
    source = leader or max(members, key=lambda n: (hosting[n]["commit"], hosting[n]["term"], n))
    row = hosting[source]
    configuration = row.get("configuration") or {"voters": row["members"]}
    about = {n: Member(**facts) for n, facts in configuration.get("about", {}).items()}
    last = row["last_index"]
    lag: dict[str, int | None] = {n: max(0, last - m) for n, m in row["match"].items()}
    lag[source] = 0 if leader else None
    return GroupView(
        group=group,
        leader=leader,
        voters=frozenset(configuration["voters"]),
        learners=frozenset(configuration.get("learners", ())),
        outgoing=frozenset(configuration.get("outgoing", ())),
        about=about,
        lag=lag,
        answering=frozenset(told),
        hosts=frozenset(hosting),
        incarnations={name: str(status["incarnation"]) for name, status in told.items()},
        standings={n: str(r["standing"]) for n, r in hosting.items() if r.get("standing")},
        endpoints={str(a.status["node"]): a.endpoint for a in accounts if a.status is not None},
    )


# --- Planning ------------------------------------------------------------------------------------


def plan_add(
    view: GroupView, name: str, address: str, zone: str, *, learner: bool, problem: str = ""
) -> Plan:
    """Add a node: as a learner first, which the leader makes a voter once it has caught up.

    Args:
        address: where it listens.
        problem: why it could not be asked, if so.
    """
    member = Member(
        address, zone or view.member(name).zone, view.incarnations.get(name, ""), not learner
    )
    known = view.member(name)
    voters = view.voters if learner else view.voters | {name}
    learners = (view.learners | {name}) - voters
    after = view.side(voters, learners, **{name: member})
    role = "a learner" if learner else "a voter"
    title = f"add {name} at {address} as {role}"
    disk = known.incarnation in ("", member.incarnation) or not member.incarnation
    then = "caught-up" if learner else "voter"
    steps: tuple[Step, ...] = ()
    if name in view.voters and disk:
        after = view.now
        if (known.address, known.zone) != (member.address, member.zone):
            title = f"{name} votes already: write down that it is at {address}"
            moved = known._replace(address=member.address, zone=member.zone)
            steps = (Step(title, (Update(name, moved),), "settled", name),)
        else:
            title = f"{name} votes already at {address}: nothing to do"
    elif not (learner and name in view.learners and known == member):
        what = f"{name} becomes a learner and receives the log"
        if not learner:
            what += "; the leader makes it a voter once it has caught up"
        steps = (Step(what, (AddLearner(name, member),), then, name),)
    objections = [*_cannot_begin(view), *_target(view, name, problem, may_force=learner)]
    if not learner and name not in view.voters:
        objections += _quorum(view, after, {name} if not problem else set())
    return Plan(
        view.group, title, view.now, after, steps, tuple(objections), _warnings(view, after), view
    )


def plan_remove(view: GroupView, name: str) -> Plan:
    """Let a member take no part any more."""
    after = view.side(view.voters - {name}, view.learners - {name})
    if name not in view.members:
        title = f"{name} is no member: nothing to do"
        return Plan(view.group, title, view.now, view.now, (), tuple(_cannot_begin(view)), (), view)
    step = Step(f"{name} is removed", (Remove(name),), "settled", name)
    objections = [*_cannot_begin(view), *_last_voter(view, after), *_zones(view, after)]
    objections += _quorum(view, after, set())
    warnings = list(_warnings(view, after))
    if name == view.leader:
        warnings.insert(0, f"{name} leads: leadership moves to another voter first")
    return Plan(view.group, f"remove {name}", view.now, after, (step,), tuple(objections),
                tuple(warnings), view)  # fmt: skip


def plan_promote(view: GroupView, name: str, problem: str = "") -> Plan:
    """Make a learner a voter."""
    if name in view.voters:
        title = f"{name} votes already: nothing to do"
        return Plan(view.group, title, view.now, view.now, (), tuple(_cannot_begin(view)), (), view)
    after = view.side(view.voters | {name}, view.learners - {name})
    objections = [*_cannot_begin(view), *_target(view, name, problem, may_force=False)]
    if name not in view.learners:
        objections.append(
            Objection(f"{name} is no member of {view.group}", "`mcpctl member add` makes it one")
        )
    objections += _quorum(view, after, set())
    warnings = list(_warnings(view, after))
    lag = view.lag.get(name)
    if lag is None or lag > LAG_SETTLED:
        told = "an unknown number of" if lag is None else str(lag)
        warnings.insert(
            0, f"{name} lacks {told} entries: it is promoted once it has caught up (--force: now)"
        )
    step = Step(f"{name} becomes a voter", (Promote(name),), "voter", name)
    return Plan(view.group, f"promote {name}", view.now, after, (step,), tuple(objections),
                tuple(warnings), view)  # fmt: skip


def plan_demote(view: GroupView, name: str) -> Plan:
    """Make a voter a learner."""
    if name in view.learners:
        title = f"{name} is a learner already: nothing to do"
        return Plan(view.group, title, view.now, view.now, (), tuple(_cannot_begin(view)), (), view)
    after = view.side(view.voters - {name}, view.learners | {name})
    objections = [*_cannot_begin(view), *_last_voter(view, after), *_zones(view, after)]
    if name not in view.voters:
        objections.append(Objection(f"{name} does not vote in {view.group}", "Name a voter"))
    objections += _quorum(view, after, set())
    warnings = list(_warnings(view, after))
    if name == view.leader:
        warnings.insert(0, f"{name} leads: leadership moves to another voter first")
    step = Step(f"{name} becomes a learner", (Demote(name),), "settled", name)
    return Plan(view.group, f"demote {name}", view.now, after, (step,), tuple(objections),
                tuple(warnings), view)  # fmt: skip


def plan_replace(
    view: GroupView, old: str, new: str, address: str, zone: str, problem: str = ""
) -> Plan:
    """Put one voter in another's place: it catches up first, then both change in one joint step."""
    if new in view.voters and old not in view.members:
        title = f"{new} votes and {old} is no member: nothing to do"
        return Plan(view.group, title, view.now, view.now, (), tuple(_cannot_begin(view)), (), view)
    zone = zone or view.member(new).zone or view.member(old).zone
    member = Member(address, zone, view.incarnations.get(new, ""))
    after = view.side((view.voters - {old}) | {new}, view.learners - {new, old}, **{new: member})
    objections = [*_cannot_begin(view), *_target(view, new, problem, may_force=False)]
    if old not in view.voters and old in view.learners:
        objections.append(Objection(f"{old} does not vote", "Remove it, and add the other one"))
    elif old not in view.members:
        objections.append(Objection(f"{old} is no member of {view.group}", "Name a voter"))
    objections += [*_zones(view, after), *_quorum(view, after, {new} if not problem else set())]
    steps = []
    if new not in view.members:
        what = f"{new} becomes a learner and receives the log"
        steps.append(Step(what, (AddLearner(new, member),), "caught-up", new))
    what = f"{new} takes the place of {old}, in one joint change"
    steps.append(Step(what, (Remove(old), Promote(new)), "settled", new))
    warnings = list(_warnings(view, after))
    if old == view.leader:
        warnings.insert(0, f"{old} leads: leadership moves to another voter first")
    return Plan(view.group, f"replace {old} by {new} at {address}", view.now, after, tuple(steps),
                tuple(objections), tuple(warnings), view)  # fmt: skip


def plan_zones(view: GroupView, required: int) -> Plan:
    """From now on count an entry as committed when it is held in so many zones."""
    step = Step(
        f"entries are committed once held in {required} zones", (RequireZones(required),),
        "settled", "",
    )  # fmt: skip
    objections = list(_cannot_begin(view))
    zones = _zones_of(view.now)
    if zones < required:
        objections.append(
            Objection(
                f"the voters stand in {zones} zones, so nothing could be committed any more",
                "Add voters in other zones first",
            )
        )
    return Plan(view.group, f"require {required} zones", view.now, view.now, (step,),
                tuple(objections), (), view)  # fmt: skip


# --- What speaks against it ----------------------------------------------------------------------


def _cannot_begin(view: GroupView) -> Iterable[Objection]:
    there = view.voters & view.hosts
    if not view.leader:
        yield Objection(
            f"nobody leads {view.group}: {len(there)} of {len(view.voters)} voters answer, and "
            f"{view.now.quorum} decide",
            "Start voters again until a quorum answers; if they are lost for good, see "
            "`mcpctl recover`",
        )


def _target(view: GroupView, name: str, problem: str, *, may_force: bool) -> Iterable[Objection]:
    if problem or name not in view.answering:
        why = problem or "it gives no account of itself"
        yield Objection(
            f"{name} cannot be asked: {why}",
            "Start it, and look at its address and certificate",
            may_force,
        )
    elif name not in view.hosts:
        yield Objection(
            f"{name} answers, and has no group {view.group}",
            f"Describe [groups.{view.group}] in its file and start it again",
        )


def _last_voter(view: GroupView, after: Side) -> Iterable[Objection]:
    if view.voters and not after.voters:
        yield Objection(
            "it is the last voter: nobody could decide anything any more",
            "Add another voter first; a group that is not needed any more is retired instead",
        )


def _quorum(view: GroupView, after: Side, coming: set[str]) -> Iterable[Objection]:
    there = (after.voters & view.hosts) | (after.voters & coming)
    if after.voters and len(there) < after.quorum:
        silent = ", ".join(sorted(after.voters - there))
        yield Objection(
            f"{len(there)} of the {len(after.voters)} voters answer afterwards, and "
            f"{after.quorum} decide: the change could not even be completed",
            f"Start {silent} again first, or remove it before the others",
        )


def _zones_of(side: Side) -> int:
    return len([zone for zone in side.zones if zone]) + len(side.zones.get("", ()))


def _zones(view: GroupView, after: Side) -> Iterable[Objection]:
    named = [zone for zone in view.now.zones if zone]
    if named and after.voters and _zones_of(view.now) > 1 and _zones_of(after) == 1:
        yield Objection(
            f"all voters would stand in one zone ({next(iter(after.zones))}), whose loss would "
            "lose the group",
            "Add a voter in another zone first",
            may_force=True,
        )


def _warnings(view: GroupView, after: Side) -> tuple[str, ...]:
    told = []
    count = len(after.voters)
    if after.voters != view.voters:
        if count and count % 2 == 0:
            told.append(
                f"{count} voters survive no more failures than {count - 1}, and need one more "
                "answer for everything: an odd number is better"
            )
        if after.tolerates < view.now.tolerates:
            told.append(
                f"{after.tolerates} failures are survived afterwards, {view.now.tolerates} now"
            )
    for zone, voters in after.zones.items():
        if zone and len(after.zones) > 1 and len(voters) >= after.quorum:
            told.append(f"zone {zone} holds a quorum: its loss stops the group")
    if view.outgoing:
        told.append("another change is under way; this one begins when that is over")
    return tuple(told)


def to_json(plan: Plan) -> dict[str, Any]:
    """A plan in plain values."""

    def side(each: Side) -> dict[str, Any]:
        return {
            "voters": sorted(each.voters),
            "learners": sorted(each.learners),
            "quorum": each.quorum,
            "tolerates": each.tolerates,
            "zones": {zone: list(voters) for zone, voters in each.zones.items()},
        }

    return {
        "group": plan.group,
        "plan": plan.title,
        "before": side(plan.before),
        "after": side(plan.after),
        "steps": [step.what for step in plan.steps],
        "warnings": list(plan.warnings),
        "objections": [objection._asdict() for objection in plan.objections],
    }

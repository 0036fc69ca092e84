"""What changes make of a configuration: tables in the field's notation, and laws.

A configuration is spelled ``bc<a +d ~a``: voters b and c, coming from a (a joint change), learner
d, and a about to become one; ``!`` at the end: it leaves by itself. Changes are spelled as
etcd/raft's tables do it: ``va`` make a voter, ``la`` a learner, ``ra`` remove, ``ua`` update.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import ChangeRefused, InvalidInput
from mcpcore.raft.membership import (
    AddLearner,
    AddVoter,
    Change,
    Demote,
    Promote,
    Remove,
    RequireZones,
    Update,
    enter_joint,
    leave_joint,
    simple,
    voters_touched,
)
from mcpcore.raft.quorum import majority
from mcpcore.raft.types import Configuration, Member

SOMEBODY = Member("10.0.0.1:7400", "north")
KINDS = {
    "v": AddVoter,
    "l": AddLearner,
    "r": Remove,
    "u": lambda name: Update(name, SOMEBODY),
}


def changes(text: str) -> list[Change]:
    return [KINDS[word[0]](word[1:]) for word in text.split()]


def spelled(configuration: Configuration) -> str:
    def names(group: frozenset[str]) -> str:
        return "".join(sorted(group))

    text = names(configuration.voters)
    if configuration.outgoing:
        text += f"<{names(configuration.outgoing)}"
    if configuration.learners:
        text += f" +{names(configuration.learners)}"
    if configuration.learners_next:
        text += f" ~{names(configuration.learners_next)}"
    return text + ("!" if configuration.auto_leave else "")


def played(steps: list[tuple[str, str, str]]) -> None:
    """Each step is a verb, changes, and the configuration or a part of the refusal."""
    configuration = Configuration.of("")
    for verb, text, outcome in steps:
        try:
            match verb:
                case "simple":
                    after = simple(configuration, changes(text))
                case "joint" | "joint!":
                    after = enter_joint(configuration, changes(text), verb.endswith("!"))
                case _:
                    after = leave_joint(configuration)
        except ChangeRefused as refusal:
            found = f"refused: {refusal}"
        else:
            found, configuration = spelled(after), after
        expected_refusal = len(outcome) > 12
        assert expected_refusal is found.startswith("refused: "), (verb, text, found)
        assert outcome in found if expected_refusal else outcome == found, (verb, text)


# --- the tables -----------------------------------------------------------------------------------


def test_simple_changes_are_idempotent() -> None:
    played(
        [
            ("simple", "va", "a"),
            ("simple", "va", "a"),
            ("simple", "vb", "ab"),
            ("simple", "la", "b +a"),
            ("simple", "la", "b +a"),
            ("simple", "ra", "b"),
            ("simple", "ra", "b"),
            ("simple", "vc", "bc"),
            ("simple", "rc", "b"),
            ("simple", "rc", "b"),
            ("simple", "rd", "b"),
        ]
    )


def test_a_simple_change_touches_one_voter_at_most_and_leaves_one_at_least() -> None:
    """Thesis §4.1: only then do all majorities before and after share a voter."""
    played(
        [
            ("simple", "la", "nobody would be left to vote"),
            ("simple", "va", "a"),
            ("simple", "vb lc", "ab +c"),
            ("simple", "ra ve", "2 voters would change at once (a, e)"),
            ("simple", "ra rb", "nobody would be left to vote"),
            ("simple", "vc vd", "2 voters would change at once (c, d)"),
            ("simple", "la ve", "2 voters would change at once (a, e)"),
            ("simple", "la lb", "nobody would be left to vote"),
            ("simple", "lb lc ld le", "a +bcde"),
            ("simple", "ra", "nobody would be left to vote"),
            ("simple", "rb rc rd re", "a"),
        ]
    )


def test_a_voter_can_be_demoted_and_promoted_in_one_breath() -> None:
    """Pointless, but no reason to lose anybody."""
    played(
        [
            ("simple", "va", "a"),
            ("simple", "vb", "ab"),
            ("simple", "vc", "abc"),
            ("simple", "la va", "abc"),
            ("simple", "lb", "ac +b"),
            ("simple", "vb lb", "ac +b"),
            ("simple", "vb", "abc"),
        ]
    )


def test_entering_and_leaving_a_joint_change_is_refused_at_the_wrong_time() -> None:
    played(
        [
            ("leave", "", "no joint change to leave"),
            ("joint", "", "a configuration without voters cannot become joint"),
            ("joint", "va", "a configuration without voters cannot become joint"),
            ("simple", "va", "a"),
            ("leave", "", "no joint change to leave"),
            ("joint", "", "a<a"),
            ("joint", "", "already joint"),
            ("leave", "", "a"),
            ("leave", "", "no joint change to leave"),
            ("joint", "ra vb vc ld", "bc<a +d"),
            ("joint", "", "already joint"),
            ("joint", "vl", "already joint"),
            ("simple", "lo", "cannot be made inside it"),
            ("leave", "", "bc +d"),
            ("simple", "li", "bc +di"),
            ("joint", "rb rc", "nobody would be left to vote"),
        ]
    )


def test_entering_a_joint_change_is_idempotent_in_each_of_its_changes() -> None:
    played(
        [
            ("simple", "va", "a"),
            ("joint", "ra rb ri vb vc vd vb vc vd lb lb rd rd la la", "c<a +b ~a"),
            ("leave", "", "c +ab"),
        ]
    )


def test_a_voter_demoted_in_a_joint_change_votes_until_it_is_left() -> None:
    played([("simple", "va", "a"), ("joint", "vb la", "b<a ~a"), ("leave", "", "b +a")])


def test_a_demoted_voter_that_is_made_a_voter_or_removed_again_is_no_learner_to_be() -> None:
    played([("simple", "va", "a"), ("joint", "vb la va", "ab<a"), ("leave", "", "ab")])
    played([("simple", "va", "a"), ("joint", "vb la ra", "b<a"), ("leave", "", "b")])


def test_whether_a_joint_change_leaves_by_itself_is_told_when_entering() -> None:
    played(
        [
            ("simple", "va", "a"),
            ("joint!", "vb vc", "abc<a!"),
            ("joint", "", "already joint"),
            ("leave", "", "abc"),
        ]
    )


def test_an_update_changes_no_role() -> None:
    """etcd #21694: an update must not undo a promotion, nor make one."""
    played([("simple", "va", "a"), ("simple", "ua", "a"), ("simple", "lb ub", "a +b")])


def test_an_update_keeps_the_recorded_disk_if_it_names_none() -> None:
    before = Configuration(frozenset("a"), about={"a": Member("x:1", incarnation="1234")})
    moved = simple(before, [Update("a", Member("y:2"))])
    assert moved.member("a") == Member("y:2", incarnation="1234")
    assert simple(moved, [AddVoter("a")]) == moved


def test_whoever_is_removed_takes_what_was_known_along_and_whoever_leaves_later_keeps_it() -> None:
    before = Configuration(frozenset("ab"), about={"a": SOMEBODY, "b": SOMEBODY})
    assert simple(before, [Remove("a")]).about == {"b": SOMEBODY}
    joint = enter_joint(before, [Remove("a"), AddVoter("c", SOMEBODY)])
    assert set(joint.about) == {"a", "b", "c"}, "an outgoing voter must still be reached"
    assert set(leave_joint(joint).about) == {"b", "c"}


@pytest.mark.parametrize("change", [Promote("z"), Demote("z"), Update("z", SOMEBODY)])
def test_nobody_is_promoted_demoted_or_updated_who_is_no_member(change) -> None:
    with pytest.raises(ChangeRefused, match="z is no member"):
        simple(Configuration.of("abc"), [change])


@pytest.mark.parametrize(
    "change", [AddVoter(""), Remove(7), RequireZones(0), RequireZones(True), Update("a", "x:1")]
)
def test_a_malformed_change_is_bad_input(change) -> None:
    with pytest.raises(InvalidInput):
        simple(Configuration.of("abc"), [change])


def test_a_promotion_is_no_longer_wanted_once_it_is_done() -> None:
    before = Configuration(
        frozenset("a"), learners=frozenset("b"), about={"b": Member("x:1", promote=True)}
    )
    promoted = simple(before, [Promote("b")])
    assert promoted.member("b") == Member("x:1")
    assert not simple(promoted, [Demote("b")]).member("b").promote, "or it would come back at once"


# --- disks and zones ------------------------------------------------------------------------------

ADMITTED = Configuration(
    frozenset("abc"), about={name: Member(incarnation=f"disk {name}") for name in "abc"}
)


@pytest.mark.parametrize(
    "attempt",
    [
        [Update("c", Member(incarnation="another"))],
        [AddVoter("c", Member(incarnation="another"))],
        [Remove("c"), AddVoter("c", Member(incarnation="another"))],
        [Remove("c"), AddVoter("c")],
    ],
)
def test_no_change_lets_another_disk_vote_in_a_voters_place(attempt) -> None:
    with pytest.raises(ChangeRefused, match="votes with the disk disk c"):
        simple(ADMITTED, attempt)


def test_another_disk_is_admitted_as_a_learner_and_may_vote_after_that() -> None:
    other = Member(incarnation="another")
    learner = simple(ADMITTED, [Demote("c"), Update("c", other)])
    assert spelled(learner) == "ab +c"
    assert simple(learner, [Promote("c")]).member("c") == other


def test_an_outgoing_voter_still_votes_so_its_disk_cannot_be_replaced_in_a_joint_change() -> None:
    with pytest.raises(ChangeRefused, match="votes with the disk"):
        enter_joint(ADMITTED, [Demote("c"), Update("c", Member(incarnation="another"))])


def zoned(zones: str, required: int = 1) -> Configuration:
    """``nns``: voters a and b in zone n, c in zone s."""
    about = {name: Member(zone=zone) for name, zone in zip("abcdef", zones, strict=False)}
    return Configuration(frozenset(about), about=about, zones_required=required)


def test_no_change_leaves_the_voters_in_fewer_zones_than_entries_must_be_held_in() -> None:
    with pytest.raises(ChangeRefused, match="but the voters a, b stand in 1"):
        simple(zoned("nns", 2), [Remove("c")])
    with pytest.raises(ChangeRefused, match="stand in 1"):
        simple(zoned("nnn"), [RequireZones(2)])
    with pytest.raises(ChangeRefused, match="stand in 1"):
        simple(zoned("nns", 2), [Update("c", Member(zone="n"))])
    assert simple(zoned("nns", 2), [Remove("c"), RequireZones(1)]).zones_required == 1


def test_each_half_of_a_joint_change_needs_its_zones() -> None:
    with pytest.raises(ChangeRefused, match="stand in 1"):
        enter_joint(zoned("nnn"), [RequireZones(2), AddVoter("d", Member(zone="s"))])


# --- laws -----------------------------------------------------------------------------------------

names = st.sampled_from("abcde")
any_change = st.one_of(
    st.builds(AddVoter, names),
    st.builds(AddLearner, names),
    st.builds(Remove, names),
    st.builds(Promote, names),
    st.builds(Demote, names),
    st.builds(Update, names, st.just(SOMEBODY)),
)
voters = st.frozensets(names, min_size=1)
start = st.builds(
    lambda voters, others: Configuration(voters, learners=others - voters),
    voters,
    st.frozensets(names),
)


def result(verb, *arguments) -> Configuration | None:
    try:
        return verb(*arguments)
    except ChangeRefused:
        return None


@settings(deadline=None)
@given(start, st.lists(any_change, max_size=6))
def test_a_simple_change_leads_where_the_joint_one_leads(before, wanted) -> None:
    """The joint phase is a way, not a place."""
    direct, joint = result(simple, before, wanted), result(enter_joint, before, wanted)
    if direct is not None:
        assert joint is not None
        assert leave_joint(joint) == direct
    elif joint is not None:
        touched = result(voters_touched, before, wanted)
        assert touched is None or touched > 1, "refused only for touching too many"


@settings(deadline=None)
@given(start, st.lists(any_change, max_size=6), st.booleans())
def test_every_configuration_on_the_way_keeps_its_own_rules(before, wanted, auto_leave) -> None:
    joint = result(enter_joint, before, wanted, auto_leave)
    if joint is None:
        return
    after = leave_joint(joint)
    for configuration in (joint, after):
        assert configuration.problem() == ""
        assert Configuration.decode(configuration.encode()) == configuration
    assert joint.outgoing == before.voters, "the old majority decides until the end"
    assert joint.auto_leave is auto_leave
    assert joint.voters == after.voters
    assert after.members <= joint.members
    assert not after.joint
    assert not after.auto_leave


@settings(deadline=None)
@given(start, st.lists(st.lists(any_change, max_size=2), max_size=6))
def test_majorities_before_and_after_each_simple_change_share_a_voter(before, attempts) -> None:
    """Thesis §4.1, Figure 4.3, whatever is asked for."""
    chain = [before]
    for attempt in attempts:
        after = result(simple, chain[-1], attempt)
        if after is not None:
            chain.append(after)
    for one, other in pairwise(chain):
        everybody = len(one.voters | other.voters)
        assert majority(len(one.voters)) + majority(len(other.voters)) > everybody


@settings(deadline=None)
@given(start, st.lists(any_change, max_size=4))
def test_doing_it_twice_is_doing_it_once(before, wanted) -> None:
    """An administrator whose answer was lost asks again."""
    once = result(simple, before, wanted)
    if once is not None and not any(isinstance(change, Remove) for change in wanted):
        assert result(simple, once, wanted) == once

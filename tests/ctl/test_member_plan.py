"""Changes of membership are thought through before they are made: a table of what is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mcpcore.ctl.member_plan import (
    GroupView,
    Plan,
    plan_add,
    plan_demote,
    plan_promote,
    plan_remove,
    plan_replace,
    plan_zones,
    to_json,
    view_of,
)
from mcpcore.observe.health import Account
from mcpcore.raft.membership import AddLearner, Promote, Remove, Update
from mcpcore.raft.types import Member

ZONES = {"a": "aws", "b": "gcp", "c": "edge", "d": "edge", "e": "edge"}


def group(
    voters: str = "abc",
    learners: str = "",
    *,
    leader: str = "a",
    silent: str = "",
    more: str = "",
    lag: dict[str, int | None] | None = None,
    zones: dict[str, str] | None = None,
) -> GroupView:
    everybody = frozenset(voters + learners + more) - frozenset(silent)
    places = ZONES if zones is None else zones
    return GroupView(
        group="main",
        leader=leader,
        voters=frozenset(voters),
        learners=frozenset(learners),
        outgoing=frozenset(),
        about={n: Member(zone=places.get(n, ""), incarnation=n * 16) for n in voters + learners},
        lag={**dict.fromkeys(voters + learners, 0), **(lag or {})},
        answering=everybody,
        hosts=everybody,
        incarnations={n: n * 16 for n in everybody},
        standings={},
    )


def risks(plan: Plan, *, force: bool = False) -> str:
    return "; ".join(o.risk for o in plan.refused(force=force))


def test_a_node_is_added_as_a_learner_that_is_to_vote_with_the_disk_it_has() -> None:
    plan = plan_add(group(more="d"), "d", "10.0.0.4:7400", "edge", learner=False)
    assert plan.steps[0].changes == (
        AddLearner("d", Member("10.0.0.4:7400", "edge", "d" * 16, True)),
    )
    assert (plan.before.quorum, plan.after.quorum) == (2, 3)
    assert (plan.before.tolerates, plan.after.tolerates) == (1, 1)
    assert not plan.refused(force=False)


def test_an_even_number_of_voters_is_warned_of() -> None:
    plan = plan_add(group(more="d"), "d", "h:1", "", learner=False)
    assert any("an odd number is better" in warning for warning in plan.warnings)
    plan = plan_add(group(more="d"), "d", "h:1", "", learner=True)
    assert not plan.warnings, "a learner changes no quorum"


def test_who_votes_already_needs_nothing_and_who_moved_is_written_down() -> None:
    view = group()
    here = replace(view, about={**view.about, "c": Member("h:1", "edge", "c" * 16)})
    assert plan_add(here, "c", "h:1", "", learner=False).steps == ()
    moved = plan_add(here, "c", "h:2", "", learner=False)
    assert moved.steps[0].changes == (Update("c", Member("h:2", "edge", "c" * 16)),)


def test_an_interrupted_addition_is_taken_up_where_it_was_left() -> None:
    """The learner is there; only its becoming a voter is still to be waited for."""
    view = group(learners="d")
    meant = Member("h:1", "edge", "d" * 16, True)
    view = replace(view, about={**view.about, "d": meant})
    plan = plan_add(view, "d", "h:1", "", learner=False)
    assert plan.steps[0].changes == (AddLearner("d", meant),), "the same change: no change"
    assert plan.steps[0].then == "voter"


def test_a_node_that_cannot_be_asked_is_added_only_by_force_and_only_as_a_learner() -> None:
    view = group()
    plan = plan_add(view, "d", "h:1", "", learner=True, problem="nobody listens there")
    assert "d cannot be asked: nobody listens there" in risks(plan)
    assert not plan.refused(force=True)
    plan = plan_add(view, "d", "h:1", "", learner=False, problem="nobody listens there")
    assert plan.refused(force=True)


def test_a_node_without_the_group_is_refused() -> None:
    view = replace(group(), answering=frozenset("abcd"))
    plan = plan_add(view, "d", "h:1", "", learner=False)
    assert "d answers, and has no group main" in risks(plan, force=True)


def test_removing_the_leader_is_done_and_says_that_leadership_moves() -> None:
    plan = plan_remove(group("abcde"), "a")
    assert plan.steps[0].changes == (Remove("a"),)
    assert "a leads: leadership moves to another voter first" in plan.warnings
    assert not plan.refused(force=False)


def test_the_last_voter_stays() -> None:
    plan = plan_remove(group("a"), "a")
    assert "it is the last voter" in risks(plan, force=True)
    assert "it is the last voter" in risks(plan_demote(group("a"), "a"), force=True)


def test_a_quorum_that_would_not_answer_is_refused_even_by_force() -> None:
    """Three voters, one down: to remove one that is up leaves one of two."""
    plan = plan_remove(group(silent="c"), "b")
    assert "1 of the 2 voters answer afterwards, and 2 decide" in risks(plan, force=True)
    assert not plan_remove(group(silent="c"), "c").refused(force=False)


def test_adding_a_voter_while_too_many_are_down_is_refused() -> None:
    plan = plan_add(group(silent="bc", more="d"), "d", "h:1", "", learner=False)
    assert "2 of the 4 voters answer afterwards, and 3 decide" in risks(plan, force=True)


def test_without_a_leader_nothing_begins() -> None:
    plan = plan_remove(group(leader="", silent="bc"), "b")
    assert "nobody leads main: 1 of 3 voters answer, and 2 decide" in risks(plan, force=True)


def test_the_last_zone_but_one_goes_only_by_force() -> None:
    plan = plan_remove(group("abc", zones={"a": "aws", "b": "gcp", "c": "aws"}), "b")
    assert "all voters would stand in one zone (aws)" in risks(plan)
    assert not plan.refused(force=True)
    nowhere = plan_remove(group("abc", zones={}), "b")
    assert not nowhere.refused(force=False), "nobody said where they stand"


def test_a_zone_that_holds_a_quorum_is_warned_of() -> None:
    plan = plan_add(group("abcd", more="e"), "e", "h:1", "edge", learner=False)
    assert any("zone edge holds a quorum" in warning for warning in plan.warnings)


def test_a_learner_far_behind_is_promoted_later_and_the_lag_is_shown() -> None:
    plan = plan_promote(group(learners="d", lag={"d": 5000}), "d")
    assert plan.warnings[0].startswith("d lacks 5000 entries")
    assert plan.steps[0].changes == (Promote("d"),)
    assert not plan.refused(force=False)


def test_only_members_are_promoted_and_only_voters_demoted() -> None:
    assert "d is no member of main" in risks(plan_promote(group(more="d"), "d"))
    assert "d does not vote in main" in risks(plan_demote(group(more="d"), "d"))
    assert plan_promote(group(), "a").steps == ()
    assert plan_demote(group(learners="d"), "d").steps == ()


def test_a_replacement_catches_up_first_and_then_both_change_in_one_step() -> None:
    plan = plan_replace(group(more="d"), "c", "d", "h:1", "")
    assert plan.steps[0].changes == (AddLearner("d", Member("h:1", "edge", "d" * 16)),)
    assert plan.steps[1].changes == (Remove("c"), Promote("d"))
    assert plan.after.voters == set("abd")
    assert plan.after.zones == plan.before.zones | {"edge": ("d",)}
    again = plan_replace(group(learners="d"), "c", "d", "h:1", "")
    assert len(again.steps) == 1, "it is a learner already"
    assert plan_replace(group("abd"), "c", "d", "h:1", "").steps == ()


def test_of_a_replacement_both_names_must_make_sense() -> None:
    assert "x is no member" in risks(plan_replace(group(more="d"), "x", "d", "h:1", ""))
    assert "cannot be asked" in risks(
        plan_replace(group(), "c", "d", "h:1", "", problem="it is down"), force=True
    )


def test_more_zones_than_there_are_cannot_be_required() -> None:
    assert not plan_zones(group(), 3).refused(force=False)
    assert "the voters stand in 3 zones" in risks(plan_zones(group(), 4), force=True)


def test_a_plan_can_be_had_as_plain_values() -> None:
    told = to_json(plan_remove(group(silent="c"), "b"))
    assert told["before"]["voters"] == ["a", "b", "c"]
    assert told["after"] == {
        "voters": ["a", "c"], "learners": [], "quorum": 2, "tolerates": 0,
        "zones": {"aws": ["a"], "edge": ["c"]},
    }  # fmt: skip
    assert told["objections"][0]["may_force"] is False


def account(node: str, role: str = "follower", **facts: Any) -> Account:
    row = {
        "role": role, "term": 1, "commit": 5, "last_index": 9, "members": ["a", "b"],
        "match": {"b": 4} if role == "leader" else {}, "standing": "",
        "configuration": {"voters": ["a", "b"], "learners": [], "outgoing": [], "about": {}},
    } | facts  # fmt: skip
    status = {"node": node, "incarnation": node * 16, "groups": {"main": row}}
    return Account(f"h:{node}", node, status)


def test_the_leader_of_the_newest_term_is_asked_who_the_members_are() -> None:
    other = {"voters": ["a", "b", "x"], "learners": [], "outgoing": [], "about": {}}
    newer = account("b", "leader", term=2, configuration=other, match={})
    view = view_of("main", [account("a", "leader"), newer])
    assert view is not None
    assert (view.leader, view.voters) == ("b", {"a", "b", "x"})


def test_lag_is_told_by_the_leader_and_unknown_without_one() -> None:
    view = view_of("main", [account("a", "leader"), account("b")])
    assert view is not None
    assert view.lag == {"a": 0, "b": 5}
    view = view_of("main", [account("a"), account("b"), Account("h:c", "c", None, "down")])
    assert view is not None
    assert view.leader == ""
    assert view.lag.get("b") is None


def test_a_group_that_nobody_has_is_none() -> None:
    assert view_of("other", [account("a")]) is None


@pytest.mark.parametrize("name", ["list", "add", "remove", "promote", "demote", "replace", "zones"])
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    from tests.ctl.town import run

    told = run("member", name, "--help")
    assert told.exit_code == 0
    assert "Example: mcpctl member" in told.stdout

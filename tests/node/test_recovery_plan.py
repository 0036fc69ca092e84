"""Which survivor carries a group on, what is lost, and what stands against it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput, RecoveryRefused
from mcpcore.node.recovery.plan import GroupPlan, make_plans
from mcpcore.node.recovery.survey import Survey, SurveyedGroup, read_survey
from mcpcore.raft.types import LogPosition

FIVE = ("a", "b", "c", "d", "e")


def holds(
    terms: Iterable[int], *, base: int = 0, verdict: str = "sound", **changes
) -> SurveyedGroup:
    """A log of entries with these terms, from index ``base + 1`` on."""
    runs: list[tuple[int, int]] = []
    last = LogPosition(1 if base else 0, base)
    for index, term in enumerate(terms, base + 1):
        if not runs or runs[-1][1] != term:
            runs.append((index, term))
        last = LogPosition(term, index)
    facts = {
        "term": last.term,
        "base": LogPosition(1 if base else 0, base),
        "last": last,
        "last_known": last,
        "runs": tuple(runs),
        "voters": FIVE,
        "outgoing": (),
        "learners": (),
        "sessions": 0,
        "verdict": verdict,
    }
    return SurveyedGroup(**{**facts, **changes})  # type: ignore[arg-type]


def survey(node: str, group: SurveyedGroup, cluster: str = "demo") -> Survey:
    return Survey(cluster, node, "00000000000000aa", f"data/{node}", {"main": group})


def plan(**groups: SurveyedGroup) -> GroupPlan:
    [made] = make_plans([survey(node, group) for node, group in groups.items()])
    return made


def test_the_log_with_the_highest_last_term_is_chosen_even_if_another_is_longer() -> None:
    """Section 5.4.1: the shorter log holds what the leader of that term had committed."""
    made = plan(a=holds([1, 1, 1, 1, 1, 1, 1]), b=holds([1, 1, 2]))
    assert made.chosen == "b"
    assert made.last == LogPosition(2, 3)
    assert made.lost == (("a", 3, 7),)


def test_of_equal_terms_the_longer_log_is_chosen_and_nothing_is_lost() -> None:
    made = plan(a=holds([1, 1, 2]), b=holds([1, 1, 2, 2]))
    assert (made.chosen, made.lost) == ("b", ())


def test_the_new_term_is_beyond_every_term_that_a_survivor_has_seen() -> None:
    made = plan(a=holds([1, 1], term=9), b=holds([1, 2]))
    assert made.chosen == "b"
    assert made.new_term == 10


def test_a_quorum_with_sound_logs_is_refused() -> None:
    made = plan(a=holds([1]), b=holds([1]), c=holds([1]))
    assert made.quorum_alive
    with pytest.raises(RecoveryRefused, match="elect a leader by themselves"):
        made.refuse_if_alive()
    assert made.missing == ("d", "e")


def test_a_quorum_of_which_too_many_logs_are_damaged_may_be_recovered() -> None:
    made = plan(a=holds([1]), b=holds([1], verdict="in doubt"), c=holds([1]))
    assert not made.quorum_alive
    made.refuse_if_alive()
    assert any("the log of b is damaged" in warning for warning in made.warnings)


def test_in_the_middle_of_a_joint_change_both_halves_must_be_alive() -> None:
    joint = {"voters": ("a", "b", "c"), "outgoing": ("c", "d", "e")}
    made = plan(a=holds([1], **joint), b=holds([1], **joint), c=holds([1], **joint))
    assert not made.quorum_alive
    assert made.missing == ("d", "e")


def test_who_has_forgotten_its_vote_is_chosen_only_if_nobody_else_is_left() -> None:
    made = plan(a=holds([1, 1, 3], verdict="forgotten"), b=holds([1, 1]))
    assert made.chosen == "b"
    assert plan(a=holds([1, 1, 3], verdict="forgotten")).chosen == "a"


def test_only_what_a_snapshot_covers_is_certain() -> None:
    made = plan(a=holds([1, 1, 2], base=10), b=holds([1] * 11))
    assert (made.chosen, made.certain) == ("a", 10)
    assert "kept for certain: index 1 to 10" in "\n".join(made.in_words())
    assert "kept, though perhaps never committed: index 11 to 13" in "\n".join(made.in_words())


def test_the_missing_are_named_with_what_nobody_can_know() -> None:
    text = "\n".join(plan(a=holds([1])).in_words())
    assert "what b, c, d, e committed without these survivors is lost" in text
    assert "must never start again with the old data" in text


def test_nodes_of_two_clusters_and_one_node_twice_are_no_survivors() -> None:
    one = survey("a", holds([1]))
    with pytest.raises(InvalidInput, match="2 clusters"):
        make_plans([one, survey("b", holds([1]), cluster="other")])
    with pytest.raises(InvalidInput, match="both data/a and data/a are of node a"):
        make_plans([one, survey("a", holds([1]))])


logs = st.lists(st.integers(0, 2), max_size=12).map(
    lambda steps: [sum(steps[: at + 1]) + 1 for at in range(len(steps))]
)


def test_a_survey_from_a_file_is_the_survey(tmp_path: Path) -> None:
    before = survey("a", holds([1, 1, 2, 4], verdict="in doubt"))
    file = tmp_path / "a.json"
    file.write_text(before.as_json())
    assert read_survey(file).groups == before.groups
    for broken in ("", "[]", "{}", '{"mcpcore_survey": 2}', before.as_json()[:-30]):
        file.write_text(broken)
        with pytest.raises(InvalidInput, match="is no survey"):
            read_survey(file)


@settings(deadline=None)
@given(logs, logs)
def test_what_is_lost_begins_where_the_logs_first_differ(
    ours: list[int], theirs: list[int]
) -> None:
    made = plan(a=holds(ours), b=holds(theirs))
    best, other = (ours, theirs) if made.chosen == "a" else (theirs, ours)
    differs = [at for at, term in enumerate(other) if at >= len(best) or best[at] != term]
    assert [first for _, first, _ in made.lost] == [at + 1 for at in differs[:1]]

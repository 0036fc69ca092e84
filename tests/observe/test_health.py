"""What `mcpctl status` calls a problem, as tables."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.ctl.status_table import render, to_json
from mcpcore.observe.health import Account, Health, judge

NAMES = ("a", "b", "c")


def replica(role: str = "follower", **changed: Any) -> dict[str, Any]:
    told = {
        "group": "main", "role": role, "term": 4, "leader": "a", "last_index": 90, "commit": 90,
        "applied": 90, "digest": "5eed" * 8, "members": NAMES, "match": {},
    }  # fmt: skip
    return told | changed


def account(
    name: str,
    *,
    cut_off_from: str = "",
    disk_s: float = 0.0,
    clock: str = "synchronised",
    up_s: float = 12.0,
    **groups: Any,
) -> Account:
    peers = {
        peer: {
            "address": f"10.0.0.{NAMES.index(peer)}:7000",
            "connected": peer not in cut_off_from,
            "problem": "no answer in time" if peer in cut_off_from else "",
        }
        for peer in NAMES
        if peer != name
    }
    status = {
        "node": name, "cluster": "demo", "version": "1.2.3", "incarnation": "0" * 16,
        "address": "10.0.0.1:7000", "uptime_s": up_s,
        "clock": {"state": clock, "reasons": ["heard 0 of 2 lately"]}, "log_bytes": 1 << 20,
        "log_bytes_written": 512, "last_sync_ms": 1.0, "disk_waiting_s": disk_s,
        "groups": groups, "peers": peers,
    }  # fmt: skip
    return Account(f"10.0.0.{NAMES.index(name)}:7000", name, status)


def silent(name: str) -> Account:
    return Account(f"10.0.0.{NAMES.index(name)}:7000", name, error="connection refused")


def kinds(health: Health) -> list[str]:
    return [problem.kind for problem in health.problems]


def test_a_leader_and_followers_that_have_all_it_has_are_well():
    health = judge(
        [account("a", main=replica("leader")), account("b", main=replica()),
         account("c", main=replica())]
    )  # fmt: skip

    assert health.problems == ()
    assert [node.replicas["main"].agrees for node in health.nodes] == [True, True, True]


def test_a_node_that_does_not_answer_is_named_with_its_reason_and_kept_in_the_table():
    health = judge([account("a", main=replica("leader")), silent("b")])

    assert [node.label for node in health.nodes] == ["a", "b"]
    (problem, _unasked) = health.problems
    assert problem.kind == "unreachable"
    assert problem.text == "b (10.0.0.1:7000) does not answer: connection refused"


def test_a_missing_connection_to_a_silent_node_is_not_told_a_second_time():
    health = judge(
        [account("a", main=replica("leader"), cut_off_from="c"),
         account("b", main=replica(), cut_off_from="c"), silent("c")]
    )  # fmt: skip

    assert kinds(health) == ["unreachable"]


def test_two_nodes_that_both_answer_and_do_not_hear_each_other_are_a_problem():
    health = judge(
        [account("a", main=replica("leader")), account("b", main=replica(), cut_off_from="c"),
         account("c", main=replica(), cut_off_from="b")]
    )  # fmt: skip

    assert kinds(health) == ["link", "link"]
    assert health.problems[0].text == "b has no connection to c: no answer in time"


def test_a_group_in_which_nobody_leads_is_a_problem():
    leaderless = {name: account(name, main=replica(leader="")) for name in NAMES}

    health = judge(leaderless.values())

    assert kinds(health) == ["no-leader"]
    assert "nobody leads; the newest term is 4" in health.problems[0].text


def test_a_leader_that_did_not_answer_still_counts_if_its_followers_follow_it():
    health = judge([silent("a"), account("b", main=replica()), account("c", main=replica())])

    assert kinds(health) == ["unreachable"]


def test_a_leader_of_an_older_term_that_did_not_answer_does_not_count():
    """Its follower has not noticed yet, but somebody has begun a newer term."""
    health = judge(
        [silent("a"), account("b", main=replica(term=4, leader="a")),
         account("c", main=replica("candidate", term=5, leader=""))]
    )  # fmt: skip

    assert kinds(health) == ["unreachable", "no-leader"]


def test_a_node_that_is_followed_but_does_not_lead_is_no_leader():
    health = judge([account(name, main=replica(leader="a")) for name in NAMES])

    assert kinds(health) == ["no-leader"]


def test_two_leaders_in_one_term_are_the_worst_problem():
    health = judge(
        [account("a", main=replica("leader")), account("b", main=replica("leader")),
         account("c", main=replica())]
    )  # fmt: skip

    assert kinds(health) == ["two-leaders"]
    assert "a and b lead term 4" in health.problems[0].text


def test_a_leader_of_an_older_term_beside_the_newest_is_named():
    health = judge(
        [account("a", main=replica("leader", term=3)), account("b", main=replica("leader")),
         account("c", main=replica())]
    )  # fmt: skip

    assert kinds(health) == ["stale-leader"]
    assert health.problems[0].node == "a"


def test_lag_is_counted_from_the_highest_commit_index_seen_anywhere():
    accounts = [
        account("a", main=replica("leader", commit=190, applied=190)),
        account("b", main=replica(commit=90, applied=90)),
        account("c", main=replica(commit=190, applied=89)),
    ]

    health = judge(accounts, lag_max=100)

    assert [node.replicas["main"].lag for node in health.nodes] == [0, 100, 101]
    assert [(problem.kind, problem.node) for problem in health.problems] == [("lag", "c")]


def test_digests_are_compared_at_equal_applied_index_and_nobody_is_believed():
    accounts = [
        account("a", main=replica("leader", digest="aa" * 16)),
        account("b", main=replica(digest="bb" * 16)),
        account("c", main=replica(applied=89, digest="cc" * 16)),
    ]

    health = judge(accounts)

    assert kinds(health) == ["divergence"]
    assert "differ at applied index 90: a (aaaaaaaa) and b (bbbbbbbb)" in health.problems[0].text
    assert [node.replicas["main"].agrees for node in health.nodes] == [False, False, None]


def test_a_disk_that_does_not_answer_is_a_problem():
    health = judge(
        [account("a", main=replica("leader")), account("b", main=replica(), disk_s=3.2),
         account("c", main=replica())]
    )  # fmt: skip

    assert [problem.text for problem in health.problems] == [
        "the disk of b has not answered for 3.2 s"
    ]


def test_a_clock_that_is_not_synchronised_is_a_problem_once_the_node_has_settled():
    def of_b(up_s: float) -> Health:
        return judge(
            [account("a", main=replica("leader")), account("c", main=replica()),
             account("b", main=replica(), clock="unsynchronised", up_s=up_s)]
        )  # fmt: skip

    assert of_b(up_s=10.0).problems == ()
    assert [problem.text for problem in of_b(up_s=10.1).problems] == [
        "the clock of b is not synchronised: heard 0 of 2 lately"
    ]


def test_a_node_of_an_older_release_that_tells_nothing_of_its_clock_is_no_problem():
    old = account("b", main=replica())
    assert old.status is not None
    status = {key: told for key, told in old.status.items() if key not in ("clock", "log_bytes")}

    health = judge(
        [account("a", main=replica("leader")), Account(old.endpoint, "b", status),
         account("c", main=replica())]
    )  # fmt: skip

    assert health.problems == ()
    render("demo", health, 200)


def test_a_node_at_another_nodes_endpoint_is_a_problem():
    moved = Account("10.0.0.2:7000", "c", account("b", main=replica()).status)

    health = judge([account("a", main=replica("leader")), account("b", main=replica()), moved])

    assert "misplaced" in kinds(health)
    assert "duplicate" in kinds(health)
    assert "b answers at 10.0.0.2:7000, where c should be" in health.problems[0].text


def test_a_member_that_was_not_asked_is_a_problem():
    health = judge([account("a", main=replica("leader")), account("b", main=replica())])

    assert [(problem.kind, problem.node) for problem in health.problems] == [("unasked", "c")]


def test_groups_are_judged_each_for_itself():
    accounts = [
        account(name, main=replica("leader" if name == "a" else "follower"),
                other=replica(leader=""))
        for name in NAMES
    ]  # fmt: skip

    health = judge(accounts)

    assert health.groups == ("main", "other")
    assert [(problem.kind, problem.group) for problem in health.problems] == [
        ("no-leader", "other")
    ]


replicas = st.builds(
    replica,
    st.sampled_from(["leader", "follower", "candidate", "pre-candidate"]),
    term=st.integers(0, 3),
    leader=st.sampled_from(["", *NAMES]),
    commit=st.integers(0, 10**7),
    applied=st.sampled_from([0, 5, 10**7]),
    digest=st.sampled_from(["aa" * 16, "bb" * 16]),
)
accounts = st.tuples(
    *(
        st.one_of(
            st.just(silent(name)),
            st.builds(account, st.just(name), main=replicas, cut_off_from=st.sampled_from(NAMES)),
            st.builds(
                account,
                st.just(name),
                main=replicas,
                other=replicas,
                clock=st.sampled_from(["synchronised", "unsynchronised"]),
            ),
        )
        for name in NAMES
    )
)


@settings(deadline=None, max_examples=40)
@given(accounts, st.integers(1, 220))
def test_every_account_has_its_row_and_the_table_fits_the_terminal(told, width):
    from rich.console import Console

    health = judge(told)

    assert [node.account for node in health.nodes] == list(told)
    assert to_json("demo", health)["healthy"] is (health.problems == ())
    console = Console(width=width, file=None, record=False, color_system=None)
    with console.capture() as capture:
        console.print(render("demo", health, width), highlight=False)
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= width
    if width >= 80:
        table = lines[: lines.index("")]
        cells = 1 + sum(max(1, len(node.replicas)) for node in health.nodes)
        assert len(table) == cells, "no cell was folded"


@settings(deadline=None, max_examples=40)
@given(accounts, st.randoms(use_true_random=False))
def test_the_verdict_does_not_depend_on_who_was_asked_first(told, rng):
    shuffled = list(told)
    rng.shuffle(shuffled)

    assert sorted(kinds(judge(told))) == sorted(kinds(judge(shuffled)))


def verdict(node: str, state: str = "healthy", hears: str = "abc", **changed: Any) -> dict:
    told = {
        "node": node, "group": "main", "state": state, "sentence": f"{state} for a reason",
        "peers": [name for name in NAMES if name != node], "might_lead": "a", "term": 4,
        "hears": [name for name in hears if name != node], "heard_by": [], "for_s": 7.0,
    }  # fmt: skip
    return {"verdict": told | changed}


def test_a_member_that_refuses_writes_is_a_problem_in_its_own_words():
    health = judge(
        [account("a", main=replica("leader", **verdict("a", hears="ab"))),
         account("b", main=replica(**verdict("b", hears="ab"))),
         account("c", main=replica("pre-candidate", **verdict("c", "read_only", hears="")))]
    )  # fmt: skip

    assert [(problem.kind, problem.node, problem.text) for problem in health.problems] == [
        ("verdict", "c", "group main: c says read_only: read_only for a reason"),
        ("views", "", "group main: islands: a, b | c"),
    ]
    from rich.console import Console

    console = Console(width=80, color_system=None)
    with console.capture() as shown:
        console.print(render("demo", health, 80))
    assert "pre-candidate  read_only" in shown.get()


def test_views_that_differ_name_a_one_way_cut_while_anybody_is_not_well():
    def views(state: str) -> Health:
        return judge(
            [account("a", main=replica("leader", **verdict("a"))),
             account("b", main=replica(**verdict("b"))),
             account("c", main=replica(**verdict("c", state, hears="b")))]
        )  # fmt: skip

    (problem,) = views("suspect").problems
    assert problem.text == "group main: one-way: a hears c, but c does not hear a"
    assert views("healthy").problems == ()

"""The cluster in one picture, from what nodes say of themselves."""

from __future__ import annotations

from typing import Any

from mcpcore.observe.dash.changes import difference, whole
from mcpcore.observe.health import Account
from mcpcore.observe.picture import Picture, draw
from mcpcore.observe.remedies import BAD, REMEDIES, WORST_FIRST

NAMES = ("a", "b", "c")


def group(
    name: str, leader: str = "a", *, on: str, commit: int = 50, **more: Any
) -> dict[str, Any]:
    told = {
        "role": "leader" if leader == on else "follower",
        "term": 3,
        "leader": leader,
        "commit": commit,
        "applied": commit,
        "last_index": commit,
        "digest": "",
        "members": list(NAMES),
        "asleep": False,
        "divergence": None,
        "verdict": {},
        "standing": "",
    }
    return told | more


def verdict(node: str, state: str, hears: str = "abc") -> dict[str, Any]:
    return {
        "node": node,
        "group": "main",
        "state": state,
        "sentence": "no leader was heard for 16.0 s",
        "peers": [n for n in NAMES if n != node],
        "hears": [n for n in hears if n != node],
        "might_lead": "",
        "term": 3,
    }


def account(node: str, groups: dict[str, Any], **more: Any) -> Account:
    status = {
        "node": node,
        "zone": f"zone-{node}",
        "version": "0.1.0",
        "uptime_s": 99.0,
        "groups_asleep": 0,
        "disk_stalled": False,
        "disk_full": False,
        "disk_waiting_s": 0.0,
        "last_sync_ms": 1.0,
        "log_bytes": 10,
        "clock": {"state": "synchronised", "reasons": [], "view": []},
        "peers": {
            peer: {"connected": True, "address": f"{peer}:1", "problem": ""}
            for peer in NAMES
            if peer != node
        },
        "groups": groups,
    } | more
    return Account(f"{node}:1", node, status)


def picture(*accounts: Account) -> Picture:
    return draw("clouds", accounts, lag_max=100)


def all_well() -> Picture:
    return picture(*(account(n, {"main": group("main", on=n)}) for n in NAMES))


def test_a_cluster_that_is_well_says_so_in_one_line() -> None:
    drawn = all_well()
    assert drawn.level == "good"
    assert drawn.headline == "All is well: 3 of 3 nodes answer, 1 groups"
    assert [link.there and link.back for link in drawn.links] == [True, True, True]
    assert drawn.groups[0].leaders == ("a",)


def test_a_silent_node_keeps_its_place_and_is_told_first() -> None:
    drawn = picture(
        account("a", {"main": group("main", on="a")}),
        account("b", {"main": group("main", on="b", commit=49)}),
        Account("c:1", "c", error="no answer within 1 s", zone="zone-c"),
    )
    assert drawn.level == "bad"
    assert drawn.advice[0].kind == "unreachable"
    assert drawn.advice[0].do
    silent = next(node for node in drawn.nodes if node.name == "c")
    assert (silent.up, silent.zone) == (False, "zone-c")
    assert drawn.groups[0].by["c"] == "silent"
    assert (drawn.groups[0].lag, drawn.groups[0].behind) == (1, "b")


def test_a_link_that_only_one_side_believes_in_is_told_as_such() -> None:
    cut = {
        "a": {"connected": False, "address": "a:1", "problem": "timed out"},
        "b": {"connected": True, "address": "b:1", "problem": ""},
    }
    drawn = picture(
        account("a", {"main": group("main", on="a")}),
        account("b", {"main": group("main", on="b")}),
        account("c", {"main": group("main", on="c")}, peers=cut),
    )
    link = next(each for each in drawn.links if (each.a, each.b) == ("a", "c"))
    assert (link.there, link.back) == (True, False)
    assert "link" in [each.kind for each in drawn.advice]


def test_the_worst_verdict_of_any_member_stands_for_the_group_and_all_views_are_kept() -> None:
    drawn = picture(
        account("a", {"main": group("main", on="a")}),
        account("b", {"main": group("main", on="b", verdict=verdict("b", "suspect"))}),
        account("c", {"main": group("main", "", on="c", verdict=verdict("c", "split", ""))}),
    )
    shown = drawn.groups[0]
    assert shown.verdict == "split"
    assert shown.by == {"b": "suspect", "c": "split"}
    assert drawn.headline.startswith("1 of 1 groups: split")


def test_what_a_thousand_groups_have_in_common_is_one_line() -> None:
    names = [f"g{n}" for n in range(1000)]
    drawn = picture(
        account("a", {n: group(n, on="a") for n in names}),
        account("b", {n: group(n, on="b") for n in names}),
        account("c", {n: group(n, on="c", commit=1) | {"applied": 1} for n in names}),
    )
    assert not drawn.advice  # forty-nine entries are no lag
    late = picture(
        account("a", {n: group(n, on="a", commit=900) for n in names}),
        account("b", {n: group(n, on="b", commit=900) for n in names}),
        account("c", {n: group(n, on="c", commit=1) for n in names}),
    )
    assert [each.kind for each in late.advice] == ["lag"]
    assert late.advice[0].text.endswith("(and 999 more groups)")


def test_only_groups_that_changed_travel_to_a_browser() -> None:
    names = [f"g{n}" for n in range(50)]

    def at(commit: int, gone: int = 0) -> Picture:
        kept = names[gone:]
        return picture(
            *(
                account(n, {g: group(g, on=n, commit=commit if g == "g7" else 5) for g in kept})
                for n in NAMES
            )
        )

    before, after = at(5), at(6, gone=2)
    assert len(whole(before)["groups"]) == 50
    told = difference(before, after)
    assert [row[0] for row in told["groups"]] == ["g7"]
    assert told["gone"] == ["g0", "g1"]
    assert difference(after, after)["groups"] == []


def test_every_kind_of_problem_has_a_remedy_and_a_place() -> None:
    assert set(WORST_FIRST) == set(REMEDIES)
    assert set(REMEDIES) >= BAD

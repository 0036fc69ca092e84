"""`mcpctl group`: made, listed and retired on every member, and refused in words."""

from __future__ import annotations

import json
import time

import pytest

from tests.ctl.town import Town, run

pytestmark = pytest.mark.processes


def group(town: Town, *words: str, user: str = "admin") -> tuple[int, str]:
    profile = town.admin if user == "admin" else town.client
    done = run("group", *words, "--config", str(profile))
    return done.exit_code, done.output


def listed(town: Town) -> dict[str, dict[str, object]]:
    """The groups, once all of them are led."""
    for _ in range(100):
        code, said = group(town, "list", "-o", "json")
        if code == 0:
            return {row["group"]: row for row in map(json.loads, said.splitlines())}
        time.sleep(0.1)
    raise AssertionError(said)


def test_a_group_is_made_used_listed_and_retired(town: Town) -> None:
    code, said = group(town, "create", "orders", "--election-timeout", "1", "--heartbeat", "0.2")
    assert (code, said.strip()) == (0, "group orders is served on edge, hangzhou, us-east-1")
    code, _ = group(town, "create", "orders", "--election-timeout", "1", "--heartbeat", "0.2")
    assert code == 0, "making it again as it was made is harmless"
    assert listed(town)["orders"]["members"] == ["edge", "hangzhou", "us-east-1"]
    put = run("put", "k", "v", "--group", "orders", "--config", str(town.client))
    assert put.exit_code == 0, put.output
    code, said = group(town, "create", "orders")
    assert code == 2
    assert "with other members or settings" in said
    code, said = group(town, "retire", "orders", "--yes")
    assert code == 0, said
    assert "orders" not in listed(town)
    code, said = group(town, "retire", "orders", "--yes")
    assert (code, said.strip()) == (0, "group orders was retired before")


def test_a_group_survives_the_restart_of_its_members(town: Town) -> None:
    assert group(town, "create", "kept")[0] == 0
    town.end("edge")
    town.start("edge")
    row = listed(town)["kept"]
    assert "edge" in row["on"]  # type: ignore[operator]
    assert group(town, "retire", "kept", "--yes")[0] == 0


def test_only_an_administrator_makes_and_retires_groups(town: Town) -> None:
    for words in (("create", "x"), ("retire", "main", "--yes")):
        code, said = group(town, *words, user="client")
        assert code == 3, said
        assert "administrator" in said


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("create", "x", "--voters", "nobody"), 3, "nobody did not answer"),
        (("create", "x", "--heartbeat", "9"), 2, "election timeout"),
        (("create", "y" * 200), 2, "1 to 120 bytes"),
        (("retire", "unheard-of", "--yes"), 2, "no group 'unheard-of'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    town: Town, words: tuple[str, ...], code: int, reason: str
) -> None:
    found, said = group(town, *words)
    assert (found, reason in " ".join(said.split())) == (code, True), said


def test_without_yes_it_asks_first(town: Town) -> None:
    done = run("group", "retire", "main", "--config", str(town.admin), stdin=b"n\n")
    assert done.exit_code == 3
    assert "main" in listed(town)


def test_a_node_that_does_not_answer_is_named(town: Town) -> None:
    town.end("edge")
    try:
        code, said = group(town, "list")
        assert code == 1
        assert f"127.0.0.1:{town.ports['edge']}" in said
        code, said = group(town, "create", "z")
        assert code == 3
        assert "name its voters" in said
    finally:
        town.start("edge")

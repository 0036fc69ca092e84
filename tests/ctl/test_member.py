"""`mcpctl member` on real processes: a fourth node comes, and one goes."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator

import pytest

from tests.ctl.town import NAMES, Town, run

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A cluster of its own, since its members change; ``seoul`` is no founder."""
    town = Town(tmp_path_factory.mktemp("moving"), newcomers=("seoul",))
    try:
        town.start(*NAMES)
        town.wait_until_well()
        yield town
    finally:
        town.end_all()


def member(town: Town, *words: str) -> tuple[int, str]:
    result = run("member", *words, "-c", str(town.admin), "--timeout", "20")
    return result.exit_code, result.output


def members(town: Town) -> dict[str, dict[str, object]]:
    code, told = member(town, "list", "--group", "main", "--json")
    assert code == 0, told
    return {str(row["member"]): row for row in json.loads(told)["members"]}


def test_a_fourth_node_is_added_one_is_removed_and_a_wiped_one_comes_back(moving: Town) -> None:
    town = moving
    run("put", "before", "1", "-c", str(town.client))
    seoul = ("seoul", "--address", f"127.0.0.1:{town.ports['seoul']}")

    code, told = member(town, "add", *seoul, "--yes")
    assert code == 3, "it does not run yet"
    assert "seoul cannot be asked" in told

    town.start("seoul")
    code, told = member(town, "add", *seoul, "--plan")
    assert code == 0, told
    assert "3 of 4" in told
    assert "an odd number is better" in " ".join(told.split())
    assert set(members(town)) == set(NAMES), "a plan changes nothing"

    code, told = member(town, "add", *seoul)
    assert code == 2, "nobody is here to ask"
    code, told = member(town, "add", *seoul, "--zone", "gcp", "--yes")
    assert code == 0, told
    assert "Done: add seoul" in told
    assert members(town)["seoul"]["votes"] is True
    assert members(town)["seoul"]["zone"] == "gcp"
    code, told = member(town, "add", *seoul, "--zone", "gcp", "--yes")
    assert code == 0, told
    assert "nothing to do" in told

    code, told = member(town, "remove", "edge", "--yes")
    assert code == 0, told
    assert set(members(town)) == {*NAMES, "seoul"} - {"edge"}

    town.end("hangzhou", signal.SIGKILL)
    shutil.rmtree(town.directory / "data" / "hangzhou")
    town.start("hangzhou")
    code, told = member(town, "promote", "hangzhou", "--yes")
    for _ in range(200):  # the leader makes it a learner once it has met the new disk
        if "nothing to do" not in told and code == 0:
            break
        code, told = member(town, "promote", "hangzhou", "--yes")
    assert "Done: promote hangzhou" in told, told
    assert members(town)["hangzhou"]["votes"] is True
    assert run("get", "before", "-c", str(town.client)).stdout == "1"


def test_nobody_but_an_administrator_changes_members(moving: Town) -> None:
    result = run("member", "remove", "seoul", "--yes", "-c", str(moving.client))
    assert result.exit_code == 3
    assert "may not change members" in result.stderr


def test_a_group_that_nobody_has_is_named(moving: Town) -> None:
    code, told = member(moving, "remove", "edge", "--group", "mian", "--yes")
    assert code == 2
    assert "no group 'mian'" in told


def test_without_any_node_that_answers_nothing_is_planned(moving: Town) -> None:
    certs = str(moving.certs)
    result = run("member", "list", "-e", "127.0.0.1:9", "--certs", certs, "--timeout", "1")
    assert result.exit_code == 2
    assert "no node answers" in result.stderr


def test_a_bad_address_is_refused_before_anybody_is_asked(moving: Town) -> None:
    code, told = member(moving, "add", "seoul", "--address", "nowhere", "--yes")
    assert code == 2
    assert "has no port" in told


def test_a_node_cannot_take_its_own_place(moving: Town) -> None:
    code, told = member(moving, "replace", "edge", "edge", "--address", "127.0.0.1:1")
    assert code == 2
    assert "cannot take its own place" in told

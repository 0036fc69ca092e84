"""`mcpctl log`, `recover` and `backup` on what real processes left behind."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcpcore.node.file_disk import FileDisk
from mcpcore.node.kv.local import KeyValueNode
from mcpcore.node.machine import ReplicatedState
from mcpcore.node.storage.log_image import EntriesAppended
from mcpcore.node.storage.snapshot_directory import SnapshotDirectory
from mcpcore.node.storage.wal_recovery import records
from tests.ctl.town import NAMES, Town, run

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A cluster that has lived: eight keys, a backup, and every node stopped."""
    town = Town(tmp_path_factory.mktemp("ended"))
    try:
        town.start(*NAMES)
        town.wait_until_well()
        for number in range(8):
            done = run("put", f"key-{number}", f"value-{number}", "-c", str(town.client))
            assert done.exit_code == 0, done.output
        file = str(town.directory / "main.snap")
        refused = run("backup", "take", "main", file, "-c", str(town.client))
        assert refused.exit_code == 3, "a client is no administrator"
        taken = run("backup", "take", "main", file, "-c", str(town.admin))
        assert taken.exit_code == 0, taken.output
        for name in NAMES:
            town.end(name)
        yield town
    finally:
        town.end_all()


@pytest.fixture
def data(ended: Town, tmp_path: Path) -> dict[str, str]:
    """Copies of the nodes' data directories, to be damaged at will."""
    for name in NAMES:
        shutil.copytree(ended.directory / "data" / name, tmp_path / name)
    return {name: str(tmp_path / name) for name in NAMES}


def spoil(directory: str) -> int:
    """Damage the batch of some entry in the middle; returns the first index that is lost."""
    disk = FileDisk()
    found = [
        (batch, record)
        for batch in records(disk, directory)
        for record in batch.records
        if isinstance(record, EntriesAppended)
    ]
    disk.close()
    batch, record = found[len(found) // 2]
    with open(batch.path, "r+b") as file:
        file.seek(batch.offset)
        file.write(bytes(batch.end - batch.offset))
    first: int = record.block.entries[0].index
    return first


def test_a_sound_log_is_said_to_be_sound(data: dict[str, str]) -> None:
    said = run("log", "verify", data["edge"])
    assert said.exit_code == 0, said.output
    assert "sound; 1 segments" in said.stdout
    told = json.loads(run("log", "verify", data["edge"], "--json").stdout)
    assert (told["sound"], told["groups"], told["sealed"]) == (True, 1, True)
    assert "nothing to repair" in run("log", "repair", data["edge"], "--apply").stdout


def test_a_dump_tells_every_entry_and_decodes_what_is_known(data: dict[str, str]) -> None:
    lines = [
        json.loads(line)
        for line in run("log", "dump", data["edge"], "--json").stdout.split("\n")
        if line
    ]
    puts = [line["command"] for line in lines if line.get("command", {}).get("op") == "Put"]
    assert [put["key"] for put in puts] == [f"key-{number}" for number in range(8)]
    assert puts[3]["value"] == "value-3"
    assert {line["what"] for line in lines} >= {"group", "term and vote", "entry"}
    some = run("log", "dump", data["edge"], "--from", "5", "--limit", "4", "--group", "main")
    assert len(some.stdout.splitlines()) == 4
    assert "5@1" in some.stdout
    assert run("log", "dump", data["edge"], "--group", "other").stdout == ""


def test_a_damaged_log_is_explained_planned_and_only_then_repaired(data: dict[str, str]) -> None:
    first = spoil(data["edge"])
    before = {path.name: path.read_bytes() for path in Path(data["edge"]).glob("*.log")}

    said = run("log", "verify", data["edge"])
    assert said.exit_code == 1
    assert f"group main is in doubt: its log lacks {first}" in said.stdout
    assert "damage" in run("log", "dump", data["edge"]).stdout
    planned = run("log", "repair", data["edge"], "--plan")
    assert planned.exit_code == 0
    assert "Nothing was changed" in planned.stdout
    assert {path.name: path.read_bytes() for path in Path(data["edge"]).glob("*.log")} == before

    done = run("log", "repair", data["edge"], "--apply")
    assert done.exit_code == 0, done.output
    kept = Path(data["edge"]) / "damaged"
    assert {path.name: path.read_bytes() for path in kept.glob("*.log")} == before
    assert json.loads(next(kept.glob("*.json")).read_text())["groups"]["main"]["missing"]
    assert run("log", "verify", data["edge"]).exit_code == 0


@pytest.mark.parametrize("command", [["log", "verify"], ["log", "dump"], ["log", "repair"],
                                     ["recover", "--plan"], ["recover", "--survey"]])  # fmt: skip
def test_what_is_no_log_is_refused_in_one_sentence(command: list[str], tmp_path: Path) -> None:
    for place in (str(tmp_path), str(tmp_path / "absent")):
        said = run(*command, place)
        assert said.exit_code == 2
        assert "holds no log" in said.stderr
        assert len(said.stderr.splitlines()) == 1
    file = tmp_path / "survey.json"
    file.write_text("{}")
    said = run("recover", "--plan", str(file))
    assert said.exit_code == 2
    assert "is no survey" in said.stderr


def test_a_quorum_that_is_alive_is_not_recovered(data: dict[str, str]) -> None:
    said = run("recover", "--plan", data["edge"], data["hangzhou"])
    assert said.exit_code == 1
    assert "start these nodes" in said.stdout
    said = run("recover", "--apply", data["edge"], data["hangzhou"], "--i-understand")
    assert said.exit_code == 3
    assert "they elect a leader by themselves" in said.stderr.lower()


def test_nothing_is_forced_without_being_told_twice_nor_on_the_wrong_node(
    data: dict[str, str], tmp_path: Path
) -> None:
    said = run("recover", "--apply", data["edge"])
    assert said.exit_code == 3
    assert "--i-understand" in said.stderr
    survey = tmp_path / "edge.json"
    survey.write_text(run("recover", "--survey", data["edge"]).stdout)
    said = run("recover", "--apply", str(survey), "--i-understand")
    assert said.exit_code == 2
    assert run("recover", "--plan", data["edge"], str(survey)).exit_code == 2, "one node twice"
    assert run("log", "verify", data["edge"]).exit_code == 0


def accounts(status: str) -> list[dict[str, Any]]:
    """What each node that answered said of itself, wherever `status` puts it."""

    def walk(value: object) -> Iterator[dict[str, Any]]:
        if isinstance(value, dict):
            if "node" in value and "groups" in value:
                yield value
            for each in value.values():
                yield from walk(each)
        elif isinstance(value, list):
            for each in value:
                yield from walk(each)

    return list(walk(json.loads(status)))


def test_a_backup_tells_what_it_is_of_and_becomes_a_cluster_of_its_own(
    ended: Town, tmp_path: Path
) -> None:
    file = str(ended.directory / "main.snap")
    told = json.loads(run("backup", "inspect", file, "--json").stdout)
    assert (told["cluster"], told["group"], told["voters"]) == ("demo", "main", sorted(NAMES))
    assert "sound" in run("backup", "inspect", file).stdout
    data = str(tmp_path / "data")
    same = run("backup", "restore", file, "--data", data, "--node", "a", "--as-new-cluster", "demo")
    assert same.exit_code == 3
    assert not Path(data).exists()
    made = run("backup", "restore", file, "--data", data, "--node", "a", "--as-new-cluster", "two")
    assert made.exit_code == 0, made.output
    survey = json.loads(run("recover", "--survey", data).stdout)
    assert (survey["cluster"], survey["node"]) == ("two", "a")
    group = survey["groups"]["main"]
    assert group["base"] == [told["term"], told["index"]]
    assert group["voters"] == ["a"]
    again = run("backup", "restore", file, "--data", data, "--node", "a", "--as-new-cluster", "two")
    assert again.exit_code == 2
    assert "holds a log already" in again.stderr

    disk = FileDisk()
    [stored] = SnapshotDirectory(disk, data, "main").stored()
    reader = SnapshotDirectory(disk, data, "main").open(stored)
    state = ReplicatedState(KeyValueNode())
    state.restore(reader.chunks())
    assert state.digest().hex() == told["digest"]
    reader.close()
    disk.close()


def test_a_damaged_backup_is_never_restored(ended: Town, tmp_path: Path) -> None:
    whole = (ended.directory / "main.snap").read_bytes()
    file = tmp_path / "damaged.snap"
    for at in (10, len(whole) - 30, len(whole) - 1):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert run("backup", "inspect", str(file)).exit_code in (2, 5)
        made = run("backup", "restore", str(file), "--data", str(tmp_path / "data"),
                   "--node", "a", "--as-new-cluster", "two")  # fmt: skip
        assert made.exit_code in (2, 5)
        assert len(made.stderr.splitlines()) == 1
    assert not (tmp_path / "data").exists()


def test_one_survivor_of_three_carries_the_group_on_with_every_acknowledged_key(
    ended: Town,
) -> None:
    directory = str(ended.directory / "data" / "hangzhou")
    plan = run("recover", "--plan", directory)
    assert plan.exit_code == 0, plan.output
    assert "missing edge, us-east-1" in plan.stdout
    assert "the best log is hangzhou's" in plan.stdout
    before = json.loads(run("recover", "--survey", directory).stdout)

    ended.start("hangzhou")
    running = run("recover", "--apply", directory, "--i-understand")
    assert running.exit_code == 3, "never while the node runs"
    assert "stop it first" in running.stderr
    ended.end("hangzhou")

    done = run("recover", "--apply", directory, "--i-understand")
    assert done.exit_code == 0, done.output
    report = next(Path(directory).glob("recovered-*.json"))
    assert json.loads(report.read_text())["voters"] == ["hangzhou"]
    after = json.loads(run("recover", "--survey", directory).stdout)
    assert after["incarnation"] != before["incarnation"]
    assert after["groups"]["main"]["voters"] == ["hangzhou"]
    assert after["groups"]["main"]["term"] > before["groups"]["main"]["term"]

    ended.start("hangzhou")
    deadline = time.monotonic() + 20
    while (got := run("get", "key-7", "-c", str(ended.client))).exit_code:
        assert time.monotonic() < deadline, got.output
    assert got.stdout.strip() == "value-7"

    # The others come back with their old data, and lead the old group on: nobody here listens.
    ended.start("us-east-1", "edge")
    time.sleep(3)
    said = run("status", "-c", str(ended.client), "-o", "json").stdout
    leaders = {node["node"]: node["groups"]["main"]["leader"] for node in accounts(said)}
    assert leaders["hangzhou"] == "hangzhou"
    assert leaders["edge"] in ("edge", "us-east-1")
    ended.end("us-east-1")
    ended.end("edge")
    assert run("put", "after", "all", "-c", str(ended.client)).exit_code == 0
    ended.end("hangzhou")

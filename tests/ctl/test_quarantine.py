"""`mcpctl quarantine` and `mcpctl group reunite`: the plan first, then the decision, on record.

The quarantine is one that a node of the cluster finds on its disk at its start, as an old leader
does that crashed while it truncated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcpcore.ctl import reunions
from mcpcore.node.client.custody import Accounts
from mcpcore.node.kv.commands import Put, encode_command
from mcpcore.node.quarantine_disk import QuarantineFile
from mcpcore.node.storage.snapshot_directory import directory_name
from mcpcore.raft.custody import Dropped
from mcpcore.raft.quarantine import Quarantine
from mcpcore.raft.sessions import session_command
from mcpcore.raft.types import Entry, EntryKind
from tests.ctl.town import Town, run
from tests.node.storage.ram_disk import RamDisk

pytestmark = pytest.mark.processes
NODE = "edge"


def planted() -> bytes:
    """Two commands of a client whose session is gone, one outside any session, and a NOOP."""
    file = QuarantineFile(RamDisk(), "q")
    quarantine = Quarantine(file, "main", NODE)
    pay = [
        session_command(7, number, 0, encode_command(Put(b"pay/%d" % number, b"5")))
        for number in (1, 2)
    ]
    raw = encode_command(Put(b"raw", b"planted"))
    entries = [
        Entry(3, 90, EntryKind.NOOP, b""),
        Entry(3, 91, EntryKind.SESSION, pay[0]),
        Entry(3, 92, EntryKind.SESSION, pay[1]),
        Entry(3, 93, EntryKind.COMMAND, raw),
    ]
    dropped = [Dropped(entry, "edge", "hangzhou") for entry in entries]
    quarantine.keep(dropped, wall_ns=1_795_000_000_000_000_000)
    return b"".join(file._waiting)


@pytest.fixture
def split(town: Town) -> Iterator[Town]:
    path = town.directory / "data" / NODE / "quarantine" / directory_name("main")
    town.end(NODE)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(planted())
    town.start(NODE)
    town.wait_until_well()
    yield town
    town.end(NODE)
    path.unlink()
    town.start(NODE)
    town.wait_until_well()


def quarantine(town: Town, *words: str, stdin: bytes | None = None) -> tuple[int, str]:
    done = run("quarantine", *words, "--config", str(town.admin), stdin=stdin)
    return done.exit_code, done.output


def listed(town: Town, *words: str) -> list[dict[str, object]]:
    _, said = quarantine(town, "list", "main", "-o", "json", *words)
    return [json.loads(line) for line in said.splitlines()]


def test_a_quarantine_is_listed_shown_exported_and_decided_upon(
    split: Town, tmp_path: Path
) -> None:
    code, said = quarantine(split, "list", "main")
    assert code == 1, "something waits for a decision"
    assert "the client's session is gone" in " ".join(said.split())
    assert [entry["number"] for entry in listed(split)] == [2, 3, 4]
    assert [entry["fate"] for entry in listed(split, "--all")] == ["noted", *["kept"] * 3]

    code, said = quarantine(split, "show", "main", "edge/2")
    assert code == 0
    assert "accepted" not in said
    assert "pay/1" in said

    to = tmp_path / "main.jsonl"
    assert quarantine(split, "export", "main", "--to", str(to)) == (
        0,
        f"4 entries written to {to}\n",
    )
    assert [json.loads(line)["index"] for line in to.read_text().splitlines()] == [90, 91, 92, 93]
    assert quarantine(split, "export", "main", "--to", str(to))[0] == 2, "nothing is overwritten"

    code, said = quarantine(split, "discard", "main", "edge/2", "--plan")
    assert (code, len(listed(split))) == (0, 3), "a plan changes nothing"
    code, said = quarantine(split, "discard", "main", "edge/2", stdin=b"n\n")
    assert (code, len(listed(split))) == (3, 3), "who says no changes nothing"
    code, said = quarantine(
        split, "discard", "main", "edge/2", "--yes", "--by", "eva", "--note", "asked again"
    )
    assert (code, said) == (0, "edge/2: discarded by eva: asked again\n")

    code, said = quarantine(split, "repropose", "main", "edge/3", "--yes", "--by", "eva")
    assert code == 0
    assert said.startswith("edge/3: reproposed by eva: refused at index")
    assert said.endswith("session_expired\n")

    code, said = quarantine(split, "repropose", "main", "edge/4", "--yes")
    assert code == 2
    assert "nothing keeps it from applying twice" in said
    code, said = quarantine(split, "repropose", "main", "edge/4", "--yes", "--may-apply-twice")
    assert code == 0
    assert ": applied at index" in said
    got = run("get", "raw", "-c", str(split.client))
    assert got.stdout == "planted"
    assert quarantine(split, "list", "main") == (0, "nothing is in quarantine\n")


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (("show", "main", "edge/99"), 2, "there is no entry 'edge/99'"),
        (("discard", "main", "nobody/1", "--yes"), 2, "there is no entry 'nobody/1'"),
        (("list", "unheard-of"), 2, "no group 'unheard-of'"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(
    town: Town, words: tuple[str, ...], code: int, reason: str
) -> None:
    found, said = quarantine(town, *words)
    assert (found, reason in " ".join(said.split())) == (code, True), said


def test_only_an_administrator_looks(town: Town) -> None:
    done = run("quarantine", "list", "main", "--config", str(town.client))
    assert done.exit_code == 3
    assert "administrator" in done.output


# --- reunions -----------------------------------------------------------------------------------

HELD = {
    "episode": "main/edge/3.2.253",
    "entries": 250,
    "limit": 200,
    "to_get": 4,
    "to_lose": 250,
    "text": "reunion main/edge/3.2.253: intervention\n  to lose    250 entries of ours",
}


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """A cluster in which edge waits; returns what it was told."""
    told: list[tuple[str, str, str]] = []
    report = {"text": "group main: cut for 62.0 s", "open": False, "episode": "main/edge/3.2.253"}

    async def accounts(client: object, group: str) -> Accounts:
        nodes = {
            "edge": {"node": "edge", "held": HELD, "reports": [report]},
            "hangzhou": {"node": "hangzhou", "held": None, "reports": []},
        }
        return Accounts(nodes, {"edge": "127.0.0.1:1", "hangzhou": "127.0.0.1:2"}, {})

    async def reunite(client: object, group: str, address: str, episode: str, *, by: str) -> None:
        told.append((address, episode, by))

    monkeypatch.setattr(reunions.custody, "reunions", accounts)
    monkeypatch.setattr(reunions.custody, "reunite", reunite)
    return told


def test_nothing_waits_in_a_group_that_is_well(town: Town) -> None:
    done = run("group", "reunite", "main", "-c", str(town.admin))
    assert done.exit_code == 1
    assert "no reunion of group main waits" in done.output
    done = run("group", "divergence", "main", "-c", str(town.admin))
    assert (done.exit_code, "ever diverged" in done.output) == (0, True)


@pytest.mark.parametrize(
    ("words", "stdin", "code", "agreed"),
    [
        (["--plan"], None, 0, False),
        (["-o", "json"], None, 0, False),
        ([], b"n\n", 3, False),
        (["--by", "eva"], b"y\n", 0, True),
        (["--by", "eva", "--yes"], None, 0, True),
        (["--node", "hangzhou", "--yes"], None, 1, False),
    ],
)
def test_a_reunion_shows_its_plan_before_anybody_agrees(
    town: Town, waiting: list[tuple[str, str, str]], words, stdin, code, agreed
) -> None:
    done = run("group", "reunite", "main", *words, "-c", str(town.admin), stdin=stdin)
    assert done.exit_code == code, done.output
    if "hangzhou" not in words:
        assert "main/edge/3.2.253" in done.output
    assert waiting == ([("127.0.0.1:1", "main/edge/3.2.253", "eva")] if agreed else [])


def test_a_report_is_shown_and_is_json_for_programs(town: Town, waiting: object) -> None:
    done = run("group", "divergence", "main", "-c", str(town.admin))
    assert done.output == "edge: group main: cut for 62.0 s\n"
    done = run("group", "divergence", "main", "-o", "json", "-c", str(town.admin))
    assert json.loads(done.output)["node"] == "edge"

"""node.toml: what can be said in it, and what every mistake in it answers."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput
from mcpcore.node.config_file import load_node_config
from mcpcore.node.data_config import DataConfig
from mcpcore.node.kv.local import KeyValueNode
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.certificates import Authority, write_pairs
from mcpcore.node.transport.identity import CertifiedRole
from mcpcore.node.transport.security import Tls
from mcpcore.raft.settings import RaftSettings

GOOD = """
cluster = "demo"
node = "east"
listen = "127.0.0.1:7101"
data = "data/east"
plaintext = true

[peers]
east = "127.0.0.1:7101"
west = "127.0.0.1:7102"

[groups.main]
voters = ["east", "west"]
machine = "kv"
election_timeout_s = 1.5
heartbeat_s = 0.25

[limits]
max_clients = 7
ping_interval_s = 0.5
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "node.toml"
    path.write_text(text)
    return path


def refusal(directory: Path, text: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        load_node_config(written(directory, text))
    return str(caught.value)


def test_a_node_is_described_by_one_file(tmp_path):
    file = load_node_config(written(tmp_path, GOOD))

    config = file.config
    assert (config.cluster, config.name) == ("demo", "east")
    assert config.listen == Address("127.0.0.1", 7101)
    assert config.groups["main"].voters == ("east", "west")
    assert config.groups["main"].settings.election_timeout_ns == 1_500_000_000
    assert config.groups["main"].settings.heartbeat_ns == 250_000_000
    assert config.limits.max_clients == 7
    assert config.limits.ping_interval_s == 0.5
    assert isinstance(file.machine("main"), KeyValueNode)


def test_when_a_group_counts_as_split_is_set_in_the_file(tmp_path):
    split = GOOD + "[split]\nstale_timeouts = 4\ncommit_index_gap = 500\ncalm_s = 2.5\n"
    found = load_node_config(written(tmp_path, split)).config.split
    assert (found.stale_timeouts, found.commit_index_gap, found.calm_ns) == (4, 500, 2_500_000_000)
    assert "split.calm_s" in refusal(tmp_path, GOOD + "[split]\ncalm_s = -1\n")
    assert "'calm_s'" in refusal(tmp_path, GOOD + "[split]\ncalms = 1\n")


def test_paths_start_at_the_file_wherever_the_program_was_started(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    path = written(tmp_path, GOOD)
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert load_node_config(path).config.data == str(tmp_path / "data" / "east")


def test_a_node_may_stand_among_its_own_peers_so_that_all_nodes_share_one_table(tmp_path):
    config = load_node_config(written(tmp_path, GOOD)).config

    assert dict(config.peers) == {"west": Address("127.0.0.1", 7102)}


def test_a_node_may_be_alone(tmp_path):
    alone = GOOD.replace('west = "127.0.0.1:7102"\n', "").replace('"east", "west"', '"east"')

    assert load_node_config(written(tmp_path, alone)).config.peers == {}


def test_a_node_listens_on_any_free_port_if_the_port_is_0(tmp_path):
    config = load_node_config(
        written(tmp_path, GOOD.replace('"127.0.0.1:7101"\ndata', '"127.0.0.1:0"\ndata'))
    ).config

    assert config.listen.port == 0


FLOORS = ("election_floor_ns", "heartbeat_floor_ns")


@pytest.mark.parametrize(
    "field", [field.name for field in fields(RaftSettings) if field.name not in FLOORS]
)
def test_every_setting_of_a_group_can_be_written_in_the_file(tmp_path, field):
    default = getattr(RaftSettings(), field)
    key, text, wanted = field, str(default + 1), default + 1
    if field.endswith("_ns"):
        key = field.removesuffix("_ns") + "_s"
        wanted = default + 1_000_000
        text = str(wanted / 1e9)
    elif type(default) is bool:
        text, wanted = "false", False
    defaults = GOOD.replace("election_timeout_s = 1.5\nheartbeat_s = 0.25\n", f"{key} = {text}\n")

    file = load_node_config(written(tmp_path, defaults))

    assert getattr(file.config.groups["main"].settings, field) == wanted


def test_windows_follow_the_links_unless_the_file_says_otherwise(tmp_path):
    """A fifth of the ceilings, but not below 1 s and 0.2 s; 0 holds them still."""
    usual = GOOD.replace("election_timeout_s = 1.5\nheartbeat_s = 0.25\n", "")
    for text, floors_ms in (
        ("", (1000, 200)),
        ("election_floor_s = 0\n", (0, 0)),
        ("election_floor_s = 0.5\nheartbeat_floor_s = 0.1\n", (500, 100)),
        ("election_timeout_s = 20\nheartbeat_s = 5\n", (4000, 1000)),
        ("election_timeout_s = 0.5\nheartbeat_s = 0.1\n", (500, 100)),
    ):
        file = usual.replace('machine = "kv"\n', f'machine = "kv"\n{text}')
        assert not text or file != usual
        settings = load_node_config(written(tmp_path, file)).config.groups["main"].settings
        found = settings.election_floor_ns, settings.heartbeat_floor_ns
        assert tuple(ns // 1_000_000 for ns in found) == floors_ms


def test_whole_seconds_need_no_point(tmp_path):
    text = GOOD.replace("election_timeout_s = 1.5", "election_timeout_s = 2")

    settings = load_node_config(written(tmp_path, text)).config.groups["main"].settings
    assert settings.election_timeout_ns == 2_000_000_000


def test_certificates_are_named_in_a_table_tls(tmp_path):
    authority = Authority.create("demo")
    pair = authority.issue(CertifiedRole.NODE, "east")
    write_pairs({tmp_path / "certs" / "ca": authority.pair, tmp_path / "certs" / "east": pair})
    tls = '[tls]\nca = "certs/ca.crt"\ncertificate = "certs/east.crt"\nkey = "certs/east.key"\n'
    text = GOOD.replace("plaintext = true\n", "").replace("127.0.0.1", "10.0.0.1") + tls

    security = load_node_config(written(tmp_path, text)).config.security

    assert isinstance(security, Tls)
    assert security.identity.name == "east"


MISTAKES = {
    "no TOML at all": ("cluster = \n", ["no TOML", "line 1"]),
    "a key twice": (GOOD.replace('node = "east"', 'cluster = "x"'), ["no TOML", "line 3"]),
    "nothing": ("", ["'cluster' is missing", 'cluster = "demo"']),
    "a key is missing": (
        GOOD.replace('data = "data/east"\n', ""),
        ["'data' is missing", 'data = "data/east"'],
    ),
    "a required key is misspelled": (
        GOOD.replace("listen =", "lisen ="),
        ["'listen' is missing", "'lisen'"],
    ),
    "an unknown key": (
        GOOD.replace("plaintext = true", "plaintext = true\nplaintxt = true"),
        ["line 7: plaintxt", "no key known", "'plaintext'"],
    ),
    "an unknown key of a group": (
        GOOD.replace("heartbeat_s", "heartbeats_s"),
        ["line 16: groups.main.heartbeats_s", "'heartbeat_s'"],
    ),
    "a setting in the program's unit": (
        GOOD.replace("election_timeout_s = 1.5", "election_timeout_ns = 5"),
        ["groups.main.election_timeout_ns", "'election_timeout_s'"],
    ),
    "an unknown table": (GOOD + "[grops.x]\n", ["grops", "no table known", "'groups'"]),
    "an unknown limit": (GOOD + "max_client = 1\n", ["limits.max_client", "'max_clients'"]),
    "a number for a name": (
        GOOD.replace('"demo"', "7"),
        ["line 2: cluster", "is a whole number (7), and a string is expected"],
    ),
    "an empty name": (GOOD.replace('"demo"', '""'), ["line 2: cluster", "is empty"]),
    "no name": (GOOD.replace('"demo"', '"a/b"'), ["line 2: cluster", "'a/b' is no name"]),
    "no node's name": (GOOD.replace('node = "east"', 'node = "-"'), ["line 3: node", "no name"]),
    "no address": (GOOD.replace('"127.0.0.1:7101"\ndata', '"7101"\ndata'), ["listen", "no port"]),
    "no port of a peer": (GOOD.replace("7102", "99999"), ["line 10: peers.west", "99999"]),
    "a peer that is a table": (
        GOOD.replace('west = "127.0.0.1:7102"', 'west = {host = "x"}'),
        ["peers.west", "a table, and a string is expected"],
    ),
    "a peer without a name": (
        GOOD.replace('west = "127', '"a b" = "127'),
        ["line 10: peers.a b", "no name"],
    ),
    "two peers at one address": (
        GOOD.replace("7102", "7101"),
        ["peers.west", "is the address of east too"],
    ),
    "peers that are no table": (
        GOOD.replace("[peers]", "").replace("plaintext", "peers = 1\nplaintext"),
        ["peers", "a whole number (1), and a table is expected"],
    ),
    "neither TLS nor plaintext": (
        GOOD.replace("plaintext = true", ""),
        ["neither [tls] nor plaintext", "certs init"],
    ),
    "plaintext is a string": (
        GOOD.replace("plaintext = true", 'plaintext = "yes"'),
        ["plaintext", "true or false is expected"],
    ),
    "plaintext beyond loopback": (
        GOOD.replace("127.0.0.1:7102", "10.0.0.2:7102"),
        ["line 10: peers.west", "plaintext is refused"],
    ),
    "plaintext listening on a name": (
        GOOD.replace('"127.0.0.1:7101"\ndata', '"localhost:7101"\ndata'),
        ["line 4: listen", "plaintext is refused"],
    ),
    "both TLS and plaintext": (
        GOOD + '[tls]\nca = "a"\ncertificate = "b"\nkey = "c"\n',
        ["plaintext", "Remove one"],
    ),
    "TLS without a key": (
        GOOD.replace("plaintext = true", "") + '[tls]\nca = "a"\ncertificate = "b"\n',
        ["'key' is missing", "certs/node-east.key"],
    ),
    "TLS with files that are not there": (
        GOOD.replace("plaintext = true", "") + '[tls]\nca = "a"\ncertificate = "b"\nkey = "c"\n',
        ["tls.ca", "there is no file", "certs init"],
    ),
    "an unknown key of tls": (
        GOOD.replace("plaintext = true", "")
        + '[tls]\nca = "a"\ncertificate = "b"\nkey = "c"\ncert = "d"\n',
        ["tls.cert", "'certificate'"],
    ),
    "no group": (GOOD[: GOOD.index("[groups")], ["no group", "[groups.main]"]),
    "a group without voters": (
        GOOD.replace('voters = ["east", "west"]', ""),
        ["groups.main", "'voters' is missing"],
    ),
    "no voter": (GOOD.replace('["east", "west"]', "[]"), ["groups.main.voters", "is empty"]),
    "an unknown voter": (
        GOOD.replace('["east", "west"]', '["east", "wets"]'),
        ["line 13: groups.main.voters", "'wets'", "'west'"],
    ),
    "a voter twice": (
        GOOD.replace('["east", "west"]', '["east", "east"]'),
        ["groups.main.voters", "'east' stands there twice"],
    ),
    "a voter that is a number": (
        GOOD.replace('["east", "west"]', '["east", 2]'),
        ["groups.main.voters", "item 2 is a whole number (2)"],
    ),
    "voters that are a string": (
        GOOD.replace('["east", "west"]', '"east"'),
        ["groups.main.voters", "an array is expected"],
    ),
    "an unknown machine": (
        GOOD.replace('machine = "kv"', 'machine = "sql"'),
        ["line 14: groups.main.machine", "'sql' is no machine", "kv"],
    ),
    "a window that is a string": (
        GOOD.replace("heartbeat_s = 0.25", 'heartbeat_s = "fast"'),
        ["groups.main.heartbeat_s", "a number is expected"],
    ),
    "a window that is true": (
        GOOD.replace("heartbeat_s = 0.25", "heartbeat_s = true"),
        ["groups.main.heartbeat_s", "a number is expected"],
    ),
    "an infinite window": (
        GOOD.replace("heartbeat_s = 0.25", "heartbeat_s = inf"),
        ["groups.main.heartbeat_s", "a number is expected"],
    ),
    "a window that is a date": (
        GOOD.replace("heartbeat_s = 0.25", "heartbeat_s = 2026-01-01"),
        ["groups.main.heartbeat_s", "a date or time"],
    ),
    "a negative window": (
        GOOD.replace("heartbeat_s = 0.25", "heartbeat_s = -1"),
        ["line 16: groups.main.heartbeat_s", "must be positive"],
    ),
    "windows that contradict each other": (
        GOOD.replace("heartbeat_s = 0.25", "heartbeat_s = 1.4"),
        ["line 16: groups.main.heartbeat_s", "no room for a lost heartbeat"],
    ),
    "a count with a fraction": (
        GOOD.replace("heartbeat_s = 0.25", "max_inflight = 2.5"),
        ["groups.main.max_inflight", "a whole number is expected"],
    ),
    "a limit that is not positive": (
        GOOD.replace("max_clients = 7", "max_clients = 0"),
        ["line 19: limits.max_clients", "not a positive number"],
    ),
    "limits that contradict each other": (
        GOOD.replace("max_clients = 7", "backoff_max_s = 0.001"),
        ["limits.backoff_max_s", "below 0.05"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_file_its_place_and_what_was_expected(tmp_path, mistake):
    text, expected = MISTAKES[mistake]

    told = refusal(tmp_path, text)

    assert told.startswith(str(tmp_path / "node.toml"))
    for fragment in expected:
        assert fragment in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "directory"),
        (lambda path: path.write_bytes(b'cluster = "\xff"'), "byte 11 is not UTF-8"),
    ],
    ids=["missing", "a directory", "binary"],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, make, why):
    path = tmp_path / "node.toml"
    make(path)

    with pytest.raises(InvalidInput, match=why) as caught:
        load_node_config(path)
    assert str(path) in str(caught.value)


LINES = [*GOOD.splitlines(), "x = 1", "[tls]", "[groups]", "[[groups]]", "peers = []", "'\"' = 1"]


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.one_of(st.lists(st.sampled_from(LINES)).map("\n".join), st.text(), st.just(GOOD)))
def test_whatever_stands_in_the_file_is_either_used_or_refused_in_one_line(tmp_path, text):
    path = tmp_path / "node.toml"
    path.write_bytes(text.encode("utf-8", "replace"))
    try:
        load_node_config(path)
    except InvalidInput as error:
        told = str(error)
    else:
        told = str(path)

    assert str(path) in told
    assert "\n" not in told


# --- Founding, zones, versions ------------------------------------------------------------------


def test_a_node_founds_nothing_unless_its_file_says_so(tmp_path):
    assert load_node_config(written(tmp_path, GOOD)).config.bootstrap is False
    told = load_node_config(written(tmp_path, "bootstrap = true\n" + GOOD)).config
    assert told.bootstrap is True


def test_the_zone_of_a_node_is_a_name(tmp_path):
    assert load_node_config(written(tmp_path, 'zone = "aws"\n' + GOOD)).config.zone == "aws"
    with pytest.raises(InvalidInput, match="zone"):
        load_node_config(written(tmp_path, 'zone = "no zone at all!"\n' + GOOD))


def test_a_node_can_be_kept_to_an_older_protocol_while_others_are_upgraded(tmp_path):
    config = load_node_config(written(tmp_path, "protocol_max = 1\n" + GOOD)).config
    assert config.versions == (1, 1)
    with pytest.raises(InvalidInput, match="protocol_max: this release speaks versions 1 to 2"):
        load_node_config(written(tmp_path, "protocol_max = 9\n" + GOOD))


def test_replicated_data_is_described_beside_the_groups(tmp_path):
    more = """
[replicated.basket]
[replicated.seen]
grows_only = true
members = ["east", "west"]
entries_max = 9
"""
    text = GOOD.replace("plaintext = true", "plaintext = true\ndata_bytes_per_s = 4096") + more
    config = load_node_config(written(tmp_path, text)).config
    assert not config.replicated["basket"].grows_only
    assert config.replicated["seen"] == DataConfig(True, ("east", "west"), entries_max=9)
    assert config.data_budget.bytes_per_s == 4096
    assert "entries_max" in refusal(tmp_path, text.replace("= 9", "= 0"))
    assert "north" in refusal(
        tmp_path, text.replace('"east", "west"]\nentries', '"north"]\nentries')
    )
    assert "data_bytes_per_s" in refusal(tmp_path, text.replace("4096", "0"))


@pytest.mark.parametrize(("said", "traces"), [("", False), ("traces = true", True)])
def test_calls_are_traced_only_if_the_file_says_so(tmp_path, said, traces):
    text = f'{GOOD}\n[observe]\nlisten = "127.0.0.1:9464"\n{said}\n'
    observe = load_node_config(written(tmp_path, text)).observe

    assert observe is not None
    assert observe.traces is traces


def test_traces_must_be_true_or_false(tmp_path):
    text = f'{GOOD}\n[observe]\nlisten = "127.0.0.1:9464"\ntraces = "otlp"\n'
    assert "observe.traces" in refusal(tmp_path, text)

"""`mcpctl` against three real processes over mutual TLS."""

from __future__ import annotations

import json
import signal

import pytest

from tests.ctl.town import NAMES, Town, mcpctl, run

pytestmark = pytest.mark.processes


def leader(town: Town) -> str:
    told = json.loads(run("status", "-c", str(town.client), "-o", "json").stdout)
    return next(
        node["node"] for node in told["nodes"] if node["groups"]["main"]["role"] == "leader"
    )


# --- Keys and values ----------------------------------------------------------------------------


def test_a_value_comes_back_byte_for_byte(town):
    value = bytes(range(256)) + b"\n"

    put = run("put", "binary", "-", "-c", str(town.client), stdin=value)
    got = run("get", "binary", "-c", str(town.client))

    assert put.stdout.startswith("revision ")
    assert got.stdout_bytes == value
    assert got.exit_code == 0


def test_a_record_can_be_had_as_json_and_as_a_table(town):
    run("put", "shape", "round", "-c", str(town.client))

    told = json.loads(run("get", "shape", "-o", "json", "-c", str(town.client)).stdout)
    table = run("get", "shape", "-o", "table", "-c", str(town.client)).stdout.splitlines()

    assert (told["key"], told["value"], told["version"]) == ("shape", "round", 1)
    assert table[0].split()[:2] == ["key", "value"]
    assert table[1].split()[:2] == ["shape", "round"]


@pytest.mark.parametrize("consistency", ["linearizable", "lease", "stale"])
def test_an_absent_key_is_exit_status_1_however_it_is_read(town, consistency):
    result = run("get", "nowhere", "--consistency", consistency, "-c", str(town.client))

    assert result.exit_code == 1
    assert result.stdout == ""
    assert "there is no key 'nowhere' in group main" in result.stderr


def test_a_compare_and_set_happens_only_if_the_key_is_as_expected(town):
    where = ("-c", str(town.client))

    first = run("cas", "lock", "one", "--absent", *where)
    again = run("cas", "lock", "two", "--absent", *where)
    wrong = run("cas", "lock", "two", "--expect", "three", *where)
    right = run("cas", "lock", "two", "--expect", "one", *where)
    revision = right.stdout.split()[1]
    gone = run("cas", "lock", "--delete", "--expect-revision", revision, "-o", "json", *where)
    late = run("cas", "lock", "--delete", "--expect-revision", revision, "-o", "json", *where)

    codes = [each.exit_code for each in (first, again, wrong, right, gone, late)]
    assert codes == [0, 1, 1, 0, 0, 1]
    assert "its value is 'one'" in again.stderr
    assert json.loads(gone.stdout)["revision"] > int(revision)
    assert json.loads(late.stdout) == {"swapped": False, "current": None}
    assert "there is no such key" in late.stderr


def test_deleting_says_how_many_keys_went(town):
    where = ("-c", str(town.client))
    for key in ("d/1", "d/2", "d/3"):
        run("put", key, "x", *where)

    one = run("delete", "d/1", *where)
    again = run("delete", "d/1", *where)
    rest = run("delete", "d/", "--prefix", "-o", "json", *where)

    assert (one.stdout, one.exit_code) == ("deleted 1 key\n", 0)
    assert again.exit_code == 1
    assert json.loads(rest.stdout) == {"deleted": 2}


def test_a_scan_lists_records_in_order_one_to_a_line(town):
    where = ("-c", str(town.client))
    for key, value in (("s/b", "two\nlines"), ("s/a", "tab\there"), ("s/c", "three")):
        run("put", key, value, *where)

    plain = run("scan", "s/", "-o", "plain", *where)
    limited = run("scan", "s/", "-o", "json", "--limit", "2", *where)
    nothing = run("scan", "nothing/", *where)

    assert plain.stdout.splitlines() == [
        r"s/a" + "\t" + r"tab\there",
        r"s/b" + "\t" + r"two\nlines",
        r"s/c" + "\t" + "three",
    ]
    assert [json.loads(line)["key"] for line in limited.stdout.splitlines()] == ["s/a", "s/b"]
    assert (nothing.stdout, nothing.exit_code) == ("", 0)


def test_a_watch_shows_each_change_once_and_in_order_from_a_revision_on(town):
    where = ("-c", str(town.client))
    first = run("put", "w/1", "a", *where).stdout.split()[1]
    run("put", "w/2", "b", *where)
    run("delete", "w/1", *where)

    watch = ("watch", "w/", "--prefix", "--from-revision", first, "--count", "3", *where)
    plain = run(*watch).stdout.splitlines()
    told = [json.loads(line) for line in run(*watch, "-o", "json").stdout.splitlines()]

    assert [line.split("\t")[1:] for line in plain] == [
        ["put", "w/1", "a"],
        ["put", "w/2", "b"],
        ["delete", "w/1"],
    ]
    assert [each["event"] for each in told] == ["put", "put", "delete"]
    assert told[0]["mod_revision"] == int(first)
    assert "value" not in told[2]


def test_a_watch_hears_of_changes_as_they_happen_and_ends_with_ctrl_c(town):
    where = ("-c", str(town.client))
    revision = run("put", "live", "first", *where).stdout.split()[1]
    watch = mcpctl("watch", "live", "--from-revision", revision, *where)
    assert watch.stdout is not None

    heard = [watch.stdout.readline()]
    run("put", "live", "second", *where)
    heard.append(watch.stdout.readline())
    watch.send_signal(signal.SIGINT)
    _, errors = watch.communicate(timeout=20)

    assert [line.split("\t")[1:] for line in heard] == [
        ["put", "live", "first\n"],
        ["put", "live", "second\n"],
    ]
    assert watch.returncode == 130
    assert errors == ""


def test_a_key_on_a_lease_goes_with_it(town):
    where = ("-c", str(town.client))

    lease = run("lease", "grant", "60", *where).stdout.strip()
    run("put", "leased", "x", "--lease", lease, *where)
    alive = run("lease", "keep-alive", lease, "-o", "json", *where)
    ended = run("lease", "revoke", lease, *where)

    assert json.loads(alive.stdout) == {"lease": int(lease), "ttl_s": 60.0}
    assert ended.stdout == f"lease {lease} ended, and 1 key with it\n"
    assert run("get", "leased", *where).exit_code == 1
    assert run("put", "leased", "x", "--lease", lease, *where).exit_code == 3


# --- The cluster --------------------------------------------------------------------------------


def test_status_shows_all_nodes_and_says_that_all_is_well(town):
    said = town.wait_until_well()

    lines = said.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == list(NAMES)
    assert f"cluster demo: all 3 nodes answer; {leader(town)} leads main in term" in said


def test_clocks_shows_every_nodes_clock_against_the_clusters_time(town):
    told = run("clocks", "-c", str(town.client))
    assert told.exit_code == 0, told.output
    for name in NAMES:
        assert f"{name} " in told.output
    assert told.output.count("synchronised") == len(NAMES)
    for clock in json.loads(run("clocks", "-o", "json", "-c", str(town.client)).stdout):
        own = next(row for row in clock["view"] if row["node"] == clock["node"])
        assert own["uncertainty_ns"] < 250_000_000


def test_status_as_json_tells_every_fact_of_the_table(town):
    town.wait_until_well()
    told = json.loads(run("status", "-o", "json", "-c", str(town.client)).stdout)

    assert told["healthy"] is True
    assert told["problems"] == []
    digests = {node["groups"]["main"]["digest"] for node in told["nodes"]}
    assert len(digests) == 1
    for node in told["nodes"]:
        assert node["reachable"]
        assert node["log_bytes"] > 0
        assert node["version"]
        assert {"role", "term", "last_index", "commit", "applied", "lag", "agrees"} <= set(
            node["groups"]["main"]
        )


def test_one_endpoint_is_enough_to_find_the_other_nodes(town):
    one = town.endpoints.split(",")[0]

    told = run("status", "-e", one, "--certs", str(town.certs))

    assert told.exit_code == 0
    assert all(name in told.stdout for name in NAMES)


def test_leadership_goes_where_an_administrator_sends_it(town):
    old = leader(town)
    target = next(name for name in NAMES if name != old)

    done = run("transfer-leader", target, "-c", str(town.admin))

    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{target} leads main in term ")
    assert leader(town) == target


def test_a_client_may_not_move_leadership_and_learns_what_it_needs(town):
    refused = run("transfer-leader", "edge", "-c", str(town.client))

    assert refused.exit_code == 3
    assert refused.stderr == (
        "mcpctl: app may not transfer-leader: that needs an administrator's certificate (`mcpctl "
        "certs add DIR --admin NAME`)\n"
    )


def test_leadership_cannot_go_to_a_stranger(town):
    refused = run("transfer-leader", "mars", "-c", str(town.admin))

    assert refused.exit_code == 3
    assert "it is not a voter of this group (edge, hangzhou, us-east-1)" in refused.stderr


def test_a_killed_node_is_named_and_comes_back_with_everything(town):
    run("put", "before", "x", "-c", str(town.client))
    victim = leader(town)
    town.end(victim, signal.SIGKILL)

    told = run("status", "-c", str(town.client))
    while_away = run("put", "while-away", "y", "-c", str(town.client))
    port = town.ports[victim]

    assert told.exit_code == 1
    assert f"! {victim} (127.0.0.1:{port}) does not answer: connection refused" in told.stdout
    row = next(line for line in told.stdout.splitlines() if line.startswith(victim))
    assert "unreachable" in row
    assert while_away.exit_code == 0, while_away.output

    town.start(victim)
    town.wait_until_well()
    told_by_all = json.loads(run("status", "-o", "json", "-c", str(town.client)).stdout)
    assert {node["groups"]["main"]["agrees"] for node in told_by_all["nodes"]} == {True}


# --- A node's life ------------------------------------------------------------------------------


def test_a_node_says_why_it_stopped_and_logs_one_line_for_each_change_of_role(town):
    town.wait_until_well()
    status, said = town.end("edge")
    log = town.log("edge")
    town.start("edge")

    assert status == 0
    assert said == "edge stopped: SIGTERM received\n"
    roles = [line for line in log.splitlines() if "group main term" in line]
    assert roles
    for line in roles:
        day, moment, level, *_ = line.split()
        assert len(day) == len("2026-11-23")
        assert moment.endswith("Z")
        assert level == "INFO"


def test_a_node_does_not_share_its_directory_with_another_process(town):
    copy = town.directory / "copy.toml"
    text = (town.directory / "edge.toml").read_text()
    copy.write_text(text.replace(str(town.ports["edge"]), "0", 1))

    second = mcpctl("serve", str(copy))
    _, errors = second.communicate(timeout=20)

    assert second.returncode == 3
    assert errors.splitlines()[-1].startswith("mcpctl: ")
    assert "the log is open elsewhere" in errors
    assert "Traceback" not in errors


# --- Wrong in every way -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strangers(town: Town, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Certificates of a cluster of the same name, signed by another authority."""
    directory = str(tmp_path_factory.mktemp("strangers"))
    run("certs", "init", directory, "--cluster", "demo", "--client", "app", "--node", "edge")
    return directory


def refusals(town: Town, strangers: str) -> dict[str, tuple[list[str], int, str]]:
    certs, nowhere = str(town.certs), "127.0.0.1:9"
    edge = f"{certs}/node-edge"
    return {
        "nobody listens there": (
            ["get", "x", "-e", nowhere, "--certs", certs, "--timeout", "2"],
            3,
            "127.0.0.1:9 cannot be reached: connection refused",
        ),
        "another authority": (
            ["get", "x", "-e", town.endpoints, "--certs", strangers, "--timeout", "4"],
            3,
            "of another authority",
        ),
        "no TLS where TLS is spoken": (
            ["get", "x", "-e", town.endpoints, "--plaintext", "--cluster", "demo", "--timeout=2"],
            3,
            "cannot be reached",
        ),
        "a node's certificate": (
            ["get", "x", "-e", town.endpoints, "--ca", f"{certs}/ca.crt", "--cert", f"{edge}.crt",
             "--key", f"{edge}.key"],
            3,
            "allows the role peer, not client",
        ),
        "a certificate of another cluster than asked for": (
            ["get", "x", "-e", town.endpoints, "--certs", certs, "--cluster", "prod"],
            2,
            "our certificate is of cluster 'demo', and 'prod' is asked for",
        ),
        "an unknown group": (
            ["get", "x", "-c", str(town.client), "--group", "nope", "--timeout", "4"],
            2,
            "no group 'nope' on",
        ),
    }  # fmt: skip


@pytest.mark.parametrize(
    "way",
    ["nobody listens there", "another authority", "no TLS where TLS is spoken",
     "a node's certificate", "a certificate of another cluster than asked for",
     "an unknown group"],
)  # fmt: skip
def test_what_cannot_work_says_why_in_one_line(town, strangers, way):
    words, status, why = refusals(town, strangers)[way]

    result = run(*words)

    assert (result.exit_code, result.stdout) == (status, ""), result.output
    assert result.stderr.startswith("mcpctl: ")
    assert result.stderr.count("\n") == 1
    assert why in result.stderr


def test_status_of_strangers_is_a_table_of_refusals(town, strangers):
    result = run("status", "-e", town.endpoints, "--certs", strangers)

    assert result.exit_code == 1
    assert result.stdout.count("unreachable") == 3
    assert result.stdout.count("does not answer: ") == 3

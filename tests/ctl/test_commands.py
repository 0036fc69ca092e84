"""The command line itself: help, mistakes, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mcpcore import errors
from mcpcore.ctl import keys
from mcpcore.ctl.exits import ExitCode, exit_code, one_line
from mcpcore.ctl.main import app
from mcpcore.ctl.root import Family, RootGroup
from mcpcore.node.certificates import Authority, write_pairs
from mcpcore.node.group import Consistency
from mcpcore.node.identity import CertifiedRole
from tests.ctl.town import ROOT, run

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]
COMMANDS = [name.replace("_", "-") for name in COMMANDS]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_is_for_and_gives_an_example(command):
    told = run(command, "--help")

    assert told.exit_code == 0
    assert f"Example: mcpctl {command}" in " ".join(told.stdout.split())


@pytest.mark.parametrize("family", RootGroup.families)
def test_every_family_of_commands_loads_when_it_is_asked_for(family):
    told = run(family, "--help")

    assert told.exit_code == 0, told.output
    assert f"Usage: mcpctl {family} " in told.stdout


def test_an_app_of_one_command_is_that_command(monkeypatch):
    alone = {"check": Family("mcpcore.ctl.check", "Judge a history.")}
    monkeypatch.setattr(RootGroup, "families", alone)

    listed = run("--help").stdout
    told = run("check", "--help")

    assert "Judge a history." in listed
    assert told.exit_code == 0, told.output
    assert "mcpctl check [OPTIONS]" in told.stdout


@pytest.mark.parametrize("command", [*COMMANDS, *RootGroup.families])
def test_every_command_stands_in_the_manual(command):
    manual = (ROOT / "docs" / "mcpctl.md").read_text()

    assert f"mcpctl {command}" in manual


def test_every_exit_code_stands_in_the_manual():
    manual = (ROOT / "docs" / "mcpctl.md").read_text()

    for code in ExitCode:
        assert f"| {int(code)} |" in manual


def test_the_help_loads_neither_a_node_nor_asyncio():
    """`mcpctl --help` should come at once: what costs time to load is loaded by its command."""
    heavy = "asyncio", "ssl", "msgpack", "cryptography", "mcpcore.node", "mcpcore.sim"
    code = f"import mcpcore.ctl.main, sys; print([m for m in {heavy} if m in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert done.stdout.strip() == "[]"


def test_reads_are_called_on_the_command_line_as_they_are_in_the_library():
    assert [each.value for each in keys.Reading] == [each.value for each in Consistency]


def test_an_error_answers_with_its_exit_code_whether_trying_again_is_safe():
    assert exit_code(errors.InvalidInput("x")) is ExitCode.USAGE
    assert exit_code(errors.ClusterUnavailable("g", "x")) is ExitCode.REJECTED
    assert exit_code(errors.ConnectionLost("a", "x")) is ExitCode.UNKNOWN
    assert exit_code(errors.StorageCorrupt("x", path="p", offset=1)) is ExitCode.FAILED
    assert exit_code(ValueError("x")) is ExitCode.FAILED


def test_an_error_is_one_line_even_if_its_words_are_not():
    assert one_line(errors.OutcomeUnknown("two\n  lines")) == "two lines"
    assert one_line(errors.OutcomeUnknown()) == "OutcomeUnknown"


MISTAKES = {
    "an unknown command": (["pu"], "No such command 'pu'"),
    "an unknown option": (["get", "k", "--grup", "x"], "--group"),
    "a missing argument": (["put", "k"], "Missing argument 'VALUE'"),
    "a number that is none": (["scan", "--limit", "x"], "--limit"),
    "a number out of range": (["scan", "--limit", "0"], "--limit"),
    "no cluster": (["get", "k"], "no node to ask"),
    "no certificates": (["get", "k", "-e", "127.0.0.1:1"], "neither certificates nor plaintext"),
    "no cluster's name": (["get", "k", "-e", "127.0.0.1:1", "--plaintext"], "Give --cluster NAME"),
    "no address": (["get", "k", "-e", "localhost", "--plaintext"], "'localhost' has no port"),
    "plaintext abroad": (
        ["get", "k", "-e", "10.0.0.1:1", "--plaintext", "--cluster", "c"],
        "plaintext is refused on 10.0.0.1:1",
    ),
    "two ways to be safe": (
        ["get", "k", "-e", "127.0.0.1:1", "--plaintext", "--certs", "x"],
        "Choose one",
    ),
    "half of TLS": (
        ["get", "k", "-e", "127.0.0.1:1", "--ca", "x"],
        "--cert and --key are missing",
    ),
    "a user without a directory": (["get", "k", "-e", "127.0.0.1:1", "--as", "x"], "--certs DIR"),
    "an empty directory": (["get", "k", "-e", "127.0.0.1:1", "--certs", "/"], "no ca.crt"),
    "no such profile": (["get", "k", "-c", "/nope.toml"], "No such file"),
    "no such node file": (["serve", "/nope.toml"], "/nope.toml: the file cannot be read"),
    "two expectations": (["cas", "k", "v", "--absent", "--expect", "x"], "in one way"),
    "no expectation": (["cas", "k", "v"], "Give one of --expect VALUE"),
    "no new value": (["cas", "k", "--absent"], "what is to become of the key"),
    "set and delete": (["cas", "k", "v", "--expect", "x", "--delete"], "what is to become"),
    "everything, perhaps by accident": (["delete", "", "--prefix"], "add --all"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_exit_status_2_and_one_line_with_a_remedy(mistake):
    words, expected = MISTAKES[mistake]

    result = run(*words)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    assert expected in result.stderr


def test_a_bug_of_ours_is_one_line_too_and_a_traceback_on_request(monkeypatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(keys, "in_cluster", broken)

    plain = run("get", "k")
    debugging = run("get", "k", env={"MCPCTL_DEBUG": "1"})

    assert plain.exit_code == 5
    assert plain.stderr.startswith("mcpctl: a bug of ours: ZeroDivisionError: division by zero")
    assert isinstance(debugging.exception, ZeroDivisionError)


def test_colour_is_for_terminals_only():
    assert "\x1b" not in run("get", "k").stderr


# --- Whose certificate --------------------------------------------------------------------------


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    authority = Authority.create("demo")
    users = [(CertifiedRole.CLIENT, "app"), (CertifiedRole.ADMIN, "ops")]
    pairs = {tmp_path / f"{role}-{name}": authority.issue(role, name) for role, name in users}
    write_pairs({tmp_path / "ca": authority.pair, **pairs})
    return tmp_path


def profile(certs: Path, *, administers: bool, user: str = ""):
    from mcpcore.ctl.options import ClusterOptions
    from mcpcore.ctl.profile import find_profile

    options = ClusterOptions(endpoints="127.0.0.1:1", certs=str(certs), user=user)
    return find_profile(options, administers=administers)


def test_a_clients_work_takes_the_clients_certificate_and_an_administrators_the_other(certs):
    assert profile(certs, administers=False).security.identity.name == "app"
    assert profile(certs, administers=True).security.identity.name == "ops"


def test_the_certificate_says_the_cluster(certs):
    assert profile(certs, administers=False).cluster == "demo"


@pytest.mark.parametrize("user", ["ops", "admin-ops"])
def test_a_user_can_be_named_with_or_without_the_role(certs, user):
    assert profile(certs, administers=False, user=user).security.identity.name == "ops"


def test_a_choice_among_several_clients_is_the_users(certs):
    authority = Authority.load(certs / "ca.crt", certs / "ca.key")
    write_pairs({certs / "client-two": authority.issue(CertifiedRole.CLIENT, "two")})

    with pytest.raises(errors.InvalidInput, match="--as: client-app, client-two"):
        profile(certs, administers=False)


def test_an_unknown_user_is_told_the_nearest_one(certs):
    with pytest.raises(errors.InvalidInput, match="Did you mean 'client-app'"):
        profile(certs, administers=False, user="client-ap")


PROFILES = {
    "a key misspelled": ('clustr = "x"', "'cluster'"),
    "an endpoint twice": ('[endpoints]\na = "127.0.0.1:1"\nb = "127.0.0.1:1"', "endpoints.b"),
    "an endpoint that is none": ('endpoints = ["x"]', "'x' has no port"),
    "no TOML": ("[", "no TOML"),
    "half of TLS": ('endpoints = ["127.0.0.1:1"]\n[tls]\nca = "x"', "'certificate' is missing"),
}


@pytest.mark.parametrize("mistake", PROFILES)
def test_a_mistake_in_a_profile_is_named_with_its_file(tmp_path, mistake):
    text, expected = PROFILES[mistake]
    file = tmp_path / "client.toml"
    file.write_text(text)

    result = run("get", "k", "-c", str(file))

    assert result.exit_code == 2
    assert str(file) in result.stderr
    assert expected in result.stderr

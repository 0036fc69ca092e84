"""`mcpctl policy` against real processes: edited, ordered, cut off, decided."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from mcpcore.policy import TenantKey
from tests.ctl.town import Town, run

POLICY = """
[groups.policy]
voters = ["us-east-1", "hangzhou", "edge"]
machine = "policy"
election_timeout_s = 1.0
heartbeat_s = 0.2
"""
SHOP = """
{"tenant": "shop", "document": "web", "settings": {"contact": "ann@shop"},
 "roles": [{"member": "shop/ann", "role": "shop/deployer"}],
 "statements": [
  {"name": "deploy", "effect": "permit", "principal": "shop/deployer",
   "action": "deploy", "resource": "shop/*"},
  {"name": "freeze", "effect": "forbid", "principal": "*",
   "action": "*", "resource": "shop/ledger"}]}
"""
WEB = ("-r", "shop/ann deploy shop/web")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    town = Town(tmp_path_factory.mktemp("town"), more=POLICY)
    town.start("us-east-1", "hangzhou", "edge")
    try:
        town.wait_until_well(40)
        yield town
    finally:
        town.end_all()


def policy(town: Town, *words: str, admin: bool = False) -> Result:
    return run("policy", "-c", str(town.admin if admin else town.client), *words)


def until(town: Town, *words: str, code: int, within_s: float = 20.0) -> Result:
    deadline = time.monotonic() + within_s
    while True:
        result = policy(town, *words)
        if result.exit_code == code:
            return result
        assert time.monotonic() < deadline, result.output
        time.sleep(0.2)


@pytest.mark.processes
def test_a_policy_is_edited_ordered_asked_and_settled_on_a_cluster(
    town: Town, tmp_path: Path
) -> None:
    document = tmp_path / "shop.json"
    document.write_text(SHOP)
    refused = policy(town, "own", "shop=shop")
    assert refused.exit_code == 3
    assert "administrator" in refused.output
    owned = policy(town, "own", "shop=shop", admin=True)
    assert owned.exit_code == 0, owned.output
    assert "shop belongs to shop, entry 1 of the log" in owned.output

    edited = policy(town, "edit", str(document), admin=True)
    assert edited.exit_code == 0, edited.output
    assert "shop/web: 4 edits" in edited.output
    assert "nothing is pending" in until(town, "pending", code=0).output
    allowed = until(town, "decide", *WEB, "--everywhere", code=0).output
    assert allowed.count("allowed") == 3
    again = policy(town, "edit", str(document), admin=True)
    assert "shop/web: 0 edits" in again.output, "what is said already is not said again"

    why = policy(town, "explain", "-r", "shop/ann deploy shop/ledger")
    assert why.exit_code == 1
    assert "DENIED" in why.output
    assert "a forbid matches" in why.output
    assert "live" in policy(town, "show").output
    assert "no conflicts" in policy(town, "conflicts").output
    assert policy(town, "resolve", "abc", "keep:1", "--as", "shop").exit_code == 2
    status = until(town, "status", code=0).output
    assert status.count("/") >= 3

    key = TenantKey(bytes(range(32)))
    trusted = policy(town, "trust", f"shop={key.public.hex()}", admin=True)
    assert trusted.exit_code == 0, trusted.output
    document.write_text(SHOP.replace("ann@shop", "bob@shop"))
    until(town, "status", code=0)
    unsigned = policy(town, "edit", str(document), admin=True)
    assert unsigned.exit_code == 2
    assert "signature" in unsigned.output
    secret = tmp_path / "shop.key"
    secret.write_text(key.secret.hex())
    signed = policy(town, "edit", str(document), "--key", str(secret))
    assert signed.exit_code == 0, signed.output


@pytest.mark.processes
def test_without_a_quorum_a_node_still_decides_and_takes_edits_that_take(
    town: Town, tmp_path: Path
) -> None:
    until(town, "status", code=0)
    key, secret = TenantKey(bytes(range(1, 33))), tmp_path / "bank.key"
    secret.write_text(key.secret.hex())
    assert policy(town, "own", "bank=bank", admin=True).exit_code == 0
    assert policy(town, "trust", f"bank={key.public.hex()}", admin=True).exit_code == 0
    until(town, "status", code=0)
    document = tmp_path / "bank.json"
    document.write_text("""{"tenant": "bank", "statements": [
      {"effect": "permit", "principal": "bank/*", "action": "*", "resource": "bank/*"}]}""")
    assert policy(town, "edit", str(document), "--key", str(secret)).exit_code == 0
    until(town, "decide", "-r", "bank/bob read bank/vault", code=0)
    for name in ("hangzhou", "us-east-1"):
        town.end(name)
    document.write_text("""{"tenant": "bank", "statements": [
      {"effect": "permit", "principal": "bank/*", "action": "*", "resource": "bank/*"},
      {"effect": "forbid", "principal": "*", "action": "read", "resource": "bank/vault"},
      {"effect": "permit", "principal": "*", "action": "read", "resource": "bank/hall"}]}""")

    edited = policy(town, "edit", str(document), "--key", str(secret))

    assert edited.exit_code == 0, edited.output
    assert "2 edits, 1 pending" in edited.output
    assert policy(town, "decide", "-r", "bank/bob read bank/vault").exit_code == 1
    waits = policy(town, "pending")
    assert waits.exit_code == 1
    assert "order it" in waits.output
    town.start("hangzhou", "us-east-1")
    assert "nothing is pending" in until(town, "pending", code=0, within_s=40).output

"""Sweeps, the command line, the pytest plugin and the exports do what they say."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mcpcore.ctl.sim import app
from mcpcore.errors import InvalidInput
from mcpcore.sim import Link, World
from mcpcore.sim.spacetime import messages, to_shiviz
from mcpcore.sim.sweep import load, sweep

_ROOT = Path(__file__).parents[2]

SCENARIO = """
import asyncio
from mcpcore.sim import random_schedule

def fragile(world):
    for name in "abc":
        world.host(name, lambda: asyncio.sleep(1e6))
    world.apply(random_schedule(world.seed, "abc", duration_s=5, count=8, kinds=["crash", "pause"]))
    world.promises.always("b stays up", lambda: world["b"].state != "crashed")
    world.run(10)
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    path = tmp_path / "fragile_scenario.py"
    path.write_text(SCENARIO)
    return f"{path}:fragile"


def test_a_sweep_keeps_every_result_and_goes_on_where_it_stopped(
    scenario: str, tmp_path: Path
) -> None:
    database = tmp_path / "results.db"
    first = sweep(scenario, range(6), database=database)
    assert first.runs == 6
    assert not first.interrupted
    fresh: list[int] = []
    second = sweep(
        scenario, range(9), database=database, on_result=lambda result: fresh.append(result.seed)
    )
    assert fresh == [6, 7, 8]
    assert second.runs == 9
    assert [result.seed for result in load(database, scenario)] == list(range(9))
    assert 0 < len(second.failed) < 9
    assert all("b stays up" in (result.error or "") for result in second.failed)
    assert all(result.virtual_s <= 10 for result in load(database))


def test_a_sweep_stopped_by_ctrl_c_keeps_what_is_done(scenario: str, tmp_path: Path) -> None:
    database = tmp_path / "results.db"

    class Impatient(ThreadPoolExecutor):
        asked = 0

        def submit(self, function: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
            Impatient.asked += 1
            if Impatient.asked == 2:
                raise KeyboardInterrupt
            return super().submit(function, *args, **options)

    with Impatient(1) as executor:
        summary = sweep(scenario, range(100), database=database, executor=executor)
    assert summary.interrupted
    assert summary.runs == 20


def test_a_sweep_runs_on_a_dask_cluster(scenario: str, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="dask distributed is not installed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor(pure=False) as executor,
    ):
        summary = sweep(scenario, range(50), database=tmp_path / "r.db", executor=executor, jobs=2)
    assert summary.runs == 50


def test_a_file_that_is_no_results_file_is_refused(scenario: str, tmp_path: Path) -> None:
    database = tmp_path / "notes.txt"
    database.write_text("my diary " * 200)
    with pytest.raises(InvalidInput, match="results file"):
        sweep(scenario, range(1), database=database)


def test_the_command_line_sweeps_shrinks_shows_and_replays(scenario: str, tmp_path: Path) -> None:
    run = CliRunner().invoke
    database = tmp_path / "results.db"
    swept = run(
        app, ["sweep", scenario, "--seeds", "6", "--jobs", "1", "--database", str(database)]
    )
    assert swept.exit_code == 1, swept.output
    assert "6 runs" in swept.output
    assert "to 1 faults" in swept.output
    token = swept.output.split("mcpctl sim replay ")[1].strip()

    log = tmp_path / "shiviz.log"
    replayed = run(app, ["replay", token, "--twice", "--shiviz", str(log)])
    assert replayed.exit_code == 1, replayed.output
    assert "b stays up" in replayed.output
    assert "crash on" in replayed.output
    assert log.read_text().startswith("a {")

    shown = run(app, ["results", str(database), "--all"])
    assert shown.exit_code == 0
    with sqlite3.connect(database) as db:
        ((count,),) = db.execute("select count(*) from runs where error is not null")
    db.close()
    assert f"6 runs, {count} failed" in shown.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["replay", "nonsense"], "not a replay token"),
        (["sweep", "nonsense", "--seeds", "1"], "does not name a scenario"),
        (["results", "/no/such.db"], "no such file"),
    ],
)
def test_bad_input_on_the_command_line_is_explained(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_the_command_line_lists_every_kind_of_fault() -> None:
    output = CliRunner().invoke(app, ["faults"], env={"COLUMNS": "200"}).output
    assert "majority_ring" in output
    assert "disk_lying_sync" in output


# --- the pytest plugin ---------------------------------------------------------------------------

TESTS = """
import asyncio
from mcpcore.sim import random_schedule

def test_b_stays_up(sim_world):
    for name in "abc":
        sim_world.host(name, lambda: asyncio.sleep(1e6))
    sim_world.apply(random_schedule(sim_world.seed, "abc", duration_s=5, count=8, kinds=["crash"]))
    sim_world.promises.always("b stays up", lambda: sim_world["b"].state != "crashed")
    sim_world.run(10)

def test_plain():
    pass
"""


@pytest.fixture
def run_pytest(tmp_path: Path) -> Callable[..., str]:
    (tmp_path / "test_it.py").write_text(TESTS)

    def run(*arguments: str) -> str:
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
                *("-p", "mcpcore.sim.pytest_plugin"),
                *arguments,
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(_ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.stdout + ran.stderr

    return run


def test_the_fixture_runs_each_seed_and_a_failure_prints_how_to_replay_it(
    run_pytest: Callable[..., str],
) -> None:
    output = run_pytest("--sim-seeds", "8")
    assert "test_b_stays_up[seed3]" in output
    failed = output.count("FAILED")
    assert 0 < failed < 8
    assert f"{failed} failed, {9 - failed} passed" in output

    command = output.split("replay: pytest ")[1].splitlines()[0]
    test, _, token = command.partition(" --sim-replay ")
    again = run_pytest(test.strip("'"), "--sim-replay", token)
    assert "1 failed" in again
    digests = [line for line in (output, again) for line in line.splitlines() if "digest" in line]
    assert digests[0] == digests[-1]
    assert "1 deselected" in run_pytest("--sim-replay", token)


def test_the_plugin_refuses_a_spoilt_token(run_pytest: Callable[..., str]) -> None:
    assert "not a replay token" in run_pytest("--sim-replay", "nonsense")


def test_the_simulator_needs_neither_pytest_nor_hypothesis_nor_the_command_line() -> None:
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys, mcpcore.sim, mcpcore.sim.sweep, mcpcore.sim.spacetime\n"
            "print([n for n in ('pytest', 'hypothesis', 'typer', 'rich') if n in sys.modules])",
        ],
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "[]"


# --- exports -------------------------------------------------------------------------------------


def talk() -> World:
    async def listen() -> None:
        await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("0.0.0.0", 9)
        )
        await asyncio.sleep(1e6)

    async def speak() -> None:
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=("ear", 9)
        )
        for _ in range(40):
            transport.sendto(b"x")
            await asyncio.sleep(0.1)
        transport.close()

    with World(seed=1) as world:
        world.network.default = Link(loss=0.3, duplicate=0.2)
        world.host("ear", listen)
        world.run(1)
        world.call(world.host("mouth"), speak())
        world.run(1)
    return world


def test_every_message_has_an_arrow_or_a_stub() -> None:
    world = talk()
    drawn = messages(world.trace)
    lost = len(list(world.trace.events("lost")))
    arrived = len(list(world.trace.events("datagram_in")))
    assert lost > 0
    assert sum(message.arrived is None for message in drawn) == lost
    assert sum(message.arrived is not None for message in drawn) == arrived
    assert arrived > 40 - lost, "some arrived twice"
    for message in drawn:
        if message.arrived is not None:
            assert message.arrived.at_ns > message.sent.at_ns


def test_the_shiviz_log_orders_each_arrival_after_its_sending() -> None:
    """Mattern 1989: the receiver's clock is at least the sender's, component by component."""
    lines = to_shiviz(talk().trace).splitlines()
    assert len(lines) % 2 == 0
    seen: dict[str, int] = {}
    heard = 0
    for head, event in zip(lines[::2], lines[1::2], strict=True):
        host, _, text = head.partition(" ")
        clock = json.loads(text)
        seen[host] = seen.get(host, 0) + 1
        assert clock[host] == seen[host], "each host counts its own events one by one"
        if " datagram_in " in event:
            heard += 1
            assert clock["mouth"] > 0
    assert heard > 20

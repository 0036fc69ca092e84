"""The alert rules and the dashboard, against the metrics that there are and a real Prometheus."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mcpcore.node.transport.addresses import Address
from mcpcore.observe.endpoint import HttpServer, application
from mcpcore.observe.grafana import ROWS, dashboard
from mcpcore.observe.node_metrics import NodeCollector
from mcpcore.observe.saga_metrics import SagaMetrics
from mcpcore.saga.breaker import BreakerState
from mcpcore.saga.events import BreakerChanged, CallEnded, SagaChanged
from mcpcore.saga.state import Status
from tests.node.local_cluster import LocalCluster, free_ports

PROMTOOL, PROMETHEUS = shutil.which("promtool"), shutil.which("prometheus")
RULES = str(files("mcpcore.observe").joinpath("assets", "alerts.yml"))


def sagas() -> SagaMetrics:
    metrics = SagaMetrics()
    for number, status in enumerate(Status):
        metrics(SagaChanged(f"s{number}", "peering", status, "", ""))
    metrics(CallEnded("s0", "peering", "route", True, 1, "aws", "failed", "no", 5, 9_000_005, ""))
    metrics(BreakerChanged("aws", BreakerState.OPEN))
    return metrics


async def exposed(tmp_path: Path) -> str:
    async with LocalCluster(tmp_path) as cluster:
        await cluster.leader()
        registry = CollectorRegistry()
        registry.register(NodeCollector(cluster.nodes[await cluster.leader()]))
        registry.register(sagas())
        return generate_latest(registry).decode()


async def test_rules_and_panels_name_only_metrics_that_are_exported(tmp_path: Path) -> None:
    text = await exposed(tmp_path)
    there = set(re.findall(r"^# TYPE (\S+)", text, re.M))
    there |= set(re.findall(r"^(mcpcore_\w+)", text, re.M))
    asked = set(re.findall(r"mcpcore_\w+", Path(RULES).read_text()))  # noqa: ASYNC240
    asked |= {
        name
        for _, row in ROWS
        for panel in row
        for query, _ in panel.queries
        for name in re.findall(r"mcpcore_\w+", query)
    }
    assert asked <= there, sorted(asked - there)


async def test_the_dashboard_is_what_grafana_imports() -> None:
    made = json.loads(json.dumps(dashboard()))
    panels = [panel for panel in made["panels"] if panel["type"] != "row"]
    assert len({panel["id"] for panel in made["panels"]}) == len(made["panels"])
    assert all(panel["description"] and panel["targets"] for panel in panels)
    placed = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}
    assert len(placed) == len(panels), "no panel lies on another"


def test_a_parked_saga_is_a_dead_letter_until_it_ends() -> None:
    metrics = SagaMetrics()

    def parked() -> float:
        return next(
            s.value for f in metrics.collect() for s in f.samples if s.name == "mcpcore_saga_parked"
        )

    metrics(SagaChanged("s1", "peering", Status.PARKED, "compensation failed", ""))
    assert parked() == 1
    metrics(SagaChanged("s1", "peering", Status.COMPENSATED, "", ""))
    assert parked() == 0


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool is installed")
async def test_promtool_finds_nothing_wrong(tmp_path: Path) -> None:
    assert PROMTOOL is not None
    text = await exposed(tmp_path)
    checks = ((["check", "rules", RULES], ""), (["check", "metrics"], text))
    for arguments, given in checks:
        done = await asyncio.to_thread(
            subprocess.run,
            [PROMTOOL, *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.processes
@pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus is installed")
async def test_a_real_prometheus_fires_for_a_dead_letter(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path / "town") as cluster:
        node = cluster.nodes[await cluster.leader()]
        page = HttpServer(application(node, collectors=[sagas()]), Address("127.0.0.1", 0))
        await page.start()
        config = tmp_path / "prometheus.yml"
        config.write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: ['{RULES}']\n"
            "scrape_configs:\n"
            "  - job_name: mcpcore\n"
            f"    static_configs: [{{targets: ['{page.address}']}}]\n"
        )
        [port] = free_ports(1)
        assert PROMETHEUS is not None
        prometheus = await asyncio.create_subprocess_exec(
            PROMETHEUS, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
        )  # fmt: skip
        try:
            async with (
                httpx.AsyncClient(trust_env=False) as client,
                asyncio.timeout(60),
            ):
                while "McpcoreDeadLetters" not in (  # noqa: ASYNC110
                    firing := await _firing(client, port)
                ):
                    await asyncio.sleep(0.5)
            assert "McpcoreNodeSilent" not in firing
        finally:
            prometheus.kill()
            await prometheus.wait()
            await page.close()


async def _firing(client: httpx.AsyncClient, port: int) -> set[str]:
    try:
        answer = await client.get(f"http://127.0.0.1:{port}/api/v1/alerts")
    except httpx.TransportError:
        return set()  # it starts
    if answer.status_code != 200:
        return set()
    alerts = answer.json()["data"]["alerts"]
    return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

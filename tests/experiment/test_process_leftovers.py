"""Nothing of a namespaced experiment outlives it: no process, namespace, rule, device or mount."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mcpcore.experiment.network import Isolation
from tests.experiment.three_namespaces import skip_unless

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]

CHILD = """
import asyncio, json, os, sys
from pathlib import Path
from mcpcore.experiment.network import Isolation
from mcpcore.experiment.process_cluster import ClusterPlan, ProcessCluster

async def main():
    plan = ClusterPlan(nodes=("a", "b"))
    async with ProcessCluster(plan, Path(sys.argv[1]), Isolation(sys.argv[2])) as cluster:
        await cluster.cut("a", "b")
        cluster.nodes["b"].pause()
        nodes = [node.pid for node in cluster.nodes.values()]
        holders = [each.pid for each in cluster.network.namespaces.values()]
        print(json.dumps([nodes, holders]), flush=True)
        if sys.argv[3] == "fail":
            raise RuntimeError("on purpose")
        await asyncio.sleep(60)

asyncio.run(main())
"""


def namespaces() -> set[str]:
    """Every network and mount namespace that a process lives in."""
    found = set()
    for process in Path("/proc").iterdir():
        for kind in ("net", "mnt"):
            try:
                found.add(os.readlink(process / "ns" / kind))
            except OSError:
                continue  # no process, or gone meanwhile
    return found


def devices() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def mounts() -> list[str]:
    return Path("/proc/self/mounts").read_text().splitlines()


@pytest.mark.parametrize("ending", ["SIGKILL", "SIGINT", "fail"])
@pytest.mark.parametrize("isolation", [Isolation.NETNS, Isolation.TUN])
async def test_nothing_outlives_the_runner(
    tmp_path: Path, isolation: Isolation, ending: str
) -> None:
    """A killed runner cleans up nothing itself; the kernel does, since nothing has a name."""
    await skip_unless(isolation)
    before = namespaces(), devices(), mounts()
    with subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", CHILD, str(tmp_path), isolation.value, ending],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        if ending != "fail":
            assert len(namespaces() - before[0]) >= 4, "two nodes, each with two namespaces"
            child.send_signal(signal.Signals[ending])
        child.wait(20)
    until = time.monotonic() + 10
    while namespaces() - before[0]:
        assert time.monotonic() < until, f"still there: {namespaces() - before[0]}"
        await asyncio.sleep(0.05)
    assert devices() == before[1]
    assert mounts() == before[2]

"""Nothing of a namespaced experiment outlives it: no process, namespace, rule, device or mount."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
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
    plan = ClusterPlan(nodes=("a", "b"), small_disk_bytes=8 << 20)
    async with ProcessCluster(plan, Path(sys.argv[1]), Isolation(sys.argv[2])) as cluster:
        await cluster.cut("a", "b")
        await cluster.disk("a", "fill")
        cluster.nodes["b"].pause()
        nodes = [node.pid for node in cluster.nodes.values()]
        holders = [each.pid for each in cluster.network.namespaces.values()]
        print(json.dumps([nodes, holders]), flush=True)
        if sys.argv[3] == "fail":
            raise RuntimeError("on purpose")
        await asyncio.sleep(60)

asyncio.run(main())
"""


def namespaces_of(processes: Iterable[Path]) -> set[str]:
    """The network and mount namespaces that they live in."""
    found = set()
    for process in processes:
        for kind in ("net", "mnt"):
            try:
                found.add(os.readlink(process / "ns" / kind))
            except OSError:
                continue  # no process, or gone meanwhile
    return found


def leftovers(made: set[str], processes: list[Path], folder: Path) -> list[str]:
    """What is left of those namespaces and processes, and of mounts below a folder."""
    left = [str(process) for process in processes if process.exists()]
    left += made & namespaces_of(Path("/proc").iterdir())
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    return left + [mount for mount in mounts if str(folder) in mount]


@pytest.mark.parametrize(
    ("isolation", "ending"),
    [
        (Isolation.NETNS, "SIGKILL"),
        (Isolation.TUN, "SIGKILL"),
        (Isolation.TUN, "SIGINT"),
        (Isolation.TUN, "fail"),
    ],
)
async def test_nothing_outlives_the_runner(
    tmp_path: Path, isolation: Isolation, ending: str
) -> None:
    """A killed runner cleans up nothing itself; the kernel does, since nothing has a name."""
    await skip_unless(isolation)
    with subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", CHILD, str(tmp_path), isolation.value, ending],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as child:
        assert child.stdout is not None
        nodes, holders = json.loads(child.stdout.readline())
        processes = [Path("/proc", str(pid)) for pid in (*nodes, *holders)]
        made = namespaces_of(processes) - namespaces_of([Path("/proc/self")])
        if ending != "fail":
            assert len(made) == 4, "two nodes, each with two namespaces"
            child.send_signal(signal.Signals[ending])
        child.wait(20)
    until = time.monotonic() + 10
    while left := leftovers(made, processes, tmp_path):
        assert time.monotonic() < until, f"still there: {left}"
        await asyncio.sleep(0.05)

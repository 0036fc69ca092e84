"""`mcpctl demo` from end to end, in the shortest form it has."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[2]
DEMO = (sys.executable, "-m", "mcpcore.ctl", "demo")


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}


def nodes_of(directory: Path) -> list[int]:
    """Processes that serve a configuration below ``directory``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(directory) in command and "serve" in command:
                found.append(int(entry.name))
    return found


def test_the_demo_loses_a_leader_and_a_link_and_nothing_else(tmp_path: Path) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [*DEMO, "--seconds", "15"],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    took_s = time.monotonic() - began
    output = done.stdout
    assert done.returncode == 0, output + done.stderr
    assert done.stderr == "", "nothing complains"
    assert "\x1b" not in output, "no control codes where no terminal is"
    for sentence in (
        r"SIGKILL for \S+, the leader",
        r"is started again, from its own log",
        r"the leader, is cut off from everybody",
        r"the links are mended",
        r"writes lost +0\n",
        r"writes duplicated +0\n",
        r"differences between replicas +0\n",
        r"\S+ killed +\d.* ended by SIGKILL",
        r"\S+ cut off \d.* no byte crossed",
        r"keeps \d+ unconfirmed commands in quarantine",
        r"all of it linearizable +yes\n",
        r"nobody confirmed: in quarantine.*\n.*\n +\S+ +[\d,]+-[\d,]+ +\d+  \S",
        r"Every promise was kept",
    ):
        assert re.search(sentence, re.sub(r" +\n", "\n", output)), f"{sentence}\n{output}"
    last = output.splitlines()[-1]
    page = tmp_path / "experiments" / "demo-0" / "report.html"
    assert last == f"Report: {page}"
    assert "Every promise held" in page.read_text(encoding="utf-8")
    assert took_s < 60
    assert not nodes_of(tmp_path)
    assert not list(tmp_path.glob("mcpcore-demo-*")), "nothing is left behind"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_that_is_interrupted_cleans_up_and_says_so(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    with subprocess.Popen(
        DEMO,
        cwd=ROOT,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        until = time.monotonic() + 20
        while len(nodes_of(tmp_path)) < 3:
            assert time.monotonic() < until, "three nodes should have been started by now"
            time.sleep(0.05)
        time.sleep(0.5)
        running.send_signal(number)
        output, _ = running.communicate(timeout=20)
    assert running.returncode == status, output
    assert "All three nodes are gone" in output
    assert "Traceback" not in output
    assert not nodes_of(tmp_path)
    assert not list(tmp_path.glob("mcpcore-demo-*"))


def test_too_short_a_demo_is_refused_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--seconds", "3"],
        cwd=ROOT,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "between 15 and 3600" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("mcpcore-demo-*"))

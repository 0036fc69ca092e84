"""A cluster of real processes on loopback, over mutual TLS, made and asked through `mcpctl`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from typer.testing import CliRunner, Result

from mcpcore.ctl.main import app

NAMES = ("us-east-1", "hangzhou", "edge")
ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(*words: str, stdin: bytes | None = None, env: dict[str, str] | None = None) -> Result:
    """`mcpctl` in this process."""
    return CliRunner().invoke(app, list(words), input=stdin, env=env, prog_name="mcpctl")


def mcpctl(*words: str, **options: object) -> subprocess.Popen[str]:
    """`mcpctl` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "mcpcore.ctl", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **options,  # type: ignore[call-overload]
    )


class Town:
    """Three nodes. ``client`` and ``admin`` are the files of two users' profiles.

    ``more`` stands at the end of every node's file. ``newcomers`` have files and certificates
    too; they are no founders, and nobody knows of them.
    """

    def __init__(self, directory: Path, *, newcomers: tuple[str, ...] = (), more: str = "") -> None:
        self.directory = directory
        self.more = more
        self.ports = {name: free_port() for name in (*NAMES, *newcomers)}
        self.certs = directory / "certs"
        self.client, self.admin = directory / "client.toml", directory / "admin.toml"
        self._running: dict[str, subprocess.Popen[str]] = {}
        nodes = [word for name in self.ports for word in ("--node", f"{name}=127.0.0.1")]
        made = run("certs", "init", str(self.certs), "--cluster", "demo", *nodes,
                   "--client", "app", "--admin", "ops")  # fmt: skip
        assert made.exit_code == 0, made.output
        for name in self.ports:
            (directory / f"{name}.toml").write_text(self._node_file(name))
        for file, user in ((self.client, "client-app"), (self.admin, "admin-ops")):
            endpoints = self._addresses()
            file.write_text(f'cluster = "demo"\n[endpoints]\n{endpoints}\n{_tls(user)}')

    @property
    def endpoints(self) -> str:
        """For ``--endpoints``."""
        return ",".join(f"127.0.0.1:{self.ports[name]}" for name in NAMES)

    def start(self, *names: str) -> None:
        """Start nodes and wait until they listen."""
        for name in names:
            log = open(self.directory / f"{name}.log", "a")  # noqa: SIM115 -- closed at once below
            self._running[name] = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "mcpcore.ctl",
                    "serve",
                    str(self.directory / f"{name}.toml"),
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            log.close()
        for name in names:
            stdout = self._running[name].stdout
            assert stdout is not None
            said = stdout.readline()
            assert f"{name} of demo listens on 127.0.0.1:{self.ports[name]}" in said, self.log(name)

    def end(self, name: str, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """End a node; its exit status and what it still said."""
        process = self._running.pop(name)
        process.send_signal(how)
        said, _ = process.communicate(timeout=20)
        return process.returncode, said

    def end_all(self) -> None:
        for name in list(self._running):
            self.end(name, signal.SIGKILL)

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def wait_until_well(self, within_s: float = 20.0) -> str:
        """Wait until `status` finds nothing wrong; returns what it says."""
        deadline = time.monotonic() + within_s
        while True:
            result = run("status", "-c", str(self.client))
            if result.exit_code == 0:
                return result.stdout
            assert time.monotonic() < deadline, result.output
            time.sleep(0.1)

    def _addresses(self) -> str:
        return "\n".join(f'{name} = "127.0.0.1:{self.ports[name]}"' for name in NAMES)

    def _node_file(self, name: str) -> str:
        return f"""
cluster = "demo"
node = "{name}"
listen = "127.0.0.1:{self.ports[name]}"
data = "data/{name}"
bootstrap = {str(name in NAMES).lower()}
{_tls(f"node-{name}")}
[peers]
{self._addresses()}
[groups.main]
voters = ["us-east-1", "hangzhou", "edge"]
election_timeout_s = 1.0
heartbeat_s = 0.2
{self.more}
"""


def _tls(user: str) -> str:
    return f"""
[tls]
ca = "certs/ca.crt"
certificate = "certs/{user}.crt"
key = "certs/{user}.key"
"""

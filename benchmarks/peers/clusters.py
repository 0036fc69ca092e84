"""Three processes on loopback, of ours or of a peer: start, find the leader, kill it, stop.

This module exists so that every question starts the same clusters with the same settings, and so
that these settings stand in one place. It loads and measures nothing.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.harness.programs import Program, ProgramFailed
from mcpcore.experiment.loopback import free_ports

LEADER_S = 30.0
POLL_S = 0.05


class Cluster:
    """Programs that are stopped together. Use it as a context manager.

    Args:
        directory: for data and logs; made.
        count: how many members.
    """

    def __init__(self, directory: Path, count: int) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.ports = free_ports(count)
        self.members: dict[str, Program] = {}
        self._helpers: list[Program] = []

    def program(self, name: str, *command: str | Path, quiet: bool = False) -> Program:
        """A program of this cluster: a member, or one that loads it."""
        return Program(name, command, self.directory / f"{name}.log", quiet=quiet)

    def helper(self, name: str, *command: str | Path) -> Program:
        """A program that takes orders, is ready, and is stopped with the cluster."""
        program = self.program(name, *command)
        self._helpers.append(program)
        program.hear()
        return program

    def start(self, name: str) -> None:
        """Start a member."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for program in (*self._helpers, *self.members.values()):
            program.kill()


class OurCluster(Cluster):
    """Nodes of ours with a key-value machine; see ``benchmarks.loads.node``.

    Args:
        settings: more for every node: see ``benchmarks.loads.node``.
    """

    def __init__(self, directory: Path, *, count: int = 3, **settings: Any) -> None:
        super().__init__(directory, count)
        self.settings = settings
        self.names = tuple(f"n{number}" for number in range(1, count + 1))
        for name in self.names:
            self.start(name)
        for member in self.members.values():
            member.hear()

    def start(self, name: str) -> None:
        settings = {
            "name": name,
            "ports": dict(zip(self.names, self.ports, strict=True)),
            "directory": str(self.directory / f"data-{name}"),
            **self.settings,
        }
        self.members[name] = self.program(
            name, sys.executable, "-m", "benchmarks.loads.node", json.dumps(settings)
        )

    @property
    def addresses(self) -> list[str]:
        """Of the nodes."""
        return [f"127.0.0.1:{port}" for port in self.ports]

    def leader(self) -> str:
        """The node that leads the group ``main``, once there is one.

        Raises:
            ProgramFailed: there is none.
        """
        end_s = time.monotonic() + LEADER_S
        while time.monotonic() < end_s:
            for name, member in self.members.items():
                if member.process.poll() is None and member.ask({"do": "brief"})["leads"]:
                    return name
            time.sleep(POLL_S)
        raise ProgramFailed("mcpcore", f"no leader within {LEADER_S:g} s")

    def applied(self, name: str) -> int:
        """Index of the last entry that a node has applied."""
        index: int = self.members[name].ask({"do": "applied"}, 120)["index"]
        return index

    def level(self) -> None:
        """Return when all nodes have applied the same, and one of them leads.

        Raises:
            ProgramFailed: they have not in time.
        """
        end_s = time.monotonic() + LEADER_S
        while time.monotonic() < end_s:
            self.leader()
            if len({self.applied(name) for name in self.members}) == 1:
                return
            time.sleep(POLL_S)
        raise ProgramFailed("mcpcore", f"the nodes differ after {LEADER_S:g} s")

    def client(self) -> Program:
        """A client in a process of its own."""
        return self.helper(
            "client", sys.executable, "-m", "benchmarks.loads.client", *self.addresses
        )


class EtcdCluster(Cluster):
    """etcd members with their defaults: every write is synced, heartbeat 100 ms, election 1 s.

    Args:
        binary: etcd.
    """

    def __init__(self, binary: Path, directory: Path, *, count: int = 3) -> None:
        super().__init__(directory, 2 * count)
        self._binary = binary
        self.names = tuple(f"e{number}" for number in range(1, count + 1))
        self.client_ports = dict(zip(self.names, self.ports[:count], strict=True))
        self._peer_ports = dict(zip(self.names, self.ports[count:], strict=True))
        for name in self.names:
            self.start(name)

    def start(self, name: str) -> None:
        client = f"http://127.0.0.1:{self.client_ports[name]}"
        peer = f"http://127.0.0.1:{self._peer_ports[name]}"
        members = ",".join(
            f"{each}=http://127.0.0.1:{port}" for each, port in self._peer_ports.items()
        )
        self.members[name] = self.program(
            name,
            *(self._binary, "--name", name, "--data-dir", self.directory / f"data-{name}"),
            *("--listen-client-urls", client, "--advertise-client-urls", client),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", members, "--initial-cluster-state", "new"),
            *("--initial-cluster-token", str(self.ports[0]), "--log-level", "error"),
            *("--quota-backend-bytes", str(8 << 30)),
            quiet=True,
        )

    def load(self, kind: str, python: Path | str = sys.executable) -> Program:
        """A client of the leader, bare or with grpcio."""
        ports = map(str, self.client_ports.values())
        return self.helper(kind, python, "-m", "benchmarks.loads.etcd", kind, *ports)


class PySyncObjCluster(Cluster):
    """PySyncObj nodes; nothing is synced. See ``benchmarks.loads.pysyncobj``."""

    def __init__(self, python: Path, directory: Path, *, count: int = 3) -> None:
        super().__init__(directory, count)
        self._python = python
        self.names = tuple(f"p{number}" for number in range(1, count + 1))
        for name in self.names:
            self.start(name)
        for name in self.names:
            self.members[name].hear()

    def start(self, name: str) -> None:
        addresses = {
            each: f"127.0.0.1:{port}" for each, port in zip(self.names, self.ports, strict=True)
        }
        partners = [address for each, address in addresses.items() if each != name]
        self.members[name] = self.program(
            name, self._python, "-m", "benchmarks.loads.pysyncobj", addresses[name], *partners
        )

    def leader(self) -> Program:
        """The node that leads, once there is one.

        Raises:
            ProgramFailed: there is none.
        """
        end_s = time.monotonic() + LEADER_S
        while time.monotonic() < end_s:
            for member in self.members.values():
                if member.process.poll() is None and member.ask({"do": "leads"})["leads"]:
                    return member
            time.sleep(POLL_S)
        raise ProgramFailed("PySyncObj", f"no leader within {LEADER_S:g} s")


class Redis(Cluster):
    """One server that syncs its append-only file before it answers."""

    def __init__(self, binary: Path, directory: Path) -> None:
        super().__init__(directory, 1)
        self._binary = binary
        self.start("redis")

    def start(self, name: str) -> None:
        self.members[name] = self.program(
            name,
            *(self._binary, "--port", str(self.ports[0]), "--bind", "127.0.0.1"),
            *("--dir", self.directory, "--appendonly", "yes", "--appendfsync", "always"),
            *("--save", "", "--daemonize", "no"),
            quiet=True,
        )

    def load(self) -> Program:
        """A client."""
        port = str(self.ports[0])
        return self.helper("redis-client", sys.executable, "-m", "benchmarks.loads.redis", port)


class Limits(Cluster):
    """No cluster: the disk and loopback themselves. See ``benchmarks.loads.limits``."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, 0)
        module = "benchmarks.loads.limits"
        echo = self.program("echo", sys.executable, "-m", module, "echo")
        self.members["echo"] = echo
        self.port: int = echo.hear()["port"]
        self.load = self.helper("limits", sys.executable, "-m", module, directory)

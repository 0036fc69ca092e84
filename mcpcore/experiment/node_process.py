"""One node as one operating-system process: started, killed, stopped, watched.

This module exists so that an experiment can say ``kill`` and know that the process is gone, and so
that no process outlives the experiment. It knows nothing of clusters, and of nodes only how
`mcpctl serve` is called.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import mcpcore
from mcpcore.errors import NodeDied

_LEASH: Final = str(Path(__file__).with_name("leash.py"))
_LAST_LINES: Final = 5


@dataclass(frozen=True, slots=True)
class Life:
    """One run of a node's process.

    Args:
        pid: of the process.
        started_s: loop time when it was started.
        ended_s: loop time when it was seen to have ended; None while it runs.
        status: its exit status, negative for a signal; None while it runs.
    """

    pid: int
    started_s: float
    ended_s: float | None = None
    status: int | None = None


class NodeProcess:
    """A node that can be started again and again.

    Args:
        name: the node's name.
        config: its configuration file.
        log: file that all its lives append stdout and stderr to.
        entrance: files of the namespaces it is to live in; none: ours.
        options: further options of ``mcpctl serve``.
    """

    def __init__(
        self,
        name: str,
        config: Path,
        log: Path,
        *,
        entrance: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.config = config
        self.log = log
        self._entrance = [word for file in entrance for word in ("--enter", file)]
        self._options = tuple(options)
        self.lives: list[Life] = []
        self.is_paused = False
        self._process: asyncio.subprocess.Process | None = None
        self._waiter: asyncio.Task[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a process, paused or not."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start a new life. Returns at once, when the process exists; it may not listen yet.

        Raises:
            AssertionError: it is running already.
        """
        assert self._process is None, f"{self.name} is running already"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", _LEASH, str(os.getpid()), *self._entrance),
                *(sys.executable, "-m", "mcpcore.ctl", "serve", str(self.config)),
                *self._options,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                env=_environment(os.environ),
                start_new_session=True,  # Ctrl-C is for the experiment; it ends its nodes itself
            )
        loop = asyncio.get_running_loop()
        self._process = process
        self.is_paused = False
        self.lives.append(Life(process.pid, loop.time()))
        self._waiter = loop.create_task(self._wait(process), name=f"wait for node {self.name}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal. Harmless if there is no process."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL, and return when the kernel has let go of it. Harmless if it is not running."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def terminate(self, timeout_s: float = 5.0) -> None:
        """SIGTERM, so that it stops in order; SIGKILL if it has not within ``timeout_s``."""
        self.resume()
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(timeout_s):
                await self.ended()
        except TimeoutError:
            await self.kill()

    def pause(self) -> None:
        """SIGSTOP: it keeps its connections and does nothing."""
        if self.is_running:
            self.is_paused = True
            self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self.is_paused:
            self.is_paused = False
            self.signal(signal.SIGCONT)

    async def ended(self) -> None:
        """Return when there is no process (any more)."""
        if self._waiter is not None:
            await asyncio.shield(self._waiter)

    def expect_running(self) -> None:
        """Complain if it ended by itself.

        Raises:
            NodeDied: it did.
        """
        if not self.is_running and self.lives:
            status = self.lives[-1].status
            assert status is not None
            raise NodeDied(self.name, status, self.last_words(), str(self.log))

    def last_words(self) -> str:
        """The last lines of its log, as one line."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return " | ".join(line for line in lines[-_LAST_LINES:] if line.strip())

    async def _wait(self, process: asyncio.subprocess.Process) -> None:
        status = await process.wait()
        life = self.lives[-1]
        now_s = asyncio.get_running_loop().time()
        self.lives[-1] = Life(life.pid, life.started_s, now_s, status)
        self._process = None
        self.is_paused = False


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Ours, and the node finds the very same mcpcore, installed or not."""
    package = str(Path(mcpcore.__file__).parents[1])
    path = [package, *filter(None, [ours.get("PYTHONPATH", "")])]
    return {**ours, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}

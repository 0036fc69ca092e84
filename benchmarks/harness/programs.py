"""Programs that run beside the harness and take orders: one JSON object a line, both ways.

This module exists so that what is measured never shares a process with what draws progress bars,
and so that no program outlives the harness. It knows nothing of what the programs do.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mcpcore.errors import CoordinationError
from mcpcore.experiment import leash

ROOT = Path(__file__).parents[2]
STOP_S = 10.0


class ProgramFailed(CoordinationError):
    """A program ended, said nothing in time, or said that it could not.

    Args:
        name: of the program.
        why: in a line.
    """

    def __init__(self, name: str, why: str) -> None:
        self.name, self.why = name, why
        super().__init__(f"{name}: {why}")


def leashed(*command: str | Path) -> list[str]:
    """The command, so that it dies with this process."""
    path = str(leash.__file__)
    return [sys.executable, "-I", "-S", path, str(os.getpid()), *map(str, command)]


class Program:
    """A process that answers orders. Use it as a context manager.

    Args:
        name: for messages.
        command: what to run; the first word is a path.
        log: file for its stderr.
        quiet: it takes no orders; its stdout goes to the log too.
    """

    def __init__(
        self, name: str, command: Sequence[str | Path], log: Path, *, quiet: bool = False
    ) -> None:
        self.name = name
        self.log = log
        self._read = b""
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                leashed(*command),
                stdin=subprocess.DEVNULL if quiet else subprocess.PIPE,
                stdout=errors if quiet else subprocess.PIPE,
                stderr=errors,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the process: the leash becomes the command, so it is the command's own."""
        return self.process.pid

    def ask(self, order: dict[str, Any], timeout_s: float = 60.0) -> dict[str, Any]:
        """Send an order and wait for the answer.

        Raises:
            ProgramFailed: it ended, refused, or did not answer in time.
        """
        self.tell(order)
        return self.hear(timeout_s)

    def tell(self, order: dict[str, Any]) -> None:
        """Send an order; ``hear`` gives its answer.

        Raises:
            ProgramFailed: it has ended.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise ProgramFailed(self.name, self.last_words()) from None

    def hear(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait for its next line.

        Raises:
            ProgramFailed: it ended, refused, or said nothing in time.
        """
        assert self.process.stdout is not None
        pipe = self.process.stdout.fileno()
        end_s = time.monotonic() + timeout_s
        while b"\n" not in self._read:
            left_s = end_s - time.monotonic()
            if left_s <= 0 or not select.select([pipe], [], [], left_s)[0]:
                raise ProgramFailed(self.name, f"no answer within {timeout_s:g} s")
            more = os.read(pipe, 1 << 16)
            if not more:
                raise ProgramFailed(self.name, self.last_words())
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError:
            raise ProgramFailed(self.name, f"said {line[:200]!r}, which is no JSON") from None
        if not isinstance(answer, dict):
            raise ProgramFailed(self.name, f"said {line[:200]!r}, which is no answer")
        if "error" in answer:
            raise ProgramFailed(self.name, str(answer["error"]))
        return answer

    def last_words(self) -> str:
        """What it said on stderr before it ended, in a line."""
        lines = self.log.read_text(errors="replace").splitlines()[-5:]
        words = " | ".join(line.strip() for line in lines if line.strip())
        return f"ended: {words or 'and said nothing'}"

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Harmless if it is."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._close()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not enough. Harmless if it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._close()

    def _close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:  # an order it never read: it is gone, so is the order
                    continue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

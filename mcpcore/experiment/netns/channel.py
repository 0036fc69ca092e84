"""A process of ours that runs errands: started on a leash, asked, ended.

This module exists so that holders of namespaces and the switch are spoken to in one way, and so
that an answer never reaches somebody who asked for something else. It must never know an errand.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import mcpcore
from mcpcore.errors import ToolFailed

_LEASH: Final = str(Path(__file__).parents[1] / "leash.py")
_ANSWER_BYTES_MAX: Final = 1 << 20
_PATIENCE_S: Final = 30.0
"""Longer than anybody at the other end gives a tool."""

Answer = tuple[dict[str, Any], list[int]]
"""What was answered, and the descriptors that came along."""


class Channel:
    """To one process.

    Args:
        name: for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = asyncio.Lock()

    async def open(self, command: Sequence[str], fds: Sequence[int] = ()) -> None:
        """Start the process and wait until it says that it is ready.

        Args:
            command: for our own Python; ``{channel}`` in it is replaced by the descriptor's number.
            fds: descriptors that it inherits.

        Raises:
            ToolFailed: it says why not; nothing is left.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_PATIENCE_S)
        words = [word.replace("{channel}", str(theirs.fileno())) for word in command]
        with theirs:
            # In the loop's own thread: a leash is held by the thread that starts the process.
            self._process = subprocess.Popen(  # noqa: ASYNC220 -- forks and returns at once
                (
                    *(sys.executable, "-I", "-S", _LEASH, str(os.getpid())),
                    *(sys.executable, *words),
                ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(Path(mcpcore.__file__).parents[1])},
                pass_fds=(theirs.fileno(), *fds),
                start_new_session=True,  # Ctrl-C is for the experiment
            )
        self._socket = ours
        try:
            await asyncio.to_thread(self._answer, "start")
        except BaseException:
            await self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None, f"{self.name} is not open"
        return self._process.pid

    async def ask(self, errand: Mapping[str, Any], what: str = "") -> Answer:
        """Have an errand run.

        Args:
            what: the errand in words, for an error.

        Raises:
            ToolFailed: it could not be run.
        """
        # Shielded: an answer that nobody took would be taken for that of the next errand.
        asking = asyncio.ensure_future(self._in_turn(errand, what or str(errand["do"])))
        return await asyncio.shield(asking)

    async def close(self) -> None:
        """End the process. Twice is harmless."""
        ours, self._socket = self._socket, None
        if ours is not None:
            ours.close()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)

    async def _in_turn(self, errand: Mapping[str, Any], what: str) -> Answer:
        async with self._turn:
            if self._socket is None:
                raise ToolFailed(what, self.name, "it is closed")
            try:
                self._socket.sendall(json.dumps(errand).encode())
            except OSError as error:
                raise ToolFailed(what, self.name, f"its process is gone: {error}") from error
            return await asyncio.to_thread(self._answer, what)

    def _answer(self, what: str) -> Answer:
        ours = self._socket
        try:
            if ours is None:
                raise ConnectionResetError("it was closed meanwhile")
            text, fds, _, _ = socket.recv_fds(ours, _ANSWER_BYTES_MAX, 1)
        except OSError as error:
            raise ToolFailed(what, self.name, f"no answer: {error}") from error
        if not text:
            raise ToolFailed(what, self.name, "its process has ended")
        answer = json.loads(text)
        if not answer["ok"]:
            raise ToolFailed(what, self.name, answer["why"])
        return answer, fds

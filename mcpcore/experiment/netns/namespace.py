"""One namespace, as seen from outside: ask its holder to do things in it.

This module exists so that nobody else speaks to a holder, and so that a namespace is gone for
certain when its user is: closed, failed, interrupted or killed. It must never know what a namespace
is for.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mcpcore.errors import ToolFailed

_HOLDER: Final = str(Path(__file__).with_name("holder.py"))
_LEASH: Final = str(Path(__file__).parents[1] / "leash.py")
_ANSWER_BYTES_MAX: Final = 1 << 20
_PATIENCE_S: Final = 30.0
"""Longer than the holder gives a tool."""


class Namespace:
    """A network and a mount namespace that live as long as this.

    Args:
        name: for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Make it.

        Raises:
            ToolFailed: the system does not let us; nothing is left.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(_PATIENCE_S)
        with theirs:
            # From the loop's own thread: the leash is held by the thread that starts it.
            self._process = subprocess.Popen(  # noqa: ASYNC220 -- forks and returns at once
                (
                    *(sys.executable, "-I", "-S", _LEASH, str(os.getpid())),
                    *(sys.executable, "-I", "-S", _HOLDER, str(theirs.fileno())),
                ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # Ctrl-C is for the experiment
            )
        self._channel = ours
        try:
            await asyncio.to_thread(self._answer, "make a namespace")
        except BaseException:
            await self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the holder: ``nsenter -t PID -n -m`` looks inside."""
        assert self._process is not None, "the namespace is not open"
        return self._process.pid

    @property
    def doors(self) -> tuple[str, ...]:
        """The files by which a process enters, for the leash."""
        return f"/proc/{self.pid}/ns/net", f"/proc/{self.pid}/ns/mnt"

    async def run(self, *argv: str, text: str = "") -> str:
        """Run a tool inside; return what it printed.

        Args:
            text: for its standard input.

        Raises:
            ToolFailed: it could not be run, or ended with another status than 0.
        """
        answer, _ = await self._ask({"do": "run", "argv": argv, "text": text}, " ".join(argv))
        if answer["status"] != 0:
            why = str(answer["err"]).strip() or f"status {answer['status']}"
            raise ToolFailed(" ".join(argv), self.name, why)
        return str(answer["out"])

    async def socket(self) -> socket.socket:
        """A TCP socket that connects from inside."""
        _, fds = await self._ask({"do": "socket"}, "make a socket")
        made = socket.socket(fileno=fds[0])
        made.setblocking(False)
        return made

    async def tun(self, name: str) -> int:
        """A TUN device inside; the descriptor is the caller's, and so is the device."""
        _, fds = await self._ask({"do": "tun", "name": name}, "make a TUN device")
        return fds[0]

    async def disk(self, do: str, path: Path, **more: Any) -> dict[str, Any]:
        """``mount_tmpfs``, ``fill``, ``drain`` or ``keep``; see `holder.py`."""
        answer, _ = await self._ask({"do": do, "path": str(path), **more}, f"{do} {path}")
        return answer

    async def close(self) -> None:
        """Let go of it. What still runs inside keeps it alive, so end that first."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)

    # --- inside ----------------------------------------------------------------------------------

    async def _ask(self, errand: Mapping[str, Any], what: str) -> tuple[dict[str, Any], list[int]]:
        # Shielded: an answer that nobody took would be taken for that of the next errand.
        return await asyncio.shield(asyncio.ensure_future(self._in_turn(errand, what)))

    async def _in_turn(
        self, errand: Mapping[str, Any], what: str
    ) -> tuple[dict[str, Any], list[int]]:
        async with self._turn:
            channel = self._channel
            if channel is None:
                raise ToolFailed(what, self.name, "the namespace is closed")
            try:
                channel.sendall(json.dumps(errand).encode())
            except OSError as error:
                raise ToolFailed(what, self.name, f"its holder is gone: {error}") from error
            return await asyncio.to_thread(self._answer, what)

    def _answer(self, what: str) -> tuple[dict[str, Any], list[int]]:
        assert self._channel is not None
        try:
            text, fds, _, _ = socket.recv_fds(self._channel, _ANSWER_BYTES_MAX, 1)
        except OSError as error:
            raise ToolFailed(what, self.name, f"its holder gave no answer: {error}") from error
        if not text:
            raise ToolFailed(what, self.name, "its holder has ended")
        answer = json.loads(text)
        if not answer["ok"]:
            raise ToolFailed(what, self.name, answer["why"])
        return answer, fds

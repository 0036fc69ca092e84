"""One namespace, as seen from outside: ask its holder to do things in it.

This module exists so that nobody else needs to know what a holder understands. It must never know
what a namespace is for.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Final

from mcpcore.errors import ToolFailed
from mcpcore.experiment.netns.channel import Channel

_HOLDER: Final = str(Path(__file__).with_name("holder.py"))


class Namespace:
    """A network and a mount namespace that live as long as this.

    Args:
        name: for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._holder = Channel(name)

    async def open(self) -> None:
        """Make it.

        Raises:
            ToolFailed: the system does not let us; nothing is left.
        """
        await self._holder.open(("-I", "-S", _HOLDER, "{channel}"))

    @property
    def pid(self) -> int:
        """Of the holder: ``nsenter -t PID -n -m`` looks inside."""
        return self._holder.pid

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
        told = " ".join(argv)
        answer, _ = await self._holder.ask({"do": "run", "argv": argv, "text": text}, told)
        if answer["status"] != 0:
            why = str(answer["err"]).strip() or f"status {answer['status']}"
            raise ToolFailed(told, self.name, why)
        return str(answer["out"])

    async def socket(self) -> socket.socket:
        """A TCP socket that connects from inside."""
        _, fds = await self._holder.ask({"do": "socket"}, "make a socket")
        made = socket.socket(fileno=fds[0])
        made.setblocking(False)
        return made

    async def tun(self, name: str) -> int:
        """A TUN device inside; the descriptor is the caller's, and so is the device."""
        _, fds = await self._holder.ask({"do": "tun", "name": name}, "make a TUN device")
        return fds[0]

    async def disk(self, do: str, path: Path, **more: Any) -> dict[str, Any]:
        """``mount_tmpfs``, ``fill``, ``drain`` or ``keep``; see `holder.py`."""
        answer, _ = await self._holder.ask({"do": do, "path": str(path), **more}, f"{do} {path}")
        return answer

    async def close(self) -> None:
        """Let go of it. What still runs inside keeps it alive, so end that first."""
        await self._holder.close()

"""What passes for a socket inside a world.

This module exists so that libraries which look at ``transport.get_extra_info("socket")``, set
options on it, or make one and hand it to the loop, find what they need. It carries addresses and
options; bytes go through transports only.
"""

from __future__ import annotations

import socket as real
from typing import Any, NoReturn

from mcpcore.errors import NotSimulated

# While a world runs, the module's attribute is a stand-in; see `patches`.
RealSocket = real.socket


class SimSocket:
    """A socket that only its loop can use."""

    def __init__(
        self,
        family: int = real.AF_INET,
        type: int = real.SOCK_STREAM,
        proto: int = 0,
        fileno: int | None = None,
        *,
        local: tuple[str, int] = ("0.0.0.0", 0),
        remote: tuple[str, int] | None = None,
    ) -> None:
        if fileno is not None:
            raise NotSimulated("socket.socket(fileno=...)", remedy="There are no descriptors here.")
        self.family = family
        self.type = type
        self.proto = proto
        self.local = local
        self.remote = remote
        self.stream: Any = None
        """The transport end that ``loop.sock_connect`` opened, until a protocol takes it over."""
        self._options: dict[tuple[int, int], Any] = {}

    def __repr__(self) -> str:
        return f"<SimSocket {self.local} -> {self.remote}>"

    def __enter__(self) -> SimSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """Return -1: there is no descriptor."""
        return -1

    def getsockname(self) -> tuple[str, int]:
        """Our address and port."""
        return self.local

    def getpeername(self) -> tuple[str, int]:
        """Their address and port.

        Raises:
            OSError: not connected.
        """
        if self.remote is None:
            raise OSError(107, "Transport endpoint is not connected")
        return self.remote

    def setsockopt(self, level: int, option: int, value: Any, *_: Any) -> None:
        """Remember an option; it has no effect."""
        self._options[(level, option)] = value

    def getsockopt(self, level: int, option: int, buflen: int = 0) -> Any:
        """Return an option that was set, else 0."""
        return self._options.get((level, option), 0)

    def setblocking(self, flag: bool) -> None:
        """Accept and ignore: everything here is non-blocking."""

    def settimeout(self, value: float | None) -> None:
        """Accept and ignore: everything here is non-blocking."""

    def gettimeout(self) -> float:
        """Return 0.0: everything here is non-blocking."""
        return 0.0

    def bind(self, address: tuple[str, int]) -> None:
        """Remember where to listen or where to come from."""
        self.local = (address[0], address[1])

    def listen(self, backlog: int = 128) -> None:
        """Accept and ignore: ``loop.create_server`` listens."""

    def close(self) -> None:
        """Close the connection that ``sock_connect`` opened, if nobody took it over."""
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.abort()

    def shutdown(self, how: int) -> None:
        """Accept and ignore: transports shut down."""

    def detach(self) -> int:
        """Return -1: there is no descriptor."""
        return -1

    def _refuse(self, name: str) -> NoReturn:
        raise NotSimulated(f"socket.{name}()", remedy="Use the event loop's streams or transports.")

    def connect(self, address: Any) -> NoReturn:
        """Refuse: blocking calls cannot be simulated."""
        self._refuse("connect")

    def connect_ex(self, address: Any) -> NoReturn:
        """Refuse: blocking calls cannot be simulated."""
        self._refuse("connect_ex")

    def accept(self) -> NoReturn:
        """Refuse: blocking calls cannot be simulated."""
        self._refuse("accept")

    def recv(self, *_: Any) -> NoReturn:
        """Refuse: blocking calls cannot be simulated."""
        self._refuse("recv")

    def send(self, *_: Any) -> NoReturn:
        """Refuse: blocking calls cannot be simulated."""
        self._refuse("send")

    def sendall(self, *_: Any) -> NoReturn:
        """Refuse: blocking calls cannot be simulated."""
        self._refuse("sendall")

    def sendto(self, *_: Any) -> NoReturn:
        """Refuse: blocking calls cannot be simulated."""
        self._refuse("sendto")

    def makefile(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: blocking calls cannot be simulated."""
        self._refuse("makefile")

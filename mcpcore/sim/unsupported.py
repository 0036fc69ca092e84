"""What a simulated loop refuses, by name.

This module exists so that a call which would reach the real world fails where it is made, saying
which call it was and what to use instead, and never half-works.
"""

from __future__ import annotations

from typing import Any, NoReturn

from mcpcore.errors import NotSimulated

_SOCKETS = "Use streams, transports or datagram endpoints of the same loop."
_PROCESSES = "Put the other process on a host of its own, or inject its result."


class Unsupported:
    """Refusals, mixed into the loop ahead of ``AbstractEventLoop``."""

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> NoReturn:
        """Refuse: there are no file descriptors here."""
        raise NotSimulated("loop.add_reader()", remedy=_SOCKETS)

    def remove_reader(self, fd: Any) -> NoReturn:
        """Refuse: there are no file descriptors here."""
        raise NotSimulated("loop.remove_reader()", remedy=_SOCKETS)

    def add_writer(self, fd: Any, callback: Any, *args: Any) -> NoReturn:
        """Refuse: there are no file descriptors here."""
        raise NotSimulated("loop.add_writer()", remedy=_SOCKETS)

    def remove_writer(self, fd: Any) -> NoReturn:
        """Refuse: there are no file descriptors here."""
        raise NotSimulated("loop.remove_writer()", remedy=_SOCKETS)

    async def sock_recv(self, sock: Any, nbytes: int) -> NoReturn:
        """Refuse: raw sockets are simulated only up to ``sock_connect``."""
        raise NotSimulated("loop.sock_recv()", remedy=_SOCKETS)

    async def sock_recv_into(self, sock: Any, buf: Any) -> NoReturn:
        """Refuse: raw sockets are simulated only up to ``sock_connect``."""
        raise NotSimulated("loop.sock_recv_into()", remedy=_SOCKETS)

    async def sock_recvfrom(self, sock: Any, bufsize: int) -> NoReturn:
        """Refuse: raw sockets are simulated only up to ``sock_connect``."""
        raise NotSimulated("loop.sock_recvfrom()", remedy=_SOCKETS)

    async def sock_recvfrom_into(self, sock: Any, buf: Any, nbytes: int = 0) -> NoReturn:
        """Refuse: raw sockets are simulated only up to ``sock_connect``."""
        raise NotSimulated("loop.sock_recvfrom_into()", remedy=_SOCKETS)

    async def sock_sendto(self, sock: Any, data: Any, address: Any) -> NoReturn:
        """Refuse: raw sockets are simulated only up to ``sock_connect``."""
        raise NotSimulated("loop.sock_sendto()", remedy=_SOCKETS)

    async def sock_sendall(self, sock: Any, data: Any) -> NoReturn:
        """Refuse: raw sockets are simulated only up to ``sock_connect``."""
        raise NotSimulated("loop.sock_sendall()", remedy=_SOCKETS)

    async def sock_accept(self, sock: Any) -> NoReturn:
        """Refuse: raw sockets are simulated only up to ``sock_connect``."""
        raise NotSimulated("loop.sock_accept()", remedy=_SOCKETS)

    async def sock_sendfile(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse: raw sockets are simulated only up to ``sock_connect``."""
        raise NotSimulated("loop.sock_sendfile()", remedy=_SOCKETS)

    async def sendfile(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse: there are no file descriptors here."""
        raise NotSimulated("loop.sendfile()", remedy="Read the file and write its bytes.")

    async def create_unix_connection(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse: there are no Unix sockets here."""
        raise NotSimulated("loop.create_unix_connection()", remedy="Use TCP on 127.0.0.1.")

    async def create_unix_server(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse: there are no Unix sockets here."""
        raise NotSimulated("loop.create_unix_server()", remedy="Use TCP on 127.0.0.1.")

    async def connect_accepted_socket(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse: there are no real sockets here."""
        raise NotSimulated("loop.connect_accepted_socket()", remedy=_SOCKETS)

    async def connect_read_pipe(self, protocol_factory: Any, pipe: Any) -> NoReturn:
        """Refuse: there are no pipes here."""
        raise NotSimulated("loop.connect_read_pipe()", remedy=_PROCESSES)

    async def connect_write_pipe(self, protocol_factory: Any, pipe: Any) -> NoReturn:
        """Refuse: there are no pipes here."""
        raise NotSimulated("loop.connect_write_pipe()", remedy=_PROCESSES)

    async def subprocess_shell(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse: there are no subprocesses here."""
        raise NotSimulated("loop.subprocess_shell()", remedy=_PROCESSES)

    async def subprocess_exec(self, *args: Any, **options: Any) -> NoReturn:
        """Refuse: there are no subprocesses here."""
        raise NotSimulated("loop.subprocess_exec()", remedy=_PROCESSES)

"""TLS over simulated connections: asyncio's own, with its randomness kept out of the run.

This module exists so that a program's real TLS contexts work inside a world, mutual authentication
included, without costing determinism. OpenSSL draws keys, nonces and signatures from its own
generator, and the length of an ECDSA signature or a session ticket varies by some bytes from run to
run. So ciphertext is accounted by the plain text that it carries plus a constant, is never split or
joined except at record boundaries, and never enters the trace.

HAZARD: OpenSSL judges certificates by the real clock. Certificates used in a world must be valid
today, whatever date the world believes in.

Source: the accounting hooks two internals of ``asyncio.sslproto``, present in CPython 3.11 to 3.13;
``tests/sim/test_tls.py`` fails if they go away.
"""

from __future__ import annotations

import asyncio
import ssl
from asyncio import sslproto
from typing import TYPE_CHECKING, Any, cast

from mcpcore.sim.stream import SimStream

if TYPE_CHECKING:
    from mcpcore.sim.loop import HostLoop

_ACCOUNTED_OVERHEAD = 64


class SimTls(sslproto.SSLProtocol):
    """asyncio's TLS protocol, accounting for plain text."""

    _plain_bytes = 0

    def _write_appdata(self, list_of_data: Any) -> None:
        parts = [bytes(part) for part in list_of_data]
        self._plain_bytes += sum(map(len, parts))
        super()._write_appdata(parts)

    def _process_outgoing(self) -> None:
        if not self._ssl_writing_paused:  # type: ignore[attr-defined]
            data = self._outgoing.read()  # type: ignore[attr-defined]
            if data:
                accounted = self._plain_bytes + _ACCOUNTED_OVERHEAD
                self._plain_bytes = 0
                self._transport.write_opaque(data, accounted)  # type: ignore[union-attr]
        self._control_app_writing()  # type: ignore[attr-defined]


def wrap(
    loop: HostLoop,
    stream: SimStream,
    protocol: asyncio.BaseProtocol,
    context: ssl.SSLContext,
    *,
    server_side: bool,
    server_hostname: str | None,
    handshake_timeout_s: float | None,
    shutdown_timeout_s: float | None,
    waiter: asyncio.Future[Any] | None,
    call_connection_made: bool = True,
) -> SimTls:
    """Put TLS between ``stream`` and ``protocol``; ``waiter`` learns when the handshake is done."""
    return SimTls(
        loop,
        protocol,
        context,
        cast(Any, waiter),  # typeshed forgets that servers pass None
        server_side,
        server_hostname,
        call_connection_made=call_connection_made,
        ssl_handshake_timeout=cast(Any, handshake_timeout_s),
        ssl_shutdown_timeout=shutdown_timeout_s,
    )

"""What one node does for its own copy of the key-value machine: leases while it leads, watches.

This module exists so that the replicated machine stays a pure function of the log: everything here
concerns one node alone, and two nodes may differ in it.
"""

from __future__ import annotations

from collections.abc import Callable

from mcpcore.errors import InvalidInput
from mcpcore.node.kv.commands import (
    LeaseExpire,
    LeaseKeepAlive,
    Watch,
    decode_request,
    encode_command,
    encode_request,
)
from mcpcore.node.kv.machine import KeyValueMachine
from mcpcore.node.kv.results import (
    Compacted,
    LeaseAlive,
    RefusalCode,
    Refused,
    Result,
    encode_result,
)
from mcpcore.node.kv.watch import Watcher

_KEEP_ALIVE_HEAD = encode_request(LeaseKeepAlive(0))[:2]
"""Every keep-alive begins so: looking at two bytes spares other requests a decoding."""


class KeyValueNode(KeyValueMachine):
    """The key-value machine as a node runs it: a ``LeaderDuties`` and a ``Watchable``."""

    __slots__ = ()

    def lead(self, now_ns: int) -> None:
        """Count every lease in full from now; see ``LeaderDuties``."""
        self.leases.lead(now_ns)

    def follow(self) -> None:
        """Count no more; see ``LeaderDuties``."""
        self.leases.follow()

    def next_duty_ns(self) -> int | None:
        """When the next lease may run out; see ``LeaderDuties``."""
        return self.leases.next_ns()

    def duty(self, now_ns: int) -> bytes | None:
        """The command that ends the leases that ran out; see ``LeaderDuties``."""
        due = self.leases.due(now_ns)
        return encode_command(LeaseExpire(due)) if due else None

    def leader_query(self, request: bytes, now_ns: int) -> bytes | None:
        """Renew a lease, if that is what the request asks; see ``LeaderDuties``."""
        if not request.startswith(_KEEP_ALIVE_HEAD):
            return None
        try:
            asked = decode_request(request)
        except InvalidInput:
            return None
        if not isinstance(asked, LeaseKeepAlive):
            return None
        ttl_ms = self.leases.renew(asked.lease, now_ns)
        answer: Result
        if ttl_ms is None:
            answer = Refused(
                RefusalCode.LEASE_UNKNOWN,
                f"there is no lease {asked.lease} (any more); grant a new one",
            )
        else:
            answer = LeaseAlive(asked.lease, ttl_ms)
        return encode_result(answer)

    def watching(self, request: bytes, wake: Callable[[], None]) -> KeyValueWatching:
        """Follow changes; see ``Watchable``."""
        asked = decode_request(request)
        if not isinstance(asked, Watch):
            raise InvalidInput(f"a watch was expected, not {type(asked).__name__}")
        found = self.watch.subscribe(
            asked.key, prefix=asked.prefix, after_revision=asked.after_revision, wake=wake
        )
        return KeyValueWatching(found)


class KeyValueWatching:
    """One watch, with its events encoded for the wire."""

    __slots__ = ("_found", "_over")

    def __init__(self, found: Watcher | Compacted) -> None:
        self._found = found
        self._over = False

    def take(self) -> tuple[list[bytes], bool]:
        """See ``Watching``."""
        if self._over:
            return [], True
        if isinstance(self._found, Compacted):
            self._over = True
            return [encode_result(self._found)], True
        events = [encode_result(changes) for changes in self._found.take()]
        if not events and self._found.ended is not None:
            self._over = True
            return [encode_result(self._found.ended)], True
        return events, False

    def cancel(self) -> None:
        """See ``Watching``."""
        self._over = True
        if isinstance(self._found, Watcher):
            self._found.cancel()

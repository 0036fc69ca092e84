"""Machines with planted bugs, one for every workload: none of this is in the product.

A judge that never says no proves nothing. Each machine here breaks one promise in a way that a
tired engineer might.
"""

from __future__ import annotations

from collections.abc import Callable

from mcpcore.experiment.workloads.policies import PolicyEdits
from mcpcore.node.kv.commands import CompareAndSet, Put, Txn, decode_command, encode_command
from mcpcore.node.kv.leases import LeaseTimer
from mcpcore.node.kv.local import KeyValueNode
from mcpcore.node.kv.records import Event
from mcpcore.node.kv.results import PutDone, Swapped, TxnDone, encode_result
from mcpcore.node.kv.watch import WatchHub
from mcpcore.policy import Mode

_NOT_FORGOTTEN = (b"journal/", b"barred/", b"lock/")


class Forgetful(KeyValueNode):
    """Now and then a write is acknowledged and forgotten."""

    __slots__ = ()

    def apply(self, index: int, command: bytes) -> bytes:
        asked = decode_command(command)
        if index % 7 == 0:
            if isinstance(asked, Put):
                return encode_result(PutDone(index, None))
            if isinstance(asked, CompareAndSet):
                return encode_result(Swapped(index))
            if isinstance(asked, Txn) and _only_puts(asked):
                return encode_result(TxnDone(index, True, tuple(PutDone(index) for _ in asked[1])))
        return super().apply(index, command)


def _only_puts(txn: Txn) -> bool:
    return bool(txn.then) and all(
        isinstance(part, Put) and not part.key.startswith(_NOT_FORGOTTEN) for part in txn.then
    )


class HalfDone(KeyValueNode):
    """Now and then only the first write of a transaction is done, and all are acknowledged."""

    __slots__ = ()

    def apply(self, index: int, command: bytes) -> bytes:
        asked = decode_command(command)
        if index % 3 == 0 and isinstance(asked, Txn) and _only_puts(asked) and len(asked.then) <= 3:
            super().apply(index, encode_command(asked._replace(then=asked.then[:1])))
            return encode_result(TxnDone(index, True, tuple(PutDone(index) for _ in asked.then)))
        return super().apply(index, command)


class Repeating(KeyValueNode):
    """It hands out the same revision again."""

    __slots__ = ()

    def apply(self, index: int, command: bytes) -> bytes:
        result = super().apply(index, command)
        if isinstance(decode_command(command), Put):
            return encode_result(PutDone(index - index % 5, None))
        return result


class _HastyTimer(LeaseTimer):
    __slots__ = ()

    def granted(self, lease: int, ttl_ms: int) -> None:
        super().granted(lease, ttl_ms // 5)


class _DeafHub(WatchHub):
    __slots__ = ()

    def publish(self, revision: int, events: tuple[Event, ...]) -> None:
        super().publish(revision, () if revision % 5 == 0 else events)


def hasty() -> KeyValueNode:
    """Leases run out long before their time."""
    return KeyValueNode(leases=_HastyTimer())


def deaf() -> KeyValueNode:
    """Watchers are not told of everything."""
    return KeyValueNode(watch=_DeafHub())


LIARS: dict[str, Callable[[], KeyValueNode]] = {
    "register": Forgetful,
    "append": HalfDone,
    "set": Forgetful,
    "bank": HalfDone,
    "counter": Forgetful,
    "queue": Forgetful,
    "ids": Repeating,
    "lease": hasty,
    "watch": deaf,
    "saga": Forgetful,
    "policy": Forgetful,
}
"""For every workload the machine that its judge must find out."""


def optimistic(keys: int) -> PolicyEdits:
    """Clouds that let gifts count at once, in the place of the guarded ones."""
    return PolicyEdits(keys, mode=Mode.OPTIMISTIC)

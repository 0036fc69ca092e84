"""Transactions of the key-value machine: what holds, and what is refused before anything is done.

This module exists so that a transaction is all or nothing by construction: everything that could
stop it is found here, by looking only, and what is left to do cannot fail (etcd's ``Txn``, without
nesting and ranges). It must never change the store.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any, Final

from mcpcore.node.kv.commands import Compare, Delete, Get, Put, Relation, Target, Txn, TxnOperation
from mcpcore.node.kv.records import KEY_BYTES_MAX, TXN_OPERATIONS_MAX, KeyValue
from mcpcore.node.kv.results import RefusalCode, Refused
from mcpcore.node.kv.store import Store

_RELATIONS: Final[dict[Relation, Callable[[Any, Any], bool]]] = {
    Relation.EQUAL: operator.eq,
    Relation.NOT_EQUAL: operator.ne,
    Relation.LESS: operator.lt,
    Relation.GREATER: operator.gt,
}


def holds(compare: Compare, record: KeyValue | None) -> bool:
    """Whether a comparison holds, given what stands under its key."""
    if record is None and compare.target is Target.VALUE:
        return False
    found: bytes | int = 0
    if record is not None:
        match compare.target:
            case Target.VALUE:
                found = record.value
            case Target.VERSION:
                found = record.version
            case Target.CREATE_REVISION:
                found = record.create_revision
            case Target.MOD_REVISION:
                found = record.mod_revision
            case Target.LEASE:
                found = record.lease
    return _RELATIONS[compare.relation](found, compare.expected)


def refuse_txn(
    txn: Txn, store: Store, refuse_put: Callable[[bytes, bytes, int], Refused | None]
) -> Refused | None:
    """Why a transaction cannot be carried out; None if it can.

    Both lists are looked at, so that a mistake shows whichever way the comparisons go.

    Args:
        refuse_put: judges a key, a value and a lease, as for a put alone.
    """
    longest = max(map(len, txn))
    if longest > TXN_OPERATIONS_MAX:
        return Refused(
            RefusalCode.TXN_SIZE,
            f"a list of a transaction has at most {TXN_OPERATIONS_MAX} items, not {longest}",
        )
    for key in (part.key for part in (*txn.compare, *txn.then, *txn.otherwise)):
        if not 0 < len(key) <= KEY_BYTES_MAX:
            return Refused(
                RefusalCode.KEY_LENGTH, f"a key has 1 to {KEY_BYTES_MAX} bytes, not {len(key)}"
            )
    return _refuse(txn.then, store, refuse_put) or _refuse(txn.otherwise, store, refuse_put)


def _refuse(
    operations: Iterable[TxnOperation],
    store: Store,
    refuse_put: Callable[[bytes, bytes, int], Refused | None],
) -> Refused | None:
    written: set[bytes] = set()
    hung: dict[int, int] = {}  # lease: keys that come to it
    for part in operations:
        match part:
            case Put(key, value, lease):
                refused = refuse_put(key, value, lease)
                if refused is not None:
                    return refused
                if lease and key not in store.leases[lease].keys:
                    hung[lease] = hung.get(lease, 0) + 1
            case Delete(key):
                pass
            case Get():
                continue
        if key in written:
            return Refused(
                RefusalCode.TXN_TWICE,
                f"{key!r} is written twice in one list of a transaction; write it once",
            )
        written.add(key)
    for lease, more in hung.items():
        if len(store.leases[lease].keys) + more > store.limits.lease_keys:
            return Refused(
                RefusalCode.LEASE_KEYS_FULL,
                f"{store.limits.lease_keys} keys at most hang on lease {lease}; grant another one",
            )
    return None

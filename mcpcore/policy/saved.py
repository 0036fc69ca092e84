"""A replica as bytes: its edits, what it knows of the log, and who it is.

This module exists so that a policy can lie in a file and be merged by hand. It must never open a
file.
"""

from __future__ import annotations

from typing import Final

import msgpack

from mcpcore.crdt import Causal, decode, encode
from mcpcore.errors import InvalidInput
from mcpcore.policy.log import PolicyLog
from mcpcore.policy.rules import Mode
from mcpcore.policy.store import PolicyStore

_MAGIC: Final = b"mcpolicy"
_FORMAT: Final = 1


def save(store: PolicyStore) -> bytes:
    """The replica as bytes."""
    log = PolicyLog()
    log.load(store.prefix)
    fields = [
        _FORMAT, store.replica, str(store.mode), encode(store.state), b"".join(log.snapshot()),
    ]  # fmt: skip
    return _MAGIC + bytes(msgpack.packb(fields))


def is_saved(data: bytes) -> bool:
    """Whether bytes claim to be a saved replica."""
    return data.startswith(_MAGIC)


def load(data: bytes, where: str = "policy") -> PolicyStore:
    """Read :func:`save` back.

    Raises:
        InvalidInput: not a saved replica, or damaged.
    """
    try:
        if not is_saved(data):
            raise ValueError("it begins otherwise")
        version, replica, mode, state, snapshot = msgpack.unpackb(data[len(_MAGIC) :])
        if version != _FORMAT:
            raise ValueError(f"version {version!r} is unknown")
        if not isinstance(replica, str) or not isinstance(state, bytes):
            raise ValueError("a field has another type")
        log = PolicyLog()
        log.restore([bytes(snapshot)])
        edits = decode(state)
        if not isinstance(edits, Causal):
            raise ValueError("its state is no set of edits")
        return PolicyStore(replica, edits, prefix=log.prefix, mode=Mode(mode))
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise InvalidInput(
            f"not a saved policy: {error}", where=where, remedy="Make one: mcpctl policy init"
        ) from error

"""Cells in a Redis server, by ``SET NX`` and one script.

This module exists so that services which share a Redis can share claims. It takes a client made by
its user (``redis.asyncio.Redis``), so that the library itself needs none.

HAZARD: a Redis that fails over to a replica may forget acknowledged writes, and a key that is
evicted is a claim forgotten: set ``maxmemory-policy noeviction``. Where a claim must never be lost,
keep it in a Raft group.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from mcpcore.errors import JournalUnavailable
from mcpcore.saga.cells.contract import Cells

_SWAP: Final = """
local held = redis.call('GET', KEYS[1])
if (held == false and ARGV[1] == '0') or (ARGV[1] == '1' and held == ARGV[2]) then
  if ARGV[3] == '0' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[4]) end
end
return held
"""


class RedisClient(Protocol):
    """What is used of ``redis.asyncio.Redis`` (made with ``decode_responses=False``)."""

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any:
        """Run a script."""
        ...

    def get(self, name: str) -> Any:
        """Read a key."""
        ...

    def set(self, name: str, value: bytes, *, nx: bool) -> Any:
        """Set a key, if ``nx`` only where there is none."""
        ...


class RedisCells(Cells):
    """Cells in Redis.

    Args:
        client: a client; whoever made it closes it.
        prefix: what every key begins with.
    """

    def __init__(self, client: RedisClient, *, prefix: str = "mcpcore:saga:") -> None:
        self._client = client
        self._prefix = prefix

    async def swap(self, key: str, expected: bytes | None, new: bytes | None) -> bytes | None:
        """See ``Cells``."""
        name = self._prefix + key
        try:
            if expected is None and new is not None and await self._client.set(name, new, nx=True):
                return None
            arguments = (*_optional(expected), *_optional(new))
            held = await self._client.eval(_SWAP, 1, name, *arguments)
        except Exception as error:
            raise JournalUnavailable(f"redis, {name}: {error}") from error
        return None if held is None else bytes(held)

    async def get(self, key: str) -> bytes | None:
        """See ``Cells``."""
        try:
            held = await self._client.get(self._prefix + key)
        except Exception as error:
            raise JournalUnavailable(f"redis, {self._prefix + key}: {error}") from error
        return None if held is None else bytes(held)


def _optional(value: bytes | None) -> tuple[str, bytes]:
    return ("0", b"") if value is None else ("1", value)

"""Claims: who may carry out an effect, marked before it happens.

This module exists so that an effect is never carried out by two at a time, never again once it is
done, and never after its compensation: duplicates, hanging steps and null compensations meet a mark
here (the barriers of dtm). A mark is set with set-if-absent, and says *claimed* until it says
*done*: a claim that only says "somebody began" must not stop the one who comes to finish, or a
crash right after it would lose the effect.

HAZARD: between the claim and the resource there is a gap: a claim keeps out whoever asks, not a
request that already left. Only the resource can bar that, with the token or the fence: see
``LocalEffects``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

import msgpack

from mcpcore.errors import InvalidInput, StaleFence
from mcpcore.saga.cells.contract import Cells
from mcpcore.saga.tokens import Fence


class Mark(StrEnum):
    """What stood there."""

    NONE = "none"
    """Nobody ever began."""
    CLAIMED = "claimed"
    """Somebody began, and did not say that it is done."""
    DONE = "done"
    """It is done, with this result."""
    BARRED = "barred"
    """Its compensation came first: it must never happen."""


class Claim(NamedTuple):
    """What an effect's mark said before."""

    mark: Mark
    result: Any = None

    @property
    def go(self) -> bool:
        """Whether the effect is to be carried out now."""
        return self.mark in (Mark.NONE, Mark.CLAIMED)


class Claims:
    """Claims on effects, by idempotency token."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells

    async def begin(self, token: str, fence: Fence) -> Claim:
        """Claim an effect before it is carried out; ``go`` of the answer says whether it may be.

        Raises:
            StaleFence: a later attempt has claimed it.
        """
        new = _encode(Mark.CLAIMED, fence, None)
        expected: bytes | None = None
        while True:
            held = await self._cells.swap(_key(token), expected, new)
            if held == expected:
                return Claim(Mark.NONE if held is None else Mark.CLAIMED)
            if held is not None:
                mark, highest, result = _decode(held, token)
                if mark is not Mark.CLAIMED:
                    return Claim(mark, result)
                if fence < highest:
                    raise StaleFence(token, str(fence), str(highest))
            expected = held

    async def finish(self, token: str, fence: Fence, result: Any) -> bool:
        """Say that an effect is done; False if it was barred meanwhile."""
        new = _encode(Mark.DONE, fence, result)
        expected: bytes | None = _encode(Mark.CLAIMED, fence, None)
        while True:
            held = await self._cells.swap(_key(token), expected, new)
            if held == expected:
                return True
            if held is not None and _decode(held, token)[0] is not Mark.CLAIMED:
                return _decode(held, token)[0] is Mark.DONE
            expected = held

    async def bar(self, token: str, fence: Fence) -> Claim:
        """See to it that an effect never happens from now on; returns how far it had come.

        NONE: there is nothing to undo (a null compensation). CLAIMED: nobody knows. Asked again, it
        gives the same answer.
        """
        expected: bytes | None = None
        while True:
            mark, result = Mark.NONE, None
            if expected is not None:
                mark, _, result = _decode(expected, token)
                if mark is Mark.BARRED:
                    return Claim(Mark(result))
                if mark is Mark.DONE:
                    return Claim(mark, result)
            new = _encode(Mark.BARRED, fence, str(mark))
            held = await self._cells.swap(_key(token), expected, new)
            if held == expected:
                return Claim(mark)
            expected = held


def _key(token: str) -> str:
    return f"claim/{token}"


def _encode(mark: Mark, fence: Fence, result: Any) -> bytes:
    packed: bytes = msgpack.packb((str(mark), *fence, result))
    return packed


def _decode(held: bytes, token: str) -> tuple[Mark, Fence, Any]:
    try:
        mark, term, sequence, result = msgpack.unpackb(held)
        return Mark(mark), Fence(term, sequence), result
    except Exception as error:  # msgpack raises several unrelated classes
        raise InvalidInput(f"holds no claim: {error}", where=f"cell of {token}") from error

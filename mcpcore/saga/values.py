"""What may stand in a journal: plain values that msgpack can carry.

This module exists so that a step sees the same value whether its saga was resumed or not: every
input and every result goes through msgpack once before anybody sees it, so a tuple is a list in
both cases. It must never know what the values mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgpack

from mcpcore.errors import InvalidInput

Value: TypeAlias = (
    bool | int | float | str | bytes | Sequence["Value"] | Mapping[str, "Value"] | None
)
"""None, booleans, numbers, text, bytes, lists and maps with text keys of these."""

VALUE_BYTES_MAX = 256 * 1024
"""One input or one result, packed. Keep large things elsewhere, and their names in the saga."""


def settle(value: object, where: str) -> Any:
    """The value as a journal gives it back.

    Raises:
        InvalidInput: it is no plain value, or it is too large.
    """
    if value is None or value is True or value is False:
        return value
    try:
        packed = msgpack.packb(value)
        back = msgpack.unpackb(packed, strict_map_key=True)
    except Exception as error:  # msgpack raises several unrelated classes
        raise InvalidInput(
            f"cannot be kept in a journal: {error}",
            where=where,
            remedy="Use None, booleans, numbers, text, bytes, and lists and maps (with text keys) "
            "of these",
        ) from error
    if len(packed) > VALUE_BYTES_MAX:
        raise InvalidInput(
            f"takes {len(packed)} bytes, at most {VALUE_BYTES_MAX} are kept",
            where=where,
            remedy="Store it elsewhere, and keep its name",
        )
    return back

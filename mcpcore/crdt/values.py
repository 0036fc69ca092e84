"""What may be stored: plain values, and the one byte string that each of them has.

This module exists so that equality, order and hashing of stored values are those of bytes. In
Python ``1 == True == 1.0``; two replicas that met them in different orders would keep different
ones. As bytes they are three values. It must never accept what has no canonical form.
"""

from __future__ import annotations

import math
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeAlias

import msgpack

from mcpcore.errors import InvalidInput

Value: TypeAlias = "bool | int | float | str | bytes | tuple[Value, ...] | None"
"""Anything that can be an element, a key or a register's value."""

_pack = msgpack.Packer().pack
DEPTH_MAX = 32
INT_MAX = (1 << 63) - 1


def pack(value: Value) -> bytes:
    """The canonical bytes of a value.

    Raises:
        InvalidInput: not a value: another type, an integer beyond 64 bits, NaN, text that is no
            text (lone surrogates), or nested deeper than 32.
    """
    try:
        if type(value) is str:
            return _pack(value)  # type: ignore[no-any-return]
        return _pack(_plain(value, 0))  # type: ignore[no-any-return]
    except (UnicodeEncodeError, OverflowError) as error:
        raise InvalidInput(f"{value!r} cannot be stored: {error}", where="value") from error


def unpack(data: bytes) -> Value:
    """Read the bytes back; sequences come back as tuples.

    Raises:
        InvalidInput: not the bytes that :func:`pack` gives for any value.
    """
    value = parse(data)
    if pack(value) != data:
        raise InvalidInput("the bytes are not the canonical form of a value", where="value")
    return value


@lru_cache(maxsize=4096)
def _known_key(data: bytes) -> None:
    unpack(data)


def check_key(data: bytes) -> None:
    """Refuse bytes that :func:`pack` gives for no value; quick for keys that come often.

    Raises:
        InvalidInput: such bytes.
    """
    if len(data) <= 128:
        _known_key(data)
    else:
        unpack(data)


def parse(data: bytes) -> Value:
    """Read one msgpack object of plain values, canonical or not.

    Raises:
        InvalidInput: cut short, trailing bytes, or what is no plain value.
    """
    try:
        value: Value = msgpack.unpackb(data, use_list=False, ext_hook=_no_extension)
    except InvalidInput:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise InvalidInput(f"cannot be read: {error}", where="value") from error
    return value


def fields(payload: bytes) -> tuple[Any, ...]:
    """The fields of a payload whose shape was checked when it came in."""
    row = parse(payload)
    assert isinstance(row, tuple)
    return row


def fingerprint(*parts: bytes) -> int:
    """128 bits that stand for the parts, in order."""
    hasher = blake2b(digest_size=16)
    for part in parts:
        hasher.update(len(part).to_bytes(4, "big"))
        hasher.update(part)
    return int.from_bytes(hasher.digest(), "big")


def _plain(value: object, depth: int) -> object:
    kind = type(value)
    if value is None or kind is bool or kind is str or kind is bytes or kind is int:
        return value
    if isinstance(value, float):
        if math.isnan(value):
            raise InvalidInput("NaN equals nothing, not even itself", where="value")
        return value + 0.0  # minus zero becomes zero: they are equal and must be one
    if isinstance(value, tuple | list):
        if depth >= DEPTH_MAX:
            raise InvalidInput(f"nested deeper than {DEPTH_MAX}", where="value")
        return [_plain(item, depth + 1) for item in value]
    if isinstance(value, int):
        return int(value)
    raise InvalidInput(
        f"a {kind.__name__} cannot be stored",
        where="value",
        remedy="Use None, bool, int, float, str, bytes, or tuples of them; for records use a Map",
    )


def _no_extension(code: int, data: bytes) -> object:
    raise InvalidInput(f"msgpack extension {code} is no value", where="value")

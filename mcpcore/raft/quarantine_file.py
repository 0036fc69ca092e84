"""The bytes of a quarantine: records that can be told from a torn end and from rot.

This module exists so that what a record says (``quarantine``) is apart from how it is found. Each
has a magic number, the length and the CRC-32 of what follows. At the end a record may be torn,
since a crash came in between: it is cut off. One that is damaged with sound ones behind it is rot:
it is reported with its place, never taken for the end. It must never know what a record means.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple
from zlib import crc32

import msgpack

_MAGIC = b"\xb1MCQ"
_HEAD = struct.Struct("<4sII")
"""Magic, CRC-32 of the body, length of the body; then the body, msgpack."""
_RECORD_MAX = 1 << 30


class Damage(NamedTuple):
    """Bytes of the file that are no sound record."""

    offset: int
    size: int
    torn: bool
    """At the end of the file, as a crash leaves it; else rot."""


def is_beginning(data: bytes) -> bool:
    """Whether a file begins like a quarantine, as far as it goes."""
    return data.startswith(_MAGIC[: len(data)])


def scan(data: bytes) -> tuple[list[tuple[Any, ...]], tuple[Damage, ...]]:
    """All sound records of a file, and what lies between them."""
    bodies: list[tuple[Any, ...]] = []
    damage: list[Damage] = []
    at = bad_from = 0
    while at < len(data):
        body, end = _unpack(data, at)
        if body is None:
            following = data.find(_MAGIC, at + 1)
            at = len(data) if following < 0 else following
            continue
        if bad_from < at:
            damage.append(Damage(bad_from, at - bad_from, False))
        bodies.append(body)
        at = bad_from = end
    if bad_from < len(data):
        damage.append(Damage(bad_from, len(data) - bad_from, True))
    return bodies, tuple(damage)


def pack_record(body: list[Any]) -> bytes:
    """The bytes of one record."""
    packed: bytes = msgpack.packb(body)
    return _HEAD.pack(_MAGIC, crc32(packed), len(packed)) + packed


def _unpack(data: bytes, at: int) -> tuple[tuple[Any, ...] | None, int]:
    """The record at ``at`` and where the next begins; None if it is not sound."""
    if at + _HEAD.size > len(data):
        return None, at
    magic, checksum, length = _HEAD.unpack_from(data, at)
    end = at + _HEAD.size + length
    packed = data[at + _HEAD.size : end]
    if magic != _MAGIC or length > _RECORD_MAX or end > len(data) or crc32(packed) != checksum:
        return None, at
    try:
        body = msgpack.unpackb(packed, use_list=False)
    except Exception:  # noqa: BLE001 - msgpack raises several unrelated classes
        return None, at
    return (body, end) if type(body) is tuple else (None, at)

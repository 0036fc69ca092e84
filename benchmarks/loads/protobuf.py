"""The few protobuf messages of etcd that the benchmarks exchange, by hand.

This module exists so that no generated code and no protobuf library stands between the load and
etcd. Field numbers are those of etcd's ``rpc.proto``. Pure.
"""

from __future__ import annotations

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
STATUS = "/etcdserverpb.Maintenance/Status"


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def put_request(key: bytes, value: bytes) -> bytes:
    """PutRequest: key = 1, value = 2."""
    return b"\x0a" + varint(len(key)) + key + b"\x12" + varint(len(value)) + value


def range_request(key: bytes, *, serializable: bool) -> bytes:
    """RangeRequest: key = 1, serializable = 7 (stale reads; linearizable otherwise)."""
    return b"\x0a" + varint(len(key)) + key + (b"\x38\x01" if serializable else b"")


def fields(message: bytes) -> dict[int, int | bytes]:
    """The fields of a message, the last of each number.

    Raises:
        ValueError: it is no message.
    """
    found: dict[int, int | bytes] = {}
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            if at >= len(message):
                raise ValueError("a protobuf message ends too early")
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        tag = number()
        match tag & 7:
            case 0:
                found[tag >> 3] = number()
            case 2:
                length = number()
                found[tag >> 3] = message[at : at + length]
                at += length
            case wire:
                raise ValueError(f"wire type {wire} is not used by etcd's answers")
    return found


def is_leader(status: bytes) -> bool:
    """Whether the member that sent this StatusResponse leads: header = 1, leader = 4."""
    told = fields(status)
    header = told.get(1, b"")
    return isinstance(header, bytes) and fields(header).get(2) == told.get(4, 0)

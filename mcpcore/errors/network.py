"""What goes wrong between two ends of a connection."""

from __future__ import annotations

from mcpcore.errors.root import InvalidInput, Rejected


class MalformedFrame(InvalidInput):
    """A frame's announced length is beyond what is accepted, so its sender cannot be understood.

    Args:
        header: the four bytes that stood where a length was expected.
        length: the length they announce, in bytes.
        limit: the longest payload accepted there, in bytes.
    """

    def __init__(self, header: bytes, length: int, limit: int) -> None:
        self.header = header
        self.length = length
        self.limit = limit
        if header[:2] == b"\x16\x03":
            remedy = "These are TLS bytes: the sender uses TLS, and here it is switched off"
        elif header.isascii() and header.strip().isalpha():
            remedy = f"It begins {header!r}: is something else, say HTTP, pointed at this port?"
        else:
            remedy = "Both sides need the same maximum frame size"
        super().__init__(
            f"a frame of {length} bytes is announced, at most {limit} are accepted", remedy=remedy
        )


class HandshakeRefused(Rejected):
    """One side of a new connection would not talk to the other. Nothing was sent or done.

    Args:
        code: why, in one word that programs may compare: see ``Parting`` in
            ``mcpcore.node.transport.handshake``.
        what: why, in words, with the facts of both sides.
    """

    def __init__(self, code: str, what: str) -> None:
        self.code = code
        self.what = what
        super().__init__(what)


class Unreachable(Rejected):
    """No connection came about, so nothing was asked of the other side.

    Args:
        address: who was called.
        why: what the network or TLS said.
    """

    def __init__(self, address: str, why: str) -> None:
        self.address = address
        self.why = why
        super().__init__(f"{address} cannot be reached: {why}")

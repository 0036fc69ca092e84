"""Every exception that a caller of mcpcore may want to catch.

This module exists so that one question, *may I retry?*, is answered by the class of the error and
by nothing else. It sits below every other module. It must never import any of them, nor anything
that acts on the outside world.

Facts live in attributes, so that nobody needs to parse a message; the message says what was wrong,
where, and what to do. A broken invariant of ours is an ``AssertionError`` and not in this list:
that is a bug, and no caller should catch it.
"""

from __future__ import annotations


class CoordinationError(Exception):
    """Root of everything mcpcore raises on purpose."""


# --- May I retry? -------------------------------------------------------------------------------


class Rejected(CoordinationError):
    """Nothing happened, and nothing will. Trying the same call again is always safe."""


class OutcomeUnknown(CoordinationError):
    """It may have happened, may happen later, or never. Retry only what is idempotent."""


class InvalidInput(CoordinationError, ValueError):
    """What was handed in cannot be used as it is; the same input will be refused again.

    Args:
        what: what was wrong.
        where: where it stands: a file and line, a field's path, an argument's name.
        remedy: what to do about it.
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        text = f"{where}: {what}" if where else what
        super().__init__(f"{text}. {remedy}" if remedy else text)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    kind: type[CoordinationError], args: tuple[object, ...], facts: dict[str, object]
) -> CoordinationError:
    """Unpickle an error without calling its constructor, whose parameters are not its ``args``."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(facts)
    return error


# --- Talking over the network -------------------------------------------------------------------


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
        code: why, in one word that programs may compare: see ``mcpcore.node.handshake.Parting``.
        what: why, in words, with the facts of both sides.
    """

    def __init__(self, code: str, what: str) -> None:
        self.code = code
        self.what = what
        super().__init__(what)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


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

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)

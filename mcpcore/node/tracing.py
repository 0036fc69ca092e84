"""Where a call came from, for whoever traces it: the seam between nodes and a library of traces.

This module exists so that a node and a client can tell what they do about one call, each part of it
as a span, without knowing any library: ``mcpcore.observe.tracing`` has OpenTelemetry's. Nothing is
paid for where no tracing is given, beyond a test for None. It must never import such a library, and
nothing that a trace says may change what a node does.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Mapping
from contextlib import AbstractContextManager
from enum import Enum
from typing import Final, Protocol, TypeVar

from mcpcore.node.waiting import Applied, ReadResult

GROUP: Final = "mcpcore.group"
NODE: Final = "mcpcore.node"
PEER: Final = "mcpcore.peer"
TERM: Final = "mcpcore.term"
INDEX: Final = "mcpcore.index"
"""Names of facts, the same in every span."""

Facts = Mapping[str, str | int | float | bool]

T = TypeVar("T")

_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?"
)
TRACEPARENT_CHARS_MAX: Final = 128
"""A version after 00 may append fields; nobody needs more of them than this."""


def is_traceparent(text: str) -> bool:
    """Whether this is a W3C ``traceparent`` with a trace and a span that are not zero.

    Source: W3C Trace Context, section 3.2; a version that is not known is read as far as version 00
    goes, and version 00 has no further fields.
    """
    if len(text) > TRACEPARENT_CHARS_MAX or _TRACEPARENT.fullmatch(text) is None:
        return False
    return len(text) == 55 or not text.startswith("00")


class Side(Enum):
    """Which part of a call a span tells about."""

    CLIENT = "client"
    """Asking and waiting for the answer."""
    SERVER = "server"
    """Answering."""
    INTERNAL = "internal"
    """What happens within a node."""


class Span(Protocol):
    """One part of a call, from when it was begun."""

    @property
    def recorded(self) -> bool:
        """Whether anybody will see it; if not, do not bother to tell it anything."""
        ...

    @property
    def traceparent(self) -> str:
        """Its place in the trace, to be sent elsewhere."""
        ...

    def current(self) -> AbstractContextManager[None]:
        """Spans that are begun in here without a parent are children of this one."""
        ...

    def event(self, name: str, facts: Facts) -> None:
        """Something happened now."""
        ...

    def end(self, facts: Facts, error: BaseException | str | None = None) -> None:
        """It is over; with ``error``, it failed. A second end is ignored."""
        ...


class Tracing(Protocol):
    """Takes down spans. None of these may wait or raise."""

    def span(self, name: str, side: Side, facts: Facts, parent: str = "") -> Span:
        """Begin a span.

        Args:
            parent: a ``traceparent`` that came from elsewhere; empty, or none at all: a child of
                what is current here, if anything is.
        """
        ...

    def traceparent(self) -> str:
        """The place in the trace of what is current here, recorded or not; empty if nothing is."""
        ...

    def recording(self) -> bool:
        """Whether what is current here is recorded."""
        ...

    def event(self, name: str, facts: Facts) -> None:
        """Something happened now in what is current here."""
        ...


async def traced(tracing: Tracing, name: str, group: str, work: Awaitable[T]) -> T:
    """Do ``work`` as a client's span of that name; its outcome is the span's."""
    span = tracing.span(name, Side.CLIENT, {GROUP: group})
    try:
        with span.current():
            result = await work
    except BaseException as error:
        span.end({}, error)
        raise
    span.end(facts_of(result))
    return result


def facts_of(answer: object) -> Facts:
    """What an answer says about the log."""
    if isinstance(answer, Applied):
        return {TERM: answer.term, INDEX: answer.index}
    if isinstance(answer, ReadResult):
        return {INDEX: answer.applied}
    return {}

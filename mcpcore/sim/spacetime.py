"""Who told whom what, and when: the trace as a space-time diagram.

This module exists so that reports and ShiViz draw from the same data: one lane for each host, one
arrow for each message, a stub for each that was lost. It reads traces and nothing else.

Source: Mattern 1989, "Virtual time and global states of distributed systems" (vector clocks); the
log format is ShiViz's default.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from mcpcore.sim.trace import Event, Trace

_SENT = ("send", "datagram")
_ARRIVED = ("deliver", "datagram_in")


@dataclass(frozen=True, slots=True)
class Message:
    """One message: where it left, and where it arrived, if it did.

    A stream's piece that waited out a cut arrives late; a datagram may arrive twice and is then
    two messages.
    """

    sent: Event
    arrived: Event | None


def messages(trace: Trace) -> list[Message]:
    """Return every message that the trace kept, in the order of sending."""
    sent: dict[int, Event] = {}
    arrived: dict[int, list[Event]] = {}
    for event in trace.events(*_SENT, *_ARRIVED):
        if event.kind in _SENT:
            sent[event.number] = event
        elif event.cause in sent:
            arrived.setdefault(event.cause, []).append(event)
    made: list[Message] = []
    for number, event in sent.items():
        arrivals = arrived.get(number)
        if arrivals is None:
            made.append(Message(event, None))
        else:
            made.extend(Message(event, arrival) for arrival in arrivals)
    return made


def to_shiviz(trace: Trace) -> str:
    """Return the kept events as a ShiViz log (parser: ShiViz's default expression)."""
    return "\n".join(_shiviz_lines(trace)) + "\n"


def _shiviz_lines(trace: Trace) -> Iterator[str]:
    clocks: dict[str, dict[str, int]] = {}
    after: dict[int, dict[str, int]] = {}
    origin: dict[int, str] = {}
    for event in trace.events():
        clock = clocks.setdefault(event.host, {})
        if origin.get(event.cause, event.host) != event.host:
            for host, count in after[event.cause].items():
                clock[host] = max(count, clock.get(host, 0))
        clock[event.host] = clock.get(event.host, 0) + 1
        after[event.number] = dict(clock)
        origin[event.number] = event.host
        facts = " ".join(str(fact) for fact in event.detail)
        yield f"{event.host} {json.dumps(clock, sort_keys=True)}"
        yield f"{event.at_ns / 1e9:.9f} {event.kind} {facts}".rstrip()

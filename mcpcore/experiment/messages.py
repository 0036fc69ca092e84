"""Messages between nodes around the moments that matter: who told whom what, and what never came.

This module exists so that a report can show what a cut does to single messages without keeping the
millions that a run sends: windows are opened when something begins or ends, and each takes so many
and no more. It hears the simulator's trace, and must never change anything in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from mcpcore.sim.trace import Event

WINDOW_S: Final = 1.5
_PER_WINDOW_MAX: Final = 600
_IN_ALL_MAX: Final = 6000


class MessageSample(NamedTuple):
    """One piece of a stream between two nodes.

    Args:
        sent_s: when it left. arrived_s: when it came; None: not before the run ended.
        source: who sent it. target: to whom. bytes: its size on the wire.
        window: the window that it was seen in, by number.
    """

    sent_s: float
    arrived_s: float | None
    source: str
    target: str
    bytes: int
    window: int


class MessageWindow(NamedTuple):
    """A stretch of time in which messages were kept.

    Args:
        name: what happened then. began_s, ended_s: its bounds.
        left_out: messages beyond those kept, counted only.
    """

    name: str
    began_s: float
    ended_s: float
    left_out: int = 0


class MessageLog:
    """Keeps messages while a window is open.

    Args:
        names: of the nodes, by their addresses; others are not looked at.
        began_ns: when the run's clock stood at 0.
    """

    def __init__(self, names: Mapping[str, str], began_ns: int) -> None:
        self.windows: list[MessageWindow] = []
        self._names = names
        self._began_ns = began_ns
        self._until_ns = -1
        self._kept_here = 0
        self._sent: dict[int, MessageSample] = {}
        self._arrived: list[MessageSample] = []

    def open_window(self, now_ns: int, name: str) -> None:
        """Keep what is sent from now on, for a moment."""
        now_s = (now_ns - self._began_ns) / 1e9
        if now_ns <= self._until_ns and self.windows:
            last = self.windows[-1]
            if name not in last.name:
                self.windows[-1] = last._replace(name=f"{last.name}; {name}")
            return
        self.windows.append(MessageWindow(name, now_s, now_s + WINDOW_S))
        self._until_ns = now_ns + round(WINDOW_S * 1e9)
        self._kept_here = 0

    def hear(self, event: Event) -> None:
        """One event of the trace."""
        if event.kind == "send" and event.at_ns <= self._until_ns:
            self._hear_send(event)
        elif event.kind == "deliver" and event.cause in self._sent:
            sent = self._sent.pop(event.cause)
            self._arrived.append(sent._replace(arrived_s=self._at_s(event)))

    def _hear_send(self, event: Event) -> None:
        stream, _, size, _ = event.detail
        source, target = (self._names.get(end.rpartition(":")[0]) for end in str(stream).split(">"))
        if source is None or target is None:
            return
        here = len(self.windows) - 1
        full = len(self._sent) + len(self._arrived) >= _IN_ALL_MAX
        if self._kept_here >= _PER_WINDOW_MAX or full:
            window = self.windows[here]
            self.windows[here] = window._replace(left_out=window.left_out + 1)
            return
        self._kept_here += 1
        self._sent[event.number] = MessageSample(
            self._at_s(event), None, source, target, int(size or 0), here
        )

    def _at_s(self, event: Event) -> float:
        return (event.at_ns - self._began_ns) / 1e9

    def kept(self) -> tuple[MessageSample, ...]:
        """All messages kept, in the order of sending."""
        kept = [*self._arrived, *self._sent.values()]
        return tuple(sorted(kept, key=lambda message: message[:1] + message[2:]))


def to_shiviz(messages: Iterable[MessageSample]) -> str:
    """The messages as a ShiViz log (its default expression), with vector clocks (Mattern 1989)."""
    events: list[tuple[float, int, int, MessageSample]] = []
    for number, message in enumerate(messages):
        events.append((message.sent_s, number, 0, message))
        if message.arrived_s is not None:
            events.append((message.arrived_s, number, 1, message))
    clocks: dict[str, dict[str, int]] = {}
    sent: dict[int, dict[str, int]] = {}
    lines = []
    for at_s, number, arrived, message in sorted(events, key=lambda event: event[:3]):
        host, other = message.target if arrived else message.source, message.source
        clock = clocks.setdefault(host, {})
        if arrived:
            for name, count in sent[number].items():
                clock[name] = max(count, clock.get(name, 0))
        clock[host] = clock.get(host, 0) + 1
        sent.setdefault(number, dict(clock))
        told = f"receive from {other}" if arrived else f"send to {message.target}"
        lines.append(f"{host} {json.dumps(clock, sort_keys=True)}")
        lines.append(f"{at_s:.6f} {told} {message.bytes} bytes")
    return "\n".join(lines) + "\n" if lines else ""

"""Metrics of a saga engine: its sagas by state, its calls, its breakers, its dead letters.

This module exists so that an engine, which knows no library of metrics, can be watched: hand
``SagaMetrics`` to it as an observer, and register it with a registry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from mcpcore.node.meters import Distribution
from mcpcore.observe.families import counters, gauge, gauges, histogram
from mcpcore.saga.breaker import BreakerState
from mcpcore.saga.events import (
    BreakerChanged,
    CallEnded,
    Event,
    SagaChanged,
    SagaHeld,
    SagaLost,
    SagaRefused,
    SagaReleased,
)
from mcpcore.saga.state import Status


class SagaMetrics(Collector):
    """What one engine has done since this was made; an observer and a collector at once.

    It counts what the engine tells. Sagas that another engine left count from the moment at which
    this one changes them.
    """

    def __init__(self) -> None:
        self._standing: dict[str, tuple[str, Status]] = {}
        self._ended: Counter[tuple[str, str]] = Counter()
        self._calls: Counter[tuple[str, str, str, str]] = Counter()
        self._call_times = Distribution()
        self._breakers: dict[str, BreakerState] = {}
        self._held: set[str] = set()
        self._refused = 0

    def __call__(self, event: Event) -> None:
        """Hear of an event."""
        match event:
            case SagaChanged():
                if event.status.is_end:
                    self._standing.pop(event.saga, None)
                    self._ended[event.definition, event.status.value] += 1
                else:
                    self._standing[event.saga] = (event.definition, event.status)
            case CallEnded():
                kind = "compensation" if event.undo else "step"
                self._calls[event.definition, event.step, kind, event.outcome] += 1
                self._call_times.add(max(0, event.ended_ns - event.started_ns))
            case BreakerChanged():
                self._breakers[event.target] = event.state
            case SagaHeld():
                self._held.add(event.saga)
            case SagaReleased():
                self._held.discard(event.saga)
            case SagaLost():
                self._standing.pop(event.saga, None)
                self._held.discard(event.saga)
            case SagaRefused():
                self._refused += 1
            case _:
                pass

    def collect(self) -> Iterator[Metric]:
        """All families, as they are now."""
        standing = Counter(self._standing.values())
        yield gauges(
            "saga_open",
            "Sagas that have not ended, by definition and status.",
            ("definition", "status"),
            [((name, status.value), n) for (name, status), n in sorted(standing.items())],
        )
        parked = sum(status is Status.PARKED for _, status in self._standing.values())
        yield gauge("saga_parked", "Dead letters: sagas that wait for a person.", parked)
        yield gauge("saga_held", "Sagas that wait for the journal.", len(self._held))
        yield counters(
            "saga_ended",
            "Sagas that ended.",
            ("definition", "status"),
            [(labels, n) for labels, n in sorted(self._ended.items())],
        )
        yield counters(
            "saga_calls",
            "Attempts of steps and compensations.",
            ("definition", "step", "kind", "outcome"),
            [(labels, n) for labels, n in sorted(self._calls.items())],
        )
        yield histogram("saga_call_seconds", "One attempt.", self._call_times)
        yield gauges(
            "saga_breaker_open",
            "1 while a target's breaker lets nothing through, 0.5 while it finds out.",
            ("target",),
            [((target,), _OPENNESS[state]) for target, state in sorted(self._breakers.items())],
        )
        yield gauge("saga_refused", "Sagas found that cannot be run here.", self._refused)

    def describe(self) -> list[Metric]:
        """Nothing: families depend on what was seen."""
        return []


_OPENNESS = {BreakerState.CLOSED: 0.0, BreakerState.HALF_OPEN: 0.5, BreakerState.OPEN: 1.0}

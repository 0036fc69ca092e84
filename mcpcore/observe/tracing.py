"""Spans by OpenTelemetry: what nodes, clients and sagas tell about one call.

This module exists so that ``mcpcore.node.tracing`` has one implementation that the field knows. It
needs opentelemetry-api alone: which SDK takes the spans down, which of them it samples, and where
they go, is the program's own choice, and without an SDK nothing is recorded. It must never
configure an SDK.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from mcpcore import __version__
from mcpcore.node.tracing import Facts, Side, is_traceparent
from mcpcore.saga.events import CallEnded, Event, SagaChanged
from mcpcore.saga.state import Status as SagaStatus

_PROPAGATOR: Final = TraceContextTextMapPropagator()
_HEADER: Final = "traceparent"
_KINDS: Final = {
    Side.CLIENT: SpanKind.CLIENT,
    Side.SERVER: SpanKind.SERVER,
    Side.INTERNAL: SpanKind.INTERNAL,
}
SAGAS_TIMED: Final = 10_000
"""Sagas under way whose beginning is remembered, so that they have a span when they end."""


def traceparent() -> str:
    """What is current here as a W3C ``traceparent``: for ``SagaEngine.start(..., trace=...)``.

    Empty if nothing is.
    """
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get(_HEADER, "")


def _context(parent: str) -> Context | None:
    """The context to begin a child of ``parent`` in; what is current here if that is none."""
    if not is_traceparent(parent):
        return None
    return _PROPAGATOR.extract({_HEADER: parent}, otel_context.Context())


class OpenTelemetry:
    """What ``Node(..., tracing=...)`` and ``Client(..., tracing=...)`` take.

    Args:
        provider: whose tracer to use; the program's global one if None.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("mcpcore", __version__, provider)

    def span(self, name: str, side: Side, facts: Facts, parent: str = "") -> OpenSpan:
        """Begin a span: see ``mcpcore.node.tracing.Tracing``."""
        begun = self._tracer.start_span(
            f"mcpcore {name}", _context(parent), _KINDS[side], attributes=facts
        )
        return OpenSpan(begun)

    def traceparent(self) -> str:
        """What is current here; empty if nothing is."""
        return traceparent()

    def recording(self) -> bool:
        """Whether what is current here is recorded."""
        return trace.get_current_span().is_recording()

    def event(self, name: str, facts: Facts) -> None:
        """Something happened now in what is current here."""
        trace.get_current_span().add_event(name, facts)


class OpenSpan:
    """A span that was begun. Made by ``OpenTelemetry``."""

    __slots__ = ("_span",)

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def recorded(self) -> bool:
        """Whether it is recorded, and has not ended."""
        return self._span.is_recording()

    @property
    def traceparent(self) -> str:
        """Its place in the trace."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier, trace.set_span_in_context(self._span, otel_context.Context()))
        return carrier.get(_HEADER, "")

    @contextmanager
    def current(self) -> Iterator[None]:
        """Make it what is current in here."""
        with trace.use_span(self._span, record_exception=False, set_status_on_exception=False):
            yield

    def event(self, name: str, facts: Facts) -> None:
        """Something happened now."""
        self._span.add_event(name, facts)

    def end(self, facts: Facts, error: BaseException | str | None = None) -> None:
        """It is over."""
        if not self._span.is_recording():
            return
        for name, value in facts.items():
            self._span.set_attribute(name, value)
        if error is not None:
            if isinstance(error, BaseException):
                self._span.set_attribute("error.type", type(error).__qualname__)
            self._span.set_status(Status(StatusCode.ERROR, str(error) or type(error).__name__))
        self._span.end()


class SagaSpans:
    """Spans of the sagas of one engine: hand it to ``SagaEngine`` as an observer.

    Every attempt of a step or of a compensation is a span. So is a saga from where this engine has
    seen it begin or go on to where it ended or was parked, with what became of it. All of them are
    children of the trace that the saga was started in; one that was started in none has a trace for
    each of its spans.

    Args:
        provider: whose tracer to use; the program's global one if None.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("mcpcore", __version__, provider)
        self._begun_ns: dict[str, int] = {}

    def __call__(self, event: Event) -> None:
        """Hear of an event."""
        if isinstance(event, CallEnded):
            self._call(event)
        elif isinstance(event, SagaChanged):
            self._changed(event)

    def _call(self, event: CallEnded) -> None:
        ended_ns = time.time_ns()
        facts: dict[str, str | int] = {
            "mcpcore.saga": event.saga,
            "mcpcore.saga.definition": event.definition,
            "mcpcore.saga.step": event.step,
            "mcpcore.saga.attempt": event.attempt,
            "mcpcore.saga.outcome": event.outcome,
        }
        if event.target:
            facts["peer.service"] = event.target
        name = f"saga {event.definition} {'undo ' if event.undo else ''}{event.step}"
        error = (event.error or event.outcome) if event.outcome in ("failed", "unknown") else ""
        took_ns = max(0, event.ended_ns - event.started_ns)
        self._tell(name, facts, error, event.trace, ended_ns - took_ns, ended_ns)

    def _changed(self, event: SagaChanged) -> None:
        now_ns = time.time_ns()
        if not event.status.is_end and event.status is not SagaStatus.PARKED:
            if len(self._begun_ns) < SAGAS_TIMED:
                self._begun_ns.setdefault(event.saga, now_ns)
            return
        begun_ns = self._begun_ns.pop(event.saga, now_ns)
        facts = {
            "mcpcore.saga": event.saga,
            "mcpcore.saga.definition": event.definition,
            "mcpcore.saga.status": event.status.value,
        }
        error = "" if event.status is SagaStatus.COMPLETED else event.why or event.status.value
        self._tell(f"saga {event.definition}", facts, error, event.trace, begun_ns, now_ns)

    def _tell(
        self,
        name: str,
        facts: dict[str, str | int] | dict[str, str],
        error: str,
        parent: str,
        began_ns: int,
        ended_ns: int,
    ) -> None:
        context = _context(parent) or otel_context.Context()  # not whatever is current in the loop
        span = self._tracer.start_span(
            f"mcpcore {name}", context, SpanKind.INTERNAL, attributes=facts, start_time=began_ns
        )
        if error:
            span.set_status(Status(StatusCode.ERROR, error))
        span.end(ended_ns)

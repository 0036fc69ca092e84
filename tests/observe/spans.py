"""Spans kept in memory, and a cluster whose nodes tell them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from mcpcore.observe.tracing import OpenTelemetry
from tests.node.local_cluster import LocalCluster


class Spans:
    """Every span that has ended."""

    def __init__(self, **provider: Any) -> None:
        self._kept = InMemorySpanExporter()
        self.provider = TracerProvider(**provider)
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))
        self.tracing = OpenTelemetry(self.provider)

    def all(self) -> list[ReadableSpan]:
        return sorted(self._kept.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == f"mcpcore {name}"]

    async def one(self, name: str, **facts: Any) -> ReadableSpan:
        """The span of that name with these facts (without their prefix), when it has ended."""
        async with asyncio.timeout(10):
            while True:
                found = [span for span in self.named(name) if facts.items() <= told(span).items()]
                if found:
                    assert len(found) == 1, [told(span) for span in found]
                    return found[0]
                await asyncio.sleep(0.01)


def told(span: ReadableSpan) -> dict[str, Any]:
    """The facts of a span without their prefix."""
    return {name.removeprefix("mcpcore."): value for name, value in (span.attributes or {}).items()}


def events(span: ReadableSpan) -> list[str]:
    return [event.name for event in span.events]


def child_of(span: ReadableSpan, parent: ReadableSpan) -> bool:
    assert span.context is not None
    assert parent.context is not None
    return (
        span.parent is not None
        and span.parent.span_id == parent.context.span_id
        and span.context.trace_id == parent.context.trace_id
    )


@asynccontextmanager
async def traced_cluster(
    directory: Path, spans: Spans, *, untraced: str = "", **options: Any
) -> AsyncIterator[LocalCluster]:
    """Nodes a, b, c that tell spans, apart from those in ``untraced``."""
    cluster = LocalCluster(directory, **options)
    try:
        for name in cluster.addresses:
            await cluster.start(name, tracing=None if name in untraced else spans.tracing)
        yield cluster
    finally:
        await asyncio.gather(*(node.stop() for node in cluster.nodes.values()))

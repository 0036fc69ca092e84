"""Steps of sagas and decisions of policies, as parts of the traces that asked for them."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from mcpcore.errors import StepFailed
from mcpcore.node.policies.client import PolicyClient
from mcpcore.node.policies.machine import PolicyMachine
from mcpcore.observe.tracing import SagaSpans, traceparent
from mcpcore.policy import Request
from mcpcore.saga import ONCE, Call, MemoryJournal, Saga, SagaEngine, Status, Step
from tests.observe.spans import Spans, child_of, events, told, traced_cluster


async def book(call: Call) -> str:
    await asyncio.sleep(0.05)
    return "LH 720"


async def cancel(call: Call) -> None:
    return None


async def charge(call: Call) -> None:
    raise StepFailed("the card was declined")


TRIP = Saga("trip", Step(book, cancel, target="airline"), Step(charge, pivot=True, retry=ONCE))


async def run_trip(spans: Spans, trace: str) -> None:
    engine = SagaEngine(
        MemoryJournal(), [TRIP], rng=random.Random(4), observers=[SagaSpans(spans.provider)]
    )
    async with engine:
        handle = await engine.start(TRIP, None, id="t1", trace=trace)
        assert (await handle.outcome()).status is Status.COMPENSATED


async def test_every_attempt_of_a_saga_is_a_span_of_the_trace_it_was_started_in() -> None:
    spans = Spans()
    with spans.provider.get_tracer("program").start_as_current_span("order"):
        await run_trip(spans, traceparent())
    order = next(span for span in spans.all() if span.name == "order")
    booked, charged, undone, saga = (
        spans.named(f"saga trip{what}") for what in (" book", " charge", " undo book", "")
    )
    every: list[ReadableSpan] = booked + charged + undone + saga
    assert [len(each) for each in (booked, charged, undone, saga)] == [1, 1, 1, 1]
    assert all(child_of(span, order) for span in every)
    assert {told(span)["saga"] for span in every} == {"t1"}

    assert told(booked[0])["peer.service"] == "airline"
    assert booked[0].status.status_code is StatusCode.UNSET
    assert booked[0].end_time - booked[0].start_time >= 45_000_000
    assert charged[0].status.status_code is StatusCode.ERROR
    assert "declined" in (charged[0].status.description or "")
    assert told(charged[0])["saga.outcome"] == "failed"
    assert told(saga[0])["saga.status"] == "compensated"
    assert saga[0].start_time < booked[0].end_time < undone[0].end_time <= saga[0].end_time


@pytest.mark.parametrize("trace", ["", "nonsense"])
async def test_a_saga_that_was_started_in_no_trace_joins_no_strangers(trace: str) -> None:
    spans = Spans()
    with spans.provider.get_tracer("program").start_as_current_span("somebody else's"):
        await run_trip(spans, trace)
    every = [span for span in spans.all() if span.name.startswith("mcpcore saga")]
    assert len(every) == 4
    assert all(span.parent is None for span in every)


async def test_a_decision_of_a_policy_is_told_in_the_span_of_the_call_that_asked(
    tmp_path: Path,
) -> None:
    spans = Spans()
    machine = lambda group: PolicyMachine()  # noqa: E731
    async with traced_cluster(tmp_path, spans, machine=machine) as cluster:
        await cluster.leader()
        async with cluster.client() as unheard, cluster.client(tracing=spans.tracing) as client:
            await PolicyClient(unheard, "main").decide(Request("shop/a", "read", "shop/b"))
            with spans.provider.get_tracer("program").start_as_current_span("admission"):
                await PolicyClient(client, "main").decide(Request("shop/a", "read", "shop/b"))
    admission = next(span for span in spans.all() if span.name == "admission")
    answered = next(span for span in spans.named("policy") if child_of(span, admission))
    assert events(answered) == ["policy decided"]
    facts = answered.events[0].attributes
    assert facts["mcpcore.policy.allowed"] is False
    assert facts["mcpcore.policy.reason"] == "no permit matches"

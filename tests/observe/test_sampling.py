"""How many traces are kept: O10's figures, and what happens when nobody knows how things stand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.trace import Status, StatusCode

from mcpcore.errors import InvalidInput
from mcpcore.observe.sampling import (
    LIFE_S,
    AdaptiveSampler,
    ErrorShare,
    Load,
    machine_cpu,
    sampling_rate,
)
from tests.observe.spans import Spans

shares = st.floats(0, 1)


@pytest.mark.parametrize(
    ("load", "rate"),
    [
        (Load(0.2), 0.1),
        (Load(0.85), 0.1),
        (Load(0.86), 0.05),
        (Load(0.2, errors=1.0), 1.0),
        (Load(0.9, errors=1.0), 1.0),
        (Load(0.2, errors=0.5), 0.55),
    ],
)
def test_a_tenth_is_kept_half_of_it_above_85_percent_cpu_and_more_while_calls_fail(
    load: Load, rate: float
) -> None:
    assert sampling_rate(load) == pytest.approx(rate)


@given(shares, shares, shares, shares)
@settings(deadline=None)
def test_the_rate_keeps_its_bounds_and_follows_load_down_and_errors_up(
    base: float, cpu: float, errors: float, more: float
) -> None:
    rate = sampling_rate(Load(cpu, errors), base)
    assert 0.001 <= rate <= 1.0
    assert sampling_rate(Load(min(1.0, cpu + more), errors), base) <= rate
    assert sampling_rate(Load(cpu, min(1.0, errors + more)), base) >= rate


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, math.inf])
def test_a_share_that_is_none_is_refused(bad: float) -> None:
    for make in (lambda: Load(bad), lambda: Load(0, bad), lambda: AdaptiveSampler(base=bad)):
        with pytest.raises(InvalidInput):
            make()


def test_the_share_is_found_anew_every_30_s_and_the_last_good_one_stays_when_it_cannot_be(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_s, cpu = 0.0, 0.2

    def measure() -> float:
        if cpu < 0:
            raise OSError("cut off")
        return cpu

    sampler = AdaptiveSampler(cpu=measure, monotonic_s=lambda: now_s)
    assert sampler.rate == pytest.approx(0.1)
    cpu, now_s = 0.9, LIFE_S - 0.1
    assert sampler.rate == pytest.approx(0.1)
    now_s = LIFE_S
    assert sampler.rate == pytest.approx(0.05)
    cpu = -1
    for _ in range(5):
        now_s += LIFE_S
        assert sampler.rate == pytest.approx(0.05)
    assert len(caplog.records) == 1, "said once"
    cpu, now_s = 0.1, now_s + LIFE_S
    assert sampler.rate == pytest.approx(0.1)


def test_the_kept_share_of_traces_is_the_rate_and_a_call_is_kept_as_a_whole() -> None:
    spans = Spans(sampler=ParentBased(AdaptiveSampler(cpu=lambda: 0.0)))
    tracer = spans.provider.get_tracer("t")
    for _ in range(3_000):
        with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner"):
            pass
    outer, inner = (
        {span.context.trace_id for span in spans.all() if span.name == name}
        for name in ("outer", "inner")
    )
    assert outer == inner
    assert 200 < len(outer) < 400  # 300 expected; six deviations of 16


def test_failing_calls_are_counted_once() -> None:
    errors = ErrorShare()
    provider = TracerProvider()
    provider.add_span_processor(errors)
    for number in range(10):
        with provider.get_tracer("t").start_as_current_span("x") as span:
            if number < 3:
                span.set_status(Status(StatusCode.ERROR))
    assert errors() == pytest.approx(0.3)
    assert errors() == 0.0


def test_the_machine_tells_a_share() -> None:
    assert 0.0 <= machine_cpu() <= 1.0

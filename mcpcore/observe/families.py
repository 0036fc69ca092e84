"""Making metric families: the few lines that every collector would repeat.

This module exists so that names, units and labels follow one convention (prometheus.io, "Metric
and label naming"): seconds and bytes, ``_total`` for counters, a bounded set of labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from mcpcore.node.meters import BOUNDS_NS, Distribution

PREFIX = "mcpcore_"

Row = tuple[Sequence[str], float]
"""Values of the labels, and the value."""


def gauge(name: str, about: str, value: float) -> Metric:
    """What is now."""
    return GaugeMetricFamily(PREFIX + name, about, value=value)


def gauges(name: str, about: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """What is now, by labels."""
    family = GaugeMetricFamily(PREFIX + name, about, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def counter(name: str, about: str, value: float) -> Metric:
    """What was counted since the node started; ``_total`` is appended."""
    return CounterMetricFamily(PREFIX + name, about, value=value)


def counters(name: str, about: str, labels: Sequence[str], rows: Iterable[Row]) -> Metric:
    """What was counted, by labels."""
    family = CounterMetricFamily(PREFIX + name, about, labels=labels)
    for values, value in rows:
        family.add_metric(values, value)
    return family


def histogram(name: str, about: str, times: Distribution) -> Metric:
    """How long something took, in seconds."""
    buckets, below = [], 0
    for bound_ns, count in zip(BOUNDS_NS, times.counts, strict=False):
        below += count
        buckets.append((str(bound_ns / 1e9), below))
    buckets.append(("+Inf", below + times.counts[-1]))
    return HistogramMetricFamily(
        PREFIX + name, about, buckets=buckets, sum_value=times.sum_ns / 1e9
    )

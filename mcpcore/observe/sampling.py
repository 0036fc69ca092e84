"""How many traces to keep: fewer while the machine is busy, more while calls fail.

This module exists so that traces neither weigh on a node that has no time to spare nor are missing
when somebody needs them. ``sampling_rate`` decides, and knows no library; ``AdaptiveSampler`` makes
it a sampler of OpenTelemetry's SDK (extra ``mcpcore[traces]``).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, StatusCode, TraceState, get_current_span
from opentelemetry.util.types import Attributes

from mcpcore.errors import InvalidInput

logger = logging.getLogger("mcpcore.observe.sampling")

BASE: Final = 0.1
BUSY_CPU: Final = 0.85
BUSY_FACTOR: Final = 0.5
RATE_MIN: Final = 0.001
RATE_MAX: Final = 1.0
LIFE_S: Final = 30.0

_TRACE_ID_LOW: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Load:
    """How things stand.

    Args:
        cpu: the share of the processors that is in use, from 0 to 1.
        errors: the share of calls that failed lately, from 0 to 1.
    """

    cpu: float
    errors: float = 0.0

    def __post_init__(self) -> None:
        for name, share in (("cpu", self.cpu), ("errors", self.errors)):
            if not 0.0 <= share <= 1.0:
                raise InvalidInput(f"{share!r} is no share from 0 to 1", where=name)


def sampling_rate(load: Load, base: float = BASE) -> float:
    """The share of traces to keep.

    ``base``; half of it above 85 % CPU. Failing calls take it towards 1 by their share: with one
    call in ten failing, a tenth of what would be left out is kept; if all fail, all are. Never less
    than 0.001, never more than 1.
    """
    rate = base * BUSY_FACTOR if load.cpu > BUSY_CPU else base
    rate += (1.0 - rate) * load.errors
    return min(max(rate, RATE_MIN), RATE_MAX)


class ErrorShare(SpanProcessor):
    """The share of spans that ended in an error, since it was last asked.

    Hand it to the tracer provider, and to ``AdaptiveSampler`` as ``errors``. It sees the spans that
    were kept; as they are kept without regard to how they end, their share is that of all.
    """

    def __init__(self) -> None:
        self._ended = 0
        self._failed = 0

    def on_end(self, span: ReadableSpan) -> None:
        """A span has ended."""
        self._ended += 1
        self._failed += span.status.status_code is StatusCode.ERROR

    def __call__(self) -> float:
        """The share, from 0 to 1; counting starts anew."""
        ended, failed = self._ended, self._failed
        self._ended = self._failed = 0
        return failed / ended if ended else 0.0


def machine_cpu() -> float:
    """The share of this machine's processors in use: its load over the last minute, at most 1.

    Raises:
        OSError: the system does not tell.
    """
    return min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


class AdaptiveSampler(Sampler):
    """Keeps a share of the traces that follows load and errors.

    The share is found anew every 30 s. If it cannot be, the last good one stays in force. Wrap it
    in ``ParentBased``, so that a call is kept or left out as a whole.

    Args:
        cpu: the share of the processors in use.
        errors: the share of calls that failed lately.
        base: what to keep when nothing is out of the ordinary.
        monotonic_s: seconds, from any moment on.

    Raises:
        InvalidInput: ``base`` is no share from 0 to 1.
    """

    def __init__(
        self,
        *,
        cpu: Callable[[], float] = machine_cpu,
        errors: Callable[[], float] = lambda: 0.0,
        base: float = BASE,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 0.0 <= base <= 1.0:
            raise InvalidInput(f"{base!r} is no share from 0 to 1", where="base")
        self._cpu = cpu
        self._errors = errors
        self._base = base
        self._monotonic_s = monotonic_s
        self._rate = min(max(base, RATE_MIN), RATE_MAX)
        self._until_s = float("-inf")
        self._failing = False

    @property
    def rate(self) -> float:
        """The share that is kept now."""
        now_s = self._monotonic_s()
        if now_s >= self._until_s:
            self._until_s = now_s + LIFE_S
            self._renew()
        return self._rate

    def _renew(self) -> None:
        try:
            self._rate = sampling_rate(Load(self._cpu(), self._errors()), self._base)
        except Exception as error:  # noqa: BLE001 - whoever measures is not ours; the last rate stays
            if not self._failing:
                logger.warning(
                    "load and errors are not known (%s); still keeping %g", error, self._rate
                )
            self._failing = True
        else:
            self._failing = False

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Keep a trace if the lower half of its id falls within the share.

        So processes with the same share keep the same traces.
        """
        keep = (trace_id & _TRACE_ID_LOW) < self.rate * (1 << 64)
        state = get_current_span(parent_context).get_span_context().trace_state
        decision = Decision.RECORD_AND_SAMPLE if keep else Decision.DROP
        return SamplingResult(decision, attributes if keep else None, state)

    def get_description(self) -> str:
        """What it is, for people."""
        return f"AdaptiveSampler(base={self._base:g})"

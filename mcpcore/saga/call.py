"""What a step is told about its attempt, and how that travels on to the service it calls.

This module exists so that a step can be a plain function of one argument. It must never know the
engine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from mcpcore.errors import InvalidInput
from mcpcore.saga.tokens import Fence
from mcpcore.saga.values import Value

TOKEN_HEADER = "saga-token"
FENCE_HEADER = "saga-fence"
BUDGET_HEADER = "saga-budget-ms"
TRACE_HEADER = "traceparent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One attempt of a step, or of its compensation.

    Args:
        saga: the saga's id.
        step: the step's name.
        action: what is done: the step's name, with ``.undo`` if this is the compensation.
        resource: the key of what is acted on.
        token: names this effect, the same at every attempt: hand it to the service.
        do_token: in a compensation, the token of what is to be undone; else the same as ``token``.
        fence: orders the attempts: hand it to the service too.
        attempt: 1 at the first.
        input: what the saga (or this sub-saga) was started with.
        results: of the steps that are done, by their names.
        result: in a compensation, what the step returned.
        known: in a compensation, whether the step is known to be done. If not, it may have done
            something, may not have, or may still: undo it by its token, and be content to find
            nothing.
        trace: the trace context the saga was started in (W3C ``traceparent``), or empty.
    """

    saga: str
    step: str
    action: str
    resource: str
    token: str
    do_token: str
    fence: Fence
    attempt: int
    input: Any
    results: Mapping[str, Any]
    result: Any = None
    known: bool = True
    trace: str = ""
    left_s: Callable[[], float] = field(default=lambda: float("inf"), repr=False, compare=False)

    def remaining_s(self) -> float:
        """How long this attempt may still take, in seconds; never below zero."""
        return max(0.0, self.left_s())

    def headers(self) -> dict[str, str]:
        """All of this for the service, as headers of a request; ``Received`` reads them."""
        headers = {TOKEN_HEADER: self.token, FENCE_HEADER: str(self.fence)}
        left = self.remaining_s()
        if left != float("inf"):
            headers[BUDGET_HEADER] = str(int(left * 1000))
        if self.trace:
            headers[TRACE_HEADER] = self.trace
        return headers


class Received(NamedTuple):
    """What a service reads from the headers of a call."""

    token: str
    fence: Fence | None
    budget_s: float | None
    """How long the caller will wait; grant no more to whatever is called on from here."""
    trace: str

    @classmethod
    def parse(cls, headers: Mapping[str, str]) -> Received:
        """Read the headers, whatever the case of their names.

        Raises:
            InvalidInput: the token is missing, or one of them makes no sense.
        """
        lower = {name.lower(): value for name, value in headers.items()}
        token = lower.get(TOKEN_HEADER, "")
        if not token:
            raise InvalidInput("is missing", where=f"header {TOKEN_HEADER}")
        fence, budget = lower.get(FENCE_HEADER), lower.get(BUDGET_HEADER)
        if budget is not None and not (budget.isascii() and budget.isdigit() and len(budget) < 16):
            raise InvalidInput(f"{budget!r} is no time in ms", where=f"header {BUDGET_HEADER}")
        return cls(
            token,
            None if fence is None else Fence.parse(fence),
            None if budget is None else int(budget) / 1000,
            lower.get(TRACE_HEADER, ""),
        )


Action: TypeAlias = Callable[[Call], Awaitable[Value]]
"""A step or a compensation: an ``async def`` that takes the ``Call``."""

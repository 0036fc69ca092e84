"""From a wish of the coordinator to a running task: the call's facts, its time, its report.

This module exists so that what a step is told stands in one place. It must never decide what comes
after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mcpcore.errors import InvalidInput
from mcpcore.saga.call import Action, Call
from mcpcore.saga.coordinator import Want
from mcpcore.saga.definition import NoEffect, Placed, Saga
from mcpcore.saga.engine.attempt import Verdict, attempt_step, attempt_undo
from mcpcore.saga.engine.targets import Ticket
from mcpcore.saga.events import CallEnded
from mcpcore.saga.records import StepErred, UndoErred
from mcpcore.saga.state import Phase, State
from mcpcore.saga.tokens import Fence, idempotency_token

if TYPE_CHECKING:
    from mcpcore.saga.engine.driver import Driver


def resource_of(placed: Placed, given: object) -> str:
    """The key of what a step acts on.

    Raises:
        InvalidInput: the definition's function gave no key.
    """
    found = placed.step.resource
    key: Any
    try:
        key = (found or placed.name) if isinstance(found, str) else found(given)
    except Exception as error:
        raise InvalidInput(f"{error!r}", where=f"resource of step {placed.name}") from error
    if not isinstance(key, str) or not key:
        raise InvalidInput(f"{key!r} is no key", where=f"resource of step {placed.name}")
    return key


def make_call(
    saga: Saga, state: State, want: Want, fence: Fence, budget_left_s: Callable[[], float]
) -> Call | InvalidInput:
    """What an attempt is told; or why the definition's own functions could not tell."""
    placed = saga.steps[want.step]
    st = state.steps[want.step]
    try:
        given = state.begun.input
        for function in placed.given:
            given = function(given)
        resource = resource_of(placed, given)
    except InvalidInput as error:
        return error
    except Exception as error:  # noqa: BLE001 - a function of the definition's author
        return InvalidInput(f"{error!r}", where=f"input of step {want.step}")
    do_token = idempotency_token(state.saga, want.step, resource)
    action = f"{want.step}.undo" if want.undo else want.step
    token = idempotency_token(state.saga, action, resource) if want.undo else do_token
    deadline_s = placed.step.undo_timeout_s if want.undo else placed.step.timeout_s
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + deadline_s

    def left_s() -> float:
        left = ends_s - loop.time()
        return left if want.undo or placed.forward_only else min(left, budget_left_s())

    results = state.results
    if placed.scope:
        inner = {
            n[len(placed.scope) :]: v for n, v in results.items() if n.startswith(placed.scope)
        }
        results = {**results, **inner}
    return Call(
        saga=state.saga,
        step=want.step,
        action=action,
        resource=resource,
        token=token,
        do_token=do_token,
        fence=fence,
        attempt=want.attempt,
        input=given,
        results=results,
        result=st.result if want.undo else None,
        known=st.phase is Phase.DONE if want.undo else True,
        trace=state.begun.trace,
        left_s=left_s,
    )


def start_attempt(
    driver: Driver, want: Want, call: Call | InvalidInput, ticket: Ticket
) -> asyncio.Task[Verdict]:
    """A task that makes one attempt; the driver hears how it ended unless it is closing."""
    started_ns = driver.shop.time.monotonic_ns()

    def ended(task: asyncio.Task[Verdict]) -> None:
        # Here and not in the task: one that is cancelled before its first step runs no line.
        if not task.cancelled() and (bug := task.exception()) is not None:
            ticket.give_back(None)
            raise bug
        if task.cancelled():
            verdict = _cut_short(want)
        else:
            verdict = task.result()
        ticket.give_back(verdict.answered)
        if not driver.closing:
            driver.ended(want, _event(driver, want, verdict, started_ns), verdict.record)

    task = asyncio.get_running_loop().create_task(
        _make(driver, want, call), name=f"saga {driver.state.saga} {want.step}"
    )
    task.add_done_callback(ended)
    return task


def _cut_short(want: Want) -> Verdict:
    """Ended by a deadline or a cancellation. It may have happened."""
    error = "cut short"
    if want.undo:
        return Verdict(UndoErred(want.step, error, False), "unknown", None)
    return Verdict(StepErred(want.step, error, False, False), "unknown", None)


def _event(driver: Driver, want: Want, verdict: Verdict, started_ns: int) -> CallEnded:
    record = verdict.record
    return CallEnded(
        driver.state.saga,
        driver.saga.name,
        want.step,
        want.undo,
        want.attempt,
        driver.saga.steps[want.step].step.target,
        verdict.outcome,
        record.error if isinstance(record, StepErred | UndoErred) else "",
        started_ns,
        driver.shop.time.monotonic_ns(),
        driver.state.begun.trace,
    )


async def _make(driver: Driver, want: Want, call: Call | InvalidInput) -> Verdict:
    placed = driver.saga.steps[want.step]
    step, claims = placed.step, driver.shop.claims
    if isinstance(call, InvalidInput):
        text = str(call)
        if want.undo:
            return Verdict(UndoErred(want.step, text, True), "failed", None)
        return Verdict(StepErred(want.step, text, True, True), "failed", None)
    timeout_s = step.undo_timeout_s if want.undo else step.timeout_s
    if step.target:
        timeout_s = min(timeout_s, driver.shop.target(step.target).settings.fuse.timeout_s)
    if want.undo:
        undo = step.undo
        assert undo is not None
        assert not isinstance(undo, NoEffect)
        return await attempt_undo(undo, call, timeout_s, claims)
    action: Action = step.action
    return await attempt_step(action, call, timeout_s, claims, pivot=step.pivot)

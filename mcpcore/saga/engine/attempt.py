"""One attempt: calling a step or a compensation, and putting a name to how it ended.

This module exists so that the three outcomes (done, failed for certain, unknown) are told apart in
one place. It must never write to a journal, nor decide what follows.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from mcpcore.errors import CoordinationError, Rejected, StepFailed
from mcpcore.saga.call import Action, Call
from mcpcore.saga.cells.claims import Claims, Mark
from mcpcore.saga.records import (
    StepDone,
    StepErred,
    UndoDone,
    UndoErred,
    shortened,
)
from mcpcore.saga.values import settle


class Verdict(NamedTuple):
    """How an attempt ended."""

    record: StepDone | StepErred | UndoDone | UndoErred
    outcome: str
    """As in ``CallEnded``."""
    answered: bool | None
    """Whether the target did its part; None: nothing was learnt of it."""


async def attempt_step(
    action: Action, call: Call, timeout_s: float, claims: Claims | None, *, pivot: bool
) -> Verdict:
    """Call a step once. Never raises but for cancellation."""
    certain = final = False
    answered: bool | None = False
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            result, answered = await _do(action, call, claims)
        return Verdict(StepDone(call.step, result, pivot), "done", answered)
    except StepFailed as error:
        certain = final = answered = True
        text = str(error) or "it failed"
    except Rejected as error:
        certain = True
        text = _told(error)
    except _Unkept as error:
        final = answered = True
        text = str(error)
    except TimeoutError as error:
        text = f"no answer within {timeout_s:g} s" if limit.expired() else _told(error)
    except Exception as error:  # noqa: BLE001 - whatever a step raises is an outcome
        text = _told(error)
    record = StepErred(call.step, shortened(text), certain, final)
    return Verdict(record, "failed" if certain else "unknown", answered)


async def attempt_undo(
    action: Action, call: Call, timeout_s: float, claims: Claims | None
) -> Verdict:
    """Call a compensation once. Never raises but for cancellation."""
    final = False
    answered: bool | None = False
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            void, answered = await _undo(action, call, claims)
        return Verdict(UndoDone(call.step, void), "void" if void else "done", answered)
    except StepFailed as error:
        final = answered = True
        text = str(error) or "it failed"
    except TimeoutError as error:
        text = f"no answer within {timeout_s:g} s" if limit.expired() else _told(error)
    except Exception as error:  # noqa: BLE001 - whatever a compensation raises is an outcome
        text = _told(error)
    record = UndoErred(call.step, shortened(text), final)
    return Verdict(record, "failed" if final else "unknown", answered)


class _Unkept(Exception):
    """A step is done, but what it returned cannot be kept."""


async def _do(action: Action, call: Call, claims: Claims | None) -> tuple[Any, bool | None]:
    if claims is not None:
        claim = await claims.begin(call.token, call.fence)
        if claim.mark is Mark.DONE:
            return claim.result, None
        if claim.mark is Mark.BARRED:
            raise StepFailed("its compensation came first")
    returned = await action(call)
    try:
        result = settle(returned, f"result of step {call.step}")
    except CoordinationError as error:
        raise _Unkept(str(error)) from error
    if claims is not None and not await claims.finish(call.token, call.fence, result):
        raise OSError("its compensation came while it was under way")
    return result, True


async def _undo(action: Action, call: Call, claims: Claims | None) -> tuple[bool, bool | None]:
    if claims is not None:
        before = await claims.bar(call.do_token, call.fence)
        if before.mark is Mark.NONE:
            return True, None
        claim = await claims.begin(call.token, call.fence)
        if claim.mark is Mark.DONE:
            return False, None
    await action(call)
    if claims is not None:
        await claims.finish(call.token, call.fence, None)
    return False, True


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

"""What comes next in a saga: a pure function of its definition and its journal.

This module exists so that the whole argument for "every saga ends completed, compensated or parked"
sits on one screen, and so that tests can ask at every journal boundary what a restarted engine
would do. It decides; it does not do. It must never import a clock, a random source or asyncio.

The rules, after Garcia-Molina and Salem 1987 and the branch barriers of dtm:

1. Before the pivot, a step that failed for good (or a cancellation, or a deadline) turns the saga
   back, once and for ever. After the pivot, nothing turns it back.
2. Whatever may have happened is undone: what is done, and what is unknown. What was never started,
   or failed for certain, is not.
3. A step is undone when everything after it is settled, unless the definition says all at once.
4. What cannot be done, or undone, with the attempts it was given parks the saga, when nothing else
   can go on.
5. An attempt of the pivot whose outcome is unknown leaves one way only: to find out.
"""

from __future__ import annotations

from typing import NamedTuple

from mcpcore.saga.definition import Placed, Saga, UndoOrder
from mcpcore.saga.records import End, Ended, Parked, TurnedBack
from mcpcore.saga.state import Phase, State, StepState


class Want(NamedTuple):
    """An attempt to make."""

    step: str
    undo: bool
    attempt: int


class Plan(NamedTuple):
    """What to do now."""

    wants: tuple[Want, ...] = ()
    """Attempts that may be made, all at the same time."""
    stop: tuple[str, ...] = ()
    """Steps whose attempts under way are to be cut short."""
    record: TurnedBack | Parked | Ended | None = None
    """A decision to write down; then ask again."""


_NOTHING = Plan()


def decide(saga: Saga, state: State) -> Plan:
    """What comes next. The same journal always gives the same answer."""
    if state.end is not None or state.parked is not None:
        return _NOTHING
    if state.turned:
        return _backward(saga, state)
    why = _reason_to_turn(saga, state)
    if why:
        return Plan(record=TurnedBack(why))
    return _forward(saga, state)


def may_cancel(state: State, saga: Saga | None = None) -> str:
    """Why a saga cannot be cancelled; empty if it can.

    Args:
        saga: its definition, if it is known: then a pivot under way is seen too.
    """
    if state.end is not None:
        return f"it has ended: {state.end}"
    if state.turned:
        return "it is being compensated already"
    if state.pivot_passed:
        return "it is past its pivot, from where there is only forward"
    if state.parked is not None:
        return "it waits for somebody to find out what its pivot did: retry, skip or resolve it"
    if saga is not None and saga.pivot and _at_risk(state.step(saga.pivot)):
        return "its pivot is under way, and cannot be undone"
    return ""


def _reason_to_turn(saga: Saga, state: State) -> str:
    if state.pivot_passed:
        return ""
    if saga.pivot and saga.pivot in state.steps and _at_risk(state.steps[saga.pivot]):
        return ""
    done = 0
    for placed in saga.steps.values():
        st = state.steps.get(placed.name)
        if st is None:
            continue
        if st.phase is Phase.DONE:
            done += 1
        elif _hopeless(placed, st):
            return f"step {placed.name}: {st.error}"
    if done == len(saga.steps):
        return ""  # a deadline that comes after success changes nothing
    if state.cancelled is not None:
        return f"cancelled by {state.cancelled.by}: {state.cancelled.why}"
    return "its deadline passed" if state.deadline_passed else ""


def _at_risk(pivot: StepState) -> bool:
    """Whether the pivot may have happened although nobody knows it yet."""
    return pivot.phase is Phase.RUNNING or (pivot.phase is not Phase.DONE and pivot.uncertain)


def _hopeless(placed: Placed, st: StepState) -> bool:
    if st.phase is not Phase.WAITING:
        return False
    return st.final or st.attempts >= placed.step.retry.attempts


def _forward(saga: Saga, state: State) -> Plan:
    wants: list[Want] = []
    stuck: list[str] = []
    done: set[str] = set()
    for placed in saga.steps.values():
        st = state.steps.get(placed.name)
        if st is not None and st.phase is Phase.DONE:
            done.add(placed.name)
        elif st is not None and st.phase is Phase.RUNNING:
            continue
        elif st is not None and _hopeless(placed, st):
            stuck.append(placed.name)
        elif done.issuperset(placed.after):
            wants.append(Want(placed.name, False, 1 if st is None else st.attempts + 1))
    if wants or state.running:
        return Plan(tuple(wants))
    if stuck:
        return Plan(record=Parked("cannot go on, and cannot go back", tuple(stuck)))
    assert len(done) == len(saga.steps), "nothing to do, and not done"
    return Plan(record=Ended(End.COMPLETED, "", ""))


def _backward(saga: Saga, state: State) -> Plan:
    wants: list[Want] = []
    stuck: list[str] = []
    under_way: list[str] = []
    blocked: set[str] = set()
    for placed in reversed(tuple(saga.steps.values())):
        name = placed.name
        st = state.steps.get(name)
        settled = st is None or not (st.needs_undo and placed.can_undo)
        if st is not None and st.phase is Phase.RUNNING:
            under_way.append(name)
            settled = False
        elif st is not None and not settled and st.undo is not Phase.RUNNING:
            if st.undo_final or st.undo_attempts >= placed.step.undo_retry.attempts:
                stuck.append(name)
            elif name not in blocked or saga.undo_order is UndoOrder.PARALLEL:
                wants.append(Want(name, True, st.undo_attempts + 1))
        if not settled or name in blocked:
            blocked.update(placed.after)
    if wants or state.running:
        hurry = state.cancelled is not None or state.deadline_passed
        return Plan(tuple(wants), tuple(under_way) if hurry else ())
    if stuck:
        return Plan(record=Parked("compensation failed", tuple(reversed(stuck))))
    return Plan(record=Ended(End.COMPENSATED, "", ""))


def deadline_counts(state: State) -> bool:
    """Whether a deadline still means anything to a saga."""
    return not (
        state.begun.budget_ns == 0
        or state.end is not None
        or state.turned
        or state.pivot_passed
        or state.deadline_passed
        or state.parked is not None
    )

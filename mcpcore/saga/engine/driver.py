"""One saga at work: a loop around the coordinator.

This module exists so that the order of acting stands on one screen: fold what happened, ask the
coordinator, *write it down, then act*. No attempt begins before its record is durable, and so a
crash at any point leaves a journal that says what may have happened. It takes no decision about the
saga: if a rule of sagas shows up here, it is in the wrong place.
"""

from __future__ import annotations

import asyncio
import logging

from mcpcore.errors import (
    CoordinationError,
    JournalMoved,
    JournalUnavailable,
    TargetUnavailable,
)
from mcpcore.saga.budget import is_spent
from mcpcore.saga.coordinator import Want, deadline_counts, decide
from mcpcore.saga.definition import Saga
from mcpcore.saga.engine.attempt import Verdict
from mcpcore.saga.engine.calls import make_call, start_attempt
from mcpcore.saga.engine.gates import Gates, Key
from mcpcore.saga.engine.targets import Ticket
from mcpcore.saga.engine.waiting import Stopwatch, take_locks
from mcpcore.saga.engine.workshop import Workshop
from mcpcore.saga.events import (
    CallEnded,
    SagaChanged,
    SagaHeld,
    SagaLost,
    SagaReleased,
)
from mcpcore.saga.journals.contract import head_of
from mcpcore.saga.records import (
    CancelAsked,
    DeadlinePassed,
    Entry,
    Record,
    StepDone,
    StepErred,
    StepStarted,
    Taken,
    UndoDone,
    UndoErred,
    UndoStarted,
    decode_entries,
    encode_entries,
)
from mcpcore.saga.state import Phase, State, Status, interval_of
from mcpcore.saga.tokens import Fence

logger = logging.getLogger("mcpcore.saga")

_OUTCOMES = (StepDone, StepErred, UndoDone, UndoErred)
_FACTS = (*_OUTCOMES, DeadlinePassed, CancelAsked)
_HOLD_PAUSE_S = 0.25
_LET_GO_S = 10.0


class Lost(Exception):
    """Another engine runs this saga now, or somebody ended it by hand."""


class Driver:
    """Runs one saga to its end, or until it is stopped.

    Args:
        state: what its journal says; nothing for a new saga.
        opening: the first record to write: ``Started``, ``Taken`` or ``Migrated``s and ``Taken``.
    """

    def __init__(self, shop: Workshop, saga: Saga, state: State, opening: list[Record]) -> None:
        self.shop = shop
        self.saga = saga
        self.state = state
        self.waiters: list[asyncio.Future[State]] = []
        """Told when it has ended or is parked."""
        self.closing = False
        self.written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the opening is durable."""
        self._unwritten: list[Entry] = []
        self._launch: list[tuple[Want, Ticket]] = []
        self._calls: dict[Key, asyncio.Task[Verdict]] = {}
        self._stopped: set[Key] = set()
        self._not_before_ns: dict[Key, int] = {}
        self._facts: list[Record] = []
        self._news = asyncio.Event()
        self._gates = Gates(self._news.set)
        self._reread = False
        self._waker: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._fence = Fence(0, 0)
        resumed = sum(each.unwatched_ns for each in opening if isinstance(each, Taken))
        self._watch = Stopwatch(shop.time, state.last.spent_ns + resumed)
        self._told: Status | None = None
        self._locked = False
        self._locking: asyncio.Task[None] | None = None
        for record in opening:
            self._note(record)

    # --- from outside ---------------------------------------------------------------------------

    def look_again(self) -> None:
        """Somebody else wrote to the journal."""
        self._reread = True
        self._news.set()

    async def run(self) -> None:
        """Run until the saga has ended.

        Raises:
            Lost: it is not ours any more. JournalDamaged, EngineReplaced: as they say.
        """
        try:
            self._arm_deadline()
            while True:
                self._advance()
                if self._unwritten:
                    await self._write()
                self._act()
                self._tell_status()
                if self.state.status.is_end:
                    break
                await self._news.wait()
                self._news.clear()
                await self._take_in()
            await self._release_locks()
        except BaseException as error:
            if not self.written.done():
                if isinstance(error, asyncio.CancelledError):
                    self.written.cancel()
                else:
                    self.written.set_exception(error)
            raise
        finally:
            await self._let_go()

    def budget_left_s(self) -> float:
        """What is left of the saga's budget, in seconds; infinite without a deadline."""
        budget_ns = self.state.begun.budget_ns
        return (budget_ns - self._watch.spent_ns()) / 1e9 if budget_ns else float("inf")

    # --- deciding what to write -----------------------------------------------------------------

    def _note(self, record: Record) -> None:
        entry = self.shop.entry(record, self._watch.spent_ns())
        self.state.apply(entry)
        self._unwritten.append(entry)

    def _advance(self) -> None:
        """Ask the coordinator until it has nothing more to say at the moment."""
        while True:
            plan = decide(self.saga, self.state)
            if plan.record is not None:
                self._note(plan.record)
                continue
            for step in plan.stop:
                call = self._calls.get((step, False))
                if call is not None:
                    self._stop((step, False), call)
            self._gates.drop(but={(want.step, want.undo) for want in plan.wants})
            refusals = [self._admit(want) for want in plan.wants]
            if not any(refusals):
                return

    def _admit(self, want: Want) -> bool:
        """Let an attempt begin if it may now; else see to it that we hear when. True: refused."""
        key = (want.step, want.undo)
        step = self.saga.steps[want.step].step
        if not self._may_begin(want) or key in self._gates:
            return False
        try:
            held = self._gates.answer(key)
            if held is None and not step.target:
                held = Ticket(None)
            if held is None:
                target = self.shop.target(step.target)
                if not want.undo and want.attempt > 1:
                    if not target.retries.withdraw(self.shop.time.monotonic_ns()):
                        raise _spent(step.target)
                elif not want.undo:
                    target.retries.called()
                held = self._gates.enter(key, target, patiently=want.undo)
            if held is None:
                return False
        except TargetUnavailable as error:
            self._refused(want, error)
            return True
        self._note(
            UndoStarted(want.step, want.attempt) if want.undo
            else StepStarted(want.step, want.attempt)
        )  # fmt: skip
        self._launch.append((want, held))
        return False

    def _refused(self, want: Want, error: TargetUnavailable) -> None:
        retry = self.saga.steps[want.step].step.retry
        final = want.attempt >= retry.attempts or error.why == _SPENT
        self._note(StepErred(want.step, f"{type(error).__name__}: {error}", True, final))
        self._pause(want)

    def _may_begin(self, want: Want) -> bool:
        key = (want.step, want.undo)
        if not want.undo and not self._have_locks():
            return False
        wait_ns = self._not_before_ns.get(key, 0) - self.shop.time.monotonic_ns()
        if wait_ns <= 0:
            self._not_before_ns.pop(key, None)
            return True
        self._wake_in(wait_ns / 1e9)
        return False

    def _pause(self, want: Want) -> None:
        step = self.saga.steps[want.step].step
        retry = step.undo_retry if want.undo else step.retry
        pause_s = retry.pause_s(want.attempt, self.shop.rng.random())
        at_ns = self.shop.time.monotonic_ns() + round(pause_s * 1e9)
        self._not_before_ns[want.step, want.undo] = at_ns

    # --- writing, then acting -------------------------------------------------------------------

    async def _write(self) -> None:
        """Make what was noted durable. While the journal does not answer, the saga is held."""
        rows = encode_entries(self._unwritten)
        while True:
            expected = self.state.length - len(rows)
            try:
                self._fence = await self.shop.journal.append(head_of(self.state), expected, rows)
                break
            except JournalUnavailable as error:
                if not self._watch.is_held:
                    self._watch.hold()
                    self.shop.tell(SagaHeld(self.state.saga, str(error)))
                await asyncio.sleep(_HOLD_PAUSE_S * (0.5 + self.shop.rng.random()))
            except JournalMoved:
                if not self.written.done():
                    raise
                await self._adopt()
                break
        self._unwritten.clear()
        if self._watch.is_held:
            held_ns = self._watch.go_on()
            self.shop.tell(SagaReleased(self.state.saga, held_ns))
            self._arm_deadline()
        if not self.written.done():
            self.written.set_result(None)

    async def _adopt(self) -> None:
        """Somebody else wrote first: take that in, and keep what has happened here."""
        facts = [e.record for e in self._unwritten if isinstance(e.record, _FACTS)]
        for want, ticket in self._launch:
            ticket.give_back(None)
            self._not_before_ns.pop((want.step, want.undo), None)
        self._launch.clear()
        self._unwritten.clear()
        self._facts = facts + self._facts
        self._news.set()
        # What is in memory holds records that were never written: nothing may follow from it.
        while not await self._read_again(anyway=True):  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(_HOLD_PAUSE_S)

    async def _read_again(self, *, anyway: bool = False) -> bool:
        """Become what the journal says, if it says anything new; False if it does not answer."""
        saga = self.state.saga
        try:
            story = await self.shop.journal.read(saga)
        except JournalUnavailable:
            return False
        self._reread = False
        if story is None:
            raise Lost("it was deleted")
        if anyway or story.head.length != self.state.length:
            self.state = State.replay(saga, decode_entries(story.rows))
        if self.state.owner != self.shop.owner:
            self.shop.tell(SagaLost(saga, self.state.owner))
            raise Lost(self.state.owner)
        return True

    def _act(self) -> None:
        """Begin the attempts whose records are durable now."""
        launch, self._launch = self._launch, []
        for want, ticket in launch:
            key = (want.step, want.undo)
            call = make_call(self.saga, self.state, want, self._fence, self.budget_left_s)
            self._calls[key] = start_attempt(self, want, call, ticket)
        for key, task in list(self._calls.items()):
            if not self._is_running(key):
                self._stop(key, task)  # somebody else ended it in the journal

    def _is_running(self, key: Key) -> bool:
        st = self.state.steps.get(key[0])
        return st is not None and (st.undo if key[1] else st.phase) is Phase.RUNNING

    def _stop(self, key: Key, call: asyncio.Task[Verdict]) -> None:
        if key not in self._stopped:  # a second cancellation would hit what cleans up
            self._stopped.add(key)
            call.cancel()

    def ended(self, want: Want, event: CallEnded, record: Record) -> None:
        """An attempt has ended."""
        key = (want.step, want.undo)
        self._calls.pop(key, None)
        self._stopped.discard(key)
        if isinstance(record, StepErred | UndoErred):
            self._pause(want)
        self._facts.append(record)
        self.shop.tell(event)
        self._news.set()

    async def _take_in(self) -> None:
        """Fold what happened since."""
        if self._reread and not await self._read_again():
            self._wake_in(_HOLD_PAUSE_S)
            return
        facts, self._facts = self._facts, []
        for fact in facts:
            stale = isinstance(fact, _OUTCOMES) and not self._is_running(_key_of(fact))
            if not stale and not self.state.status.is_end:
                self._note(fact)

    # --- locks, time, and telling ---------------------------------------------------------------

    def _have_locks(self) -> bool:
        if self._locked or self.state.turned:
            return True
        names = self.saga.locks_of(self.state.begun.input)
        if not names:
            self._locked = True
            return True
        if self._locking is None:
            locking = self._take_locks(names)
            self._locking = asyncio.get_running_loop().create_task(locking)
        return False

    async def _take_locks(self, names: tuple[str, ...]) -> None:
        refused = await take_locks(self.shop, self.state.saga, names)
        if refused is None:
            self._locked = True
        else:
            self._facts.append(CancelAsked("the engine", str(refused)))
        self._locking = None
        self._news.set()

    async def _release_locks(self) -> None:
        names = self.saga.locks_of(self.state.begun.input) if self.saga.locks else ()
        if names and self.shop.locks is not None:
            try:
                await self.shop.locks.release(names, self.state.saga)
            except CoordinationError as error:  # whoever wants them next finds that we ended
                logger.warning("saga %s: locks not released: %s", self.state.saga, error)

    def _arm_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        if deadline_counts(self.state):
            loop = asyncio.get_running_loop()
            delay_s = max(0.001, self.budget_left_s())
            self._deadline = loop.call_later(delay_s, self._check_deadline)

    def _check_deadline(self) -> None:
        if self._watch.is_held or not deadline_counts(self.state):
            return
        state, spent_ns = self.state, self._watch.spent_ns()
        started, now = interval_of(state.started_at), self.shop.time.cluster()
        if is_spent(state.begun.budget_ns, spent_ns, started=started, now=now):
            self._facts.append(DeadlinePassed(spent_ns))
            self._news.set()
        else:
            self._arm_deadline()

    def _wake_in(self, delay_s: float) -> None:
        """Look again after a while at the latest."""
        loop = asyncio.get_running_loop()
        at = loop.time() + delay_s
        if self._waker is not None and loop.time() < self._waker.when() <= at:
            return
        if self._waker is not None:
            self._waker.cancel()
        self._waker = loop.call_at(at, self._news.set)

    def _tell_status(self) -> None:
        state = self.state
        status = state.status
        if status is self._told:
            return
        self._told = status
        why = f"{state.parked.why}: {', '.join(state.stuck)}" if state.parked else state.why
        self.shop.tell(SagaChanged(state.saga, self.saga.name, status, why, state.begun.trace))
        if status is Status.PARKED:
            parked = {"saga": state.saga, "definition": self.saga.name, "status": status.value}
            logger.error(
                "saga %s is parked: %s. See `mcpctl saga show`", state.saga, why, extra=parked
            )
        if status.is_end or status is Status.PARKED:
            waiters, self.waiters = self.waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(state)

    async def _let_go(self) -> None:
        self.closing = True
        for timer in (self._waker, self._deadline):
            if timer is not None:
                timer.cancel()
        self._gates.drop()
        for _, ticket in self._launch:
            ticket.give_back(None)
        tasks = [*self._calls.values(), *([self._locking] if self._locking else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=_LET_GO_S)
            for task in left:
                logger.error("%s does not end although it was cancelled", task.get_name())


_SPENT = "its retry budget is spent"


def _spent(target: str) -> TargetUnavailable:
    return TargetUnavailable(target, _SPENT)


def _key_of(outcome: Record) -> Key:
    assert isinstance(outcome, _OUTCOMES)
    return outcome.step, isinstance(outcome, UndoDone | UndoErred)

"""The engine: starts sagas, takes up those that were left, and answers for them.

This module exists so that a program has one thing to make, enter and ask. It gives every saga a
driver, and holds no rule of sagas itself.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from mcpcore.errors import (
    CoordinationError,
    DefinitionChanged,
    EngineFull,
    InvalidInput,
    JournalMoved,
    JournalUnavailable,
    SagaExists,
    UnknownSaga,
)
from mcpcore.saga import operations
from mcpcore.saga.budget import unwatched_ns
from mcpcore.saga.cells.claims import Claims
from mcpcore.saga.cells.contract import Cells
from mcpcore.saga.cells.locks import Locks
from mcpcore.saga.definition import Saga
from mcpcore.saga.engine.definitions import Definitions, check_migration
from mcpcore.saga.engine.driver import Driver, Lost
from mcpcore.saga.engine.outcome import Outcome, outcome_of
from mcpcore.saga.engine.targets import TargetSettings
from mcpcore.saga.engine.time import SystemTime, Time
from mcpcore.saga.engine.workshop import Workshop
from mcpcore.saga.events import Observer, SagaRefused, SagaTaken
from mcpcore.saga.journals.contract import OPEN, Head, Journal, Query, check_saga_id
from mcpcore.saga.records import End, Migrated, Record, Remedy, Started, Taken
from mcpcore.saga.state import State, Status, interval_of
from mcpcore.saga.values import settle

logger = logging.getLogger("mcpcore.saga")

_ASK_AGAIN_S = 0.25


class Handle:
    """A saga that was started. Dropping it, or cancelling a wait on it, leaves the saga be."""

    __slots__ = ("_engine", "id")

    def __init__(self, engine: SagaEngine, saga: str) -> None:
        self.id = saga
        self._engine = engine

    async def outcome(self) -> Outcome:
        """Wait until it has ended, here or on another node, or waits in the dead-letter queue."""
        return await self._engine.outcome(self.id)

    async def state(self) -> State:
        """The saga as it is now."""
        return await self._engine.state(self.id)


class SagaEngine:
    """Runs sagas. Use it as an asynchronous context manager.

    Args:
        journal: where sagas are kept; the engine opens and closes it.
        definitions: what can be run here; several versions of one may be among them.
        name: of this engine; a restarted engine takes up the sagas of its name at once.
        cells: where locks are kept, and claims if ``claim`` says so; needed by locks.
        claim: mark every effect in ``cells`` before it is carried out.
        targets: how services are treated, by their names in the steps.
        observers: told of everything that happens.
        time: where the time is read.
        rng: source of randomness for ids and pauses.
        sagas_max: so many may be under way or parked here; starting more is refused.
        lock_patience_s: how long a saga waits for a resource that is locked.

    Raises:
        InvalidInput: two definitions have the same version, or one locks and there are no cells.
    """

    def __init__(
        self,
        journal: Journal,
        definitions: Iterable[Saga],
        *,
        name: str = "engine",
        cells: Cells | None = None,
        claim: bool = False,
        targets: Mapping[str, TargetSettings] | None = None,
        observers: Iterable[Observer] = (),
        time: Time | None = None,
        rng: random.Random | None = None,
        sagas_max: int = 10_000,
        lock_patience_s: float = 30.0,
    ) -> None:
        self.name = name
        self._journal = journal
        self._definitions = Definitions(definitions, has_cells=cells is not None)
        if claim and cells is None:
            raise InvalidInput("claims need cells to be kept in", where="cells")
        self._rng = rng or random.SystemRandom()
        self._shop = Workshop(
            owner=f"{name}#{self._rng.getrandbits(48):012x}",
            journal=journal,
            time=time or SystemTime(),
            rng=self._rng,
            claims=Claims(cells) if claim and cells is not None else None,
            locks=Locks(cells, self._has_ended) if cells is not None else None,
            settings=targets or {},
            observers=list(observers),
            lock_patience_s=lock_patience_s,
        )
        self._sagas_max = sagas_max
        self._drivers: dict[str, Driver] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._chores: list[asyncio.Task[None]] = []
        self._refused: dict[str, CoordinationError] = {}
        self._open = False

    # --- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Begin to work, and take up what was left."""
        await self._journal.open(self._shop.owner)
        self._open = True
        await self._patrol(same_name=True)
        loop = asyncio.get_running_loop()
        self._chores.append(loop.create_task(self._listen(), name="saga listen"))
        if self._journal.patrol_s is not None:
            self._chores.append(loop.create_task(self._patrol_always(), name="saga patrol"))

    async def close(self) -> None:
        """Stop. Sagas under way stay in the journal, for whoever opens it next."""
        self._open = False
        tasks = [*self._chores, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._chores.clear()
        await self._journal.close()

    # --- what a program uses --------------------------------------------------------------------

    @property
    def owner(self) -> str:
        """The name of this life of the engine, as journals have it."""
        return self._shop.owner

    @property
    def running(self) -> tuple[str, ...]:
        """Ids of the sagas that this engine runs, those parked included."""
        return tuple(self._drivers)

    @property
    def refused(self) -> Mapping[str, CoordinationError]:
        """Sagas that were found and cannot be run here, and why."""
        return self._refused

    async def start(
        self,
        saga: Saga,
        value: Any = None,
        *,
        id: str = "",
        budget_s: float | None = None,
        trace: str = "",
    ) -> Handle:
        """Start a saga; it is in the journal when this returns, and will end whatever happens.

        Starting the same again (id, definition and input) gives the saga that is there.

        Args:
            value: its input; plain values only.
            id: unique in the journal; one is drawn if it is left out.
            budget_s: how long the caller will wait; the saga's deadline is no longer than that.
            trace: the trace context, for spans (W3C ``traceparent``).

        Raises:
            SagaExists: the id is taken by another saga.
            EngineFull: too many sagas are under way; nothing was started.
            InvalidInput: the definition is not this engine's, or an argument makes no sense.
            EngineReplaced: another engine has the journal now.

        While the journal does not answer, this waits. Bound your wait (``asyncio.timeout``): the
        saga may begin later, and starting the same again, under the same id, gives that one.
        """
        assert self._open, "the engine is not open"
        if saga not in self._definitions:
            raise InvalidInput(f"{saga} is none of this engine's definitions", where="start")
        if len(self._drivers) >= self._sagas_max:
            raise EngineFull(self._sagas_max)
        saga_id = check_saga_id(id or f"{saga.name}-{self._rng.getrandbits(64):016x}")
        value = settle(value, "input")
        saga.locks_of(value)
        if budget_s is not None and not 0 < budget_s < 1e9:
            raise InvalidInput(f"{budget_s!r} s is no budget", where="budget_s")
        limits_s = [limit for limit in (saga.deadline_s, budget_s) if limit is not None]
        budget_ns = max(1, round(min(limits_s) * 1e9)) if limits_s else 0
        started = Started(saga.name, saga.version, value, self.owner, budget_ns, trace)
        if saga_id in self._drivers:
            return await self._existing(saga_id, started)
        driver = self._drive(saga, State(saga_id), [started])
        try:
            await asyncio.shield(driver.written)
        except JournalMoved:
            return await self._existing(saga_id, started)
        return Handle(self, saga_id)

    async def run(self, saga: Saga, value: Any = None, **options: Any) -> Outcome:
        """Start a saga and wait for its outcome; ``options`` as for ``start``."""
        return await (await self.start(saga, value, **options)).outcome()

    async def outcome(self, saga: str) -> Outcome:
        """Wait until a saga has ended, here or on another node, or is parked.

        Raises:
            UnknownSaga: there is none. DefinitionChanged: it cannot be run here.
        """
        while True:
            driver = self._drivers.get(saga)
            if driver is not None and not driver.state.status.is_end and not driver.state.parked:
                waiter: asyncio.Future[State] = asyncio.get_running_loop().create_future()
                driver.waiters.append(waiter)
                task = self._tasks[saga]
                both: set[asyncio.Future[Any]] = {waiter, task}
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if waiter.done():
                    return outcome_of(waiter.result())
                continue
            state = await self.state(saga)
            if state.status.is_end or state.parked is not None:
                return outcome_of(state)
            if saga in self._refused:
                raise self._refused[saga]
            await asyncio.sleep(_ASK_AGAIN_S)

    async def state(self, saga: str) -> State:
        """A saga as its journal has it. Raises UnknownSaga."""
        return await operations.read_state(self._journal, saga)

    async def find(self, query: Query) -> list[Head]:
        """Sagas by state, definition, age: see ``Query``."""
        return await self._journal.heads(query)

    # --- what an operator uses ------------------------------------------------------------------

    async def cancel(self, saga: str, *, by: str = "the program", why: str = "") -> None:
        """Have a saga undone; returns when that is in the journal. Raises SagaActionRefused."""
        await self._operate(saga, lambda state: operations.cancel(state, by=by, why=why))

    async def retry(self, saga: str, *, by: str = "the program", note: str = "") -> None:
        """Have a parked saga try again what it is stuck at. Raises SagaActionRefused."""
        await self._operate(
            saga, lambda state: operations.unpark(state, Remedy.RETRY, by=by, note=note)
        )

    async def skip(self, saga: str, *, by: str = "the program", note: str = "") -> None:
        """Count what a parked saga is stuck at as done. Raises SagaActionRefused."""
        await self._operate(
            saga, lambda state: operations.unpark(state, Remedy.SKIP, by=by, note=note)
        )

    async def resolve(
        self, saga: str, end: End, *, note: str, by: str = "the program", force: bool = False
    ) -> None:
        """End a saga by hand. Raises SagaActionRefused."""
        await self._operate(
            saga, lambda state: operations.resolve(state, end, by=by, note=note, force=force)
        )

    async def prune(self, *, keep_s: float, limit: int = 1000) -> int:
        """Forget sagas that ended long ago; parked ones are never forgotten.

        Args:
            keep_s: how long a saga is kept after its end.
            limit: forget so many at most, the oldest first.

        Returns:
            How many were forgotten.

        HAZARD: ages are by the system clock where there is no cluster's: a clock set ahead forgets
        early. Sagas that have not ended are safe from it.
        """
        cluster = self._shop.time.cluster()
        now_ns = cluster.earliest_ns if cluster else self._shop.time.wall_ns()
        before_ns = now_ns - round(keep_s * 1e9)
        ended = (Status.COMPLETED, Status.COMPENSATED)
        query = Query(status=ended, started_before_ns=before_ns, limit=limit)
        old = [head for head in await self._journal.heads(query) if head.changed_ns < before_ns]
        for head in old:
            await self._journal.delete(head.saga)
        return len(old)

    # --- inside ---------------------------------------------------------------------------------

    async def _operate(self, saga: str, make: Any) -> None:
        await operations.write(
            self._journal, saga, make, lambda record: self._shop.entry(record, 0)
        )
        driver = self._drivers.get(saga)
        if driver is not None:
            driver.look_again()

    async def _existing(self, saga_id: str, wanted: Started) -> Handle:
        driver = self._drivers.get(saga_id)
        if driver is not None:
            try:
                await asyncio.shield(driver.written)
            except JournalMoved:  # it is on its way out: the saga is somebody else's
                driver = None
        begun = driver.state.begun if driver else (await self.state(saga_id)).begun
        if (begun.definition, begun.input) != (wanted.definition, wanted.input):
            raise SagaExists(saga_id, begun.definition)
        return Handle(self, saga_id)

    async def _has_ended(self, saga: str) -> bool:
        try:
            return (await self.state(saga)).status.is_end
        except UnknownSaga:
            return True

    def _drive(self, saga: Saga, state: State, opening: list[Record]) -> Driver:
        driver = Driver(self._shop, saga, state, opening)
        self._drivers[state.saga] = driver
        task = asyncio.get_running_loop().create_task(
            self._look_after(driver), name=f"saga {state.saga}"
        )
        self._tasks[state.saga] = task
        return driver

    async def _look_after(self, driver: Driver) -> None:
        saga = driver.state.saga
        try:
            await driver.run()
        except (Lost, JournalMoved):
            pass  # somebody else goes on with it; whoever waits asks the journal
        except CoordinationError as error:
            self._refuse(saga, error)
        except Exception as bug:
            logger.exception("saga %s: a bug of ours; it stays as its journal has it", saga)
            self._refuse(saga, CoordinationError(f"saga {saga}: {bug!r}"))
        finally:
            if driver.written.done() and not driver.written.cancelled():
                driver.written.exception()  # whoever started it has it, or is gone
            if self._drivers.get(saga) is driver:
                del self._drivers[saga], self._tasks[saga]

    def _refuse(self, saga: str, error: CoordinationError) -> None:
        logger.error("saga %s: %s", saga, error)
        self._refused[saga] = error
        self._shop.tell(SagaRefused(saga, str(error)))

    async def _listen(self) -> None:
        """Hear of sagas that somebody else wrote to."""
        while True:
            try:
                sagas = await self._journal.disturbed()
            except CoordinationError as error:
                logger.warning("saga journal: %s", error)
                await asyncio.sleep(_ASK_AGAIN_S)
                continue
            for saga in sagas:
                driver = self._drivers.get(saga)
                if driver is not None:
                    driver.look_again()

    async def _patrol_always(self) -> None:
        assert self._journal.patrol_s is not None
        while True:
            await asyncio.sleep(self._journal.patrol_s * (0.75 + self._rng.random() / 2))
            try:
                await self._patrol(same_name=False)
            except CoordinationError as error:
                logger.warning("looking for sagas without an engine: %s", error)

    async def _patrol(self, *, same_name: bool) -> None:
        """Take up every saga whose engine is gone."""
        heads = [
            head
            for head in await self._journal.heads(OPEN)
            if head.owner != self.owner and head.saga not in self._drivers
        ]
        if not heads:
            return
        gone = await self._journal.gone({head.owner for head in heads})
        if same_name:  # an earlier life of ours is over, whatever it looks like from outside
            gone |= {head.owner for head in heads if head.owner.rpartition("#")[0] == self.name}
        for head in heads:
            if head.owner in gone:
                await self._take(head)

    async def _take(self, head: Head) -> None:
        try:
            saga, migration = self._definitions.find(head)
        except DefinitionChanged as error:
            if head.saga not in self._refused:
                self._refuse(head.saga, error)
            return
        try:
            state = await operations.read_state(self._journal, head.saga)
            if state.status.is_end or state.owner != head.owner:
                return
            now = self._shop.time.cluster()
            passed_ns = unwatched_ns(interval_of(state.last), now)
            opening: list[Record] = [Taken(self.owner, passed_ns)]
            if migration is not None:
                opening.insert(0, Migrated(saga.version, dict(migration.rename)))
                check_migration(saga, state, migration)
            driver = self._drive(saga, state, opening)
            await asyncio.shield(driver.written)
        except JournalMoved:
            # Another engine was faster, or an operator wrote: the next patrol, or this one, sees.
            if (await operations.read_state(self._journal, head.saga)).owner == head.owner:
                await self._take(head)
            return
        except (DefinitionChanged, JournalUnavailable, UnknownSaga) as error:
            self._refuse(head.saga, error)
            return
        self._refused.pop(head.saga, None)
        self._shop.tell(SagaTaken(head.saga, saga.name, head.owner))

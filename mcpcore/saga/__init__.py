"""Sagas: long work over several services that ends done, undone, or in front of a person.

This package exists so that a program writes steps as plain ``async def`` functions and need not
think about crashes. What decides (``coordinator``, ``state``, ``definition``, ``budget``,
``breaker``) is pure; what acts is in ``engine``, ``journals`` and ``cells``.
"""

from mcpcore.errors import StepFailed
from mcpcore.saga.backoff import ONCE, PATIENT, Retry, RetryBudget
from mcpcore.saga.breaker import FUSE_3S, FUSE_8S, Breaker, BreakerState, Fuse
from mcpcore.saga.call import Call, Received
from mcpcore.saga.cells.claims import Claim, Claims, Mark
from mcpcore.saga.cells.contract import Cells
from mcpcore.saga.cells.locks import Locks
from mcpcore.saga.cells.memory import MemoryCells
from mcpcore.saga.cells.redis import RedisCells
from mcpcore.saga.cells.sqlite import SqliteCells
from mcpcore.saga.coordinator import Plan, Want, decide
from mcpcore.saga.definition import (
    NO_EFFECT,
    Migration,
    Parallel,
    Saga,
    Step,
    SubSaga,
    UndoOrder,
)
from mcpcore.saga.engine.engine import Handle, SagaEngine
from mcpcore.saga.engine.outcome import Outcome
from mcpcore.saga.engine.targets import TargetSettings
from mcpcore.saga.engine.time import SystemTime, Time
from mcpcore.saga.events import (
    BreakerChanged,
    CallEnded,
    Event,
    LockWaited,
    Observer,
    SagaChanged,
    SagaHeld,
    SagaLost,
    SagaRefused,
    SagaReleased,
    SagaTaken,
)
from mcpcore.saga.journals.contract import OPEN, Head, Journal, Query, Story
from mcpcore.saga.journals.memory import MemoryJournal
from mcpcore.saga.journals.sqlite import SqliteJournal
from mcpcore.saga.local_effects import POSTGRESQL, SQLITE, Dialect, LocalEffects, Message
from mcpcore.saga.records import End, Remedy
from mcpcore.saga.state import Phase, State, Status
from mcpcore.saga.tokens import Fence, FenceGate, idempotency_token
from mcpcore.saga.values import Value

__all__ = [
    "FUSE_3S",
    "FUSE_8S",
    "NO_EFFECT",
    "ONCE",
    "OPEN",
    "PATIENT",
    "POSTGRESQL",
    "SQLITE",
    "Breaker",
    "BreakerChanged",
    "BreakerState",
    "Call",
    "CallEnded",
    "Cells",
    "Claim",
    "Claims",
    "Dialect",
    "End",
    "Event",
    "Fence",
    "FenceGate",
    "Fuse",
    "Handle",
    "Head",
    "Journal",
    "LocalEffects",
    "LockWaited",
    "Locks",
    "Mark",
    "MemoryCells",
    "MemoryJournal",
    "Message",
    "Migration",
    "Observer",
    "Outcome",
    "Parallel",
    "Phase",
    "Plan",
    "Query",
    "Received",
    "RedisCells",
    "Remedy",
    "Retry",
    "RetryBudget",
    "Saga",
    "SagaChanged",
    "SagaEngine",
    "SagaHeld",
    "SagaLost",
    "SagaRefused",
    "SagaReleased",
    "SagaTaken",
    "SqliteCells",
    "SqliteJournal",
    "State",
    "Status",
    "Step",
    "StepFailed",
    "Story",
    "SubSaga",
    "SystemTime",
    "TargetSettings",
    "Time",
    "UndoOrder",
    "Value",
    "Want",
    "decide",
    "idempotency_token",
]

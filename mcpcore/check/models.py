"""Every model that comes with the library, by its name.

This module exists so that people can choose a model on a command line, and import any of them from
one place. Function names follow Jepsen's workloads: ``read``, ``write``, ``cas``, ``get``, ``put``,
``append``, ``delete``, ``acquire``, ``release``, ``enqueue``, ``dequeue``, ``add``, ``remove``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mcpcore.check.containers import Counter, FifoQueue, Mutex, Set, UnorderedQueue
from mcpcore.check.model import Model
from mcpcore.check.registers import (
    CasRegister,
    FailedCas,
    KeyValue,
    MultiRegister,
    NilReads,
    Register,
)

__all__ = [
    "MODELS",
    "CasRegister",
    "Counter",
    "FailedCas",
    "FifoQueue",
    "KeyValue",
    "MultiRegister",
    "Mutex",
    "NilReads",
    "Register",
    "Set",
    "UnorderedQueue",
]

_ALL: tuple[type[Model], ...] = (
    Register,
    CasRegister,
    KeyValue,
    MultiRegister,
    Mutex,
    FifoQueue,
    UnorderedQueue,
    Set,
    Counter,
)
MODELS: Mapping[str, Callable[[], Model]] = {model.name: model for model in _ALL}
"""Models by name, each with its defaults."""

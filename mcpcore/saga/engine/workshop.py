"""What all sagas of one engine share.

This module exists so that the driver of a saga can be handed one thing. It only holds, tells and
looks up.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from mcpcore.saga.breaker import BreakerState
from mcpcore.saga.cells.claims import Claims
from mcpcore.saga.cells.locks import Locks
from mcpcore.saga.engine.targets import Target, TargetSettings
from mcpcore.saga.engine.time import Time
from mcpcore.saga.events import BreakerChanged, Event, Observer
from mcpcore.saga.journals.contract import Journal
from mcpcore.saga.records import Entry, Record

logger = logging.getLogger("mcpcore.saga")


@dataclass(slots=True)
class Workshop:
    """The tools of an engine."""

    owner: str
    journal: Journal
    time: Time
    rng: random.Random
    claims: Claims | None
    locks: Locks | None
    settings: Mapping[str, TargetSettings]
    observers: list[Observer]
    lock_patience_s: float
    targets: dict[str, Target] = field(default_factory=dict)

    def tell(self, event: Event) -> None:
        """Tell every observer."""
        for observer in self.observers:
            try:
                observer(event)
            except Exception:
                logger.exception("an observer failed over %s", type(event).__name__)

    def target(self, name: str) -> Target:
        """A target, by name."""
        found = self.targets.get(name)
        if found is None:
            settings = self.settings.get(name) or TargetSettings()
            found = Target(name, settings, self.time.monotonic_ns, self._breaker_changed)
            self.targets[name] = found
        return found

    def entry(self, record: Record, spent_ns: int) -> Entry:
        """A record with the time."""
        cluster = self.time.cluster()
        if cluster is None:
            return Entry(record, self.time.wall_ns(), -1, spent_ns)
        return Entry(record, cluster.middle_ns, cluster.radius_ns, spent_ns)

    def _breaker_changed(self, target: str, state: BreakerState) -> None:
        facts = {"target": target, "breaker": state.value}
        logger.warning("target %s: circuit %s", target, state, extra=facts)
        self.tell(BreakerChanged(target, state))

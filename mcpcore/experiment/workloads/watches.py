"""Writers and watchers: everybody writes, and everybody listens to all that is written.

This module exists to put watches under faults: nodes that die, streams that break, watchers that
are too slow. A watch goes on where the last one of its lane ended, so the batches of one lane cover
every change. The judge is ``mcpcore.check.watches``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mcpcore.check import LogPosition
from mcpcore.errors import WatchCompacted
from mcpcore.experiment.workloads.store import Answer, Store
from mcpcore.experiment.workloads.work import Ask, Failed, Lane

_BATCH_MAX: Final = 200
_PATIENCE_S: Final = 1.0
_ATTEMPTS_MAX: Final = 60
"""At the end: how often a watcher waits for the last change before it says that it never came."""


class Watches:
    """Put and listen. Judge: nothing is missed, repeated, reordered or invented."""

    judge = "watches"
    writes = frozenset(("put",))

    def __init__(self, keys: int) -> None:
        self._keys = keys
        self._heard: dict[str, int] = {}
        self._lanes: dict[str, Lane] = {}

    async def prepare(self, stores: Sequence[Store]) -> None:
        """Nothing is written yet."""

    def next(self, lane: Lane) -> Ask:
        """Three puts for each second of listening."""
        self._lanes[lane.name] = lane
        if lane.rng.random() < 0.25:
            return self._watch(lane)
        number = lane.rng.randrange(self._keys)
        value = f"{lane.name}:{lane.count}"
        put = lane.stores[0].put
        return Ask("put", value, f"watch/{number}", lambda: put(f"watch/{number}", value))

    def last(self, lane: Lane) -> Iterable[Ask]:
        """Write once more, and have every watcher listen until it has heard of that."""
        done: list[Answer] = []

        async def put() -> Answer:
            done.append(await lane.stores[0].put("watch/last", "the last change"))
            return done[0]

        yield Ask("put", "the last change", "watch/last", put)
        for other in self._lanes.values() if done else ():
            for attempt in range(_ATTEMPTS_MAX):
                if self._heard.get(other.name, 0) >= done[0].value:
                    break
                final = attempt == _ATTEMPTS_MAX - 1
                yield self._watch(other, lane.stores[0], done[0].value if final else None)

    def _watch(self, lane: Lane, store: Store | None = None, until: int | None = None) -> Ask:
        after, through = self._heard.get(lane.name, 0), store or lane.stores[0]

        async def watch() -> Answer:
            try:
                events = await through.changes(
                    "watch/", after, most=_BATCH_MAX, patience_s=_PATIENCE_S
                )
            except WatchCompacted as error:
                self._heard[lane.name] = error.oldest_revision
                raise Failed(str(error)) from None
            heard = [(event.record.mod_revision, event.record.value.decode()) for event in events]
            upto = heard[-1][0] if heard else after
            self._heard[lane.name] = upto
            position = LogPosition(through.group, 0, upto)
            return Answer({"upto": upto, "events": heard}, position)

        asked = {"after": after} if until is None else {"after": after, "until": until}
        return Ask("watch", asked, None, watch)

"""Hybrid logical clocks of others: nanoseconds a call."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.loads.calls import fastest_ns


def hlcpy_sync() -> Callable[[], object]:
    from hlcpy import HLC

    clock = HLC.from_now()
    return clock.sync  # type: ignore[no-any-return]


def hlcpy_merge() -> Callable[[], object]:
    from hlcpy import HLC

    ours, theirs = HLC.from_now(), HLC.from_now()
    return lambda: ours.merge(theirs)


def accordsync_tick() -> Callable[[], object]:
    from accordsync_core.hlc import Hlc

    state = [Hlc.initial("a")]

    def tick() -> object:
        state[0] = state[0].tick(time.time_ns() // 1_000_000)
        return state[0]

    return tick


def accordsync_receive() -> Callable[[], object]:
    from accordsync_core.hlc import Hlc

    state = [Hlc.initial("a")]
    remote = Hlc.initial("b").tick(time.time_ns() // 1_000_000)

    def receive() -> object:
        state[0] = state[0].receive(remote, time.time_ns() // 1_000_000, 60_000)
        return state[0]

    return receive


def handle(order: dict[str, Any]) -> dict[str, Any]:
    """The fastest round of a call, named as the function above."""
    return {"ns": fastest_ns(globals()[order["call"]](), order["seconds"])}

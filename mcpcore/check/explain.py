"""Why a history is not linearizable, told so that a tired person can check it by hand.

This module exists so that a failed search never ends in a bare "no": it finds the shortest failing
prefix, the longest orders that almost work, and what each operation that could come next
contradicts. It must never change a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

from mcpcore.check.budget import Meter
from mcpcore.check.history import Operation, show
from mcpcore.check.model import ILLEGAL, Choice, Model
from mcpcore.check.search import Frontier, Search
from mcpcore.check.verdict import Candidate, DeadEnd, Finding, Part, Verdict

_DEAD_ENDS = 8
_SLICE = 256
_LOOK_AROUND = 20_000
"""Configurations looked at for the sake of explaining, once the shortest prefix is known."""


def explain_failure(model: Model, search: Search, meter: Meter) -> Part:
    """Turn a search that ended in ``violated`` into its explanation."""
    place, ways, shortest = search.furthest, search.ways(), True
    visited = search.visited
    if search.foreseen > place:
        # Cut 3 gave up before the search met the return that cannot be explained, so how far the
        # search got says nothing. Prefixes only get harder to explain: bisect.
        search.abandon()
        place, shortest = _shortest(model, search, meter)
        around = Search(model, search.operations, until=place, foresee_before=place)
        while around.verdict is None and around.visited < _LOOK_AROUND:
            around.run(_SLICE)
            if meter.out_of_time() or meter.out_of_memory(around.estimate_bytes):
                break
        if around.furthest == place:
            ways = around.ways()
        visited += around.visited
    blocked = search.return_at(place)
    assert blocked.returned is not None
    prefix = [op for op in search.operations if op.called < blocked.returned]
    return Part(
        search.operations[0].key,
        Verdict.VIOLATED,
        "search",
        visited,
        tuple(op.id for op in search.operations),
        blocked_at=blocked.id,
        prefix=tuple(op.id for op in prefix),
        prefix_is_shortest=shortest,
        dead_ends=tuple(_dead_end(model, search, prefix, way) for way in ways[:_DEAD_ENDS]),
    )


def _shortest(model: Model, search: Search, meter: Meter) -> tuple[int, bool]:
    """The first return that cannot be explained, and whether that is proven."""
    explained, failing = search.furthest - 1, search.foreseen
    while failing - explained > 1:
        middle = (explained + failing) // 2
        trial = Search(model, search.operations, until=middle)
        while trial.verdict is None:
            trial.run(_SLICE)
            if meter.out_of_time() or meter.out_of_memory(trial.estimate_bytes):
                return failing, False
        if trial.verdict is Verdict.VIOLATED:
            failing = middle
        else:
            explained = middle
    return failing, True


def _dead_end(model: Model, search: Search, prefix: Sequence[Operation], way: Frontier) -> DeadEnd:
    order = search.unwind(way.chain)
    done = set(order)
    candidates = []
    for op in prefix:
        if op.id in done or (op.returned is None and model.reads_only(op)):
            continue
        after = model.step(way.state, op)
        if after is ILLEGAL:
            against = model.why(way.state, op)
        elif isinstance(after, Choice):
            against = "is possible in several ways, but none of them explains the rest"
        else:
            against = (
                f"is possible and leaves {model.tell_state(after)}, but nothing from there "
                "explains the rest"
            )
        candidates.append(Candidate(op.id, model.tell(op), against))
    return DeadEnd(order, model.tell_state(way.state), tuple(candidates))


def nonlinearizable(part: Part) -> Finding:
    """One sentence about a part that failed."""
    assert part.blocked_at is not None
    of_key = f" on {show(part.key)}" if part.key is not None else ""
    longest = part.dead_ends[0] if part.dead_ends else DeadEnd((), "", ())
    text = f"no order of the first {len(part.prefix)} operations{of_key} explains operation "
    text += str(part.blocked_at)
    for candidate in longest.candidates:
        if candidate.operation == part.blocked_at:
            possible = candidate.against.startswith("is possible")
            told = f", {candidate.text}, which {candidate.against}"
            text += told if possible else f": {candidate.against}"
    text += f"; at most {len(longest.linearization)} of them can be put in order"
    return Finding(
        "nonlinearizable",
        text,
        (part.blocked_at,),
        {
            "key": part.key,
            "prefix": len(part.prefix),
            "prefix_is_shortest": part.prefix_is_shortest,
            "explained": len(longest.linearization),
        },
    )

"""Three replicas that change and meet at random, while a history is written beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from mcpcore.errors import RightsExhausted
from tests.crdt.subjects import REPLICAS, Event, Subject

Step = tuple[Any, ...]


def programs(subject: Subject, *, size: int = 14) -> st.SearchStrategy[list[Step]]:
    """Lists of changes and meetings."""
    who = st.integers(0, len(REPLICAS) - 1)
    change = st.tuples(st.just("change"), who, subject.ops)
    meet = st.tuples(st.just("meet"), who, who)
    return st.lists(st.one_of(change, change, meet), max_size=size)


@dataclass
class Replicas:
    """The replicas' views, what each has seen, every event, every delta."""

    subject: Subject
    views: list[Any] = field(default_factory=list)
    seen: list[set[int]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    deltas: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.views = [self.subject.kind() for _ in REPLICAS]
        self.seen = [set() for _ in REPLICAS]

    def run(self, program: list[Step]) -> Replicas:
        for step in program:
            if step[0] == "change":
                self.change(step[1], step[2])
            else:
                self.meet(step[1], step[2])
        return self

    def change(self, who: int, op: tuple[Any, ...]) -> Any:
        if op[0] == "transfer" and op[1] == REPLICAS[who]:
            return None
        try:
            delta = self.subject.apply(self.views[who], REPLICAS[who], op)
        except RightsExhausted:
            return None
        number = len(self.events)
        self.events.append(Event(number, REPLICAS[who], op, frozenset(self.seen[who])))
        self.seen[who].add(number)
        self.deltas.append(delta)
        return delta

    def meet(self, giver: int, taker: int) -> None:
        self.views[taker].join(self.views[giver])
        self.seen[taker] |= self.seen[giver]

    def expected(self, who: int) -> Any:
        return self.subject.spec([e for e in self.events if e.number in self.seen[who]])

    def everywhere(self) -> Any:
        return self.subject.spec(self.events)

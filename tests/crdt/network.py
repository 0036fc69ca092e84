"""Engines on a network that loses, repeats and reorders, in virtual time. Dice are seeded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from mcpcore.crdt.anti_entropy import AntiEntropy, Limits
from mcpcore.crdt.messages import decode_message

MS = 1_000_000


@dataclass(frozen=True)
class Sent:
    at_ns: int
    source: str
    target: str
    data: bytes

    @property
    def kind(self) -> str:
        return type(decode_message(self.data, size_bytes_max=1 << 30)).__name__


class Network:
    """Everybody can talk to their neighbours, unless a link is cut."""

    def __init__(
        self,
        kind: type,
        names: str,
        *,
        neighbours: Callable[[str], str] | None = None,
        limits: Limits | None = None,
        seed: int = 1,
        loss: float = 0.0,
        twice: float = 0.0,
    ) -> None:
        self.dice = Random(seed)
        self.loss, self.twice = loss, twice
        self.now_ns = 0
        self.views: dict[str, Any] = {name: kind() for name in names}
        self.engines = {
            name: AntiEntropy(
                self.id(name),
                self.views[name].state,
                peers=neighbours(name) if neighbours else [n for n in names if n != name],
                session=1,
                limits=limits,
            )
            for name in names
        }
        self.cut: set[frozenset[str]] = set()
        self.flying: list[tuple[int, int, str, str, bytes]] = []
        self.log: list[Sent] = []

    @staticmethod
    def id(name: str) -> str:
        return f"{name}/1"

    def restart_empty(self, name: str, kind: type, life: int) -> None:
        """The member loses its memory and comes back as another incarnation."""
        peers, limits = self.engines[name].peers, self.engines[name].limits
        self.views[name] = kind()
        self.engines[name] = AntiEntropy(
            f"{name}/{life}",
            self.views[name].state,
            peers=peers,
            session=life,
            now_ns=self.now_ns,
            limits=limits,
        )

    def change(self, name: str, method: str, *args: Any) -> None:
        view = self.views[name]
        self.engines[name].changed(getattr(view, method)(*args))

    def run(self, ms: int, step_ms: int = 5) -> None:
        for _ in range(0, ms, step_ms):
            self.now_ns += step_ms * MS
            for name, engine in self.engines.items():
                for send in engine.poll(self.now_ns):
                    self.log.append(Sent(self.now_ns, name, send.peer, send.data))
                    copies = 2 if self.dice.random() < self.twice else 1
                    for _ in range(copies):
                        if self.dice.random() >= self.loss:
                            at = self.now_ns + self.dice.randint(1, 60) * MS
                            self.flying.append((at, len(self.log), name, send.peer, send.data))
            arrived = sorted(f for f in self.flying if f[0] <= self.now_ns)
            self.flying = [f for f in self.flying if f[0] > self.now_ns]
            for _, _, source, target, data in arrived:
                if frozenset((source, target)) not in self.cut and target in self.engines:
                    self.engines[target].receive(source, data, self.now_ns)

    def converged(self) -> bool:
        states = [view.state for view in self.views.values()]
        return all(state == states[0] for state in states)

    def bytes_sent(self, kind: str = "", since: int = 0) -> int:
        return sum(len(s.data) for s in self.log[since:] if not kind or s.kind == kind)

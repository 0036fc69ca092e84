"""The experiment of ICDE 2019: what full states, deltas, BP and RR cost in a mesh.

This module exists so that the claim "deltas save nothing without BP and RR" can be checked by
anybody, in seconds, on our own types. Fifteen replicas, each with four neighbours, change and then
send to every neighbour, in rounds; bytes are those of our encoding. Channels are reliable, as in
the paper, so a buffer is emptied once it is sent. It must never use the engine's shortcuts: what is
compared here is the four textbook algorithms.

Source: Enes, Almeida, Baquero, Leitao, "Efficient synchronization of state-based CRDTs", ICDE 2019,
algorithm 1 and section 6 (micro-benchmarks).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from mcpcore.crdt.cells import Cells
from mcpcore.crdt.codec import encode
from mcpcore.crdt.maps import GMap
from mcpcore.crdt.sets import GSet

Workload = Callable[[int, int, Cells], Cells]
"""Given the replica's number, the round and its state: change the state, return the delta."""


class Algorithm(Enum):
    """What a replica sends to its neighbours in each round."""

    FULL_STATE = "full state"
    CLASSIC = "classic delta"
    BP = "delta + BP"
    RR = "delta + RR"
    BP_RR = "delta + BP + RR"


@dataclass(frozen=True, slots=True)
class MeshRow:
    """What one algorithm cost on one workload."""

    workload: str
    algorithm: Algorithm
    sent_bytes: int
    messages: int
    rounds: int


def grow_set(who: int, round_: int, state: Cells) -> Cells:
    """GSet: each replica adds one element of its own in each round."""
    return GSet(state).add(f"{who:02d}-{round_:04d}")


def grow_map(percent: int, *, replicas: int, keys: int = 1000) -> Workload:
    """GMap K %: in each round all replicas together change K percent of the keys, each its own."""
    share = keys // replicas
    changes = max(1, share * percent // 100)

    def change(who: int, round_: int, state: Cells) -> Cells:
        delta, view = Cells(), GMap(state)
        for i in range(changes):
            key = who * share + (round_ * changes + i) % share
            delta.join(view.raise_to(key, round_ + 1))
        return delta

    return change


def run_mesh(
    name: str,
    workload: Workload,
    algorithm: Algorithm,
    *,
    replicas: int = 15,
    rounds: int = 100,
) -> MeshRow:
    """Run one workload to convergence.

    Each replica's neighbours are the two before and the two after it on a ring. After ``rounds``
    rounds of changes it goes on without changes until all states are equal.
    """
    bp = algorithm in (Algorithm.BP, Algorithm.BP_RR)
    rr = algorithm in (Algorithm.RR, Algorithm.BP_RR)
    full = algorithm is Algorithm.FULL_STATE
    states = [Cells() for _ in range(replicas)]
    buffers: list[list[tuple[int, Cells]]] = [[] for _ in range(replicas)]
    sent_bytes = messages = played = 0
    while played < rounds or any(state != states[0] for state in states):
        if played < rounds:
            for who, state in enumerate(states):
                buffers[who].append((who, workload(who, played, state)))
        wire: list[tuple[int, int, Cells]] = []
        for who in range(replicas):
            for peer in {(who + step) % replicas for step in (-2, -1, 1, 2)} - {who}:
                if full:
                    group = states[who].copy()
                else:
                    group = Cells()
                    for origin, delta in buffers[who]:
                        if not (bp and origin == peer):
                            group.join(delta)
                if not group.is_bottom():
                    wire.append((who, peer, group))
                    sent_bytes += len(encode(group))
                    messages += 1
            buffers[who] = []
        for who, peer, group in wire:
            news = group.delta(states[peer])
            if not news.is_bottom():
                states[peer].join(news)
                buffers[peer].append((who, news if rr else group))
        played += 1
    return MeshRow(name, algorithm, sent_bytes, messages, played)

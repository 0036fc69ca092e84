"""Is this node alive, and is it ready? For whoever restarts processes or routes requests.

This module exists so that the two questions are not confused. A node that is cut off from its
quorum is alive: restarting it would help nobody, and lose what it knows. It is not ready.
"""

from __future__ import annotations

from typing import NamedTuple

from mcpcore.node.node import Node
from mcpcore.raft import recall


class Wellness(NamedTuple):
    """An answer, and why.

    Args:
        good: yes or no.
        reasons: what stands against it, in plain words.
    """

    good: bool
    reasons: tuple[str, ...]


def alive(node: Node) -> Wellness:
    """Whether restarting the process would make no sense. False: the node has stopped by itself."""
    if node.failure is not None:
        return Wellness(False, (f"the node stopped: {node.failure}",))
    if node.stopped.is_set():
        return Wellness(False, ("the node is stopped",))
    return Wellness(True, ())


def ready(node: Node) -> Wellness:
    """Whether every group here can answer a client now, itself or by naming its leader."""
    lives = alive(node)
    if not lives.good:
        return lives
    reasons = []
    for name in node.groups:
        group = node.group(name)
        state = group.raft.state
        if group.failure is not None:
            reasons.append(f"group {name} is out of service here: {group.failure!r}")
        elif problem := group.stateless_problem() or recall.in_words(state):
            reasons.append(f"group {name}: {problem}")
        elif not state.leader:
            reasons.append(f"group {name}: no leader is known")
    return Wellness(not reasons, tuple(reasons))

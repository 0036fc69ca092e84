"""Two words for code under test: ``maybe`` and ``sometimes``.

This module exists so that a program can offer its rare branches to the simulator ("here I might be
slow", "here I might time out") and can say which situations a campaign ought to have reached. Both
cost one call and mean nothing outside of a world: production code may contain them.

Source: FoundationDB's BUGGIFY (armed per run, then fired by chance) and Antithesis' "sometimes"
assertions.
"""

from __future__ import annotations

from mcpcore.sim.current import host_here

_ARMED = 0.25
_FIRES = 0.25


def maybe(label: str, *, chance: float = _FIRES) -> bool:
    """Whether to misbehave here: never outside of a world; in a quarter of worlds, by ``chance``.

    Args:
        label: names the place; each has a random stream of its own.
    """
    host = host_here()
    if host is None:
        return False
    hook = host.hooks.get(label)
    if hook is None:
        draw = host.stream("maybe", label)
        hook = host.hooks[label] = (draw, draw.random() < _ARMED)
    draw, armed = hook
    if not (armed and draw.random() < chance):
        return False
    host.timeline.trace.note(host.name, "maybe", label)
    return True


def sometimes(label: str, condition: bool = True) -> bool:
    """Note that a situation was reached, and return ``condition``; see ``World.marks``."""
    host = host_here()
    if host is not None and condition:
        host.marks[label] = host.marks.get(label, 0) + 1
    return condition

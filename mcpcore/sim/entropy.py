"""Where every random choice of a world comes from: named streams cut from one seed.

This module exists so that the schedule, each link, each disk, each clock and the code of each host
draw from *separate* streams: one more draw in one of them moves nothing in any other, so a small
change to a program does not turn a failing seed into an unrelated run. No other module of the
simulator may create a generator, and none may use the global one.
"""

from __future__ import annotations

import random

# Bound here, before any world is entered: while a world runs, ``random.Random`` seeds itself from
# the world, and the world's own streams must not.
_Random = random.Random


def stream(seed: int, *labels: str | int) -> random.Random:
    """Return the generator that ``labels`` name, for this seed.

    Seeded by text, which CPython hashes with SHA-512: equal on every machine and under every
    ``PYTHONHASHSEED``.
    """
    return _Random("/".join(("mcpcore.sim", str(seed), *map(str, labels))))

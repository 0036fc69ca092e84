"""Which consistency levels an anomaly rules out, and which one is the strongest left.

This module exists so that "G-single" can be answered with "so this is not snapshot isolation". It
is two tables and their closure. It must never look at a history.

Sources: Adya, "Weak Consistency" (1999), for G0 to G2, PL-1 to PL-3, PL-2+ and PL-SI; Bailis et
al., "Highly Available Transactions" (2013), for monotonic atomic view and for lost update; Cerone
and Gotsman, "Analysing Snapshot Isolation" (2016), for the nonadjacent cycles; Cerone et al., "A
Framework for Transactional Consistency Models" (2015), for read atomic and parallel snapshot
isolation; Daudjee and Salem (2004, 2006) for the session and strong variants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from mcpcore.errors import InvalidInput

_WEAKER: Mapping[str, tuple[str, ...]] = {
    "strict-serializable": ("strong-session-serializable", "strong-snapshot-isolation"),
    "strong-session-serializable": ("serializable", "strong-session-snapshot-isolation"),
    "serializable": ("repeatable-read", "snapshot-isolation"),
    "strong-snapshot-isolation": (
        "strong-session-snapshot-isolation", "strong-read-committed",
    ),
    "strong-session-snapshot-isolation": (
        "snapshot-isolation", "strong-session-read-committed",
    ),
    "snapshot-isolation": ("consistent-view", "parallel-snapshot-isolation"),
    "parallel-snapshot-isolation": ("read-atomic",),
    "repeatable-read": ("cursor-stability", "monotonic-atomic-view"),
    "consistent-view": ("cursor-stability", "monotonic-view"),
    "cursor-stability": ("read-committed",),
    "monotonic-view": ("read-committed",),
    "read-atomic": ("monotonic-atomic-view",),
    "monotonic-atomic-view": ("read-committed",),
    "strong-read-committed": ("strong-session-read-committed", "strong-read-uncommitted"),
    "strong-session-read-committed": ("read-committed", "strong-session-read-uncommitted"),
    "strong-read-uncommitted": ("strong-session-read-uncommitted",),
    "strong-session-read-uncommitted": ("read-uncommitted",),
    "read-committed": ("read-uncommitted",),
    "read-uncommitted": (),
}  # fmt: skip

LEVELS: tuple[str, ...] = tuple(_WEAKER)
"""Every level by name, the strongest first."""

_FORBIDS: Mapping[str, tuple[str, ...]] = {
    "read-uncommitted": ("G0", "duplicate-elements", "cyclic-versions"),
    "read-committed": ("G1a", "G1b", "G1c"),
    "read-atomic": ("internal", "future-read"),
    "cursor-stability": ("lost-update",),
    "parallel-snapshot-isolation": ("lost-update",),
    "consistent-view": ("G-single",),
    "snapshot-isolation": ("G-nonadjacent",),
    "repeatable-read": ("G2-item", "lost-update"),
    "serializable": ("G2", "internal"),
    "strong-session-read-uncommitted": ("G0-process",),
    "strong-session-read-committed": ("G1c-process",),
    "strong-session-snapshot-isolation": ("G-nonadjacent-process",),
    "strong-session-serializable": ("G2-process",),
    "strong-read-uncommitted": ("G0-realtime",),
    "strong-read-committed": ("G1c-realtime",),
    "strong-snapshot-isolation": ("G-nonadjacent-realtime",),
    "strict-serializable": ("G2-realtime",),
}


def _implications() -> dict[str, tuple[str, ...]]:
    """Which anomalies are cases of which others: every G0 is a G1c, and so on."""
    cases: dict[str, tuple[str, ...]] = {
        "internal": (),
        "future-read": ("G1c",),
        "dirty-update": ("G1a",),
        "incompatible-order": ("G1a",),
        "garbage-read": ("G1a",),
        "lost-update": ("G2-item",),
        "write-skew": ("G2",),
    }
    for suffix, next_suffix in (("", "-process"), ("-process", "-realtime"), ("-realtime", None)):
        rows = {
            "G0": ("G1c",),
            "G1c": (),
            "G-single": ("G-nonadjacent", "G2-item"),
            "G-nonadjacent": ("G2",),
            "G2-item": ("G2",),
            "G2": (),
        }
        for name, more in rows.items():
            implied = tuple(other + suffix for other in more)
            if next_suffix is not None:
                implied += (name + next_suffix,)
            cases[name + suffix] = implied
    return cases


_CASE_OF = _implications()


def _closure(start: Iterable[str], steps: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    found, waiting = set(), list(start)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(steps.get(name, ()))
    return frozenset(found)


def implied(anomalies: Iterable[str]) -> frozenset[str]:
    """The anomalies and everything they are a case of."""
    return _closure(anomalies, _CASE_OF)


@cache
def _stronger() -> Mapping[str, tuple[str, ...]]:
    above: dict[str, list[str]] = {level: [] for level in LEVELS}
    for level, below in _WEAKER.items():
        for weaker in below:
            above[weaker].append(level)
    return {level: tuple(stronger) for level, stronger in above.items()}


def ruled_out(anomalies: Iterable[str]) -> frozenset[str]:
    """Every level that a history with these anomalies cannot have."""
    present = implied(anomalies)
    direct = [level for level, kinds in _FORBIDS.items() if present & set(kinds)]
    return _closure(direct, _stronger())


def weakest(levels: Iterable[str]) -> tuple[str, ...]:
    """Of these levels, those that no weaker one of them implies: the telling ones."""
    given = set(levels)
    telling = [
        level for level in given if not (_closure(_WEAKER[level], _WEAKER) - {level}) & given
    ]
    return tuple(sorted(telling, key=LEVELS.index))


def strongest_left(excluded: Iterable[str]) -> tuple[str, ...]:
    """The strongest levels that nothing found so far excludes."""
    left = set(LEVELS) - set(excluded)
    best = [level for level in left if not any(above in left for above in _stronger()[level])]
    return tuple(sorted(best, key=LEVELS.index))


def check_level(level: str) -> str:
    """``level`` itself, or a refusal that lists them all."""
    if level not in _WEAKER:
        raise InvalidInput(
            f"no such consistency level: {level}",
            where="level",
            remedy=f"One of {', '.join(LEVELS)}.",
        )
    return level


def needs_realtime(level: str) -> bool:
    """Whether the level is about which transaction came first on the wall."""
    return any("realtime" in kind for kind in _forbidden_by(level))


def needs_sessions(level: str) -> bool:
    """Whether the level is about what one client did in which order."""
    return any("process" in kind for kind in _forbidden_by(level))


def _forbidden_by(level: str) -> frozenset[str]:
    below = _closure([level], _WEAKER)
    return frozenset(kind for name in below for kind in _FORBIDS.get(name, ()))

"""How long it takes, at most, until all is well after a cut has healed: a formula with named terms.

This module exists so that "it converges" is a number that somebody can check, and that a search
can try to exceed. Each term is a step that must happen, at its longest; ``docs/convergence.md``
derives them. The sum is a bound, not an estimate: in practice steps overlap and few are at their
longest. It must never measure anything.

HAZARD: two terms rest on chance. Elections may split again and again; the number of rounds is such
that more happen less often than ``doubt``. And delays have no upper end on a real network: the
bound holds while messages take no longer than ``one_way_max_ns``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import NamedTuple

from mcpcore.errors import InvalidInput
from mcpcore.raft.settings import MILLISECOND, SECOND


@dataclass(frozen=True, slots=True)
class ConvergenceConfig:
    """The settings that the bound depends on.

    Args:
        election_timeout_ns: the ceiling, where windows move.
        heartbeat_ns: the ceiling, where the interval moves.
        voters: how many members vote; ``voters_down`` of them stay away after the heal.
        sync_ns: the longest that a disk takes for one sync.
        late_ns: the latest that a timer fires.
        idle_timeout_ns: silence after which a connection is given up.
        connect_timeout_ns: how long one attempt to connect may take.
        backoff_max_ns: the longest wait between two attempts.
        apply_per_s: entries that the slowest machine applies.
        observe_ns: how often the split detector looks.
        calm_ns: how long better news must last now (it doubles with relapses).
        client_attempt_ns: how long a client waits for one node.
        client_backoff_ns: the longest that it waits before the next.
        doubt: the chance that elections take more rounds than counted.

    Raises:
        InvalidInput: a number makes no sense, by name.
    """

    election_timeout_ns: int = 5 * SECOND
    heartbeat_ns: int = 1 * SECOND
    voters: int = 3
    voters_down: int = 0
    sync_ns: int = 20 * MILLISECOND
    late_ns: int = 10 * MILLISECOND
    idle_timeout_ns: int = 3 * SECOND
    connect_timeout_ns: int = 3 * SECOND
    backoff_max_ns: int = 2 * SECOND
    apply_per_s: int = 20_000
    observe_ns: int = 200 * MILLISECOND
    calm_ns: int = 1 * SECOND
    client_attempt_ns: int = 2 * SECOND
    client_backoff_ns: int = 500 * MILLISECOND
    doubt: float = 1e-6

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "doubt":
                if type(value) is not float or not 0 < value < 1:
                    raise InvalidInput(f"must be between 0 and 1, not {value!r}", where="doubt")
            elif type(value) is not int or value < 0:
                raise InvalidInput(f"{value!r} is no whole number from 0 up", where=field.name)
        if 2 * self.voters_down >= self.voters > 0:
            raise InvalidInput(
                f"without {self.voters_down} of {self.voters} there is no quorum, and no bound",
                where="voters_down",
            )
        for name in ("election_timeout_ns", "heartbeat_ns", "voters", "apply_per_s"):
            if not getattr(self, name):
                raise InvalidInput("zero", where=name)


class Link(NamedTuple):
    """One direction between two members, at its worst.

    Args:
        one_way_max_ns: the longest that a message takes, retransmissions included.
        bytes_per_s: what a reunion may use of it (its share, where it is paced).
    """

    one_way_max_ns: int
    bytes_per_s: int


class Backlog(NamedTuple):
    """What the member that is furthest behind has to be sent.

    Args:
        terms: in how many terms its log may conflict with the leader's.
        snapshot_bytes: 0 where the log is replayed.
    """

    entries: int
    bytes: int
    terms: int = 1
    snapshot_bytes: int = 0


class Term(NamedTuple):
    """One step, at its longest."""

    name: str
    ns: int
    why: str


@dataclass(frozen=True, slots=True)
class ConvergenceBound:
    """By when, after the heal, each of four things is true at the latest.

    Args:
        notice, elect, replay, apply, judge, serve: the terms, each a sum of steps.
    """

    notice: tuple[Term, ...]
    elect: tuple[Term, ...]
    replay: tuple[Term, ...]
    apply: tuple[Term, ...]
    judge: tuple[Term, ...]
    serve: tuple[Term, ...]

    @property
    def leader_ns(self) -> int:
        """A leader has committed in its own term."""
        return _sum(self.notice, self.elect)

    @property
    def replicas_ns(self) -> int:
        """All members have applied what was committed at the heal."""
        return _sum(self.notice, self.elect, self.replay, self.apply)

    @property
    def healthy_ns(self) -> int:
        """Every verdict is healthy again."""
        return self.replicas_ns + _sum(self.judge)

    @property
    def client_ns(self) -> int:
        """A client that was asking all the time has been served."""
        return self.leader_ns + _sum(self.serve)

    def __str__(self) -> str:
        parts = ("notice", "elect", "replay", "apply", "judge", "serve")
        terms = [term for part in parts for term in getattr(self, part)]
        lines = [f"  {term.ns / 1e9:9.3f} s  {term.name}: {term.why}" for term in terms]
        goals = ("leader", "replicas", "healthy", "client")
        sums = [f"{goal} {getattr(self, f'{goal}_ns') / 1e9:.3f} s" for goal in goals]
        return "\n".join([*lines, ", ".join(sums)])


def convergence_bound(
    config: ConvergenceConfig, links: Iterable[Link], backlog: Backlog
) -> ConvergenceBound:
    """The bound for a group whose links are these, with this much to catch up.

    Args:
        links: every direction between two members that the group needs; the slowest counts.

    Raises:
        InvalidInput: there is no link, or one carries nothing.
    """
    links = tuple(links)
    if not links or any(link.bytes_per_s <= 0 or link.one_way_max_ns < 0 for link in links):
        raise InvalidInput("every link needs a delay from 0 up and a rate above 0", where="links")
    if min(backlog) < 0:
        raise InvalidInput(f"{backlog} is less than nothing", where="backlog")
    one_way_ns = max(link.one_way_max_ns for link in links)
    round_ns = 2 * one_way_ns
    rate = min(link.bytes_per_s for link in links)
    vote_ns = 2 * round_ns + 2 * config.sync_ns
    rounds = election_rounds(config, vote_ns)
    wait_ns = 2 * config.election_timeout_ns + config.late_ns
    size = backlog.snapshot_bytes or backlog.bytes
    return ConvergenceBound(
        notice=(
            Term("dead connection", config.idle_timeout_ns, "given up after this silence"),
            Term("attempt", config.connect_timeout_ns, "one that began before the heal fails"),
            Term("back-off", config.backoff_max_ns, "the wait before the next"),
            Term("handshakes", 3 * round_ns + config.late_ns, "TCP, TLS 1.3 and ours"),
        ),
        elect=(
            Term("timers", rounds * wait_ns, f"{rounds} rounds of at most two timeouts"),
            Term("votes", rounds * vote_ns, "pre-vote and vote there and back, two syncs"),
            Term("first entry", round_ns + config.sync_ns, "committed in the leader's own term"),
        ),
        replay=(
            Term("meet", (backlog.terms + 1) * round_ns, "a probe for each term that conflicts"),
            Term("stream", -(-size * SECOND // rate), f"{size} bytes at {rate} a second"),
            Term("last answer", round_ns + config.sync_ns, "the last of it stored and answered"),
            Term("commit told", config.heartbeat_ns + one_way_ns, "by the next heartbeat"),
        ),
        apply=(
            Term(
                "apply",
                -(-backlog.entries * SECOND // config.apply_per_s) + config.late_ns,
                f"{backlog.entries} entries",
            ),
        ),
        judge=(
            Term("look", 2 * config.observe_ns + config.late_ns, "the detector looks twice"),
            Term("calm", 2 * config.calm_ns, "rejoining, then healthy, must each last"),
        ),
        serve=(
            Term("attempt", config.client_attempt_ns, "one that asked the wrong node"),
            Term("back-off", config.client_backoff_ns, "the wait before the next"),
            Term("command", 2 * round_ns + config.sync_ns, "to the leader, a quorum, and back"),
        ),
    )


def election_rounds(config: ConvergenceConfig, vote_ns: int) -> int:
    """How many rounds of election are enough, but for a chance of ``doubt``.

    A round fails only if so many rivals stand before the first candidate's votes are counted that
    nobody need have a majority. Timeouts are drawn evenly from one window, so the gap between the
    first of *n* and the one *j* places behind is a Beta(j, n + 1 - j) share of it, and the chance
    that it is less than *s* is that of at least *j* successes in *n* trials of chance *s*.
    """
    voters = config.voters
    up = voters - config.voters_down
    rivals = rivals_to_split(voters, up)
    if rivals >= up:
        return 1
    share = min(vote_ns / config.election_timeout_ns, 1.0)
    fewer = sum(
        math.comb(voters, k) * share**k * (1 - share) ** (voters - k) for k in range(rivals)
    )
    split = min(1 - fewer, 0.99)
    if split < 1e-12:
        return 1
    return max(1, math.ceil(math.log(config.doubt) / math.log(split)))


def rivals_to_split(voters: int, up: int) -> int:
    """How many rivals of one candidate it takes before nobody need win; ``up`` members vote.

    With *k* candidates the rest share ``up - k`` votes, so somebody has at least
    ``1 + ceil((up - k) / k)``. Of three or five, all up, two rivals are needed: with one, the odd
    vote decides.
    """
    majority = voters // 2 + 1
    for candidates in range(2, up + 1):
        if 1 - (candidates - up) // candidates < majority:
            return candidates - 1
    return up


def _sum(*parts: tuple[Term, ...]) -> int:
    return sum(term.ns for part in parts for term in part)

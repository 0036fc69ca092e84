"""How near the peers are and how suspicious their silence is, for whoever judges it.

This module exists so that the evidence about nodes has one shape: contact in both directions, the
round trip, the suspicion, and how far we trust ourselves as a judge. It gathers what others
measured (``liveness``, the clock's exchanges, the scheduler); it must never judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from mcpcore.node.liveness import LONG_AGO_NS, Liveness
from mcpcore.raft.links import Links
from mcpcore.raft.settings import MILLISECOND, SECOND
from mcpcore.raft.suspicion import LocalHealth, PhiAccrual, SuspicionSettings

BEAT_SUSPICION = SuspicionSettings(first_interval_ns=1 * SECOND, deviation_min_ns=200 * MILLISECOND)
"""Beats between nodes come each second at the latest, and a loop that is busy delays them."""


class Contact(NamedTuple):
    """One peer, as our node sees it now.

    Args:
        heard_age_ns: since its latest beat arrived; None if none ever did.
        answered_age_ns: since we *sent* the latest beat that it is known to have heard, in its
            present life and ours; None if unknown. It lags by the peer's own beat interval.
        round_trip_ns: the shortest of the last minutes; 0 if unknown.
        phi: how suspicious its silence is: see ``mcpcore.raft.suspicion``.
    """

    heard_age_ns: int | None
    answered_age_ns: int | None
    round_trip_ns: int
    phi: float


class Contacts:
    """What a node knows of its peers' nearness.

    Args:
        liveness: when beats came.
        round_trip_ns: the shortest round trip to a peer, 0 if unknown.
    """

    __slots__ = ("_expected_ns", "_liveness", "_phi", "_round_trip_ns", "health", "links")

    def __init__(self, liveness: Liveness, round_trip_ns: Callable[[str], int]) -> None:
        self._liveness = liveness
        self._round_trip_ns = round_trip_ns
        self._phi: dict[str, PhiAccrual] = {}
        self._expected_ns: dict[str, int] = {}
        self.health = LocalHealth(BEAT_SUSPICION)
        """How far we trust ourselves: ``health.multiplier`` is one while all is well."""
        self.links = Links()
        """The same for all groups of the node, and what they themselves measure."""

    def refresh(self, peers: Iterable[str]) -> None:
        """Tell the groups how near these are, and how far we trust ourselves."""
        links = self.links
        links.multiplier = self.health.multiplier
        links.round_trips_ns = {peer: self._round_trip_ns(peer) for peer in peers}

    def expect(self, peer: str, interval_ns: int) -> None:
        """``peer`` beats this often from now on."""
        self._expected_ns[peer] = interval_ns
        phi = self._phi.get(peer)
        if phi is not None:
            phi.expect(interval_ns)

    def heard(self, peer: str, now_ns: int) -> None:
        """A beat of ``peer`` arrived."""
        phi = self._phi.get(peer)
        if phi is None:
            phi = self._phi[peer] = PhiAccrual(BEAT_SUSPICION, now_ns)
            if peer in self._expected_ns:
                phi.expect(self._expected_ns[peer])
        else:
            phi.heard(now_ns, absent_ns=self.health.absent_ns(phi.last_ns, now_ns))

    def round_trip_ns(self, peer: str) -> int:
        """The shortest round trip to ``peer`` of the last minutes; 0 if unknown."""
        return self._round_trip_ns(peer)

    def of(self, peer: str, now_ns: int) -> Contact:
        """What is known of ``peer`` now."""
        heard_ns, answered_ns = self._liveness.heard_ns(peer), self._liveness.answered_ns(peer)
        phi = self._phi.get(peer)
        suspicion = 0.0
        if phi is not None:
            absent_ns = self.health.absent_ns(phi.last_ns, now_ns)
            suspicion = phi.phi(now_ns, absent_ns=absent_ns, multiplier=self.health.multiplier)
        return Contact(
            None if heard_ns == LONG_AGO_NS else now_ns - heard_ns,
            None if answered_ns == LONG_AGO_NS else now_ns - answered_ns,
            self._round_trip_ns(peer),
            suspicion,
        )

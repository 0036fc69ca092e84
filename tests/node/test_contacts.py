"""What a node knows of its peers' nearness, for whoever judges a split."""

from __future__ import annotations

from mcpcore.node.contacts import Contacts
from mcpcore.node.liveness import Beat, Liveness
from mcpcore.raft.settings import MILLISECOND, SECOND

MS = MILLISECOND


def beats(contacts: Contacts, liveness: Liveness, count: int, *, echo: bool = True) -> int:
    """A beat of b each second, each repeating our own of half a second before; when it is over."""
    now_ns = 0
    for number in range(1, count + 1):
        now_ns = number * SECOND
        echo_ns = now_ns - 500 * MS if echo else 0
        contacts.heard("b", now_ns)
        liveness.heard("b", Beat(7, now_ns, 1 if echo else 0, echo_ns, 0, 0), now_ns)
    return now_ns


def made(round_trip_ns: int = 30 * MS) -> tuple[Contacts, Liveness]:
    liveness = Liveness(life=1)
    return Contacts(liveness, lambda peer: round_trip_ns), liveness


def test_a_peer_never_heard_has_no_age_and_no_suspicion() -> None:
    contacts, _ = made(0)
    assert contacts.of("b", 9 * SECOND) == (None, None, 0, 0.0)


def test_contact_has_an_age_in_each_direction() -> None:
    contacts, liveness = made()
    now_ns = beats(contacts, liveness, 20)
    contact = contacts.of("b", now_ns + 200 * MS)
    assert contact[:3] == (200 * MS, 700 * MS, 30 * MS)
    assert contact.phi < 1


def test_a_peer_that_is_heard_and_does_not_hear_us_is_told_apart() -> None:
    contacts, liveness = made()
    now_ns = beats(contacts, liveness, 20, echo=False)
    assert contacts.of("b", now_ns)[:2] == (0, None)


def test_silence_becomes_suspicious() -> None:
    contacts, liveness = made()
    now_ns = beats(contacts, liveness, 20)
    grown = [contacts.of("b", now_ns + s * SECOND).phi for s in (1, 2, 3, 5)]
    assert grown == sorted(grown)
    assert grown[0] < 2 < 10 < grown[2]


def test_a_node_that_slept_itself_doubts_itself_first() -> None:
    contacts, liveness = made()
    now_ns = beats(contacts, liveness, 20)
    later_ns = now_ns + 6 * SECOND
    accused = contacts.of("b", later_ns).phi
    contacts.health.timer_ran(now_ns + SECOND, later_ns)
    assert contacts.health.multiplier > 1
    assert contacts.of("b", later_ns).phi < 2 < accused


def test_a_peer_that_is_to_beat_less_often_is_not_suspected_for_it() -> None:
    contacts, liveness = made()
    now_ns = beats(contacts, liveness, 20)
    assert contacts.of("b", now_ns + 4 * SECOND).phi > 8
    contacts.expect("b", 4 * SECOND)
    assert contacts.of("b", now_ns + 4 * SECOND).phi < 1
    assert contacts.of("b", now_ns + 12 * SECOND).phi > 8, "and its death is noticed still"


def test_what_is_expected_of_a_peer_holds_although_it_was_never_heard_before() -> None:
    contacts, _ = made()
    contacts.expect("b", 4 * SECOND)
    contacts.heard("b", 0)
    assert contacts.of("b", 4 * SECOND).phi < 1

"""A group is founded once, by all of its first voters, and never by a disk that forgot."""

from __future__ import annotations

from mcpcore.node.founding import Founding, Standing
from mcpcore.raft.types import Member

A, B, C, NEW = "a" * 16, "b" * 16, "c" * 16, "f" * 16


def founding(incarnation: str = A) -> Founding:
    return Founding("a", Member(zone="aws", incarnation=incarnation), ("a", "b", "c"))


def meet(one: Founding, peer: str, disk: str, standing: Standing, known_as: str = "") -> None:
    one.connected(peer, disk, can_answer=True)
    one.answered(peer, standing, known_as, zone=f"zone-{peer}")


def test_a_group_of_one_is_founded_at_once() -> None:
    alone = Founding("a", Member(incarnation=A), ("a",))
    assert alone.missing == ()
    assert alone.configuration().member("a").incarnation == A


def test_founding_waits_for_all_first_voters_and_not_for_a_majority() -> None:
    one = founding()
    meet(one, "b", B, Standing.FOUNDING)
    assert one.missing == ("c",)
    meet(one, "c", C, Standing.FOUNDING)
    assert one.missing == ()


def test_the_first_configuration_holds_every_voters_disk_and_zone() -> None:
    one = founding()
    meet(one, "b", B, Standing.FOUNDING)
    meet(one, "c", C, Standing.FOUNDING)
    first = one.configuration()
    assert first.voters == {"a", "b", "c"}
    assert first.member("a") == Member(zone="aws", incarnation=A)
    assert first.member("c") == Member(zone="zone-c", incarnation=C)


def test_a_voter_that_was_not_told_to_found_is_waited_for() -> None:
    one = founding()
    meet(one, "b", B, Standing.ABSENT)
    meet(one, "c", C, Standing.FOUNDING)
    assert one.missing == ("b",)


def test_the_last_to_be_ready_joins_what_the_others_founded_with_its_disk() -> None:
    one = founding()
    meet(one, "b", B, Standing.STANDS, known_as=A)
    meet(one, "c", C, Standing.STANDS, known_as=A)
    assert one.refusal == ""
    assert one.missing == ()


def test_a_wiped_node_does_not_found_again_though_it_is_still_told_to() -> None:
    one = founding(incarnation=NEW)
    meet(one, "b", B, Standing.STANDS, known_as=A)
    assert f"took part with the disk {A}, as b says, and came back with {NEW}" in one.refusal


def test_a_node_that_others_founded_without_is_to_be_added() -> None:
    one = founding()
    meet(one, "b", B, Standing.STANDS)
    assert "this node is no member" in one.refusal


def test_a_peer_that_comes_back_with_another_disk_is_asked_again() -> None:
    one = founding()
    meet(one, "b", B, Standing.FOUNDING)
    one.connected("b", NEW, can_answer=True)
    assert one.missing == ("b", "c")
    one.answered("b", Standing.FOUNDING, "", "")
    meet(one, "c", C, Standing.FOUNDING)
    assert one.configuration().member("b").incarnation == NEW


def test_a_peer_of_the_version_before_counts_as_heard_when_it_is_connected() -> None:
    one = founding()
    one.connected("b", B, can_answer=False)
    assert one.missing == ("c",)


def test_a_peer_that_is_no_first_voter_is_not_waited_for_and_not_a_voter() -> None:
    one = founding()
    meet(one, "x", NEW, Standing.FOUNDING)
    meet(one, "b", B, Standing.FOUNDING)
    meet(one, "c", C, Standing.FOUNDING)
    assert one.configuration().members == {"a", "b", "c"}

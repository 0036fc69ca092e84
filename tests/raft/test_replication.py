"""Section 5.3: the leader's log reaches the others, whatever the network does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import NotLeader, ProposalTooLarge, ProtocolViolation, QueueFull
from mcpcore.raft.log import ENTRY_OVERHEAD_BYTES, RaftLog
from mcpcore.raft.messages import Append, AppendReply, Heartbeat, HeartbeatReply
from tests.raft.cluster import SETTINGS, Cluster
from tests.raft.member import TIMEOUT_MS, Member, accepted, answered, append, beat, refused

# --- the follower -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "prev", "accepts"),
    [
        ([], (0, 0), True),
        ([1, 2], (2, 2), True),
        ([1, 2], (1, 1), True),
        ([1, 2], (1, 2), False),
        ([1, 2], (3, 2), False),
        ([1, 2], (2, 3), False),
    ],
)
def test_a_follower_refuses_entries_if_it_lacks_the_one_before_them(log, prev, accepts) -> None:
    """Raft §5.3, the consistency check."""
    member = Member(terms=log, term=3)

    member.hears("b", append(3, prev))

    [reply] = member.heard(AppendReply)
    assert (reply.accepted, reply.at_index) == (accepts, prev[1])


@pytest.mark.parametrize(
    ("log", "prev", "sent", "result"),
    [
        ([1, 1], (1, 2), [3], [1, 1, 3]),
        ([1, 1, 2, 2], (1, 2), [3], [1, 1, 3]),
        ([1, 1, 2, 2], (1, 2), [2, 3], [1, 1, 2, 3]),
        ([1, 1, 2, 2], (1, 1), [1, 2], [1, 1, 2, 2]),
        ([1, 2], (0, 0), [3, 3, 3], [3, 3, 3]),
        ([], (0, 0), [1, 3], [1, 3]),
    ],
)
def test_a_conflicting_entry_and_all_after_it_give_way(log, prev, sent, result) -> None:
    """Raft §5.3: "if an existing entry conflicts with a new one, delete it and all that follow"."""
    member = Member(terms=log, term=3)

    member.hears("b", append(3, prev, sent))

    assert member.terms == result


def test_an_old_append_that_arrives_late_cuts_nothing_off() -> None:
    """Raft §5.3 (openraft): entries that match stay, and so do those that came after them."""
    member = Member()
    member.hears("b", append(1, (0, 0), [1, 1, 1, 1]))

    member.hears("b", append(1, (0, 0), [1, 1]))
    member.hears("b", append(1, (1, 2), []))

    assert member.terms == [1, 1, 1, 1]
    assert member.heard(AppendReply)[0].at_index == 2, "only what the message covers is vouched for"


def test_a_committed_entry_is_never_replaced_whoever_asks() -> None:
    """Raft Figure 3, State Machine Safety, against a peer that breaks the protocol."""
    member = Member()
    member.hears("b", append(1, (0, 0), [1, 1], commit=2))

    with pytest.raises(ProtocolViolation, match="wants to replace index 1, committed up to 2"):
        member.hears("b", append(3, (0, 0), [3]))

    assert member.terms == [1, 1]


def test_two_leaders_of_one_term_are_a_violation_not_a_choice() -> None:
    """Raft §5.2: it cannot happen, so whoever says so is not believed."""
    member = Member(term=3)
    member.hears("b", append(3))
    for message in (append(3), beat(3)):
        with pytest.raises(ProtocolViolation, match="c claims to lead term 3"):
            member.hears("c", message)
    assert member.raft.leader == "b"


@settings(deadline=None)
@given(st.permutations(list(range(8))), st.lists(st.integers(0, 7), max_size=8))
def test_appends_in_any_order_and_number_leave_a_prefix_of_the_leaders_log(order, again) -> None:
    """Raft Figure 3, Log Matching."""
    truth = [1, 1, 1, 2, 2, 2, 2, 2]
    member = Member(terms=[1, 1, 1, 1, 1])
    pieces = [
        append(2, (truth[at - 1] if at else 0, at), truth[at : at + 2], commit=at)
        for at in range(8)
    ]
    for at in order + again + list(range(8)):
        member.hears("b", pieces[at])
        for reply in member.heard(AppendReply):
            if reply.accepted:
                assert member.terms[: reply.at_index] == truth[: reply.at_index]
    assert member.terms == truth


# --- conflict back-tracking -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log", "prev", "hint"),
    [
        ([1, 1], (1, 5), (1, 2)),
        ([], (4, 9), (0, 0)),
        ([1, 1, 3, 3, 3], (2, 5), (1, 2)),
        ([2, 2, 2], (5, 3), (2, 3)),
        ([3, 3], (2, 2), (0, 0)),
        ([1, 2, 3, 4, 5, 6], (3, 6), (3, 3)),
    ],
)
def test_a_refusal_names_the_last_position_that_could_still_match(log, prev, hint) -> None:
    """Raft §5.3, the optimisation: one refusal skips all entries of the terms in conflict."""
    member = Member(terms=log, term=7)

    member.hears("b", append(7, prev))

    [reply] = member.heard(AppendReply)
    assert (reply.hint_term, reply.hint_index) == hint


@settings(deadline=None, max_examples=300)
@given(
    st.integers(0, 4),
    st.lists(st.sampled_from([2, 4, 6]), max_size=15).map(sorted),
    st.lists(st.sampled_from([3, 5, 7]), max_size=15).map(sorted),
)
def test_back_tracking_ends_after_at_most_one_refusal_per_term(shared, leader, follower) -> None:
    """Raft §5.3: whatever terms two leaders left in the logs after the part they share."""
    leader, follower = [1] * shared + leader, [1] * shared + follower
    theirs = Member(terms=follower, term=8)
    member = Member(terms=leader, term=7).leads()
    ask = member.heard(Append, "b")[0]
    refusals = 0
    while True:
        theirs.hears("c", ask)
        [reply] = theirs.heard(AppendReply)
        if reply.accepted:
            break
        assert reply.hint_index <= ask.prev_index
        member.hears("b", reply)
        before, [ask] = ask, member.heard(Append, "b")
        assert ask.prev_index < before.prev_index, "or they may never meet"
        refusals += 1
    assert refusals <= len(set(leader) | set(follower)) + 1
    member.hears("b", reply)
    for ask in member.heard(Append, "b"):
        theirs.hears("c", ask)
    assert theirs.terms == member.terms


def test_an_old_refusal_does_not_send_a_leader_back_below_what_matched() -> None:
    """Raft §5.3, a late answer."""
    member = Member(terms=[1, 1, 1]).leads()
    ask = member.heard(Append, "b")[0]
    member.hears("b", refused(ask, (1, 2)))
    [second] = member.heard(Append, "b")
    member.hears("b", accepted(second))
    match = member.state.progress["b"].match

    assert member.hears("b", refused(second, (0, 0))) == []
    assert member.state.progress["b"].match == match
    assert member.state.progress["b"].probing is False


def test_a_refusal_of_an_earlier_probe_is_not_taken_for_one_of_the_present_probe() -> None:
    member = Member(terms=[1, 1, 1]).leads()
    first = member.heard(Append, "b")[0]
    member.hears("b", refused(first, (1, 1)))
    [second] = member.heard(Append, "b")
    assert second.prev_index == 1

    assert member.hears("b", refused(first, (0, 0))) == []


# --- probing and pipelining -------------------------------------------------------------------


def test_until_a_log_is_known_one_append_at_a_time_is_out() -> None:
    """A follower that is far behind must not be flooded with what it will refuse."""
    member = Member().leads()
    assert len(member.heard(Append, "b")) == 1

    member.proposes(b"x", b"y")

    assert member.heard(Append) == []


def test_once_a_log_is_known_appends_do_not_wait_for_answers() -> None:
    """Raft §10.2 of the thesis: pipelining."""
    member = Member().leads().all_accept()

    sent = []
    for command in (b"x", b"y", b"z"):
        member.proposes(command)
        sent += member.heard(Append, "b")

    assert [(m.prev_index, len(m.block)) for m in sent] == [(1, 1), (2, 1), (3, 1)]


def test_commands_proposed_together_travel_together() -> None:
    """Thesis §10.2: batching."""
    member = Member().leads().all_accept()

    member.proposes(b"x", b"y", b"z")

    assert [len(m.block) for m in member.heard(Append, "b")] == [3]


def test_the_window_in_messages_bounds_what_is_in_flight() -> None:
    member = Member(settings=replace(SETTINGS, max_inflight=2)).leads().all_accept()
    sent = []
    for number in range(5):
        member.proposes(b"%d" % number)
        sent += member.heard(Append, "b")
    assert len(sent) == 2

    member.hears("b", accepted(sent[0]))

    assert [len(m.block) for m in member.heard(Append, "b")] == [3], "room for one more message"


def test_the_window_in_bytes_bounds_what_is_in_flight() -> None:
    member = Member(settings=replace(SETTINGS, max_inflight_bytes=100)).leads().all_accept()
    sent = []
    for _ in range(5):
        member.proposes(b"x" * 60)
        sent += member.heard(Append, "b")
    assert len(sent) == 2
    assert member.state.progress["b"].inflight_bytes == 120

    member.hears("b", accepted(sent[1]))

    assert member.state.progress["b"].inflight_bytes == 180, "both answered, the other three sent"


def test_one_message_holds_what_fits_and_at_least_one_entry() -> None:
    limit = 2 * (10 + ENTRY_OVERHEAD_BYTES)
    member = Member(settings=replace(SETTINGS, max_append_bytes=limit)).leads().all_accept()

    member.proposes(*[b"x" * 10] * 5, b"y" * 500)

    assert [len(m.block) for m in member.heard(Append, "b")] == [2, 2, 1, 1]


def test_a_lost_append_is_found_by_the_next_refusal() -> None:
    member = Member().leads().all_accept()
    member.proposes(b"lost")
    member.proposes(b"arrives")
    [ask] = member.heard(Append, "b")

    member.hears("b", refused(ask, (1, 1)))

    [again] = member.heard(Append, "b")
    assert (again.prev_index, len(again.block)) == (1, 2)


def test_an_append_left_unanswered_for_an_election_timeout_is_sent_again() -> None:
    member = Member().leads().all_accept()
    member.proposes(b"lost")
    for _ in range(5):
        assert not [m for m in member.heard(Append, "c") if m.prev_index < 1]
        member.waits(200)
        for peer in "bc":
            for ask in member.heard(Heartbeat, peer):
                said = member.said
                member.hears(peer, answered(ask))
                member.said = said + member.said

    [again] = member.heard(Append, "b")
    assert (again.prev_index, len(again.block)) == (1, 1)


# --- sessions ---------------------------------------------------------------------------------


def test_an_answer_of_an_older_term_or_session_never_counts() -> None:
    """openraft, PySyncObj: a late answer must not move the commit index."""
    member = Member().leads()
    old = member.heard(Append, "b")[0]
    member.raft.peer_connected("b", member.now_ns)
    member.drain()
    contact_ns = member.state.progress["b"].contact_ns
    member.waits(100, tick=False)

    member.hears("b", accepted(old)._replace(sent_ns=member.now_ns))
    session = member.state.progress["b"].session
    member.hears("b", accepted(old)._replace(term=0, session=session, sent_ns=member.now_ns))
    member.hears("b", HeartbeatReply(0, session, 0, member.now_ns))

    assert member.state.progress["b"].match == 0
    assert member.state.progress["b"].contact_ns == contact_ns
    assert member.state.commit == 0


def test_a_new_connection_sends_again_what_was_in_flight() -> None:
    member = Member().leads().all_accept()
    member.proposes(b"x")
    member.proposes(b"y")

    member.raft.peer_connected("b", member.now_ns)
    member.drain()

    [again] = member.heard(Append, "b")
    assert (again.prev_index, len(again.block)) == (1, 2)


def test_a_peer_that_lost_its_disk_is_probed_from_nothing() -> None:
    member = Member(terms=[1, 1]).leads().all_accept()
    member.raft.peer_connected("b", member.now_ns, incarnation="the disk it had")
    assert member.state.progress["b"].match == 3
    member.raft.peer_connected("b", member.now_ns, incarnation="an empty disk")
    member.drain()
    assert member.state.progress["b"].match == 0


@pytest.mark.parametrize(
    "lie",
    [
        lambda ask: accepted(ask)._replace(at_index=99),
        lambda ask: accepted(ask)._replace(sent_ns=1 << 60),
        lambda ask: HeartbeatReply(ask.term, ask.session, 7, 1),
    ],
)
def test_an_answer_that_no_correct_member_gives_is_a_violation(lie) -> None:
    member = Member().leads()
    ask = member.heard(Append, "b")[0]
    with pytest.raises(ProtocolViolation):
        member.hears("b", lie(ask))
    member.raft.check()
    assert member.state.commit == 0


# --- proposals --------------------------------------------------------------------------------


def test_only_a_leader_accepts_proposals_and_others_name_it() -> None:
    """Raft §8: "if the server is not the leader, it rejects and tells who is"."""
    member = Member(term=1)
    with pytest.raises(NotLeader, match="no leader is known"):
        member.proposes(b"x")
    member.hears("b", beat(1))
    with pytest.raises(NotLeader, match="ask b") as caught:
        member.proposes(b"x")
    assert caught.value.leader == "b"


def test_a_command_beyond_the_size_limit_is_refused_and_leaves_no_trace() -> None:
    member = Member(settings=replace(SETTINGS, max_proposal_bytes=10)).leads()
    with pytest.raises(ProposalTooLarge, match="11 bytes exceeds the limit of 10"):
        member.proposes(b"x" * 11)
    assert member.terms == [1]
    member.proposes(b"x" * 10)


def test_proposals_beyond_the_bound_are_refused_until_some_are_handed_out() -> None:
    limit = 3 * (10 + ENTRY_OVERHEAD_BYTES)
    member = (
        Member(settings=replace(SETTINGS, max_proposal_bytes=10, max_uncommitted_bytes=limit))
        .leads()
        .all_accept()
    )
    member.proposes(*[b"x" * 10] * 3)
    with pytest.raises(QueueFull, match="uncommitted bytes is full"):
        member.proposes(b"")

    member.all_accept()

    assert member.state.uncommitted_bytes == 0
    member.proposes(*[b"x" * 10] * 3)


@pytest.mark.parametrize("max_apply_bytes", [1, 40, 1 << 20])
def test_what_a_new_leader_inherits_weighs_as_much_when_it_arrives_as_when_it_leaves(
    max_apply_bytes: int,
) -> None:
    """The bound neither leaks away nor fills up over changes of leadership."""
    tight = replace(SETTINGS, max_apply_bytes=max_apply_bytes)
    member = Member(terms=[1, 1, 1, 1], settings=tight).leads()
    assert member.state.uncommitted_bytes == member.state.log.size_bytes(1, 5)

    member.all_accept()

    assert member.state.uncommitted_bytes == 0
    assert [entry.index for entry in member.applied] == [1, 2, 3, 4, 5]


def test_committed_entries_are_handed_out_in_portions() -> None:
    member = Member(settings=replace(SETTINGS, max_apply_bytes=40))
    member.raft.step("b", append(1, (0, 0), [1] * 5, commit=5), member.now_ns)

    portions = []
    while True:
        ready = member.raft.ready()
        portions.append([entry.index for entry in ready.committed])
        if not member.raft.has_more:
            break

    assert portions == [[1, 2], [3, 4], [5]]


# --- whole groups -----------------------------------------------------------------------------


def test_a_follower_far_behind_catches_up_in_few_round_trips() -> None:
    """Raft §5.3, with every term in conflict."""
    cluster = Cluster("abc")
    cluster.elect("a")
    cluster.partition("a", "bc")
    for _ in range(50):
        cluster.propose("a", b"never")
    cluster.advance(3 * TIMEOUT_MS)
    leader = cluster.leader()
    for _ in range(30):
        cluster.propose(leader, b"kept")
    cluster.settle()

    cluster.heal()
    cluster.advance(TIMEOUT_MS)

    assert cluster.commands("a") == cluster.commands(leader) == [b"kept"] * 30


def test_a_log_shorter_than_the_probe_is_no_crash_loop() -> None:
    """etcd #10166, PySyncObj #197: a leader ahead of a disk that came back shorter."""
    member = Member(terms=[1, 1], term=3)
    member.hears("b", append(3, (1, 1), [], commit=1))
    member.hears("b", append(3, (3, 90), [3], commit=90))
    assert member.heard(AppendReply)[0].hint_index == 2
    assert member.state.commit == 1
    assert isinstance(member.state.log, RaftLog)

"""A lease may live longer than its time, never shorter."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.node.kv import commands as c
from mcpcore.node.kv.leases import LeaseTimer
from mcpcore.node.kv.machine import KeyValueMachine

MS = 1_000_000


def leading(*leases, now_ms=0, **options):
    timer = LeaseTimer(**options)
    timer.lead(now_ms * MS)
    for lease, ttl_ms in leases:
        timer.granted(lease, ttl_ms)
    timer.due(now_ms * MS)
    timer.check()
    return timer


def test_a_lease_runs_out_when_its_time_is_over_and_not_before():
    timer = leading((1, 10), (2, 20))

    assert timer.next_ns() == 10 * MS
    assert timer.due(10 * MS - 1) == ()
    assert timer.due(10 * MS) == (1,)
    assert timer.due(20 * MS) == (2,)


def test_a_renewed_lease_runs_in_full_again():
    timer = leading((1, 10))

    assert timer.renew(1, 9 * MS) == 10
    assert timer.remaining_ms(1, 10 * MS) == 9
    assert timer.due(19 * MS - 1) == ()
    assert timer.due(19 * MS) == (1,)


def test_a_renewal_never_shortens():
    timer = leading((1, 10))
    timer.renew(1, 9 * MS)

    timer.renew(1, 5 * MS)  # a reading that was taken earlier and handed in late

    assert timer.remaining_ms(1, 9 * MS) == 10


def test_a_lease_that_was_reported_cannot_be_renewed_since_its_end_may_be_in_the_log():
    timer = leading((1, 10))
    timer.due(10 * MS)

    assert timer.renew(1, 10 * MS) is None
    assert timer.remaining_ms(1, 10 * MS) == 0


def test_a_lease_whose_end_was_lost_is_reported_again():
    timer = leading((1, 10), retry_ns=5 * MS)
    timer.due(10 * MS)

    assert timer.due(15 * MS - 1) == ()
    assert timer.due(15 * MS) == (1,)
    timer.ended(1)
    assert timer.due(1000 * MS) == ()
    assert timer.next_ns() is None


def test_a_new_leader_counts_every_lease_in_full_from_its_own_beginning():
    timer = LeaseTimer()
    timer.granted(1, 10)
    assert timer.due(1000 * MS) == ()
    assert timer.renew(1, 0) is None
    assert timer.next_ns() is None

    timer.lead(1000 * MS)

    assert timer.due(1010 * MS - 1) == ()
    assert timer.due(1010 * MS) == (1,)


def test_a_leader_that_comes_back_forgets_what_it_reported_in_an_earlier_term():
    timer = leading((1, 10))
    timer.due(10 * MS)
    timer.follow()
    assert timer.due(50 * MS) == ()
    timer.lead(60 * MS)

    assert timer.renew(1, 61 * MS) == 10
    assert timer.due(71 * MS - 1) == ()


def test_a_lease_granted_under_a_leader_is_counted_from_the_next_look_at_the_clock():
    timer = leading()
    timer.granted(1, 10)

    assert timer.next_ns() == 0, "look at once"
    assert timer.due(7 * MS) == ()
    assert timer.next_ns() == 17 * MS


def test_few_enough_leases_are_reported_at_once_to_fit_one_command():
    timer = leading(*((lease, 10) for lease in range(1, 8)))

    portions = [timer.due(10 * MS, limit=3) for _ in range(4)]

    assert [len(portion) for portion in portions] == [3, 3, 1, 0]
    assert sorted(sum(portions, ())) == [1, 2, 3, 4, 5, 6, 7]


def test_leases_that_ended_early_do_not_pile_up():
    timer = leading()
    for lease in range(1, 2000):
        timer.granted(lease, 10**9)
        timer.due(0)
        timer.ended(lease)
        timer.check()

    assert timer.due(10**18) == ()


def test_a_restored_machine_counts_its_leases_from_its_restoration():
    source, machine = KeyValueMachine(), KeyValueMachine()
    source.apply(1, c.encode_command(c.LeaseGrant(10)))
    machine.apply(1, c.encode_command(c.LeaseGrant(5)))
    machine.leases.lead(0)
    machine.restore(source.snapshot())

    assert machine.leases.due(100 * MS) == ()
    machine.check()
    assert machine.leases.due(110 * MS) == (1,)


def test_the_timer_hears_of_every_grant_and_end_that_the_machine_applies():
    machine = KeyValueMachine()
    machine.leases.lead(0)
    machine.apply(1, c.encode_command(c.LeaseGrant(10)))
    machine.apply(2, c.encode_command(c.LeaseGrant(10)))
    machine.apply(3, c.encode_command(c.LeaseRevoke(1)))
    machine.leases.due(0)

    assert machine.leases.due(10 * MS) == (2,)
    machine.apply(4, c.encode_command(c.LeaseExpire((2,))))
    assert machine.leases.next_ns() is None or machine.leases.due(10**12) == ()
    machine.check()


steps = st.lists(
    st.tuples(
        st.sampled_from(["grant", "renew", "due", "lead", "follow", "end"]),
        st.integers(1, 5),
        st.integers(0, 8),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=300)
@given(steps)
def test_no_lease_runs_out_before_its_full_time_and_every_one_does_after_it(history):
    """Whatever the order of grants, renewals, looks at the clock and changes of leadership."""
    timer, now, leads = LeaseTimer(retry_ns=3 * MS), 0, False
    alive, reported, ttl = {}, set(), {}
    for step, lease, amount in history:
        now += amount * MS
        if step == "grant" and lease not in ttl:
            timer.granted(lease, amount + 1)
            ttl[lease], alive[lease] = amount + 1, now  # at the earliest
        elif step == "end":
            timer.ended(lease)
            ttl.pop(lease, None)
            reported.discard(lease)
        elif step in ("lead", "follow"):
            leads = step == "lead"
            timer.lead(now) if leads else timer.follow()
            alive = dict.fromkeys(ttl, now)
            reported = set()
        elif step == "renew":
            renewed = timer.renew(lease, now)
            may = leads and lease in ttl and lease not in reported
            assert renewed == (ttl[lease] if may else None)
            if may:
                alive[lease] = now
        elif step == "due":
            for ended in timer.due(now):
                assert leads
                assert ended in ttl
                assert now - alive[ended] >= ttl[ended] * MS
                reported.add(ended)
        timer.check()
    if leads:
        timer.due(now)
        found = timer.due(now + 100 * MS)
        assert set(found) == ttl.keys()

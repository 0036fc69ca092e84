"""Whom to believe: Marzullo's intersection, falsetickers by name, the median of the rest."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.clock import Agreement, Interval, NoAgreement, OffsetEstimate, agree, marzullo
from mcpcore.errors import InvalidInput

law = settings(deadline=None)

MS = 1_000_000
S = 1_000_000_000


def heard(peer, offset_ns, radius_ns=6 * MS, skew_ppm=0.0):
    return OffsetEstimate(
        peer=peer,
        offset_ns=offset_ns,
        bounds=Interval.around(offset_ns, radius_ns),
        skew_ppm=skew_ppm,
        skew_low_ppm=skew_ppm - 1,
        skew_high_ppm=skew_ppm + 1,
        delay_ns=2 * radius_ns,
        age_ns=0,
        samples=10,
        steps=0,
    )


def see(*estimates, node="a", members="abcde", source_error_ns=250 * MS):
    return agree(
        node,
        set(members),
        {estimate.peer: estimate for estimate in estimates},
        source_error_ns=source_error_ns,
    )


@pytest.mark.parametrize(
    ("claims", "quorum", "then"),
    [
        # Three overlap, one stands apart.
        ([(8, 12), (11, 13), (10, 12), (14, 15)], 3, (11, 12)),
        # The classic: the intersection of two may be all there is.
        ([(8, 12), (11, 13), (14, 15)], 2, (11, 12)),
        # Two regions are held by two claims each, so both stay possible.
        ([(0, 10), (1, 2), (8, 9)], 2, (1, 9)),
        # Ends are included: touching is agreeing.
        ([(0, 5), (5, 9)], 2, (5, 5)),
        ([(0, 4), (5, 9)], 2, None),
        ([(3, 3)], 1, (3, 3)),
        ([], 1, None),
    ],
)
def test_marzullos_function_by_table(claims, quorum, then):
    found = marzullo([Interval(*claim) for claim in claims], quorum)

    assert found == (None if then is None else Interval(*then))


intervals = st.builds(
    lambda low, width: Interval(low, low + width), st.integers(0, 30), st.integers(0, 20)
)


@law
@given(st.lists(intervals, max_size=7), st.integers(1, 4))
def test_marzullos_function_is_the_hull_of_all_points_that_a_quorum_holds(claims, quorum):
    points = [x for x in range(60) if sum(claim.contains(x) for claim in claims) >= quorum]

    found = marzullo(claims, quorum)

    assert found == (Interval(points[0], points[-1]) if points else None)


@law
@given(
    st.lists(st.integers(-100, 100), min_size=4, max_size=4),
    st.lists(st.integers(0, 50), min_size=4, max_size=4),
    st.lists(st.integers(-(10**12), 10**12), min_size=2, max_size=2),
)
def test_two_liars_of_five_cannot_move_the_truth_out_of_the_bounds(offsets, errors, lies):
    """Honest: we and two others, within 100 of the truth. The median is held by the honest."""
    honest = [
        heard("b", offsets[0] * MS + errors[0] * MS, 50 * MS),
        heard("c", offsets[1] * MS - errors[1] * MS, 50 * MS),
    ]
    liars = [heard("d", lies[0], 0), heard("e", lies[1], 0)]

    found = see(*honest, *liars, source_error_ns=250 * MS)

    assert isinstance(found, Agreement)
    true_offsets = [0, offsets[0] * MS, offsets[1] * MS]
    for liar in found.falsetickers:
        assert liar.node in "de"
    # A median of five with two lies lies between the least and the greatest honest value, unless
    # a lie is small enough to be believed; then it lies within what the claims allow.
    slack = 300 * MS
    assert min(true_offsets) - slack <= found.bounds.latest_ns
    assert found.bounds.earliest_ns <= max(true_offsets) + slack
    if len(found.falsetickers) == 2:
        middle = sorted(true_offsets)[1]
        assert found.bounds.contains(middle)


def test_a_clock_an_hour_off_is_named_with_its_distance():
    found = see(heard("b", 2 * MS), heard("c", -3 * MS), heard("d", 3600 * S), heard("e", MS))

    assert found.truechimers == ("a", "b", "c", "e")
    (false,) = found.falsetickers
    assert false.node == "d"
    assert false.off_ns == pytest.approx(3600 * S, abs=S)
    assert abs(found.offset_ns) <= 3 * MS


def test_we_can_be_the_falseticker_ourselves():
    found = see(*(heard(peer, -3600 * S) for peer in "bcde"))

    assert [false.node for false in found.falsetickers] == ["a"]
    assert found.falsetickers[0].off_ns > 3599 * S
    assert found.offset_ns == -3600 * S


def test_silent_members_count_toward_the_majority():
    found = see(heard("b", 0))

    assert found == NoAgreement("2 of 5 clocks are known, a majority is 3")
    assert isinstance(see(heard("b", 0), heard("c", 0)), Agreement)


def test_without_a_majority_nobody_is_believed_and_nobody_accused():
    found = see(heard("b", 10 * S), heard("c", 20 * S), heard("d", 30 * S), heard("e", 40 * S))

    assert isinstance(found, NoAgreement)
    assert found.falsetickers == ()
    assert "no 3 of 5 clocks agree within 250 ms" in found.reason
    assert "b +10000.000 ms" in found.reason


def test_strangers_do_not_count():
    found = see(heard("b", 0), heard("c", 0), heard("x", 3600 * S))

    assert found.truechimers == ("a", "b", "c")
    assert found.falsetickers == ()


def test_the_clusters_rate_is_the_median_of_the_rates():
    found = see(heard("b", 0, skew_ppm=10), heard("c", 0, skew_ppm=20))

    assert found.skew_ppm == 10


def test_a_reference_alone_may_be_what_counts():
    """Members need not include us: one true reference is then the cluster's time."""
    found = see(heard("gps", 180 * MS), members=["gps"])

    assert found.truechimers == ("gps",)
    assert found.bounds == Interval.around(180 * MS, 6 * MS)


@law
@given(
    st.lists(st.integers(-100 * MS, 100 * MS), min_size=5, max_size=5),
    st.lists(st.integers(0, 20 * MS), min_size=20, max_size=20),
    st.lists(st.floats(-1, 1), min_size=20, max_size=20),
)
def test_nodes_that_hear_the_same_clocks_agree_within_their_bounds(clocks, radii, where):
    """Every node's bounds hold the same instant: the median of the clocks."""
    names = "abcde"
    k = 0
    for i, node in enumerate(names):
        estimates = []
        for j, peer in enumerate(names):
            if i != j:
                truth, radius = clocks[j] - clocks[i], radii[k]
                estimates.append(heard(peer, truth + round(where[k] * radius), radius))
                k += 1
        found = see(*estimates, node=node, source_error_ns=500 * MS)
        assert found.bounds.contains(sorted(clocks)[2] - clocks[i])


def test_a_cluster_of_nobody_is_refused():
    with pytest.raises(InvalidInput):
        see(members="")
    with pytest.raises(InvalidInput):
        marzullo([], 0)

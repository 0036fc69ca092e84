"""What a timestamp promises: one order in four forms, and no form that lies."""

import pickle
from datetime import UTC, datetime, timedelta, timezone

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.clock import Timestamp, as_timestamp, msgpack_default, msgpack_ext_hook
from mcpcore.clock.timestamp import COUNTER_MAX, PHYSICAL_NS_MAX
from mcpcore.errors import InvalidInput

physicals = st.integers(0, PHYSICAL_NS_MAX) | st.integers(0, 5)
counters = st.integers(0, COUNTER_MAX) | st.integers(0, 3)
pairs = st.tuples(physicals, counters)

law = settings(deadline=None)


@law
@given(pairs, pairs)
def test_every_form_sorts_as_the_papers_pair_does(a, b):
    """Kulkarni et al. 2014, section 3: lexicographic comparison of (l, c)."""
    s, t = Timestamp.of(*a), Timestamp.of(*b)

    assert (s < t) == (a < b)
    assert (s == t) == (a == b)
    assert (s.to_bytes12() < t.to_bytes12()) == (a < b)
    assert (str(s) < str(t)) == (a < b)


@law
@given(pairs)
def test_every_full_form_reads_back_exactly(pair):
    stamp = Timestamp.of(*pair)

    assert (stamp.physical_ns, stamp.counter) == pair
    assert Timestamp.from_wire(stamp.to_bytes12()) == stamp
    assert Timestamp.parse(str(stamp)) == stamp
    assert pickle.loads(pickle.dumps(stamp)) == stamp
    packed = msgpack.packb(stamp, default=msgpack_default, strict_types=True)
    unpacked = msgpack.unpackb(packed, ext_hook=msgpack_ext_hook)
    assert unpacked == stamp
    assert type(unpacked) is Timestamp


@law
@given(pairs, pairs)
def test_the_short_form_never_inverts_an_order_and_only_merges_one_nanosecond(a, b):
    s, t = Timestamp.of(*a), Timestamp.of(*b)

    if s <= t:
        assert s.to_bytes8() <= t.to_bytes8()
    assert (s.to_bytes8() == t.to_bytes8()) == (s.physical_ns == t.physical_ns)
    assert Timestamp.from_wire(s.to_bytes8()) == Timestamp.of(a[0])


def test_the_text_says_the_moment_in_utc_and_the_counter():
    stamp = Timestamp.of(1_700_000_000_000_000_042, 7)

    assert str(stamp) == "2023-11-14T22:13:20.000000042Z-0000000007"
    assert f"{stamp}" == str(stamp)
    assert repr(stamp) == "Timestamp.parse('2023-11-14T22:13:20.000000042Z-0000000007')"
    assert len(str(Timestamp.of(0))) == len(str(Timestamp.of(PHYSICAL_NS_MAX, COUNTER_MAX)))


def test_repr_is_honest_about_a_number_that_is_no_timestamp():
    assert repr(Timestamp(-1)) == "Timestamp(-1)"


@law
@given(st.integers(0, PHYSICAL_NS_MAX // 1000))
def test_a_datetime_survives_to_the_microsecond(microseconds):
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)

    assert Timestamp.from_datetime(moment).to_datetime() == moment


def test_a_datetime_of_another_zone_means_the_same_moment():
    east = datetime(2026, 11, 23, 9, 0, tzinfo=timezone(timedelta(hours=8)))

    assert Timestamp.from_datetime(east).to_datetime() == datetime(2026, 11, 23, 1, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23T01:02:03.000000004Z",
        "2026-11-23T01:02:03.000000004Z-5",
        "2026-11-23T01:02:03.000000004Z-4294967296",
        "2026-11-23T01:02:60.000000000Z-0000000000",
        "2026-02-30T01:02:03.000000004Z-0000000005",
        "1969-12-31T23:59:59.000000000Z-0000000000",
        "2600-01-01T00:00:00.000000000Z-0000000000",
        "2026-11-23T01:02:03.000000004Z-0000000005\n",
        "2026-11-23T01:02:03.٠٠٠٠٠٠٠٠٤Z-0000000005",
    ],
)
def test_text_that_is_no_timestamp_is_refused_in_words(text):
    with pytest.raises(InvalidInput):
        Timestamp.parse(text)


@law
@given(st.text(max_size=50) | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z-\d{10}"))
def test_parsing_never_fails_from_the_depths(text):
    try:
        stamp = Timestamp.parse(text)
    except InvalidInput:
        return
    assert str(stamp) == text


@pytest.mark.parametrize("length", [0, 7, 9, 11, 13])
def test_bytes_of_a_wrong_length_are_refused(length):
    with pytest.raises(InvalidInput, match="8 or 12"):
        Timestamp.from_wire(bytes(length))


def test_halves_that_do_not_fit_are_refused():
    for physical, counter in ((-1, 0), (PHYSICAL_NS_MAX + 1, 0), (0, -1), (0, COUNTER_MAX + 1)):
        with pytest.raises(InvalidInput):
            Timestamp.of(physical, counter)
    for number in (-1, 1 << 96):
        with pytest.raises(InvalidInput):
            as_timestamp(number)
    assert as_timestamp(5) == Timestamp(5)


def test_a_naive_datetime_is_refused_because_its_zone_is_a_guess():
    with pytest.raises(InvalidInput, match="no time zone"):
        Timestamp.from_datetime(datetime(2026, 1, 1))  # noqa: DTZ001


def test_msgpack_leaves_other_types_alone():
    with pytest.raises(TypeError):
        msgpack_default(object())
    assert msgpack_ext_hook(5, b"x") == msgpack.ExtType(5, b"x")
    with pytest.raises(InvalidInput):
        msgpack_ext_hook(72, b"short")

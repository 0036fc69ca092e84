import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.node.framing import HEADER_BYTES, FrameReader, encode_frame

payloads = st.lists(st.binary(max_size=40), max_size=8)


def feed_in_pieces(reader: FrameReader, data: bytes, cuts: list[int]) -> list[bytes]:
    frames = []
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        frames += reader.feed(data[start:end])
        reader.check()
    return frames


@settings(deadline=None)
@given(payloads, st.lists(st.integers(0, 10_000), max_size=30))
def test_what_goes_in_comes_out_however_the_network_has_split_it(sent, cuts):
    reader = FrameReader()
    stream = b"".join(map(encode_frame, sent))
    assert feed_in_pieces(reader, stream, cuts) == sent
    assert reader.buffered_bytes == 0
    assert reader.fault is None


@settings(deadline=None)
@given(
    st.lists(
        st.binary(max_size=30).map(encode_frame)
        | st.binary(max_size=12)
        | st.integers(0, 2**32 - 1).map(lambda n: n.to_bytes(4, "big")),
        max_size=8,
    ).map(b"".join),
    st.lists(st.integers(0, 10_000), max_size=30),
)
def test_hostile_bytes_have_one_outcome_however_they_are_split(stream, cuts):
    whole, pieces = FrameReader(24, 12), FrameReader(24, 12)
    assert whole.feed(stream) == feed_in_pieces(pieces, stream, cuts)
    assert str(whole.fault) == str(pieces.fault)
    assert whole.buffered_bytes == pieces.buffered_bytes


def test_an_announced_length_allocates_nothing():
    reader = FrameReader()
    reader.feed((32 * 1024 * 1024).to_bytes(4, "big") + b"x")
    assert reader.buffered_bytes == HEADER_BYTES + 1


@pytest.mark.parametrize("pieces", [1, 4, 9])
def test_a_frame_beyond_the_limit_is_a_fault_and_those_before_it_count(pieces: int):
    stream = encode_frame(b"good") + (101).to_bytes(4, "big") + encode_frame(b"never seen")
    reader = FrameReader(100)
    frames = []
    for start in range(0, len(stream), pieces):
        frames += reader.feed(stream[start : start + pieces])
    assert frames == [b"good"]
    assert reader.fault is not None
    assert (reader.fault.length, reader.fault.limit) == (101, 100)


def test_the_longest_frame_passes():
    assert FrameReader(100).feed(encode_frame(bytes(100))) == [bytes(100)]


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_the_first_frame_has_a_limit_of_its_own(piece: int):
    reader = FrameReader(100, first_max_bytes=10)
    stream = encode_frame(bytes(10)) + encode_frame(bytes(100))
    frames = []
    for start in range(0, len(stream), piece):
        frames += reader.feed(stream[start : start + piece])
    assert [len(frame) for frame in frames] == [10, 100]

    strict = FrameReader(100, first_max_bytes=10)
    assert strict.feed(encode_frame(bytes(11))) == []
    assert strict.fault is not None


@pytest.mark.parametrize(
    ("stream", "hint"),
    [
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "TLS"),
        (b"\xff\xff\xff\xff", "same maximum frame size"),
    ],
)
def test_a_fault_guesses_what_is_at_the_other_end(stream: bytes, hint: str):
    reader = FrameReader()
    reader.feed(stream)
    assert hint in str(reader.fault)

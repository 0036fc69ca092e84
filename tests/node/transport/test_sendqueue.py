from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.node.framing import HEADER_BYTES, FrameReader, encode_frame
from mcpcore.node.sendqueue import SendQueue

pushes = st.tuples(st.just("push"), st.binary(min_size=1, max_size=20), st.booleans())
takes = st.tuples(st.just("take"), st.integers(1, 60), st.none())


def weigh(waiting: list[tuple[bytes, bool]]) -> int:
    return sum(len(payload) + HEADER_BYTES for payload, _ in waiting)


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(24, 100), st.lists(pushes | takes, max_size=60))
def test_the_queue_does_what_its_sentence_says(max_frames, max_bytes, steps):
    """Against a plain list: the oldest droppable ones give way, or the new one is refused."""
    queue, model = SendQueue(max_frames, max_bytes), []
    dropped = refused = 0
    for kind, what, droppable in steps:
        if kind == "push":
            room = [*model, (what, droppable)]
            while weigh(room) > max_bytes or len(room) > max_frames:
                oldest = next((i for i, (_, may_go) in enumerate(room[:-1]) if may_go), None)
                if oldest is None:
                    break
                del room[oldest]
            fits = weigh(room) <= max_bytes and len(room) <= max_frames
            assert queue.push(what, droppable) is fits
            if fits:
                dropped += len(model) + 1 - len(room)
                model = room
            else:
                refused += 1
        else:
            count = 1
            while count < len(model) and weigh(model[: count + 1]) <= what:
                count += 1
            expected, model = model[:count], model[count:]
            assert queue.take(what) == b"".join(encode_frame(p) for p, _ in expected)
        queue.check()
        assert (len(queue), queue.dropped, queue.refused) == (len(model), dropped, refused)


def test_nothing_is_dropped_for_a_payload_that_would_not_fit_even_then():
    queue = SendQueue(max_frames=10, max_bytes=40)
    assert queue.push(b"entries" * 2)
    assert queue.push(b"heartbeat", droppable=True)
    assert not queue.push(bytes(30))
    assert FrameReader().feed(queue.take(1000)) == [b"entries" * 2, b"heartbeat"]


def test_a_newer_heartbeat_takes_the_place_of_the_oldest():
    queue = SendQueue(max_frames=3, max_bytes=1000)
    for payload in (b"old", b"newer", b"newest", b"last"):
        assert queue.push(payload, droppable=True)
    assert FrameReader().feed(queue.take(1000)) == [b"newer", b"newest", b"last"]
    assert queue.dropped == 1

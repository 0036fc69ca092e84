"""Exactly the changes after a revision, in order, none twice, none left out."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.node.kv import commands as c
from mcpcore.node.kv.machine import KeyValueMachine
from mcpcore.node.kv.records import Event, EventKind, KeyValue
from mcpcore.node.kv.results import Changes, Compacted, TooSlow
from mcpcore.node.kv.watch import Watcher, WatchHub


def put(key, revision, value=b""):
    return Event(EventKind.PUT, KeyValue(key, value, revision, revision, 1), 0)


def publish(hub, revision, *keys, value=b""):
    hub.publish(revision, [put(key, revision, value) for key in keys])
    hub.check()


def heard(watcher, limit=1000):
    return [
        (changes.revision, [event.record.key for event in changes.events])
        for changes in watcher.take(limit)
    ]


def test_a_watcher_hears_its_key_and_no_other():
    hub = WatchHub()
    watcher = hub.subscribe(b"a")
    publish(hub, 3, b"a")
    publish(hub, 4, b"ab")
    publish(hub, 7, b"b", b"a")

    assert heard(watcher) == [(3, [b"a"]), (7, [b"a"])]
    assert heard(watcher) == []


def test_a_watcher_of_a_prefix_hears_all_keys_that_start_with_it():
    hub = WatchHub()
    some, everything = hub.subscribe(b"a/", prefix=True), hub.subscribe(b"", prefix=True)
    publish(hub, 1, b"a", b"a/", b"a/1", b"b")

    assert heard(some) == [(1, [b"a/", b"a/1"])]
    assert heard(everything) == [(1, [b"a", b"a/", b"a/1", b"b"])]


def test_a_watcher_may_start_in_the_past_and_misses_nothing_on_the_way_to_the_present():
    hub = WatchHub()
    for revision in (1, 3, 5):
        publish(hub, revision, b"a")
    watcher = hub.subscribe(b"a", after_revision=1)
    publish(hub, 6, b"a")

    assert heard(watcher) == [(3, [b"a"]), (5, [b"a"]), (6, [b"a"])]


def test_a_watcher_that_is_ahead_of_this_member_keeps_silent_until_it_gets_there():
    hub = WatchHub()
    watcher = hub.subscribe(b"a", after_revision=5)
    for revision in (4, 5, 6):
        publish(hub, revision, b"a")

    assert heard(watcher) == [(6, [b"a"])]


def test_a_start_too_far_back_is_told_the_oldest_revision_it_may_start_after():
    hub = WatchHub(history_bytes=3 * 130)
    for revision in range(1, 6):
        publish(hub, revision, b"a")

    refused = hub.subscribe(b"a", after_revision=1)

    assert refused == Compacted(2)
    assert heard(hub.subscribe(b"a", after_revision=2)) == [(n, [b"a"]) for n in (3, 4, 5)]


def test_history_that_was_cut_within_a_revision_is_not_told_in_part():
    hub = WatchHub(history_bytes=2 * 130)
    publish(hub, 1, b"a", b"b", b"c")

    assert hub.subscribe(b"", prefix=True, after_revision=0) == Compacted(1)
    assert heard(hub.subscribe(b"", prefix=True, after_revision=1)) == []


def test_a_slow_watcher_ends_with_the_revision_to_go_on_from_and_nothing_was_skipped():
    hub = WatchHub(queue_bytes=3 * 130)
    watcher = hub.subscribe(b"a")
    for revision in range(1, 4):
        publish(hub, revision, b"a")
    assert heard(watcher, 1) == [(1, [b"a"])]
    for revision in range(4, 8):
        publish(hub, revision, b"a")

    assert watcher.ended == TooSlow(1)
    assert watcher.resume_after == 1
    assert watcher.take() == []
    assert len(hub) == 0
    again = hub.subscribe(b"a", after_revision=1)
    assert [revision for revision, _ in heard(again)] == [2, 3, 4, 5, 6, 7]


def test_one_change_larger_than_the_whole_queue_still_passes():
    hub = WatchHub(queue_bytes=10)
    watcher = hub.subscribe(b"a")
    publish(hub, 1, b"a", value=b"x" * 1000)

    assert heard(watcher) == [(1, [b"a"])]


def test_a_watcher_of_a_quiet_key_does_not_fall_behind():
    hub = WatchHub()
    watcher = hub.subscribe(b"quiet")
    publish(hub, 10, b"busy")

    assert watcher.resume_after == 10


def test_a_watcher_is_woken_when_there_is_something_to_take_and_when_it_ends():
    hub, woken = WatchHub(queue_bytes=130), []
    watcher = hub.subscribe(b"a", wake=lambda: woken.append(hub.revision))
    publish(hub, 1, b"b")
    publish(hub, 2, b"a")
    publish(hub, 3, b"a")
    publish(hub, 4, b"a")

    assert woken == [2, 3]
    assert watcher.ended == TooSlow(0)
    hub.subscribe(b"a", after_revision=0, wake=lambda: woken.append("backlog"))
    assert woken[-1] == "backlog"


def test_a_cancelled_watcher_hears_no_more_and_leaves_nothing_behind():
    hub = WatchHub()
    first, second = hub.subscribe(b"a", prefix=True), hub.subscribe(b"b", prefix=True)
    first.cancel()
    first.cancel()
    publish(hub, 1, b"a", b"b")
    assert heard(first) == []
    assert heard(second) == [(1, [b"b"])]
    second.cancel()

    hub.check()
    assert len(hub) == 0


def test_a_member_that_was_restored_ends_the_watchers_that_it_cannot_serve_on():
    source, machine = KeyValueMachine(), KeyValueMachine()
    machine.apply(1, c.encode_command(c.Put(b"a", b"")))
    behind = machine.watch.subscribe(b"a")
    ahead = machine.watch.subscribe(b"a", after_revision=9)
    for index in range(1, 10):
        source.apply(index, c.encode_command(c.Put(b"a", b"")))

    machine.restore(source.snapshot())
    machine.check()

    assert behind.ended == Compacted(9)
    assert ahead.ended is None
    assert machine.watch.subscribe(b"a", after_revision=8) == Compacted(9)
    machine.apply(10, c.encode_command(c.Put(b"a", b"")))
    assert heard(ahead) == [(10, [b"a"])]


def test_a_restore_to_the_revision_already_reached_ends_no_watcher():
    machine = KeyValueMachine()
    watcher = machine.watch.subscribe(b"quiet")
    machine.apply(1, c.encode_command(c.Put(b"a", b"")))

    machine.restore(list(machine.snapshot()))

    assert watcher.ended is None


KEYS = [b"a", b"a/1", b"a/2", b"b", b""]
actions = st.lists(
    st.one_of(
        st.lists(st.sampled_from(KEYS[:4]), min_size=1, max_size=3, unique=True),
        st.tuples(st.integers(0, 2), st.integers(1, 3)),  # this watcher takes some
    ),
    max_size=60,
)
targets = st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), min_size=3, max_size=3)


@settings(deadline=None, max_examples=300)
@given(targets, actions, st.integers(200, 3000), st.integers(200, 2000), st.integers(0, 4))
def test_whatever_ends_and_resumes_a_client_hears_each_change_once_and_in_order(
    what, story, history_bytes, queue_bytes, started_late
):
    """A client that resumes where it was told hears exactly the changes of its keys.

    Unless the hub says ``Compacted``: then it reads anew, here: goes on from that revision.
    """
    hub = WatchHub(history_bytes=history_bytes, queue_bytes=queue_bytes)
    truth, heard_by, skipped = [], [[], [], []], [0, 0, 0]

    def subscribe(number, after):
        key, prefix = what[number]
        watcher = hub.subscribe(key, prefix=prefix, after_revision=after)
        if isinstance(watcher, Compacted):
            assert after < watcher.oldest_revision
            skipped[number] = watcher.oldest_revision
            heard_by[number].clear()
            watcher = hub.subscribe(key, prefix=prefix, after_revision=watcher.oldest_revision)
        assert isinstance(watcher, Watcher)
        return watcher

    watchers, revision = [subscribe(number, 0) for number in range(3)], 0
    for action in story:
        if isinstance(action, list):
            revision += 1 + started_late
            publish(hub, revision, *action)
            truth.append(Changes(revision, tuple(put(key, revision) for key in action)))
            continue
        number, limit = action
        heard_by[number] += watchers[number].take(limit)
        if watchers[number].ended is not None:
            watchers[number] = subscribe(number, watchers[number].resume_after)
    for number, (key, prefix) in enumerate(what):
        for _ in range(2):  # what ends while nobody looks is resumed once more
            heard_by[number] += watchers[number].take(1000)
            watchers[number].cancel()
            watchers[number] = subscribe(number, watchers[number].resume_after)
        heard_by[number] += watchers[number].take(1000)
        expected = []
        for changes in truth:
            events = tuple(
                event
                for event in changes.events
                if (event.record.key.startswith(key) if prefix else event.record.key == key)
            )
            if events and changes.revision > skipped[number]:
                expected.append(Changes(changes.revision, events))
        assert heard_by[number] == expected
        hub.check()

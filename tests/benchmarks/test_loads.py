"""The load itself: what is in flight, what counts, and the bare client for etcd."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.loads import bare_http2, protobuf
from benchmarks.loads.bare_http2 import frame
from benchmarks.loads.calls import fastest_ns
from benchmarks.loads.latencies import Done, drive, drive_calls, summary


async def test_never_more_and_never_fewer_are_in_flight_than_asked_for() -> None:
    loop, running, most = asyncio.get_running_loop(), 0, 0

    def fire(done: Done) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)

        def end() -> None:
            nonlocal running
            running -= 1
            done(None)

        loop.call_later(0.001, end)

    told = await drive(fire, 7, 0.1)
    assert most == 7
    assert running == 0
    assert told["operations"] > 7


async def test_an_operation_that_fails_ends_the_load_and_is_named() -> None:
    def fire(done: Done) -> None:
        asyncio.get_running_loop().call_soon(done, OSError("no space"))

    assert await drive(fire, 3, 5.0) == {"error": "OSError: no space"}


async def test_what_ends_while_warming_up_does_not_count() -> None:
    async def call() -> None:
        await asyncio.sleep(0.01)

    told = await drive_calls(call, 1, 0.2)
    assert 1 <= told["operations"] <= 20


async def test_a_system_that_is_slower_than_the_window_still_gets_its_figure() -> None:
    async def call() -> None:
        await asyncio.sleep(0.2)

    told = await drive_calls(call, 2, 0.01)
    assert told["operations"] == 2
    assert told["seconds"] > 0.1


def test_nothing_that_ended_is_an_error_and_no_division_by_zero() -> None:
    assert summary([], 2.0) == {"error": "nothing ended within 2 s"}


def test_a_call_is_timed_in_nanoseconds_even_in_no_time() -> None:
    assert fastest_ns(lambda: None, 0.0) > 0


# --- protobuf -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 2**64 - 1))
def test_a_varint_is_read_as_it_was_written(number: int) -> None:
    assert protobuf.fields(b"\x18" + protobuf.varint(number)) == {3: number}


def test_a_put_is_what_etcd_reads() -> None:
    assert protobuf.fields(protobuf.put_request(b"k", b"v" * 300)) == {1: b"k", 2: b"v" * 300}
    assert protobuf.fields(protobuf.range_request(b"k", serializable=True)) == {1: b"k", 7: 1}


def test_the_member_that_names_itself_leads() -> None:
    header = b"\x10" + protobuf.varint(77)
    status = b"\x0a" + protobuf.varint(len(header)) + header + b"\x20"
    assert protobuf.is_leader(status + protobuf.varint(77))
    assert not protobuf.is_leader(status + protobuf.varint(78))


@pytest.mark.parametrize("damaged", [b"\x08", b"\x08\xff", b"\x0d\0\0\0\0"])
def test_a_message_that_is_none_is_refused(damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r"protobuf|wire type"):
        protobuf.fields(damaged)


# --- HTTP/2 -------------------------------------------------------------------------------------


class Server:
    """Answers every call with its own message, and opens its window in small steps."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.unread = 0
        self.most_unread = 0
        self.granting = False
        self.gone = asyncio.Event()

    def grant(self, writer: asyncio.StreamWriter) -> None:
        """Late, so that a client that does not wait for it is caught."""
        step = self.unread.to_bytes(4)
        writer.write(frame(bare_http2.WINDOW_UPDATE, 0, 0, step))
        self.unread, self.granting = 0, False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(len(bare_http2.PREFACE)) == bare_http2.PREFACE
        writer.write(frame(bare_http2.SETTINGS, 0, 0, b""))
        while True:
            try:
                head = await reader.readexactly(9)
                payload = await reader.readexactly(int.from_bytes(head[:3]))
            except asyncio.IncompleteReadError:
                break
            if head[3] == bare_http2.DATA:
                self.unread += len(payload)
                self.most_unread = max(self.most_unread, self.unread)
                if self.unread > 30_000 and not self.granting:
                    self.granting = True
                    asyncio.get_running_loop().call_later(0.01, self.grant, writer)
                stream = int.from_bytes(head[5:])
                if self.answer is not None:
                    body = b"\0" + len(self.answer).to_bytes(4) + self.answer
                    writer.write(frame(bare_http2.HEADERS, bare_http2.END_HEADERS, stream, b"\x88"))
                    writer.write(frame(bare_http2.DATA, 0, stream, body))
                flags = bare_http2.END_HEADERS | bare_http2.END_STREAM
                writer.write(frame(bare_http2.HEADERS, flags, stream, b"\x88"))
        writer.close()
        await writer.wait_closed()
        self.gone.set()


async def called(server: Server, count: int, size: int) -> list[bytes | BaseException]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening:
        connection = await bare_http2.connect("127.0.0.1", listening.sockets[0].getsockname()[1])
        ended: list[bytes | BaseException] = []
        every = asyncio.Event()

        def one(told: bytes | BaseException) -> None:
            ended.append(told)
            if len(ended) == count:
                every.set()

        for _ in range(count):
            connection.call("/x/y", b"m" * size, one)
        async with asyncio.timeout(60):
            await every.wait()
            connection.close()
            await server.gone.wait()
        return ended


async def test_a_call_ends_with_the_message_that_came() -> None:
    assert await called(Server(b"done"), 3, 10) == [b"done"] * 3


async def test_more_than_the_window_holds_waits_for_it_and_arrives() -> None:
    """A thousand calls of a kibibyte are sixteen windows."""
    server = Server(b"done")
    assert await called(server, 1_000, 1_024) == [b"done"] * 1_000
    assert server.most_unread <= bare_http2.FIRST_WINDOW


async def test_an_answer_without_a_message_is_a_failure() -> None:
    (told,) = await called(Server(None), 1, 10)
    assert isinstance(told, ConnectionError)


async def test_calls_under_way_fail_when_the_server_hangs_up() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.close()
        await writer.wait_closed()

    listening = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with listening:
        connection = await bare_http2.connect("127.0.0.1", listening.sockets[0].getsockname()[1])
        ended: asyncio.Future[bytes | BaseException] = asyncio.get_running_loop().create_future()
        connection.call("/x/y", b"m", ended.set_result)
        assert isinstance(await asyncio.wait_for(ended, 30), ConnectionError)
        await asyncio.sleep(0)  # the loop lets go of the sockets

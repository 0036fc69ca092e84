"""Programs that were never written for a simulator run in one, unmodified, the same way twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mcpcore.sim import World


def same_twice(scenario: Callable[[World], object]) -> object:
    """Run ``scenario`` twice from one seed; its answers and digests must agree."""
    seen = []
    for _ in range(2):
        with World(seed=11) as world:
            answer = scenario(world)
            seen.append((answer, world.digest))
    assert seen[0] == seen[1]
    return seen[0][0]


def test_an_echo_over_streams_answers_in_order() -> None:
    async def serve() -> None:
        async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                writer.write(line.upper())
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(shout, "0.0.0.0", 7)
        async with server:
            await server.serve_forever()

    async def ask() -> list[bytes]:
        reader, writer = await asyncio.open_connection("server", 7)
        writer.writelines([b"one\n", b"two\n"])
        answers = [await reader.readline(), await reader.readline()]
        writer.close()
        await writer.wait_closed()
        return answers

    def scenario(world: World) -> object:
        world.host("server", serve)
        world.run(0.1)
        return world.call(world.host("client"), ask())

    assert same_twice(scenario) == [b"ONE\n", b"TWO\n"]


def test_an_aiohttp_server_and_client_run_unmodified() -> None:
    web = pytest.importorskip("aiohttp.web", reason="aiohttp is not installed")
    import aiohttp

    async def serve() -> None:
        async def hello(request: web.Request) -> web.Response:
            await asyncio.sleep(0.25)
            return web.json_response({"hello": request.match_info["name"]})

        app = web.Application()
        app.router.add_get("/{name}", hello)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "0.0.0.0", 8080).start()
        try:
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    async def ask() -> list[str]:
        async with aiohttp.ClientSession() as session:
            answers = []
            for name in ("ann", "bob", "eve"):
                async with session.get(f"http://server:8080/{name}") as response:
                    answers.append((await response.json())["hello"])
            return answers

    def scenario(world: World) -> object:
        world.host("server", serve)
        world.run(1)
        return world.call(world.host("client"), ask())

    assert same_twice(scenario) == ["ann", "bob", "eve"]


def test_a_starlette_app_under_uvicorn_answers_an_httpx_client() -> None:
    uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    httpx = pytest.importorskip("httpx", reason="httpx is not installed")
    pytest.importorskip("starlette", reason="starlette is not installed")
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def hello(request: object) -> JSONResponse:
        await asyncio.sleep(0.1)
        return JSONResponse({"hello": "world"})

    async def serve() -> None:
        app = Starlette(routes=[Route("/", hello)])
        config = uvicorn.Config(
            app, host="0.0.0.0", port=80, log_config=None, http="h11", ws="none", lifespan="off"
        )
        await uvicorn.Server(config).serve()

    async def ask() -> list[str]:
        async with httpx.AsyncClient(trust_env=False) as client:
            return [(await client.get("http://server/")).json()["hello"] for _ in range(3)]

    def scenario(world: World) -> object:
        world.host("server", serve)
        world.run(1)
        answer = world.call(world.host("client"), ask())
        world["server"].signal()
        world.run(2)
        assert world["server"].state == "killed", "uvicorn shuts down on SIGTERM, then dies of it"
        return answer

    assert same_twice(scenario) == ["world"] * 3


def test_redis_py_talks_to_a_small_server_inside() -> None:
    redis = pytest.importorskip("redis.asyncio", reason="redis is not installed")
    store: dict[bytes, bytes] = {}

    async def read_command(reader: asyncio.StreamReader) -> list[bytes]:
        header = await reader.readline()
        parts = []
        for _ in range(int(header[1:] or 0)):
            size = int((await reader.readline())[1:])
            parts.append((await reader.readexactly(size + 2))[:-2])
        return parts

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while command := await read_command(reader):
            match [command[0].upper(), *command[1:]]:
                case [b"SET", key, value, *_]:
                    store[key] = value
                    writer.write(b"+OK\r\n")
                case [b"GET", key]:
                    value = store[key]
                    writer.write(b"$%d\r\n%s\r\n" % (len(value), value))
                case [b"HELLO", *_]:
                    writer.write(b"%1\r\n$5\r\nproto\r\n:3\r\n")
                case _:
                    writer.write(b"+OK\r\n")
            await writer.drain()
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(handle, "0.0.0.0", 6379)
        async with server:
            await server.serve_forever()

    async def ask() -> bytes:
        client = redis.Redis(host="server", socket_timeout=5)
        await client.set("colour", "green")
        value: bytes = await client.get("colour")
        await client.aclose()
        return value

    def scenario(world: World) -> object:
        store.clear()
        world.host("server", serve)
        world.run(1)
        return world.call(world.host("client"), ask())

    assert same_twice(scenario) == b"green"

"""Orders come in on stdin, one JSON object a line; answers go out on stdout.

This module exists so that every load program speaks as ``benchmarks.harness.programs`` does.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


def answer(told: dict[str, Any]) -> None:
    """Say something to the harness."""
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


async def serve(handle: Handler) -> None:
    """Answer orders until stdin ends. What the handler raises becomes the answer."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        try:
            told = await handle(json.loads(line))
        except Exception as error:  # noqa: BLE001 - the harness reports it, and may go on
            told = {"error": f"{type(error).__name__}: {error}"}
        answer(told)


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a program's main, on uvloop where it is installed."""

    async def whole() -> None:
        await main()

    try:
        import uvloop
    except ImportError:
        asyncio.run(whole())
    else:
        uvloop.run(whole())

"""`/metrics`, `/healthz` and `/readyz` of one node, over HTTP.

This module exists so that a node can be scraped and probed without a program beside it. It runs on
the node's own loop, so that every answer is of one moment; it only looks.

HAZARD: it is plain HTTP and asks nobody who he is. Keep it on loopback or on a network for
monitoring; nothing secret is told, but the cluster's shape is.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Collection, Iterator

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mcpcore.errors import InvalidInput
from mcpcore.node.node import Node
from mcpcore.node.transport.addresses import Address
from mcpcore.observe.node_metrics import NodeCollector
from mcpcore.observe.wellness import Wellness, alive, ready


def application(
    node: Node,
    *,
    groups: Collection[str] | None = None,
    collectors: Collection[Collector] = (),
) -> Starlette:
    """The three pages, to be served alone or mounted into an application of yours.

    Args:
        node: a started node on the same loop.
        groups: see ``NodeCollector``.
        collectors: what else to export: ``SagaMetrics``, or your own.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(node, groups))
    for each in collectors:
        registry.register(each)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    async def healthz(_: Request) -> Response:
        return _told(alive(node))

    async def readyz(_: Request) -> Response:
        return _told(ready(node))

    return Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
        ]
    )


def _told(wellness: Wellness) -> JSONResponse:
    body = {"ok": wellness.good, "reasons": list(wellness.reasons)}
    return JSONResponse(body, 200 if wellness.good else 503)


class HttpServer:
    """An application on an address, on the running loop, until it is closed.

    Args:
        app: what to serve.
        listen: where; port 0 takes any free one.
    """

    def __init__(self, app: Starlette, listen: Address) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        self._server = _Server(config)
        self.address = listen
        """Where it listens; with the port it was given, once it was started."""
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            InvalidInput: nobody can listen there.
        """
        host, port = self.address.host, self.address.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listening = socket.create_server((host, port), family=family)
        except OSError as error:
            raise InvalidInput(
                f"cannot listen there: {error.strerror or error}",
                where=str(self.address),
                remedy="Choose another port, or 0 for any free one",
            ) from error
        serving = self._server.serve(sockets=[listening])
        self._task = asyncio.get_running_loop().create_task(serving, name="http")
        self.address = Address(host, listening.getsockname()[1])

    async def close(self) -> None:
        """Answer nobody any more."""
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.wait([self._task])


class _Server(uvicorn.Server):
    """Signals belong to whoever runs the process, not to its metrics."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield

"""`mcpctl serve`: one node as one process, until it is told to stop or cannot go on.

This module exists so that a node runs with nothing but its configuration file, the way a service
manager expects it: signals stop it, stdout says when it listens and why it stopped, stderr is its
log. It holds nothing of what a node does.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mcpcore.ctl.exits import ExitCode, one_line
from mcpcore.errors import InvalidInput
from mcpcore.node.config_file import NodeFile, load_node_config
from mcpcore.node.node import Node

if TYPE_CHECKING:
    from mcpcore.node.tracing import Tracing
    from mcpcore.observe.endpoint import HttpServer

LOG_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"


def serve(
    path: str,
    log_level: str,
    *,
    bootstrap: bool = False,
    steering: str = "",
    log_as_json: bool = False,
) -> None:
    """Run the node of a configuration file until SIGTERM or SIGINT; a second one ends it at once.

    Args:
        bootstrap: as if the file said ``bootstrap = true``.
        steering: an experiment's file that says how clocks and disk are wrong; empty: they are not.
        log_as_json: write the log as lines of JSON.

    Raises:
        InvalidInput: the file cannot be used.
        CoordinationError: the node could not start.
        typer.Exit: with ``ExitCode.FAILED``, if the node stopped by itself.
    """
    file = load_node_config(path)
    if bootstrap:
        file = replace(file, config=replace(file.config, bootstrap=True))
    _log_to_stderr(log_level, as_json=log_as_json)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        failure = runner.run(_run(file, steering))
    if failure is not None:
        raise typer.Exit(ExitCode.FAILED)


async def _run(file: NodeFile, steering: str) -> BaseException | None:
    """Run until told to stop; returns why the node stopped, if it stopped by itself."""
    tracing = _tracing(file)
    if steering:
        node = _steered(file, steering, tracing)
    else:
        node = Node(file.config, file.machine, tracing=tracing)
    told = Told()
    await node.start()
    try:
        page = await _observe(node, file)
    except BaseException:
        await node.stop()
        raise
    # What a node is made of stays, and what passes through it goes by reference count: looking for
    # cycles less often took 8 % off the CPU of a commit.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    config = file.config
    typer.echo(
        f"{config.name} of {config.cluster} listens on {node.address}, process {os.getpid()}"
    )
    if page is not None:
        typer.echo(f"metrics on http://{page.address}/metrics")
    ends = [asyncio.create_task(end.wait()) for end in (told.event, node.stopped)]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if page is not None:
        await page.close()
    await node.stop()
    ends[0].cancel()
    if node.failure is not None:
        typer.echo(f"{config.name} stopped by itself: {one_line(node.failure)}")
        return node.failure
    typer.echo(f"{config.name} stopped: {told.by} received")
    return None


def _steered(file: NodeFile, steering: str, tracing: Tracing | None) -> Node:
    from mcpcore.experiment.steering.page import Page
    from mcpcore.experiment.steering.seams import SteeredClocks, SteeredDisk, Steering

    hand = Steering(Page(Path(steering)))
    disk, clocks = SteeredDisk(hand), SteeredClocks(hand)
    return Node(file.config, file.machine, disk=disk, clocks=clocks, tracing=tracing)


def _tracing(file: NodeFile) -> Tracing | None:
    """Spans of OpenTelemetry if the file wants them; where they go is OpenTelemetry's business."""
    if file.observe is None or not file.observe.traces:
        return None
    try:
        from mcpcore.observe.tracing import OpenTelemetry
    except ImportError as error:
        raise _missing(error, file) from error
    return OpenTelemetry()


def _missing(error: ImportError, file: NodeFile) -> InvalidInput:
    return InvalidInput(
        f"[observe] needs a package that is not installed: {error.name}",
        where=str(file.path),
        remedy="pip install 'mcpcore[observe]', or leave the table out",
    )


async def _observe(node: Node, file: NodeFile) -> HttpServer | None:
    """Tell metrics and health where the file says, if it does."""
    if file.observe is None:
        return None
    try:
        from mcpcore.observe.endpoint import HttpServer, application
    except ImportError as error:
        raise _missing(error, file) from error
    page = HttpServer(application(node, groups=file.observe.groups), file.observe.listen)
    await page.start()
    return page


class Told:
    """Whether a signal has told us to stop. The second one has its usual, deadly meaning."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.by = ""
        self._loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(each, self._stop, each)

    def _stop(self, received: signal.Signals) -> None:
        self.by = received.name
        for each in (signal.SIGTERM, signal.SIGINT):
            self._loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        self.event.set()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    with suppress(ImportError):  # an optional speed-up: asyncio's own loop does the same work
        import uvloop

        return uvloop.new_event_loop
    return None


def _log_to_stderr(level: str, *, as_json: bool) -> None:
    if as_json:
        from mcpcore.observe.logs import JsonLines

        formatter: logging.Formatter = JsonLines()
    else:
        formatter = logging.Formatter(LOG_FORMAT)
        formatter.converter = time.gmtime
        formatter.default_msec_format = "%s.%03dZ"
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler])

"""A client that is closed leaves nothing open behind it."""

from __future__ import annotations

import asyncio
import gc

import pytest

from mcpcore.node.client import Client
from mcpcore.node.connection import Connection
from mcpcore.node.identity import Role
from mcpcore.node.security import Tls
from tests.ctl.town import Town

pytestmark = pytest.mark.processes


@pytest.mark.parametrize(("role", "refusals"), [(Role.CLIENT, 0), (Role.ADMIN, 3)])
def test_the_loop_has_let_go_of_every_byte_stream_when_a_client_is_closed(
    town: Town, role, refusals
):
    """As a client it is served; asking for an administrator's rights it is refused."""
    certs = town.certs
    security = Tls(certs / "ca.crt", certs / "client-app.crt", certs / "client-app.key")

    async def come_and_go() -> tuple[int, int]:
        client = Client(
            town.endpoints.split(","), cluster="demo", security=security, name="app", role=role
        )
        async with client:
            answers = await client.status()
        streams = [found for found in gc.get_objects() if isinstance(found, Connection)]
        refused = sum(isinstance(answer, Exception) for answer in answers.values())
        return refused, sum(not stream.gone.done() for stream in streams)

    assert asyncio.run(come_and_go()) == (refusals, 0)

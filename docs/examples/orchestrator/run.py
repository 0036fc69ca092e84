"""Three nodes of the orchestrator in one process, each with an HTTP port: `python run.py`."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack

from orchestrator import Orchestrator, PretendCloud, machine
from web import web

from mcpcore import Address, Client, GroupConfig, Node, NodeConfig, Plaintext
from mcpcore.node.transport.identity import Role
from mcpcore.observe.endpoint import HttpServer

NAMES = ("us-east-1", "hangzhou", "edge")
SECURITY = Plaintext(allow_plaintext=True)  # loopback only; elsewhere: Tls(ca, certificate, key)


async def main() -> None:
    """Run until Ctrl-C."""
    addresses = {name: Address("127.0.0.1", 7301 + at) for at, name in enumerate(NAMES)}
    clouds = {name: PretendCloud(name, room=2) for name in ("aws", "alibaba", "edge")}
    async with AsyncExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory())
        services = []
        for name in NAMES:
            config = NodeConfig(
                cluster="orchestrator",
                name=name,
                listen=addresses[name],
                peers={peer: at for peer, at in addresses.items() if peer != name},
                data=f"{data}/{name}",
                security=SECURITY,
                groups={"main": GroupConfig(NAMES), "policy": GroupConfig(NAMES)},
                bootstrap=True,
            )
            node = await stack.enter_async_context(Node(config, machine))
            client = await stack.enter_async_context(
                Client(
                    list(addresses.values()),
                    cluster="orchestrator",
                    security=SECURITY,
                    role=Role.ADMIN,  # to say who owns which names
                )
            )
            services.append(Orchestrator(node, client, clouds))
        for at, service in enumerate(services):
            await service.found()
            await stack.enter_async_context(service.engine)
            server = HttpServer(web(service), Address("127.0.0.1", 8301 + at))
            await server.start()
            stack.push_async_callback(server.close)
            print(f"{service.node.config.name} on http://{server.address}/docs")
        await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("stopped")

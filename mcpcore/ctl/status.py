"""`mcpctl status`: every node asked, one table, and an exit status that tells whether all is well.

This module exists so that an operator's first question has one command for an answer. It asks and
repeats; what counts as a problem is decided in ``health``, how it looks in ``status_table``. It is
loaded for `--help`, so what talks to a cluster is imported late.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from mcpcore.ctl.exits import ExitCode
from mcpcore.ctl.options import ClusterOptions, on_cluster
from mcpcore.observe.health import LAG_MAX, Account, Health, judge

if TYPE_CHECKING:
    from mcpcore.ctl.profile import Profile
    from mcpcore.node.client.client import Client
    from mcpcore.node.transport.addresses import Address

ANSWER_TIMEOUT_S = 3.0
"""How long to wait for one node, at most: a table with a hole beats no table."""


class Shape(StrEnum):
    """How the status is shown."""

    TABLE = "table"
    JSON = "json"


@on_cluster
def status(
    cluster: ClusterOptions,
    watch_s: Annotated[
        float | None,
        typer.Option("--watch", metavar="SECONDS", min=0.1, show_default=False,
                     help="Ask again every so often, until Ctrl-C."),
    ] = None,
    max_lag: Annotated[
        int, typer.Option(metavar="ENTRIES", min=0, help="From when on a lag is a problem.")
    ] = LAG_MAX,
    output: Annotated[Shape, typer.Option("--output", "-o", help="How to show it.")] = Shape.TABLE,
) -> None:  # fmt: skip
    """Show every node, and what is wrong.

    Nodes that cannot be reached are shown too. Exit status 1 if anything is wrong: a node that
    does not answer, no leader, a replica that lags or differs, a missing connection, a slow disk.

    Example: mcpctl status --watch 2
    """
    import asyncio

    from mcpcore.ctl.profile import find_profile

    profile = find_profile(cluster, administers=True)
    if asyncio.run(_run(profile, watch_s, max_lag, output)).problems:
        raise typer.Exit(ExitCode.NO)


async def _run(profile: Profile, watch_s: float | None, max_lag: int, shape: Shape) -> Health:
    import asyncio

    from mcpcore.ctl.status_table import Screen

    async with Survey(profile) as survey:
        if watch_s is None:
            health = judge(await survey.ask(), lag_max=max_lag)
            Screen.once(profile.cluster, health, as_json=shape is Shape.JSON)
            return health
        with Screen(profile.cluster, as_json=shape is Shape.JSON) as screen:
            while True:
                screen.show(judge(await survey.ask(), lag_max=max_lag))
                await asyncio.sleep(watch_s)


class Survey:
    """Asks all nodes of a cluster, those included that only the other nodes know of."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._names: dict[Address, str] = dict(profile.endpoints)
        self._clients: list[Client] = [profile.client(administers=True)]

    async def __aenter__(self) -> Survey:
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.close()

    async def ask(self) -> list[Account]:
        """One account for each node, whether it answered or not."""
        accounts = await self._ask(self._clients)
        unasked = self._unasked(accounts)
        if unasked:
            self._names |= unasked
            client = self._profile.client(administers=True, addresses=tuple(unasked))
            self._clients.append(client)
            accounts += await self._ask([client])
        return accounts

    async def _ask(self, clients: list[Client]) -> list[Account]:
        import asyncio

        from mcpcore.errors import ConnectionLost, Unreachable

        timeout_s = min(ANSWER_TIMEOUT_S, self._profile.timeout_s)
        answers = await asyncio.gather(*(client.status(timeout_s=timeout_s) for client in clients))
        names = {str(address): name for address, name in self._names.items()}
        for answered in answers:
            for told in answered.values():
                if isinstance(told, dict):
                    for peer, link in told["peers"].items():
                        if not names.get(link["address"], "-"):
                            names[link["address"]] = peer
        accounts = []
        for answered in answers:
            for endpoint, told in answered.items():
                name = names[endpoint]
                if isinstance(told, dict):
                    accounts.append(Account(endpoint, name, told))
                elif isinstance(told, Unreachable | ConnectionLost):
                    accounts.append(Account(endpoint, name, error=told.why))
                else:
                    accounts.append(Account(endpoint, name, error=str(told)))
        return accounts

    def _unasked(self, accounts: list[Account]) -> dict[Address, str]:
        """Nodes that others call their peers and that we have not asked.

        None at all while a nameless endpoint is silent: it may be any of them.
        """
        from mcpcore.node.transport.addresses import Address

        known = {account.name for account in accounts}
        known |= {account.status["node"] for account in accounts if account.status is not None}
        if any(account.status is None and not account.name for account in accounts):
            return {}
        return {
            Address.parse(link["address"], where=f"peers of {account.endpoint}"): peer
            for account in accounts
            if account.status is not None
            for peer, link in account.status["peers"].items()
            if peer not in known
        }

"""``mcpctl certs``: an authority for a cluster, and certificates for its nodes and users.

This module exists so that mutual TLS costs an operator one command. It only asks, calls and shows;
what a certificate is stands in ``mcpcore.node.certificates``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mcpcore.errors import InvalidInput
from mcpcore.node.certificates import (
    Authority,
    KeyPair,
    describe,
    load_certificate,
    write_pairs,
)
from mcpcore.node.identity import CertifiedRole

app = typer.Typer(
    name="certs",
    help="Make and show the certificates that say who is who in a cluster.",
    no_args_is_help=True,
)

Directory = Annotated[Path, typer.Argument(help="Where the files are kept.", show_default=False)]
Nodes = Annotated[
    list[str] | None,
    typer.Option(
        "--node",
        metavar="NAME[=HOST,...]",
        help="A node, and the addresses it is known by. May be repeated.",
    ),
]
Clients = Annotated[
    list[str] | None,
    typer.Option("--client", metavar="NAME", help="A client: reads and writes. May be repeated."),
]
Admins = Annotated[
    list[str] | None,
    typer.Option(
        "--admin",
        metavar="NAME",
        help="An administrator: may also change the cluster. May be repeated.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]


@app.command()
def init(
    directory: Directory,
    cluster: Annotated[str, typer.Option(help="The name of the cluster.")] = "mcpcore",
    node: Nodes = None,
    client: Clients = None,
    admin: Admins = None,
    force: Force = False,
) -> None:
    """Make an authority and, signed by it, a certificate for each node, client and admin.

    Example: mcpctl certs init certs --node a=10.0.0.1 --node b --client app --admin ops
    """
    try:
        authority = Authority.create(cluster)
        pairs = {directory / "ca": authority.pair}
        pairs |= _issue(authority, directory, node, client, admin)
        write_pairs(pairs, force=force)
    except InvalidInput as error:
        raise _refusal(error) from None
    _show([path.with_name(path.name + ".crt") for path in pairs])
    Console().print(
        f"\nKeep [bold]{directory / 'ca.key'}[/bold] off the nodes: whoever has it can be anybody. "
        "Each party needs ca.crt and its own .crt and .key.",
        highlight=False,
    )


@app.command()
def add(
    directory: Directory,
    node: Nodes = None,
    client: Clients = None,
    admin: Admins = None,
    force: Force = False,
) -> None:
    """Sign more certificates, or renew old ones with --force, with the authority in DIRECTORY."""
    try:
        authority = Authority.load(directory / "ca.crt", directory / "ca.key")
        pairs = _issue(authority, directory, node, client, admin)
        if not pairs:
            raise InvalidInput(
                "nobody to certify", remedy="Give --node, --client or --admin, once or more"
            )
        write_pairs(pairs, force=force)
    except InvalidInput as error:
        raise _refusal(error) from None
    _show([path.with_name(path.name + ".crt") for path in pairs])


@app.command()
def show(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Certificates, PEM.", show_default=False)
    ],
) -> None:
    """Show who certificates are for, and until when. Exit status 1 if one has expired."""
    try:
        expired = _show(files)
    except InvalidInput as error:
        raise _refusal(error) from None
    if expired:
        raise typer.Exit(1)


def _issue(
    authority: Authority,
    directory: Path,
    nodes: list[str] | None,
    clients: list[str] | None,
    admins: list[str] | None,
) -> dict[Path, KeyPair]:
    pairs: dict[Path, KeyPair] = {}
    wanted = (
        (CertifiedRole.NODE, nodes),
        (CertifiedRole.CLIENT, clients),
        (CertifiedRole.ADMIN, admins),
    )
    for role, entries in wanted:
        for entry in entries or ():
            name, equals, hosts = entry.partition("=")
            if equals and role is not CertifiedRole.NODE:
                raise InvalidInput(
                    f"{entry!r}: only nodes have addresses",
                    where=f"--{role}",
                    remedy=f"Write --{role} {name}",
                )
            path = directory / f"{role}-{name}"
            if path in pairs:
                raise InvalidInput(
                    f"{name!r} is given twice",
                    where=f"--{role}",
                    remedy="Put all its addresses behind one name: NAME=HOST,HOST",
                )
            listed = [host for host in hosts.split(",") if host]
            pairs[path] = authority.issue(role, name, listed)
    return pairs


def _show(files: list[Path]) -> int:
    """Print one line for each file; return how many have expired."""
    now = datetime.now(UTC)
    expired = 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("file", "identity", "hosts", "expires"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "identity")
    for file in files:
        told = describe(load_certificate(file))
        days = (told.not_after - now).days
        if told.not_after <= now:
            expired += 1
            when = f"[red]{told.not_after:%Y-%m-%d}, expired[/red]"
        elif days < 30:
            when = f"[yellow]{told.not_after:%Y-%m-%d}, in {days} days[/yellow]"
        else:
            when = f"{told.not_after:%Y-%m-%d}"
        who = told.identity or ("authority" if told.is_authority else told.subject)
        table.add_row(file.name, who, "\n".join(told.hosts) or "-", when)
    Console().print(table, highlight=False)
    return expired


def _refusal(error: InvalidInput) -> typer.Exit:
    """One line on standard error, and exit status 2, the usual one for a wrong command."""
    Console(stderr=True).print(
        f"[red]error:[/red] {_escape(str(error))}", highlight=False, soft_wrap=True
    )
    return typer.Exit(2)


def _escape(text: str) -> str:
    return text.replace("[", r"\[")

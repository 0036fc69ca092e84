"""`mcpctl policy` on a running cluster: decide, explain, edit, conflicts, resolve, and more.

This module exists so that the same words that serve files serve a cluster: the options of the
cluster stand before the verb, and no file is named. It must never hold a replica of its own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn, TypeVar

import typer

from mcpcore.ctl.exits import ExitCode, complain, one_line
from mcpcore.ctl.options import ClusterOptions
from mcpcore.ctl.output import say_json, say_table
from mcpcore.ctl.policy_files import count, pair, read_documents, read_key, say
from mcpcore.ctl.profile import find_profile
from mcpcore.errors import InvalidInput
from mcpcore.node.policies.client import PolicyClient
from mcpcore.policy import Author, Request

T = TypeVar("T")

GROUP: Final = "policy"

RequestOption = Annotated[
    str, typer.Option("--request", "-r", metavar="'WHO ACTION RESOURCE'", help="What is asked.")
]
FactsOption = Annotated[
    list[str] | None,
    typer.Option("--fact", "-f", metavar="KEY=VALUE", help="What is known besides."),
]
GroupsOption = Annotated[
    list[str] | None, typer.Option("--group", "-g", help="A group of the principal.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
KeyOption = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="The tenant's key, 64 hex digits.")
]


@dataclass(frozen=True, slots=True)
class Where:
    """Which cluster is meant, and which of its groups orders the policy."""

    options: ClusterOptions
    group: str


def asked(request: str, facts: list[str] | None, groups: list[str] | None) -> Request:
    """A request as the options say it.

    Raises:
        InvalidInput: they say none.
    """
    words = request.split()
    if len(words) != 3:
        raise InvalidInput("three words are expected", where="--request")
    context = dict(pair(text, "--fact") for text in facts or [])
    who, action, resource = words
    return Request(who, action, resource, context, frozenset(groups or []))


def on(
    ctx: typer.Context, work: Callable[[PolicyClient], Awaitable[T]], *, edits: bool = False
) -> T:
    """Do something with the policy of the cluster that the options before the verb name.

    Args:
        edits: whether an administrator's certificate is taken where there is a choice.
    """
    where = ctx.obj
    assert isinstance(where, Where)
    profile = find_profile(where.options, administers=edits)

    async def run() -> T:
        async with profile.client(administers=edits) as client:
            async with asyncio.timeout(profile.timeout_s):
                return await work(PolicyClient(client, where.group))

    try:
        return asyncio.run(run())
    except TimeoutError:
        complain(f"no answer within {profile.timeout_s:g} s")
        raise typer.Exit(ExitCode.UNKNOWN) from None


# --- the same words as for files ----------------------------------------------------------------


def explain(ctx: typer.Context, question: Request, *, as_json: bool) -> NoReturn:
    """Why the cluster decides as it does."""
    told = on(ctx, lambda policy: policy.explain(question))
    if as_json:
        say(json.dumps(told))
    else:
        for line in told["text"]:
            say(line)
    raise typer.Exit(ExitCode.OK if told["allowed"] else ExitCode.NO)


def conflicts(ctx: typer.Context, *, as_json: bool) -> NoReturn:
    """What is left to decide in a cluster."""
    found = on(ctx, lambda policy: policy.conflicts())
    for each in found:
        if as_json:
            say(json.dumps(each))
            continue
        say(f"{each['id']} {each['kind']}: {each['text']}")
        for number, edit in enumerate(each["edits"], 1):
            say(f"  {number}: {edit}")
        say(f"  choices: {', '.join(each['choices'])}; by {' or '.join(each['tenants'])}")
    if not found and not as_json:
        say("no conflicts")
    raise typer.Exit(ExitCode.NO if found else ExitCode.OK)


def resolve(
    ctx: typer.Context, conflict: str, choice: str, tenant: str, reason: str, key: Path | None
) -> None:
    """Decide a conflict in a cluster."""
    author = Author(tenant, read_key(key))

    async def work(policy: PolicyClient) -> int:
        await policy.resolve(author, conflict, choice, reason)
        return len(await policy.conflicts())

    left = on(ctx, work, edits=True)
    say(f"{conflict}: {choice}; {count(left, 'conflict')} left")


def show(ctx: typer.Context) -> None:
    """Everything in a cluster's policy."""
    for each in on(ctx, lambda policy: policy.show()):
        why = f"  ({each['why']})" if each["why"] else ""
        say(f"{each['standing']:<9} {each['document']}  {each['edit']}{why}")


# --- words for clusters alone -------------------------------------------------------------------


def decide(
    ctx: typer.Context,
    request: RequestOption,
    facts: FactsOption = None,
    groups: GroupsOption = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Ask every node; in a cut they may differ.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Have a cluster decide a request. Exit status 0 if it is allowed, 1 if it is denied.

    Example: mcpctl policy -c client.toml decide -r 'shop/ann deploy shop/web'
    """
    question = asked(request, facts, groups)
    if not everywhere:
        told = on(ctx, lambda policy: policy.decide(question))
        if as_json:
            say(json.dumps(told))
        else:
            say(f"{'allowed' if told['allowed'] else 'denied'}: {told['reason']}")
        raise typer.Exit(ExitCode.OK if told["allowed"] else ExitCode.NO)
    answers = on(ctx, lambda policy: policy.decide_everywhere(question))
    rows = [
        (address, "-", one_line(told))
        if isinstance(told, Exception)
        else (address, "allowed" if told["allowed"] else "denied", told["reason"])
        for address, told in answers.items()
    ]
    if as_json:
        for address, verdict, why in rows:
            say_json({"node": address, "answer": verdict, "why": why})
    else:
        say_table(("node", "answer", "why"), rows)
    if any(verdict != "allowed" for _, verdict, _ in rows):
        raise typer.Exit(ExitCode.NO)


def edit(
    ctx: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="DOCUMENT...", help="YAML, TOML or JSON.")],
    key: KeyOption = None,
) -> None:
    """Make a cluster's policy say what documents say. What gives is pending until it is ordered.

    The key signs here and does not travel. A tenant without a key needs an administrator's
    certificate.

    Example: mcpctl policy -c admin.toml edit shop.yaml --key shop.key
    """
    documents = [document for file in files for document in read_documents(file)]
    signs = read_key(key)

    async def work(policy: PolicyClient) -> list[dict[str, Any]]:
        return [await policy.apply(Author(each.tenant, signs), each) for each in documents]

    made = on(ctx, work, edits=True)
    for document, told in zip(documents, made, strict=True):
        say(f"{document.tenant}/{document.name}: {count(told['edits'], 'edit')}, "
            f"{told['pending']} pending")  # fmt: skip


def pending(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List what waits to be ordered in a cluster, and what for. Exit status 1 if anything does.

    Example: mcpctl policy -c client.toml pending
    """
    waits = on(ctx, lambda policy: policy.pending())
    for each in waits:
        if as_json:
            say_json(each)
        else:
            say(f"{each['document']}  {each['edit']}  ({each['why']})")
    if not waits and not as_json:
        say("nothing is pending")
    raise typer.Exit(ExitCode.NO if waits else ExitCode.OK)


def own(
    ctx: typer.Context,
    namespaces: Annotated[
        list[str], typer.Argument(metavar="NAMESPACE=TENANT...", help="Who owns what from now on.")
    ],
) -> None:
    """Give namespaces of a cluster's policy to tenants; an empty tenant takes one back.

    Needs an administrator's certificate and a quorum: who owns what is ordered, never merged.

    Example: mcpctl policy -c admin.toml own shop=shop bank=bank
    """
    pairs = [pair(text, "NAMESPACE=TENANT") for text in namespaces]

    async def work(policy: PolicyClient) -> list[int]:
        return [await policy.own(*each) for each in pairs]

    for (namespace, tenant), epoch in zip(pairs, on(ctx, work, edits=True), strict=True):
        say(f"{namespace} belongs to {tenant or 'nobody'}, entry {epoch} of the log")


def trust(
    ctx: typer.Context,
    keys: Annotated[
        list[str], typer.Argument(metavar="TENANT=PUBLICKEY...", help="Whose key, in hex.")
    ],
    revoke: Annotated[bool, typer.Option("--revoke", help="It no longer counts.")] = False,
) -> None:
    """Make public keys count for tenants of a cluster's policy.

    From a tenant's first key on, its edits need a signature. Needs an administrator's certificate
    and a quorum.

    Example: mcpctl policy -c admin.toml trust shop=2152f8d1...
    """
    pairs = [pair(text, "TENANT=PUBLICKEY") for text in keys]
    try:
        known = [(tenant, bytes.fromhex(key)) for tenant, key in pairs]
    except ValueError as error:
        raise InvalidInput(f"no key: {error}", where="TENANT=PUBLICKEY") from error

    async def work(policy: PolicyClient) -> list[int]:
        return [await policy.trust(*each, counts=not revoke) for each in known]

    for (tenant, _), epoch in zip(known, on(ctx, work, edits=True), strict=True):
        counts = "no longer counts" if revoke else "counts"
        say(f"the key {counts} for {tenant}, entry {epoch} of the log")


def status(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """Show every node's replica of a cluster's policy. Exit status 1 if they differ or wait.

    Example: mcpctl policy -c client.toml status
    """
    told = on(ctx, lambda policy: policy.status())
    rows = []
    for address, each in told.items():
        if isinstance(each, Exception):
            rows.append((address, "-", "-", "-", "-", one_line(each)))
        else:
            waits = each["leader"] or "no leader in reach"
            rows.append((address, each["replica"], str(each["edits"]), str(each["epoch"]),
                         str(each["pending"]), waits))  # fmt: skip
    names = ("node", "replica", "edits", "log", "pending", "ordered by")
    if as_json:
        for row in rows:
            say_json(dict(zip(names, row, strict=True)))
    else:
        say_table(names, rows)
    if len({row[2:4] for row in rows}) > 1 or any(row[4] != "0" for row in rows):
        raise typer.Exit(ExitCode.NO)


COMMANDS: Final = (decide, edit, pending, own, trust, status)

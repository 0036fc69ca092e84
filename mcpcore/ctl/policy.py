"""`mcpctl policy`: policies in files, looked over, merged, explained and carried elsewhere.

This module exists to do what policies may not: open files, read a clock, print. A policy file
(`.policy`) is one replica; documents (YAML, TOML, JSON) are what people write. What a running
cluster is asked stands in ``policy_cluster``. Exit status 1 means that the answer is no: something
to look at, a conflict, a difference, a denial.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mcpcore.crdt import replica_id
from mcpcore.ctl import policy_cluster, policy_dialects
from mcpcore.ctl.exits import ExitCode
from mcpcore.ctl.options import ClusterOptions, on_cluster
from mcpcore.ctl.policy_cluster import (
    FactsOption,
    GroupsOption,
    JsonOption,
    KeyOption,
    RequestOption,
    asked,
)
from mcpcore.ctl.policy_files import (
    count,
    now,
    opened,
    pair,
    read_bytes,
    read_documents,
    read_key,
    read_store,
    say,
    write_bytes,
)
from mcpcore.ctl.policy_files import order as order_commands
from mcpcore.errors import InvalidInput
from mcpcore.policy import Author, Mode, PolicyStore, explain, own, trust
from mcpcore.policy import resolve as carry_out
from mcpcore.policy.apply import apply_document, documents_of
from mcpcore.policy.lint import lint as look_over
from mcpcore.policy.resolve import find_open
from mcpcore.policy.saved import is_saved, save

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Policies that merge: look over, merge, explain, compare, decide conflicts, export. Of "
    "files, or, where none is named, of the cluster that the options before the command name.",
)
_FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A .policy file.")]
_MaybeFileArgument = Annotated[
    Path | None,
    typer.Argument(metavar="[FILE]", help="A .policy file; none: the cluster.", show_default=False),
]
_SourcesArgument = Annotated[
    list[Path], typer.Argument(metavar="FILE...", help="A .policy file, or documents.")
]


@app.callback()
@on_cluster
def policy(
    cluster: ClusterOptions,
    ctx: typer.Context,
    group: Annotated[
        str, typer.Option("--of", metavar="GROUP", help="The group that orders the policy.")
    ] = policy_cluster.GROUP,
) -> None:
    """Policies that merge: look over, merge, explain, compare, decide conflicts, export.

    Of files; or, where none is named, of the cluster that the options before the command name:
    mcpctl policy -c client.toml decide -r 'shop/ann deploy shop/web'
    """
    ctx.obj = policy_cluster.Where(cluster, group)


for _command in policy_cluster.COMMANDS:
    app.command()(_command)


# --- replicas in files --------------------------------------------------------------------------


@app.command()
def init(
    file: _FileArgument,
    cloud: Annotated[str, typer.Option(help="The replica's lasting name.")],
    incarnation: Annotated[int, typer.Option(min=1, help="Raise it after a loss.")] = 1,
    owner: Annotated[
        list[str] | None,
        typer.Option("--own", metavar="NAMESPACE=TENANT", help="Who owns what."),
    ] = None,
    trusted: Annotated[
        list[str] | None,
        typer.Option("--trust", metavar="TENANT=PUBLICKEY", help="Whose key counts, in hex."),
    ] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Begin as a copy of this replica.")
    ] = None,
    optimistic: Annotated[
        bool, typer.Option("--optimistic", help="Loosening takes effect at once.")
    ] = False,
) -> None:
    """Make a replica in a file.

    Example: mcpctl policy init east.policy --cloud east --own shop=shop
    """
    if file.exists():
        raise InvalidInput("is there already", where=str(file), remedy="Choose another name")
    name = replica_id(cloud, incarnation)
    mode = Mode.OPTIMISTIC if optimistic else Mode.GUARDED
    store = PolicyStore(name, mode=mode) if like is None else read_store(like).copy(name)
    commands = [own(*pair(text, "--own")) for text in owner or []]
    for text in trusted or []:
        tenant, key = pair(text, "--trust")
        try:
            commands.append(trust(tenant, bytes.fromhex(key)))
        except ValueError as error:
            raise InvalidInput(f"{key!r} is no key: {error}", where="--trust") from error
    order_commands(store, commands)
    write_bytes(file, save(store))
    say(f"{file}: {name}, {store.mode}, {count(store.prefix.epoch, 'event')} in the log")


@app.command()
def apply(file: _FileArgument, document: Path, key: KeyOption = None) -> None:
    """Make a replica say what a document says. What gives is pending until it is ordered.

    Example: mcpctl policy apply east.policy shop.yaml
    """
    store = read_store(file)
    before = len(store.state.entries)
    for each in read_documents(document):
        apply_document(store, each, now(), Author(each.tenant, read_key(key)))
    write_bytes(file, save(store))
    made = len(store.state.entries) - before
    say(f"{file}: {count(made, 'edit')}, {len(store.view.pending)} pending")


@app.command()
def order(file: _FileArgument) -> None:
    """Order what is pending, in this file's own log.

    For one operator with one file. A cluster has a Raft group for this, and files that order apart
    from each other have two logs and refuse to merge.

    Example: mcpctl policy order east.policy
    """
    store = read_store(file)
    commands = store.to_order()
    order_commands(store, commands)
    write_bytes(file, save(store))
    say(f"{file}: {len(commands)} ordered, {count(store.prefix.epoch, 'event')} in the log")


@app.command()
def merge(
    file: _FileArgument,
    others: Annotated[list[Path], typer.Argument(metavar="OTHER...", help="Other replicas.")],
) -> None:
    """Merge other replicas into one. Nothing is refused; exit status 1 if conflicts are left.

    Example: mcpctl policy merge east.policy west.policy
    """
    store = read_store(file)
    for other in others:
        store.join(read_store(other))
    write_bytes(file, save(store))
    left = store.conflicts
    say(f"{file}: {count(len(store.state.entries), 'edit')}, {len(store.view.pending)} pending, "
         f"{count(len(left), 'conflict')}")  # fmt: skip
    for conflict in left:
        say(f"  {conflict}")
    raise typer.Exit(ExitCode.NO if left else ExitCode.OK)


@app.command()
def conflicts(
    ctx: typer.Context, file: _MaybeFileArgument = None, as_json: JsonOption = False
) -> None:
    """List what a merge left to decide. Exit status 1 if there is any.

    Example: mcpctl policy conflicts east.policy
    """
    if file is None:
        policy_cluster.conflicts(ctx, as_json=as_json)
    found = read_store(file).conflicts
    for conflict in found:
        if as_json:
            told = {"id": conflict.id, "kind": conflict.kind, "text": conflict.text}
            say(json.dumps({**told, "choices": conflict.choices, "tenants": conflict.tenants}))
            continue
        say(str(conflict))
        for i, edit in enumerate(conflict.edits, 1):
            say(f"  {i}: {edit.tenant}/{edit.document}, {edit}")
        say(f"  choices: {', '.join(conflict.choices)}; by {' or '.join(conflict.tenants)}")
    if not found and not as_json:
        say("no conflicts")
    raise typer.Exit(ExitCode.NO if found else ExitCode.OK)


@app.command()
def resolve(
    ctx: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(metavar="[FILE] ID CHOICE", help="As `conflicts` lists them."),
    ],
    tenant: Annotated[str, typer.Option("--as", metavar="TENANT", help="Who decides.")],
    reason: Annotated[str, typer.Option(help="Why; kept with it.")] = "",
    key: KeyOption = None,
) -> None:
    """Decide a conflict. The decision is made of edits, and travels with the next merge.

    Example: mcpctl policy resolve east.policy 3f2a91c07d11 keep:1 --as shop
    """
    if len(words) == 2:
        policy_cluster.resolve(ctx, words[0], words[1], tenant, reason, key)
        return
    if len(words) != 3:
        raise InvalidInput("a file, an id and a choice are expected", where="policy resolve")
    file, conflict, choice = Path(words[0]), words[1], words[2]
    store = read_store(file)
    found = find_open(store, conflict)
    carry_out(store, Author(tenant, read_key(key)), found, choice, now(), reason)
    write_bytes(file, save(store))
    say(f"{found.id}: {choice}; {count(len(store.conflicts), 'conflict')} left")


# --- looking ------------------------------------------------------------------------------------


@app.command()
def lint(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Documents.")],
) -> None:
    """Look over documents. Exit status 1 if there is something to look at, 2 if one is wrong.

    Example: mcpctl policy lint shop.yaml bank.toml
    """
    remarks = look_over([document for file in files for document in read_documents(file)])
    for remark in remarks:
        say(str(remark))
    if not remarks:
        say("nothing to remark")
    raise typer.Exit(ExitCode.NO if remarks else ExitCode.OK)


@app.command(name="explain")
def explain_(
    ctx: typer.Context,
    request: RequestOption,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="A .policy file, or documents; none: the cluster.",
            show_default=False,
        ),
    ] = None,
    facts: FactsOption = None,
    groups: GroupsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide a request and say why. Exit status 0 if it is allowed, 1 if it is denied.

    Documents are taken as ordered, and each tenant as the owner of the namespace of its name.

    Example: mcpctl policy explain shop.yaml -r 'shop/ann deploy shop/web' -f mfa=true
    """
    question = asked(request, facts, groups)
    if not files:
        policy_cluster.explain(ctx, question, as_json=as_json)
    told = explain(opened(files).view, question)
    if as_json:
        say(json.dumps({"allowed": told.decision.allowed, "reason": told.decision.reason.name,
                         "determining": [s.id for s in told.determining],
                         "text": told.lines()}))  # fmt: skip
    else:
        say(str(told))
    raise typer.Exit(ExitCode.OK if told.decision.allowed else ExitCode.NO)


@app.command()
def diff(
    before: Annotated[Path, typer.Argument(help="A .policy file or a document.")],
    after: Annotated[Path, typer.Argument(help="Another one.")],
) -> None:
    """Compare two policies, statement by statement. Exit status 1 if they differ.

    Each line says whether the change tightens or loosens.

    Example: mcpctl policy diff old.yaml new.yaml
    """
    lines = _differences(_listed(before), _listed(after))
    for line in lines:
        say(line)
    if not lines:
        say("no difference")
    raise typer.Exit(ExitCode.NO if lines else ExitCode.OK)


_Listed = dict[tuple[str, str], tuple[str, bool | None]]


def _listed(path: Path) -> _Listed:
    """Everything a policy says: what, in words, and whether adding it tightens (None: neither)."""
    listed: _Listed = {}
    saved = is_saved(read_bytes(path))
    for document in documents_of(read_store(path)) if saved else read_documents(path):
        place = f"{document.tenant}/{document.name}"
        for named in document.statements:
            statement = named.statement
            name = f"{named.name}: " if named.name else ""
            listed[place, statement.id] = f"{name}{statement}", statement.effect.tightens
        for member, role in document.roles:
            listed[place, f"role {member} {role}"] = f"{member} has the role {role}", False
        for key, value in document.settings.items():
            listed[place, f"setting {key} {value}"] = f"{key} is {value}", None
    return listed


def _differences(old: _Listed, new: _Listed) -> list[str]:
    lines = []
    for key in sorted(set(old) ^ set(new)):
        text, tightens = (new if key in new else old)[key]
        tighter = tightens if key in new or tightens is None else not tightens
        word = "" if tighter is None else "tightens  " if tighter else "loosens   "
        lines.append(f"{'+' if key in new else '-'} {word or '          '}{key[0]}  {text}")
    return lines


@app.command()
def show(ctx: typer.Context, file: _MaybeFileArgument = None) -> None:
    """Show everything in a replica, and what has become of it.

    Example: mcpctl policy show east.policy
    """
    if file is None:
        policy_cluster.show(ctx)
        return
    store = read_store(file)
    for placed in store.view.placed:
        why = f"  ({placed.why})" if placed.why else ""
        say(f"{placed.standing:<9} {placed.edit.tenant}/{placed.edit.document}  {placed.edit}{why}")


app.command()(policy_dialects.export)
app.command(name="import")(policy_dialects.import_)

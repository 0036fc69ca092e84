"""`mcpctl policy`: policies in files, looked over, merged, explained and carried elsewhere.

This module exists to do what policies may not: open files, read a clock, print. A policy file
(`.policy`) is one replica; documents (YAML, TOML, JSON) are what people write. Exit status 1 means
that the answer is no: something to look at, a conflict, a difference, a denial.
"""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mcpcore.crdt import replica_id
from mcpcore.ctl.exits import ExitCode
from mcpcore.ctl.policy_files import (
    count,
    now,
    opened,
    read_bytes,
    read_documents,
    read_key,
    read_plain,
    read_store,
    say,
    write_bytes,
)
from mcpcore.ctl.policy_files import order as order_commands
from mcpcore.errors import InvalidInput
from mcpcore.policy import Author, Mode, PolicyStore, Request, explain, own, trust
from mcpcore.policy import resolve as carry_out
from mcpcore.policy.apply import apply_document, documents_of
from mcpcore.policy.dialects.common import Exported, Imported
from mcpcore.policy.documents import Document, Named, write_document
from mcpcore.policy.lint import lint as look_over
from mcpcore.policy.notation import dump, dump_all
from mcpcore.policy.saved import is_saved, save

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Policies that merge: look over, merge, explain, compare, decide conflicts, export.",
)
_FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A .policy file.")]
_SourcesArgument = Annotated[
    list[Path], typer.Argument(metavar="FILE...", help="A .policy file, or documents.")
]
_JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
_KeyOption = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="The tenant's key, 64 hex digits.")
]


class Dialect(StrEnum):
    """What a policy can be written as."""

    YAML = "yaml"
    TOML = "toml"
    JSON = "json"
    RBAC = "kubernetes-rbac"
    NETWORK = "kubernetes-network"
    AWS = "aws"
    AZURE = "azure"
    GCP = "gcp"


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
    commands = [own(*_pair(text, "--own")) for text in owner or []]
    for text in trusted or []:
        tenant, key = _pair(text, "--trust")
        try:
            commands.append(trust(tenant, bytes.fromhex(key)))
        except ValueError as error:
            raise InvalidInput(f"{key!r} is no key: {error}", where="--trust") from error
    order_commands(store, commands)
    write_bytes(file, save(store))
    say(f"{file}: {name}, {store.mode}, {count(store.prefix.epoch, 'event')} in the log")


def _pair(text: str, option: str) -> tuple[str, str]:
    left, sign, right = text.partition("=")
    if not left or not sign:
        raise InvalidInput(f"{text!r} has no '='", where=option)
    return left, right


@app.command()
def apply(file: _FileArgument, document: Path, key: _KeyOption = None) -> None:
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
def conflicts(file: _FileArgument, as_json: _JsonOption = False) -> None:
    """List what a merge left to decide. Exit status 1 if there is any.

    Example: mcpctl policy conflicts east.policy
    """
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
    file: _FileArgument,
    conflict: Annotated[str, typer.Argument(metavar="ID", help="As `conflicts` lists it.")],
    choice: Annotated[str, typer.Argument(help="One of its choices.")],
    tenant: Annotated[str, typer.Option("--as", metavar="TENANT", help="Who decides.")],
    reason: Annotated[str, typer.Option(help="Why; kept with it.")] = "",
    key: _KeyOption = None,
) -> None:
    """Decide a conflict. The decision is made of edits, and travels with the next merge.

    Example: mcpctl policy resolve east.policy 3f2a91c07d11 keep:1 --as shop
    """
    store = read_store(file)
    found = [each for each in store.conflicts if each.id.startswith(conflict)]
    if len(found) != 1:
        problem = "several conflicts begin so" if found else "there is no such open conflict"
        raise InvalidInput(problem, where=f"conflict {conflict}", remedy="See `policy conflicts`")
    carry_out(store, Author(tenant, read_key(key)), found[0], choice, now(), reason)
    write_bytes(file, save(store))
    say(f"{found[0].id}: {choice}; {count(len(store.conflicts), 'conflict')} left")


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
    files: _SourcesArgument,
    request: Annotated[
        str, typer.Option("--request", "-r", metavar="'WHO ACTION RESOURCE'", help="What is asked.")
    ],
    facts: Annotated[
        list[str] | None,
        typer.Option("--fact", "-f", metavar="KEY=VALUE", help="What is known besides."),
    ] = None,
    groups: Annotated[
        list[str] | None, typer.Option("--group", "-g", help="A group of the principal.")
    ] = None,
    as_json: _JsonOption = False,
) -> None:
    """Decide a request and say why. Exit status 0 if it is allowed, 1 if it is denied.

    Documents are taken as ordered, and each tenant as the owner of the namespace of its name.

    Example: mcpctl policy explain shop.yaml -r 'shop/ann deploy shop/web' -f mfa=true
    """
    words = request.split()
    if len(words) != 3:
        raise InvalidInput("three words are expected", where="--request")
    context = dict(_pair(text, "--fact") for text in facts or [])
    who, action, resource = words
    asked = Request(who, action, resource, context, frozenset(groups or []))
    told = explain(opened(files).view, asked)
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
def show(file: _FileArgument) -> None:
    """Show everything in a replica, and what has become of it.

    Example: mcpctl policy show east.policy
    """
    store = read_store(file)
    for placed in store.view.placed:
        why = f"  ({placed.why})" if placed.why else ""
        say(f"{placed.standing:<9} {placed.edit.tenant}/{placed.edit.document}  {placed.edit}{why}")


# --- elsewhere ----------------------------------------------------------------------------------


@app.command()
def export(
    files: _SourcesArgument,
    to: Annotated[Dialect, typer.Option(help="What to write.")],
    narrow: Annotated[
        bool,
        typer.Option("--narrow", help="Leave permits out for forbids that cannot be said."),
    ] = False,
    resource: Annotated[str, typer.Option(help="gcp: where the policy is attached.")] = "",
    principal: Annotated[str, typer.Option(help="aws: whom an identity-based policy is for.")] = "",
    namespace: Annotated[
        str, typer.Option(help="aws, azure, gcp: the namespace of its names here.")
    ] = "",
) -> None:
    """Write a policy for another system; on stderr, whether that is exact or narrower.

    What would allow more there is refused with exit status 2, and nothing is written.

    Example: mcpctl policy export shop.yaml --to kubernetes-network
    """
    store = opened(files)
    if to in (Dialect.YAML, Dialect.TOML, Dialect.JSON):
        data = [write_document(document) for document in documents_of(store)]
        typer.echo(dump_all(data, to.value), nl=False)
        return
    exported = _exported(store, to, narrow, resource, principal, namespace)
    notation = "yaml" if to in (Dialect.RBAC, Dialect.NETWORK) else "json"
    typer.echo(dump_all(list(exported.documents), notation) if exported.documents else "", nl=False)
    typer.echo(f"{to.value}: {exported.fidelity}", err=True)
    for loss in exported.losses:
        typer.echo(f"  {loss}", err=True)


def _exported(
    store: PolicyStore, to: Dialect, narrow: bool, resource: str, principal: str, namespace: str
) -> Exported:
    from mcpcore.policy.dialects import aws_export, azure, gcp, kubernetes_network, kubernetes_rbac
    from mcpcore.policy.dialects.prepare import exportable, with_losses

    statements, losses = exportable(store.view)
    match to:
        case Dialect.RBAC:
            found = kubernetes_rbac.export_rbac(statements, narrow=narrow)
        case Dialect.NETWORK:
            found = kubernetes_network.export_network(statements, narrow=narrow)
        case Dialect.AWS:
            found = aws_export.export_policy(
                statements, principal=principal, namespace=namespace or "aws"
            )
        case Dialect.AZURE:
            found = azure.export_roles(statements, narrow=narrow, namespace=namespace or "azure")
        case _ if resource:
            found = gcp.export_allow(
                statements, resource, narrow=narrow, namespace=namespace or "gcp"
            )
        case _:
            raise InvalidInput("where is it to be attached?", where="--resource")
    return with_losses(found, losses)


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="Manifests or a policy document.")],
    source: Annotated[Dialect, typer.Option("--from", help="What it is.")],
    tenant: Annotated[str, typer.Option(help="In whose name.")],
    principal: Annotated[
        str, typer.Option(help="aws: whom an identity-based policy is attached to.")
    ] = "",
    to: Annotated[Dialect, typer.Option(help="yaml, toml or json.")] = Dialect.YAML,
) -> None:
    """Read Kubernetes manifests or an AWS policy, and write a document of ours.

    Azure and Google Cloud policies need their role definitions beside them: import these from
    Python.

    Example: mcpctl policy import netpol.yaml --from kubernetes-network --tenant shop
    """
    imported = _imported(read_plain(file), source, tenant, principal)
    document = Document(tenant, file.stem, tuple(Named(s) for s in imported.statements))
    typer.echo(dump(write_document(document), to.value), nl=False)
    for remark in imported.remarks:
        typer.echo(remark, err=True)


def _imported(data: list[Any], source: Dialect, tenant: str, principal: str) -> Imported:
    from mcpcore.policy.dialects import aws, kubernetes_network, kubernetes_rbac

    match source:
        case Dialect.RBAC:
            return kubernetes_rbac.import_rbac(data, tenant)
        case Dialect.NETWORK:
            return kubernetes_network.import_network(data, tenant)
        case Dialect.AWS if len(data) == 1:
            return aws.import_policy(data[0], tenant, principal=principal)
    raise InvalidInput(
        f"{source.value} is not read here", where="--from",
        remedy="Use kubernetes-rbac, kubernetes-network or aws, one policy to a file",
    )  # fmt: skip

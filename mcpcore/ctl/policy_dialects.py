"""`mcpctl policy export` and `import`: policies of other systems.

This module exists so that only these two commands load the dialects. It must never decide anything.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mcpcore.ctl.policy_files import opened, read_plain
from mcpcore.errors import InvalidInput
from mcpcore.policy import PolicyStore
from mcpcore.policy.apply import documents_of
from mcpcore.policy.dialects.common import Exported, Imported
from mcpcore.policy.documents import Document, Named, write_document
from mcpcore.policy.notation import dump, dump_all

_SourcesArgument = Annotated[
    list[Path], typer.Argument(metavar="FILE...", help="A .policy file, or documents.")
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

"""Finding a cluster: options and ``client.toml`` in, a profile with checked facts out.

This module exists so that every command asks the same nodes as the same user, whether these stand
on the command line, in the environment or in a file. It reads files; it connects to nothing itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mcpcore.ctl.options import ClusterOptions
from mcpcore.errors import InvalidInput
from mcpcore.node.client.client import Client
from mcpcore.node.config_file import address_at, name_at, read_security
from mcpcore.node.toml_table import Table, nearest, read_toml
from mcpcore.node.transport.addresses import Address
from mcpcore.node.transport.identity import CertifiedRole, Role, check_name
from mcpcore.node.transport.security import Plaintext, Security, Tls

PLAINTEXT_NAME: Final = "mcpctl"
"""Who we say we are where nobody can be certain anyway."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A cluster, and us as its client.

    Args:
        cluster: its name.
        endpoints: addresses of its nodes, and the nodes' names where they are known, else "".
        security: how connections are protected, and who we are.
        timeout_s: how long a call may take in all.
    """

    cluster: str
    endpoints: Mapping[Address, str]
    security: Security
    timeout_s: float

    def client(
        self, *, administers: bool = False, addresses: tuple[Address, ...] | None = None
    ) -> Client:
        """A client of this cluster.

        Args:
            administers: ask for an administrator's rights, if our certificate gives them. If it
                does not, the node will say what it refuses.
            addresses: nodes to ask in the place of ``endpoints``.
        """
        identity = self.security.identity
        if administers and (identity is None or identity.role is CertifiedRole.ADMIN):
            role = Role.ADMIN
        else:
            role = Role.CLIENT
        return Client(
            tuple(self.endpoints) if addresses is None else addresses,
            cluster=self.cluster,
            security=self.security,
            name=identity.name if identity is not None else PLAINTEXT_NAME,
            role=role,
            timeout_s=self.timeout_s,
        )


def find_profile(options: ClusterOptions, *, administers: bool = False) -> Profile:
    """Put together what the options and the profile file say; options win.

    Args:
        administers: which certificate to take where there is a choice: an administrator's.

    Raises:
        InvalidInput: a file or an option cannot be used, or the cluster is not named at all.
    """
    cluster, endpoints, security = _read_file(options.config) if options.config else ("", {}, None)
    if options.endpoints:
        endpoints = _listed(options.endpoints)
    security = _given_security(options, administers) or security
    if not endpoints:
        raise InvalidInput(
            "no node to ask",
            remedy="Give --endpoints HOST:PORT,... or --config CLIENT.TOML (or set MCPCTL_CONFIG)",
        )
    if security is None:
        raise InvalidInput(
            "neither certificates nor plaintext are given",
            remedy="Give --certs DIR, or --ca, --cert and --key, or --plaintext on loopback",
        )
    identity = security.identity
    if options.cluster:
        cluster = check_name(options.cluster, "--cluster")
    if identity is not None:
        cluster = cluster or identity.cluster
        if identity.cluster != cluster:
            raise InvalidInput(
                f"our certificate is of cluster {identity.cluster!r}, and {cluster!r} is asked for",
                remedy=f"Use a certificate of {cluster!r}, or name the cluster it is for",
            )
    if not cluster:
        raise InvalidInput(
            "the cluster is not named",
            remedy="Give --cluster NAME: without TLS nothing else says it",
        )
    for address in endpoints:
        security.admit(address, "--endpoints" if options.endpoints else options.config)
    return Profile(cluster, endpoints, security, options.timeout_s)


def _read_file(path: str) -> tuple[str, dict[Address, str], Security | None]:
    root = read_toml(path)
    cluster = name_at(root, "cluster", '"demo"') if "cluster" in root else ""
    endpoints = _endpoints(root)
    has_security = "plaintext" in root or "tls" in root
    security = read_security(root, owner="client-app") if has_security else None
    root.finish()
    return cluster, endpoints, security


def _endpoints(root: Table) -> dict[Address, str]:
    """An array of addresses, or a table of names and addresses."""
    if "endpoints" not in root:
        return {}
    if not root.holds_table("endpoints"):
        listed = root.texts("endpoints", '["127.0.0.1:7101"]')
        return {Address.parse(text, where=root.where("endpoints")): "" for text in listed}
    table = root.table("endpoints")
    named: dict[Address, str] = {}
    for node in table.keys:
        check_name(node, table.where(node))
        address = address_at(table, node)
        if address in named:
            table.refuse(node, f"{address} is the address of {named[address]} too")
        named[address] = node
    return named


def _listed(text: str) -> dict[Address, str]:
    parts = [part.strip() for part in text.split(",")]
    return {Address.parse(part, where="--endpoints"): "" for part in parts if part}


def _given_security(options: ClusterOptions, administers: bool) -> Security | None:
    files = {"--ca": options.ca, "--cert": options.cert, "--key": options.key}
    missing = [option for option, file in files.items() if not file]
    ways = [bool(options.certs), len(missing) < len(files), options.plaintext]
    if sum(ways) > 1:
        raise InvalidInput(
            "more than one of --certs, --ca/--cert/--key and --plaintext are given",
            remedy="Choose one (MCPCTL_CERTS counts as --certs)",
        )
    if options.user and not options.certs:
        raise InvalidInput(
            "--as names a certificate within --certs DIR, which is not given", where="--as"
        )
    if options.plaintext:
        return Plaintext(allow_plaintext=True)
    if options.certs:
        return _from_directory(Path(options.certs), options.user, administers=administers)
    if len(missing) == len(files):
        return None
    if missing:
        raise InvalidInput(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing",
            remedy="TLS needs all of --ca, --cert and --key; --certs DIR finds them by itself",
        )
    return Tls(options.ca, options.cert, options.key)


def _from_directory(directory: Path, user: str, *, administers: bool) -> Tls:
    """The authority and one user's pair in what `certs init` made: ``admin-ops.crt`` and so on.

    Without a name, a client's pair is taken for a client's work, and an administrator's for an
    administrator's, if there is one and only one.
    """
    where = f"--certs {directory}"
    if not (directory / "ca.crt").is_file():
        raise InvalidInput(
            "there is no ca.crt in this directory",
            where=where,
            remedy="Name a directory that `mcpctl certs init` made",
        )
    roles = [CertifiedRole.CLIENT, CertifiedRole.ADMIN]
    if administers:
        roles.reverse()
    pairs = {
        role: [path.stem for path in sorted(directory.glob(f"{role}-*.crt"))] for role in roles
    }
    everybody = [stem for stems in pairs.values() for stem in stems]
    if not everybody:
        raise InvalidInput(
            "there is no client's and no administrator's certificate in this directory",
            where=where,
            remedy=f"`mcpctl certs add {directory} --client NAME` makes one",
        )
    if user:
        chosen = [stem for stem in everybody if user in (stem, stem.partition("-")[2])]
    else:
        chosen = next(stems for stems in pairs.values() if stems)
    if not chosen:
        raise InvalidInput(
            f"{user!r} has no certificate in this directory",
            where=where,
            remedy=nearest(user, everybody),
        )
    if len(chosen) > 1:
        raise InvalidInput(
            "there are several certificates to choose from",
            where=where,
            remedy=f"Choose with --as: {', '.join(chosen)}",
        )
    certificate, key = directory / f"{chosen[0]}.crt", directory / f"{chosen[0]}.key"
    return Tls(directory / "ca.crt", certificate, key)

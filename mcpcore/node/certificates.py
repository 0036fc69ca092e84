"""Making certificates: an authority for one cluster, and what it signs.

This module exists so that nobody needs to learn OpenSSL's command line to run a cluster. It makes
keys and certificates in memory and writes them to files; it must never be imported by what runs
in a node, which only reads such files.

Keys are Ed25519. Signatures have one fixed size and need no random number, so that a weak random
source cannot leak a key (it can, and has, with ECDSA) and a simulated handshake has the same length
every time; TLS 1.3 everywhere supports them. A site whose rules demand another kind brings its own
certificates: only the URI matters to a node.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mcpcore.errors import InvalidInput
from mcpcore.node.identity import URI_SCHEME, CertifiedRole, Identity, check_name

CA_VALIDITY: Final = timedelta(days=3652)
LEAF_VALIDITY: Final = timedelta(days=365)
_BACKDATED: Final = timedelta(hours=1)
"""Certificates begin to count a little early, for machines whose clocks are behind."""

_PURPOSES: Final[Mapping[CertifiedRole, list[x509.ObjectIdentifier]]] = {
    CertifiedRole.NODE: [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
    CertifiedRole.CLIENT: [ExtendedKeyUsageOID.CLIENT_AUTH],
    CertifiedRole.ADMIN: [ExtendedKeyUsageOID.CLIENT_AUTH],
}
"""TLS itself refuses a client's certificate in a server's place."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Description:
    """What a certificate says, for people."""

    subject: str
    identity: str
    """The identity's URI; empty for an authority."""
    hosts: tuple[str, ...]
    issuer: str
    not_before: datetime
    not_after: datetime
    serial: int
    is_authority: bool


class Authority:
    """The one signer of a cluster's certificates. Whoever holds its key can be anybody."""

    def __init__(
        self, certificate: x509.Certificate, key: CertificateIssuerPrivateKeyTypes
    ) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, cluster: str, *, now: datetime | None = None) -> Authority:
        """Make a new authority for ``cluster``, valid for ten years from ``now``.

        Raises:
            InvalidInput: ``cluster`` is no name.
        """
        check_name(cluster, "cluster")
        now = now or datetime.now(UTC)
        key = Ed25519PrivateKey.generate()
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, cluster),
                x509.NameAttribute(NameOID.COMMON_NAME, f"{cluster} authority"),
            ]
        )
        key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(now + CA_VALIDITY)
            # Path length 0: it signs leaves, and no leaf can be talked into signing anything.
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(key_id, critical=False)
            .sign(key, algorithm=None)
        )
        return cls(certificate, key)

    @classmethod
    def load(cls, certificate_file: Path, key_file: Path) -> Authority:
        """Read an authority that ``create`` made and ``write_pair`` wrote.

        Raises:
            InvalidInput: a file is missing or is not what it should be, or they don't match.
        """
        certificate = load_certificate(certificate_file)
        try:
            key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _unreadable(key_file, "a private key", error) from None
        if key.public_key() != certificate.public_key():
            raise InvalidInput(
                f"this key is not that of {certificate_file}",
                where=str(key_file),
                remedy="Both files come from one `mcpctl certs init`",
            )
        if not isinstance(key, Ed25519PrivateKey) or not describe(certificate).is_authority:
            raise InvalidInput(
                "it is no authority made by mcpcore",
                where=str(certificate_file),
                remedy="Issue with the tool that made it, or start over with `mcpctl certs init`",
            )
        return cls(certificate, key)

    @property
    def cluster(self) -> str:
        """The cluster it signs for."""
        (attribute,) = self._certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        return str(attribute.value)

    @property
    def pair(self) -> KeyPair:
        """The authority's own certificate and key."""
        return _pem(self._certificate, self._key)

    def issue(
        self,
        role: CertifiedRole,
        name: str,
        hosts: Iterable[str] = (),
        *,
        now: datetime | None = None,
        validity: timedelta = LEAF_VALIDITY,
    ) -> KeyPair:
        """Make a key and a certificate for one party.

        Args:
            hosts: IP addresses and DNS names to mention. Nodes don't look at them; other tools do.
            now: when it begins to count (one hour earlier, in fact).
            validity: for how long; never beyond the authority's own end.

        Raises:
            InvalidInput: the name, or a host, is none.
        """
        identity = Identity(self.cluster, role, name)
        now = now or datetime.now(UTC)
        key = Ed25519PrivateKey.generate()
        alternatives: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri)]
        alternatives += [_host(host) for host in hosts]
        subject = [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.cluster),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role.value),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
        issuer_key = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(subject))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BACKDATED)
            .not_valid_after(min(now + validity, self._certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(_PURPOSES[role]), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key.value),
                critical=False,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(self._key, algorithm=None)
        )
        return _pem(certificate, key)

    def has_signed(self, certificate: x509.Certificate) -> bool:
        """Whether a certificate is of this authority."""
        try:
            certificate.verify_directly_issued_by(self._certificate)
        except (InvalidSignature, ValueError, TypeError):
            return False
        return True


def load_certificate(path: Path) -> x509.Certificate:
    """Read the first certificate of a PEM file.

    Raises:
        InvalidInput: there is no such file, or no certificate in it.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(path, "a certificate", error) from None


def describe(certificate: x509.Certificate) -> Description:
    """What a certificate says, ours or another's."""
    extensions = certificate.extensions
    hosts: list[str] = []
    identity = ""
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        pass  # an authority has none, and needs none
    else:
        hosts += names.get_values_for_type(x509.DNSName)
        hosts += [str(address) for address in names.get_values_for_type(x509.IPAddress)]
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        identity = " ".join(uri for uri in uris if uri.startswith(URI_SCHEME))
    try:
        is_authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    return Description(
        subject=certificate.subject.rfc4514_string(),
        identity=identity,
        hosts=tuple(hosts),
        issuer=certificate.issuer.rfc4514_string(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        serial=certificate.serial_number,
        is_authority=is_authority,
    )


def write_pairs(pairs: Mapping[Path, KeyPair], *, force: bool = False) -> None:
    """Write each pair to ``<path>.crt`` and ``<path>.key``; the keys for the owner's eyes only.

    All or nothing, as far as a file system goes: every path is looked at before the first is
    written, and each file appears whole.

    Raises:
        InvalidInput: a file exists and ``force`` is not set, or the directory cannot be written.
    """
    files = {path.with_name(path.name + ".key"): (pair.key, 0o600) for path, pair in pairs.items()}
    for path, pair in pairs.items():
        files[path.with_name(path.name + ".crt")] = (pair.certificate, 0o644)
    standing = sorted(str(path) for path in files if path.exists())
    if standing and not force:
        raise InvalidInput(
            f"{', '.join(standing)} would be overwritten; nothing was written",
            remedy="Choose another directory or other names, or pass --force: the old keys are "
            "then gone for good",
        )
    for path, (content, mode) in files.items():
        try:
            _write_file(path, content, mode)
        except OSError as error:
            raise InvalidInput(
                f"cannot be written: {error.strerror or error}", where=str(path)
            ) from None


def _write_file(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is never there half, nor for one moment readable by others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass  # no literal, so it must be a name
    labels = host.removesuffix(".").split(".")
    if (
        not host.isascii()
        or len(host) > 253
        or labels[-1].isdigit()
        or not all(0 < len(label) <= 63 for label in labels)
        or not all(char.isalnum() or char in "-_" for label in labels for char in label)
    ):
        raise InvalidInput(
            f"{host!r} is neither an IP address nor a host name",
            remedy="Give hosts without a port, such as 10.0.0.1 or db1.example.net",
        )
    return x509.DNSName(host)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate, key: CertificateIssuerPrivateKeyTypes) -> KeyPair:
    return KeyPair(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _unreadable(path: Path, what: str, error: Exception) -> InvalidInput:
    why = error.strerror if isinstance(error, OSError) and error.strerror else "the file holds none"
    return InvalidInput(
        f"{what} cannot be read: {why}", where=str(path), remedy="Name a PEM file made by mcpctl"
    )

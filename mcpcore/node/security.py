"""How a connection is protected: mutual TLS, or nothing at all on loopback.

This module exists so that every choice about TLS is made in one place: version 1.3 and nothing
older, both sides show a certificate of the cluster's own authority, and who somebody is comes from
the certificate's URI, never from an address or a DNS name. The threats it answers stand in
``docs/security.md``. It makes ``SSLContext`` objects for the running loop to use; it must never
open a connection, start a thread or read a clock itself.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from mcpcore.errors import InvalidInput
from mcpcore.node.addresses import LOOPBACK, Address, check_networks
from mcpcore.node.identity import Identity

logger = logging.getLogger("mcpcore.node.transport")

_MAKE: Final = "`mcpctl certs init` makes a set that fits"


class Security(Protocol):
    """What a transport asks of its protection."""

    @property
    def identity(self) -> Identity | None:
        """Who our own certificate says we are; None without TLS."""
        ...

    def admit(self, address: Address, where: str) -> None:
        """Refuse to listen on, or to call, an address that this protection is too weak for.

        Raises:
            InvalidInput: it is too weak there.
        """
        ...

    def server_context(self, report: Callable[[str], None]) -> ssl.SSLContext | None:
        """What those who call us must satisfy; ``report`` hears why a TLS handshake failed."""
        ...

    def client_context(self) -> ssl.SSLContext | None:
        """What those whom we call must satisfy."""
        ...

    def renew(self, context: ssl.SSLContext | None) -> None:
        """Read the files again, for the connections that ``context`` makes from now on.

        Raises:
            InvalidInput: they are not usable, or name somebody else. ``context`` is as before.
        """
        ...

    def certified(self, transport: asyncio.BaseTransport) -> Identity | None:
        """Who the other side has proven to be; None without TLS.

        Raises:
            InvalidInput: its certificate is valid and yet names nobody.
        """
        ...


class Tls:
    """Mutual TLS 1.3 with certificates of one private authority.

    Args:
        ca: file of the authority's certificate, PEM. Whatever it signs is trusted, so it must
            sign for this cluster only: never a public authority.
        certificate: file of our certificate, PEM, with any intermediates after it.
        key: file of our private key, PEM, without a passphrase.

    Raises:
        InvalidInput: a file is missing or unreadable, the key does not belong to the certificate,
            or the certificate names no identity.
    """

    def __init__(self, ca: str | Path, certificate: str | Path, key: str | Path) -> None:
        self._ca, self._certificate, self._key = Path(ca), Path(certificate), Path(key)
        self._identity = identity_of(self._certificate)
        self.client_context()  # so that a bad file is found now, not at the first connection

    @property
    def identity(self) -> Identity:
        """Who our own certificate says we are."""
        return self._identity

    def admit(self, address: Address, where: str) -> None:
        """TLS is good enough everywhere."""

    def server_context(self, report: Callable[[str], None]) -> ssl.SSLContext:
        """A context that demands a certificate of the caller.

        No session tickets: a resumed session would outlive the certificate it was made with.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0
        context.sslobject_class = _reporting(report)
        return self._load(context)

    def client_context(self) -> ssl.SSLContext:
        """A context that demands a certificate of the called.

        The host name is not compared: the URI is, after the handshake. Names and addresses move,
        and whoever runs a cluster's DNS should not thereby be able to run the cluster.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        return self._load(context)

    def renew(self, context: ssl.SSLContext | None) -> None:
        """Read the files again: a certificate lasts a year, a node should not have to restart.

        An authority is added to those trusted before; to drop one, restart.

        Raises:
            InvalidInput: they are not usable, or name somebody else. ``context`` is as before.
        """
        fresh = identity_of(self._certificate)
        if fresh != self._identity:
            raise InvalidInput(
                f"the new certificate is of {fresh}, the old one of {self._identity}",
                where=str(self._certificate),
                remedy="Renew with the same name: `mcpctl certs add --force`",
            )
        self.client_context()  # first a context that nobody uses, as loading may fail half-way
        if context is not None:
            self._load(context)

    def certified(self, transport: asyncio.BaseTransport) -> Identity:
        """Who the other side's certificate names, once its signature has been verified by TLS."""
        certificate: dict[str, Any] = transport.get_extra_info("peercert") or {}
        names = certificate.get("subjectAltName", ())
        return Identity.among([name for kind, name in names if kind == "URI"], where="certificate")

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        try:
            context.load_verify_locations(cafile=self._ca)
        except (OSError, ssl.SSLError) as error:
            raise _unusable(self._ca, "the authority's certificate", error) from None
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_passphrase)
        except (OSError, ssl.SSLError) as error:
            raise _unusable(self._key, f"the private key of {self._certificate}", error) from None
        return context


class Plaintext:
    """No protection: every caller is who it says it is. For loopback only, and only when asked for.

    Args:
        allow_plaintext: must be True; it is there so that it stands in the caller's own code.
        networks: where plaintext may go. Anything but the default is for a simulated network,
            whose packets never leave the process.

    Raises:
        InvalidInput: ``allow_plaintext`` is not True, or a network cannot be read.
    """

    def __init__(self, *, allow_plaintext: bool, networks: tuple[str, ...] = LOOPBACK) -> None:
        if allow_plaintext is not True:
            raise InvalidInput(
                "without TLS nobody can be told from anybody else",
                where="security",
                remedy=f"Give certificates ({_MAKE}), or ask for plaintext explicitly with "
                "allow_plaintext=True, which works on loopback only",
            )
        check_networks(networks)
        self._networks = networks

    @property
    def identity(self) -> None:
        """Nobody is certified."""
        return None

    def admit(self, address: Address, where: str) -> None:
        """Refuse every address that is not a literal of the allowed networks."""
        if not address.is_within(self._networks):
            raise InvalidInput(
                f"plaintext is refused on {address}: it is allowed within "
                f"{' and '.join(self._networks)} only",
                where=where,
                remedy=f"Use TLS ({_MAKE}), or a literal loopback address such as 127.0.0.1",
            )

    def server_context(self, report: Callable[[str], None]) -> None:
        """No TLS."""

    def client_context(self) -> None:
        """No TLS."""

    def renew(self, context: ssl.SSLContext | None) -> None:
        """There is nothing to renew."""

    def certified(self, transport: asyncio.BaseTransport) -> None:
        """Nobody is certified."""


def identity_of(certificate: Path) -> Identity:
    """Read who a certificate file names.

    Raises:
        InvalidInput: no such file, no certificate, or no identity in it.
    """
    from cryptography import x509  # here, because it costs more to import than all of the kernel

    try:
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError) as error:
        raise _unusable(certificate, "a certificate", error) from None
    except x509.ExtensionNotFound:
        return Identity.among([], where=str(certificate))
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return Identity.among(uris, where=str(certificate))


def explain(error: BaseException | None) -> str:
    """What ended a connection, in words that name a remedy where there is one."""
    if error is None:
        return "closed by the other side"
    text = str(error)
    for sign, words in _TLS_SIGNS:
        if sign in text:
            return words
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: nobody listens there"
    if isinstance(error, ConnectionResetError):
        return "reset by the other side"
    return text or type(error).__name__


# OpenSSL's words, as they stand in ssl.SSLError, and what they mean to an operator. "Alerts" are
# the other side's complaint about us; the rest is our complaint about it.
_TLS_SIGNS: Final = (
    ("ALERT_UNKNOWN_CA", "the other side does not trust the authority of our certificate"),
    ("ALERT_CERTIFICATE_EXPIRED", "the other side says that our certificate has expired"),
    ("CERTIFICATE_REQUIRED", "the other side demands a certificate, and we gave none"),
    ("ALERT_BAD_CERTIFICATE", "the other side refuses our certificate"),
    ("ALERT_UNSUPPORTED_CERTIFICATE", "our certificate is not for this use, says the other side"),
    ("ALERT_PROTOCOL_VERSION", "the other side does not speak TLS 1.3"),
    ("certificate has expired", "the other side's certificate has expired: issue a new one"),
    ("certificate is not yet valid", "the other side's certificate is not valid yet: clocks?"),
    ("unable to get local issuer", "the other side's certificate is of another authority"),
    ("self-signed certificate", "the other side's certificate is of another authority"),
    ("signature failure", "the other side's certificate is of another authority of that name"),
    ("authority and subject key", "the other side's certificate is of another authority"),
    ("unsuitable certificate purpose", "the other side's certificate is not for this use"),
    ("unsupported certificate purpose", "the other side's certificate is not for this use"),
    ("PEER_DID_NOT_RETURN", "the other side gave no certificate"),
    ("HTTP_REQUEST", "the other side speaks HTTP, not TLS"),
    ("WRONG_VERSION_NUMBER", "the other side does not speak TLS: plaintext on one end only?"),
    ("RECORD_LAYER_FAILURE", "the other side does not speak TLS: plaintext on one end only?"),
    ("UNSUPPORTED_PROTOCOL", "the other side does not speak TLS 1.3"),
    ("NO_SHARED_CIPHER", "no cipher in common"),
)


def _reporting(report: Callable[[str], None]) -> type[ssl.SSLObject]:
    """An SSLObject that says why its handshake failed; asyncio keeps that to itself."""

    class ReportingSSLObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            try:
                super().do_handshake()
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                raise
            except ssl.SSLError as error:
                report(explain(error))
                raise

    return ReportingSSLObject


def _unusable(path: Path, what: str, error: Exception) -> InvalidInput:
    if isinstance(error, ssl.SSLError) and "KEY_VALUES_MISMATCH" in str(error):
        why = "the key belongs to another certificate"
    elif isinstance(error, OSError) and error.strerror and not isinstance(error, ssl.SSLError):
        why = error.strerror
    else:
        why = "it holds none that can be read"
    return InvalidInput(f"{what} cannot be loaded: {why}", where=str(path), remedy=_MAKE)


def _no_passphrase() -> str:
    # Without this, OpenSSL would ask for one on the terminal and hang a server.
    raise InvalidInput(
        "the private key is encrypted, and nobody is there to type its passphrase",
        where="security",
        remedy="Decrypt it with `openssl pkey`, and guard the file instead",
    )

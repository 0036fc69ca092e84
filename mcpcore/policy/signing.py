"""Signatures of tenants, Ed25519.

This module exists so that "who says so" is proved by a key and not by a connection. It signs and
checks; which keys a tenant has is the log's affair.

Source: RFC 8032.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mcpcore.errors import InvalidInput
from mcpcore.policy.edits import Edit

KEY_BYTES: Final = 32


class TenantKey:
    """A tenant's private key."""

    __slots__ = ("_key",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise InvalidInput(f"{len(secret)} bytes are no Ed25519 key", remedy="It has 32")
        self._key = Ed25519PrivateKey.from_private_bytes(secret)

    @classmethod
    def generate(cls) -> TenantKey:
        """A new key, from the operating system's random source."""
        key = cls.__new__(cls)
        key._key = Ed25519PrivateKey.generate()
        return key

    @property
    def secret(self) -> bytes:
        """The 32 bytes to keep to oneself."""
        return self._key.private_bytes_raw()

    @property
    def public(self) -> bytes:
        """The 32 bytes that the log makes known."""
        return self._key.public_key().public_bytes_raw()

    def sign(self, edit: Edit) -> Edit:
        """The edit with its signature."""
        return replace(edit, signature=self._key.sign(edit.signed_part()))


def is_signed_by(edit: Edit, keys: Iterable[bytes]) -> bool:
    """Whether one of these public keys signed an edit."""
    if len(edit.signature) != 64:
        return False
    part = edit.signed_part()
    return any(_verified(key, edit.signature, part) for key in keys)


@lru_cache(maxsize=65_536)
def _verified(key: bytes, signature: bytes, part: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, part)
    except (InvalidSignature, ValueError):
        return False
    return True

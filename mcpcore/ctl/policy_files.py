"""Files of `mcpctl policy`: replicas, documents, keys.

This module exists so that every command opens and writes in the same way, and says which file was
wrong. It must never decide anything.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer

from mcpcore.clock import Reading, Timestamp
from mcpcore.errors import InvalidInput
from mcpcore.policy import Author, PolicyStore, TenantKey, own
from mcpcore.policy.apply import apply_document
from mcpcore.policy.documents import Document, read_document
from mcpcore.policy.log import PolicyLog
from mcpcore.policy.notation import load_all, notation_of
from mcpcore.policy.prefix import EVERYTHING
from mcpcore.policy.saved import is_saved, load


def read_bytes(path: Path) -> bytes:
    """What a file holds."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(error.strerror or str(error), where=str(path)) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Put bytes into a file, whole or not at all."""
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        raise InvalidInput(error.strerror or str(error), where=str(path)) from error


def read_text(path: Path) -> str:
    """A file as text."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise InvalidInput("no UTF-8", where=str(path)) from error


def read_plain(path: Path) -> list[Any]:
    """Every document of a file, as plain data."""
    return load_all(read_text(path), notation_of(path.name), str(path))


def read_documents(path: Path) -> list[Document]:
    """Every document of a file."""
    found = read_plain(path)
    if not found:
        raise InvalidInput("holds no document", where=str(path))
    return [read_document(data, str(path)) for data in found]


def read_store(path: Path) -> PolicyStore:
    """The replica in a file."""
    return load(read_bytes(path), str(path))


def now() -> Reading:
    """The time, as an edit carries it."""
    return Reading(Timestamp.of(time.time_ns()), 0)


def read_key(path: Path | None) -> TenantKey | None:
    """A tenant's private key."""
    if path is None:
        return None
    try:
        return TenantKey(bytes.fromhex(read_text(path).strip()))
    except ValueError as error:
        raise InvalidInput(f"no key: {error}", where=str(path)) from error


def order(store: PolicyStore, commands: list[bytes]) -> None:
    """Order commands in the log that this replica knows."""
    log = PolicyLog()
    log.load(store.prefix)
    for command in commands:
        log.apply(log.prefix.epoch + 1, command)
    store.follow(log.prefix)


def opened(paths: list[Path]) -> PolicyStore:
    """A replica: the saved one, or one made of documents as if all were ordered.

    Each tenant of the documents owns the namespace of its name; one tenant alone owns everything.
    """
    if len(paths) == 1 and is_saved(read_bytes(paths[0])):
        return read_store(paths[0])
    documents = [document for path in paths for document in read_documents(path)]
    store = PolicyStore("reader/1")
    tenants = sorted({document.tenant for document in documents})
    namespaces = tenants if len(tenants) > 1 else [EVERYTHING]
    order(store, [own(*pair) for pair in zip(namespaces, tenants, strict=True)])
    for document in documents:
        apply_document(store, document, now(), Author(document.tenant))
    order(store, store.to_order())
    return store


def pair(text: str, option: str) -> tuple[str, str]:
    """Two words with an equals sign between them."""
    left, sign, right = text.partition("=")
    if not left or not sign:
        raise InvalidInput(f"{text!r} has no '='", where=option)
    return left, right


def count(number: int, what: str) -> str:
    """A number of things."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def say(line: str) -> None:
    """Print a line."""
    typer.echo(line)

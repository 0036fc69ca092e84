"""Certificates, and a town of nodes that is closed when the test is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mcpcore.node.certificates import Authority, write_pairs
from mcpcore.node.identity import CertifiedRole
from tests.node.transport.town import Town


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of certificates of cluster north; in others/, the same by another authority."""
    folder = tmp_path_factory.mktemp("certificates")
    node, client, admin = CertifiedRole.NODE, CertifiedRole.CLIENT, CertifiedRole.ADMIN
    for place in (folder, folder / "others"):
        authority = Authority.create("north")
        write_pairs({place / "ca": authority.pair})
        parties = [(node, "a"), (node, "b"), (node, "c"), (client, "app"), (admin, "ops")]
        parties += [(client, "a")]
        for role, name in parties:
            write_pairs({place / f"{role}-{name}": authority.issue(role, name)})
        expired = authority.issue(
            node, "a", now=datetime.now(UTC) - timedelta(days=9), validity=timedelta(days=1)
        )
        write_pairs({place / "expired-a": expired})
    return folder


@pytest.fixture
async def town(certificates: Path) -> AsyncIterator[Town]:
    town = Town(certificates)
    yield town
    for node in town.nodes:
        await node.transport.close()

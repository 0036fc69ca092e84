"""No test finds a cluster by accident."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ctl.town import NAMES, Town


@pytest.fixture(autouse=True)
def _no_cluster_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MCPCTL_CONFIG", "MCPCTL_ENDPOINTS", "MCPCTL_CERTS", "MCPCTL_DEBUG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(scope="package")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """A cluster that runs; whoever ends a node of it starts it again."""
    town = Town(tmp_path_factory.mktemp("town"))
    try:
        town.start(*NAMES)
        town.wait_until_well()
        yield town
    finally:
        town.end_all()

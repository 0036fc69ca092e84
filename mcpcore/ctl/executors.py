"""Where a campaign's work is done: processes of this machine, or a Dask cluster.

This module exists so that every campaign of `mcpctl` takes the same `--scheduler`. It must never
know what is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from mcpcore.errors import InvalidInput


@contextmanager
def executor_at(address: str) -> Iterator[Executor | None]:
    """The executor of a Dask scheduler; None for an empty address: use processes.

    Raises:
        InvalidInput: Dask distributed is not installed.
    """
    if not address:
        yield None
        return
    try:
        from distributed import Client  # type: ignore[import-not-found,unused-ignore]
    except ImportError as error:
        raise InvalidInput(
            "Dask distributed is not installed",
            where="--scheduler",
            remedy="pip install distributed",
        ) from error
    with Client(address) as client, client.get_executor(pure=False) as executor:
        yield executor

"""The log under another event loop, and the example that its page shows."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from mcpcore.node.file_disk import FileDisk
from mcpcore.node.storage.wal import WriteAheadLog
from mcpcore.raft.types import HardState
from tests.node.storage.world import TRIO, WE, block

PAGE = Path(__file__).parents[3] / "docs" / "storage.md"


def test_the_log_works_under_uvloop(tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def live() -> int:
        disk = FileDisk()
        for life in range(2):
            log = await WriteAheadLog.open(
                disk, str(tmp_path / "log"), identity=WE, monotonic_ns=time.monotonic_ns
            )
            if life == 0:
                log.create_group("g", TRIO)
                for at in range(1, 50):
                    await log.submit("g", HardState(at, "n1"), [block(at, at)])
            await log.close()
        disk.close()
        return len(log.groups()["g"].entries)

    assert uvloop.run(live()) == 49


def test_the_example_on_the_storage_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    example = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert example is not None
    exec(compile(example[1], str(PAGE), "exec"), {})
    promised = re.findall(r"# (LogPosition.*)", example[1])
    assert capsys.readouterr().out.splitlines() == promised


def test_the_storage_page_names_every_file_and_every_kind_of_record() -> None:
    from mcpcore.node.storage import wal_format

    text = PAGE.read_text()
    for path in (
        *(PAGE.parents[1] / "mcpcore/node/storage").glob("[a-z]*.py"),
        Path("file_disk.py"),
    ):
        assert f"{path.name}`" in text
    names = "GROUP HARD_STATE ENTRIES BASE RETIRED RUN DOUBT_ENDED ECHO"
    kinds = tuple(getattr(wal_format, name) for name in names.split())
    assert kinds == tuple(int(kind) for kind in re.findall(r"^\| (\d) \| ", text, re.M))
    assert f"The format, version {wal_format.FORMAT_VERSION}" in text

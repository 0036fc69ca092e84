"""Effects in PostgreSQL: a real server, where there is one and a driver for it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mcpcore.errors import StaleFence, StepFailed
from mcpcore.saga import POSTGRESQL, Call, Fence, LocalEffects

psycopg: Any = pytest.importorskip(
    "psycopg", reason="no psycopg here: pip install 'psycopg[binary]'"
)

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server of our own on a socket of its own; PostgreSQL refuses to run as root."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), shutil.which("initdb")]
    initdb = next((Path(each) for each in found if each), None)
    if initdb is None:
        pytest.skip("no PostgreSQL here (Debian: apt-get install postgresql)")
    user: dict[str, Any] = {}
    directory = Path(tempfile.mkdtemp(prefix="mcpcore-pg-"))
    if os.geteuid() == 0:
        account = pwd.getpwnam("nobody")
        os.chown(directory, account.pw_uid, account.pw_gid)
        user = {"user": account.pw_uid, "group": account.pw_gid}
    data = directory / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": directory}
    words = [initdb, "-D", data, "-U", "test", "--auth=trust", "-N"]
    subprocess.run(words, check=True, **quiet, **user)
    words = [initdb.with_name("postgres"), "-D", data, "-k", directory, "-h", ""]
    process = subprocess.Popen(words, **quiet, **user)
    try:
        where = f"host={directory} user=test dbname=postgres"
        for _ in range(200):
            try:
                psycopg.connect(where).close()
                break
            except psycopg.OperationalError:
                time.sleep(0.05)
        yield where
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(directory, ignore_errors=True)


def call(saga: str, *, undo: bool = False) -> Call:
    token = f"{saga}:do:1"
    return Call(
        saga=saga, step="do", action="do.undo" if undo else "do", resource="r",
        token=f"{saga}:do.undo:1" if undo else token, do_token=token, fence=Fence(1, 1),
        attempt=1, input=None, results={},
    )  # fmt: skip


def test_effects_happen_once_in_a_real_server_also_when_many_come_at_once(server: str) -> None:
    with psycopg.connect(server) as connection:
        effects = LocalEffects(connection, POSTGRESQL)
        effects.prepare()
        with effects.transaction() as cursor:
            cursor.execute("CREATE TABLE stock (left_over INTEGER)")
            cursor.execute("INSERT INTO stock VALUES (10)")

    def take(cursor: Any) -> str:
        cursor.execute("UPDATE stock SET left_over = left_over - 1")
        return "taken"

    def put_back(cursor: Any) -> None:
        cursor.execute("UPDATE stock SET left_over = left_over + 1")

    answers: list[Any] = []

    def duplicate() -> None:
        with psycopg.connect(server) as connection:
            answers.append(LocalEffects(connection, POSTGRESQL).do(call("x"), take))

    threads = [threading.Thread(target=duplicate) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == ["taken"] * 8
    with psycopg.connect(server) as connection:
        effects = LocalEffects(connection, POSTGRESQL)
        assert stock(effects) == 9
        assert effects.undo(call("x", undo=True), put_back)
        assert effects.undo(call("x", undo=True), put_back)
        assert stock(effects) == 10
        assert not effects.undo(call("late", undo=True), put_back)
        with pytest.raises(StepFailed):
            effects.do(call("late"), take)
        with effects.transaction() as cursor:
            effects.admit(cursor, "vpc", Fence(2, 1))
            effects.send(cursor, "stock", b"one")
        with pytest.raises(StaleFence), effects.transaction() as cursor:
            effects.admit(cursor, "vpc", Fence(1, 9))
        heard: list[Any] = []
        assert effects.relay(heard.append) == 1
        assert heard[0].body == b"one"
        assert [effects.receive("m/1", take) for _ in range(2)] == [True, False]
        assert stock(effects) == 9


def stock(effects: LocalEffects) -> int:
    with effects.transaction() as cursor:
        cursor.execute("SELECT left_over FROM stock")
        found: int = cursor.fetchone()[0]
        return found

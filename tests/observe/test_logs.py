"""The log: one line for each change, with its facts by name; nothing for each message."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.observe.logs import JsonLines
from tests.node.local_cluster import LocalCluster, kv


def line(text: str, *values: object, extra: dict[str, Any]) -> dict[str, Any]:
    record = logging.getLogger("mcpcore.x").makeRecord(
        "mcpcore.x", logging.INFO, __file__, 1, text, values, None, extra=extra
    )
    written = JsonLines().format(record)
    assert "\n" not in written
    found: dict[str, Any] = json.loads(written)
    return found


def test_a_line_has_its_time_its_text_and_its_facts_by_name() -> None:
    found = line("group %s: %d", "main", 7, extra={"group": "main", "term": 7})
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "INFO",
        "logger": "mcpcore.x",
        "message": "group main: 7",
        "group": "main",
        "term": 7,
    }


def test_a_traceback_stays_on_its_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 1, "bad", (), sys.exc_info())
    written = JsonLines().format(record)
    assert "\n" not in written
    assert "ValueError: two\nlines" in json.loads(written)["error"]


@given(
    st.text(),
    st.dictionaries(
        st.text(min_size=1).map("x_".__add__) | st.sampled_from(["time", "level", "error"]),
        st.none()
        | st.floats()
        | st.integers()
        | st.binary()
        | st.dictionaries(st.binary(), st.text()),
    ),
)
@settings(deadline=None)
def test_whatever_is_handed_over_a_line_is_one_object_and_loses_nothing_of_its_own(
    text: str, extra: dict[str, Any]
) -> None:
    found = line("%s", text, extra=extra)
    assert found["message"] == text
    assert found["level"] == "INFO"
    assert len(found) == 4 + len(extra)


async def test_every_change_is_told_once_with_its_facts_and_messages_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with LocalCluster(tmp_path) as cluster, cluster.client() as client:
        leader = await cluster.leader()
        await kv(client).put("warm", "up")
        await cluster.agree()
        roles = [vars(each) for each in caplog.records if "role" in vars(each)]
        changes = [(each["group"], each["role"], each["leader"]) for each in roles]
        assert ("main", "leader", leader) in changes
        assert [("main", "follower", leader)] * 2 == [
            each for each in changes if each[1:] == ("follower", leader)
        ]
        assert all(type(each["term"]) is int for each in roles)
        sessions = [each for each in map(vars, caplog.records) if "session" in each]
        assert {(each["node"], each["peer"]) for each in sessions} >= {("a", "b"), ("b", "c")}

        before = len(caplog.records)
        for number in range(100):
            await kv(client).put(f"k{number}", "v")
        told = [each for each in caplog.records[before:] if "role" not in vars(each)]
        assert len(told) <= 10, [each.getMessage() for each in told]

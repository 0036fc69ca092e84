"""What the demo draws, without a cluster: every size readable, every word meant."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.ctl.demo_screen import draw, plain_event, plain_line
from mcpcore.experiment.operations import Kind, Operation, Outcome
from mcpcore.experiment.pulse import Beat, Pulse
from mcpcore.experiment.scene import (
    Happening,
    LinkView,
    Mark,
    NodeView,
    Scene,
    State,
    view_nodes,
)

SITES = ("us-east-1", "hangzhou", "edge")
CALM = Beat(45.0, 20.0, 102.0, 340.0, 0.1, 3, 0)
CUT = Beat(0.0, 0.0, None, None, 3.4, 16, 0)

SCENE = Scene(
    at_s=13.0,
    total_s=20.0,
    phase="hangzhou is cut off",
    windows="election timeout 1.5 to 3 s, heartbeat 0.3 s, mutual TLS, synced to disk",
    nodes=(
        NodeView("us-east-1", State.LEADER, False, 12, "us-east-1", 345_678, 345_690, 0),
        NodeView(
            "hangzhou",
            State.CANDIDATE_BEFORE_THE_VOTE,
            True,
            11,
            "",
            345_000,
            345_020,
            678,
            "read_only",
        ),
        NodeView("edge", State.FOLLOWER, False, 12, "us-east-1", 345_600, 345_600, 78, "", 17),
    ),
    links=(
        LinkView("us-east-1", "hangzhou", 110, True),
        LinkView("us-east-1", "edge", 35, False),
        LinkView("edge", "hangzhou", 90, True),
    ),
    beats={"us-east-1": CALM, "hangzhou": CUT, "edge": CALM},
    silent_s=0.1,
    bars=tuple(float(number % 17 * 4) for number in range(52)),
    slot_s=0.25,
    acknowledged=1234,
    happenings=tuple(
        Happening(float(number), f"{number}: hangzhou holds 28 entries that no majority has")
        for number in range(14)
    ),
    marks=(Mark(5.0, "kill"), Mark(8.0, "restart"), Mark(12.0, "cut")),
)


def lines(scene: Scene, width: int, height: int) -> list[str]:
    return draw(scene, width, height).plain.split("\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (200, 50)])
def test_nothing_is_cut_off_in_a_usual_terminal(width: int, height: int) -> None:
    drawn = lines(SCENE, width, height)
    assert len(drawn) <= height
    assert all(len(line) <= width for line in drawn)
    assert not any("…" in line for line in drawn)
    whole = "\n".join(drawn)
    for word in (
        "★ us-east-1  leader",
        "hangzhou  cut off, asking around",
        "term 12  commit 345,678",
        "20 not committed",
        "78 behind, 17 in quarantine",
        "35 ms",
        "unavailable for 3.4 s",
        "election timeout 1.5 to 3 s",
        "╵kill",
        "13.0 of 20 s",
        "13: hangzhou holds",
    ):
        assert word in whole, word
    assert whole.count("cut") >= 3, "both cut links say so in words"


def test_a_wide_terminal_shows_all_that_happened_and_a_taller_chart() -> None:
    whole = "\n".join(lines(SCENE, 200, 50))
    assert "  0: hangzhou holds" in whole
    assert whole.count("█") > "\n".join(lines(SCENE, 80, 24)).count("█")


def test_what_stands_beside_a_dim_line_is_not_dimmed() -> None:
    drawn = draw(SCENE, 200, 50)
    start = drawn.plain.index("9: hangzhou")
    assert not [
        span for span in drawn.spans if span.start <= start < span.end and "dim" in str(span.style)
    ]


@settings(deadline=None)
@given(st.integers(20, 250), st.integers(5, 80))
def test_no_size_breaks_the_screen(width: int, height: int) -> None:
    drawn = lines(SCENE, width, height)
    assert len(drawn) <= height
    assert all(len(line) <= width for line in drawn)


def test_before_the_clients_begin_there_is_a_picture_already() -> None:
    early = replace(
        SCENE,
        at_s=-3.0,
        nodes=tuple(NodeView(site, State.STARTING) for site in SITES),
        beats={},
        bars=(),
        happenings=(),
        marks=(),
    )
    whole = "\n".join(lines(early, 80, 24))
    assert "○ edge  starting" in whole
    assert "0.0 of 20 s" in whole


def test_the_log_form_says_the_same_in_a_line() -> None:
    assert plain_line(SCENE) == (
        "  90 writes/s   1234 acknowledged  us-east-1 leader, hangzhou cut off, asking around, "
        "edge follower"
    )
    assert plain_event(Happening(5.04, "the links are mended")) == "   5.0 s  the links are mended"


def test_nodes_accounts_are_read_as_what_they_do() -> None:
    def account(role: str, commit: int) -> dict[str, object]:
        status = {
            "role": role,
            "term": 2,
            "leader": "a",
            "commit": commit,
            "last_index": commit + 1,
        }
        if role == "leader":
            return {"groups": {"main": {**status, "reunion": {"quarantined": 17}}}}
        return {"groups": {"main": status}}

    views = view_nodes(
        {"a": account("leader", 9), "b": account("pre-candidate", 5), "c": None, "d": None},
        running=("a", "b", "c"),
        cut_off=("b",),
        group="main",
    )
    assert [(view.name, view.state, view.cut_off, view.behind) for view in views] == [
        ("a", State.LEADER, False, 0),
        ("b", State.CANDIDATE_BEFORE_THE_VOTE, True, 4),
        ("c", State.STARTING, False, 0),
        ("d", State.KILLED, False, 0),
    ]
    assert [view.quarantined for view in views] == [17, 0, 0, 0]


def test_the_pulse_forgets_what_is_older_than_two_seconds_and_counts_all_in_bars() -> None:
    pulse = Pulse(("x", "y"), 100.0, slot_s=0.5)
    for number in range(10):
        pulse.called("x")
        pulse.returned(
            Operation(
                site="x",
                lane="x/0.0",
                kind=Kind.PUT,
                key=str(number),
                called_s=100.0 + number * 0.5 - 0.1 * number,
                returned_s=100.0 + number * 0.5,
                outcome=Outcome.OK,
            )
        )
    pulse.called("y")
    beat = pulse.beat("x", 105.0)
    assert beat.writes_per_s == 2.0, "those at 103, 103.5, 104 and 104.5"
    assert beat.p50_ms == pytest.approx(800)
    assert beat.p99_ms == pytest.approx(900)
    assert beat.silent_s == 0.5
    assert pulse.beat("y", 105.0).waiting == 1
    assert pulse.beat("y", 105.0).p50_ms is None
    assert pulse.bars(105.0) == [2.0] * 10
    assert pulse.silent_s(105.0) == 0.5


def test_what_a_node_says_of_itself_stands_beside_it() -> None:
    text = draw(SCENE, 80, 24).plain
    assert "read_only, 20 not committed" in text
    assert "healthy" not in text

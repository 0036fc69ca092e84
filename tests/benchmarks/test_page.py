"""The page: plots from whatever was varied, words from the method, both halves of a figure."""

from __future__ import annotations

import json
import re

from benchmarks.harness.figures import Answer, Distribution, Figure, Report
from benchmarks.harness.page import page, prose
from benchmarks.harness.plots import plots


def rates(subject: str, values: dict[int, float]) -> list[Figure]:
    return [
        Figure("", subject, {"value": "64 B", "in flight": n}, "rate", "per s", "more", (v, 2 * v))
        for n, v in values.items()
    ]


def test_a_number_that_took_three_values_becomes_an_axis() -> None:
    (plot,) = plots(rates("mcpcore", {1: 10.0, 64: 500.0, 1024: 900.0}), [])
    (line,) = plot["data"]
    assert line["x"] == [1, 64, 1024]
    assert line["y"] == [15.0, 750.0, 1350.0]
    assert line["error_y"]["array"] == [5.0, 250.0, 450.0]
    assert plot["layout"]["xaxis"]["type"] == "log"
    assert plot["layout"]["title"]["text"] == "rate, per s (value 64 B)"


def test_two_points_are_no_curve() -> None:
    assert plots(rates("mcpcore", {1: 10.0, 64: 500.0}), []) == []


def test_latencies_show_the_share_that_took_longer_and_a_subject_keeps_its_colour() -> None:
    found = rates("mcpcore", {1: 1.0, 2: 2.0, 3: 3.0}) + rates("etcd", {1: 1.0, 2: 2.0, 3: 3.0})
    curve = Distribution("", "etcd", {"in flight": 1}, "ms", ((0.5, 2.0), (0.99, 9.0), (1.0, 50.0)))
    over, latency = plots(found, [curve])
    (line,) = latency["data"]
    assert line["x"] == [2.0, 9.0]
    assert [round(y, 6) for y in line["y"]] == [50.0, 1.0]
    by_name = {each["name"]: each["line"]["color"] for each in over["data"]}
    assert line["line"]["color"] == by_name["etcd"] != by_name["mcpcore"]


def test_nothing_measured_is_nothing_drawn() -> None:
    assert plots([], []) == []


def test_the_page_is_whole_and_what_was_measured_cannot_break_out_of_it() -> None:
    answer = Answer("q", "Is <b>it</b>?", "Uses `fdatasync`; it **syncs**.", "", ("etcd",))
    answer.figures = rates("mcpcore <script>", {1: 1.0, 2: 2.0, 3: 3.0})
    answer.figures += rates("etcd", {1: 2.0, 2: 4.0, 3: 6.0})
    answer.skipped["redis"] = "no & such"
    text = page(Report("2026-01-01", "abc", {"cores": "2"}, ["q"], [answer]))
    body = text[text.index("</header>") :]
    assert "<b>it</b>" not in body
    assert "mcpcore <script>" not in body
    assert "<code>fdatasync</code>" in body
    assert "<strong>syncs</strong>" in body
    assert "redis (no &amp; such)" in body
    assert '1.50 <span class="spread">(1–2)</span>' in body
    (drawn,) = re.findall(r'data-figure="([^"]*)"', body)
    figure = json.loads(drawn.replace("&#34;", '"').replace("&lt;", "<").replace("&gt;", ">"))
    assert [trace["name"] for trace in figure["data"]] == ["mcpcore <script>", "etcd"]


def test_prose_escapes_before_it_marks() -> None:
    assert prose("`a<b` & *c*") == "<code>a&lt;b</code> &amp; <em>c</em>"

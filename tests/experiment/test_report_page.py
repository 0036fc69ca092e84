"""The report: complete, quick, in one file; and clicked through in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from mcpcore.check import History, Operation, Outcome, Verdict
from mcpcore.experiment.conclusion import conclude
from mcpcore.experiment.messages import MessageSample, to_shiviz
from mcpcore.experiment.report.details import OPERATIONS_MAX, operations
from mcpcore.experiment.report.page import render_report
from mcpcore.experiment.run import Run
from mcpcore.experiment.scenario import SPARE, Groups, Region, Scenario, Step, WorkloadSpec
from mcpcore.experiment.simulated import run_simulated
from mcpcore.sim.schedule import Fault, Schedule
from tests.experiment.lying import HalfDone

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SCENARIO = Scenario(
    name="half done",
    about="A machine that does half of a transfer.",
    duration_s=5.0,
    settle_s=10.0,
    regions=(Region("a"), Region("b"), Region("c"), Region("d", role=SPARE)),
    groups=Groups(election_timeout_s=1.0, heartbeat_s=0.2),
    workloads=(WorkloadSpec("bank", rate_per_s=10.0), WorkloadSpec("register", rate_per_s=5.0)),
    faults=Schedule((Fault(2.5, "isolate", ("b",), (), 1.0),)),
    steps=(Step(0.5, "add-learner", "d"),),
)


@cache
def broken() -> Run:
    """A run in which the bank loses money."""
    return run_simulated(SCENARIO, seed=1, machine=HalfDone)


@cache
def page() -> str:
    return render_report(broken(), conclude(broken()), "name = 'half done'")


def test_the_page_stands_alone_and_tells_everything() -> None:
    text = page()
    assert "A promise was broken" in text
    for told in ("isolate b", "add-learner d", "wrong-total", "mcpctl experiment run", "python"):
        assert told in text
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)  # plotly names its makers
    outside = re.findall(r'(?:src|href)="(http[^"]*)"', markup)
    assert not outside, "a page that is sent to somebody fetches nothing"


def test_messages_are_kept_around_faults_and_those_that_a_cut_held_never_arrive() -> None:
    run = broken()
    names = [window.name for window in run.windows]
    assert names[0] == "clients begin"
    assert any(name.startswith("isolate b begins") for name in names)
    assert any(message.arrived_s is None for message in run.messages)
    for message in run.messages:
        assert message.arrived_s is None or message.arrived_s >= message.sent_s
        window = run.windows[message.window]
        assert window.began_s <= message.sent_s <= window.ended_s


def test_a_shiviz_log_has_clocks_that_never_go_back_and_know_who_told() -> None:
    sent = [
        MessageSample(1.0, 1.2, "a", "b", 10, 0),
        MessageSample(1.3, None, "b", "c", 20, 0),
        MessageSample(1.4, 1.5, "b", "c", 30, 0),
    ]
    lines = to_shiviz(sent).splitlines()
    assert lines == [
        'a {"a": 1}',
        "1.000000 send to b 10 bytes",
        'b {"a": 1, "b": 1}',
        "1.200000 receive from a 10 bytes",
        'b {"a": 1, "b": 2}',
        "1.300000 send to c 20 bytes",
        'b {"a": 1, "b": 3}',
        "1.400000 send to c 30 bytes",
        'c {"a": 1, "b": 3, "c": 1}',
        "1.500000 receive from b 30 bytes",
    ]
    assert to_shiviz([]) == ""


def test_a_hundred_thousand_operations_are_summed_up_honestly_and_quickly() -> None:
    count = 100_000
    lanes = {f"ids/a/{number}": "a" for number in range(1, 21)}
    ops = [
        Operation(
            number,
            f"ids/a/{number % 20 + 1}",
            "generate",
            None,
            77 if number in (5_000, 90_000) else number,
            Outcome.OK,
            0,
            0,
            number * 1_000_000,
            number * 1_000_000 + 400_000,
        )
        for number in range(count)
    ]
    many = replace(broken(), histories={"ids": History.timed(ops)}, lanes={"ids": lanes})
    began_s = time.process_time()
    conclusion = conclude(many)
    text = render_report(many, conclusion, "")
    took_s = time.process_time() - began_s
    shown = operations(many, "ids", conclusion.judgements["ids"])
    ids = {bar[0] for bar in shown["bars"]}
    assert {77, 5_000, 90_000} <= ids, "what the judge blames is always shown"
    assert (len(ids), shown["total"]) == (OPERATIONS_MAX, count)
    assert len(text) < 7_000_000
    assert took_s < 30


SCRIPT = """
<script>
window.onerror = function (message) { document.body.dataset.error = message; };
window.addEventListener("load", function () {
  var found = {};
  function all(query) { return Array.prototype.slice.call(document.querySelectorAll(query)); }
  found.charts = all("#timeline .subplot").length;
  found.workloads = all("#operations details").length;
  found.bars = all("#operations .bar").length;
  var button = document.querySelector("#operations button.op");
  var details = button.closest("details");
  details.open = false;
  button.click();
  found.open = details.open;
  found.told = details.querySelector(".told").textContent;
  var chosen = all("#operations .bar.chosen");
  found.chosen = chosen.map(function (bar) { return bar.dataset.operation; });
  found.wanted = button.dataset.operation;
  var select = document.querySelector("#spacetime select");
  select.selectedIndex = 1;
  select.dispatchEvent(new Event("change"));
  found.arrows = all("#spacetime .arrow").length;
  found.lost = all("#spacetime .lost").length;
  document.getElementById("only-lost").click();
  found.arrowsLeft = all("#spacetime .arrow").length;
  found.lostLeft = all("#spacetime .lost").length;
  var boxes = all("#spacetime .tools label input").slice(1);
  boxes.forEach(function (box) { if (box.checked) box.click(); });
  found.lanes = all("#spacetime .lane").length;
  found.wide = document.documentElement.scrollWidth - window.innerWidth;
  found.paper = getComputedStyle(document.body).backgroundColor;
  found.error = document.body.dataset.error || "";
  document.body.innerHTML = "";
  var proof = document.createElement("pre");
  proof.id = "proof";
  proof.textContent = JSON.stringify(found);
  document.body.appendChild(proof);
});
</script>
"""


def clicked(page_: Path, *options: str) -> dict[str, object]:
    """Open the page in Chromium, click through it, and read what was there."""
    assert CHROMIUM is not None
    profile = page_.parent / "profile"
    found = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}",
            "--virtual-time-budget=20000", *options, "--dump-dom", f"file://{page_}",
        ],
        capture_output=True, text=True, timeout=110, check=True,
    ).stdout  # fmt: skip
    match = re.search(r'<pre id="proof">(.*?)</pre>', found, re.DOTALL)
    assert match is not None, found[-2000:]
    proof: dict[str, object] = json.loads(match[1].replace("&gt;", ">").replace("&amp;", "&"))
    return proof


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (apt-get install chromium)")
@pytest.mark.parametrize(
    ("size", "options"),
    [("1200,900", ()), ("420,900", ("--blink-settings=preferredColorScheme=0",))],
    ids=["wide and light", "narrow and dark"],
)
def test_a_browser_draws_it_and_its_parts_do_what_they_say(
    tmp_path: Path, size: str, options: tuple[str, ...]
) -> None:
    path = tmp_path / "report.html"
    path.write_text(page().replace("</body>", SCRIPT + "</body>"))
    proof = clicked(path, f"--window-size={size}", *options)
    assert proof["error"] == ""
    assert proof["charts"] == 7
    assert proof["workloads"] == 2
    assert int(str(proof["bars"])) == sum(len(history) for history in broken().histories.values())
    assert proof["open"] is True
    assert proof["chosen"] == [proof["wanted"]]
    assert f"operation {proof['wanted']}" in str(proof["told"])
    assert int(str(proof["arrows"])) > 0
    assert int(str(proof["lost"])) > 0
    assert (proof["arrowsLeft"], proof["lostLeft"]) == (0, proof["lost"])
    assert proof["lanes"] == 0, "every lane was switched off"
    assert int(str(proof["wide"])) <= 0, "nothing sticks out of the page"
    dark = proof["paper"] == "rgb(21, 24, 27)"
    assert dark is bool(options)


def test_a_run_that_kept_no_messages_says_so() -> None:
    quiet = replace(broken(), messages=(), windows=())
    text = render_report(quiet, conclude(quiet), "")
    assert "None were kept" in text
    assert conclude(quiet).verdict is Verdict.VIOLATED

"""One line brings a run back, and a failing run is made small."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpcore.errors import InvalidInput, PropertyViolated
from mcpcore.sim import World
from mcpcore.sim.replay import Outcome, Token, find_scenario, run_once, shrink
from mcpcore.sim.schedule import Fault, Schedule, random_schedule
from mcpcore.sim.strategies import schedules
from mcpcore.sim.trace import Trace, first_difference

HOSTS = ["a", "b", "c"]


def fragile(world: World) -> None:
    """Breaks if b crashes while a is paused, whatever else goes on."""
    for name in HOSTS:
        world.host(name, lambda: asyncio.sleep(1e6))
    world.apply(random_schedule(world.seed, HOSTS, duration_s=20, count=12))
    world.promises.always(
        "never both", lambda: not (world["a"].state == "paused" and world["b"].state == "crashed")
    )
    world.run(30)


def failing(seeds: int = 300) -> Outcome:
    for seed in range(seeds):
        outcome, _ = run_once(Token("fragile", seed), fragile)
        if outcome.error is not None and len(outcome.schedule) > 4:
            return outcome
    raise AssertionError("no seed fails with more than four faults")


@settings(deadline=None, max_examples=20)
@given(
    st.text(min_size=1, max_size=40),
    st.integers(0, 2**64),
    st.sampled_from(["fifo", "random", "pct"]),
    st.none() | schedules(HOSTS, duration_s=60, faults_max=3),
)
def test_a_token_reads_back_as_it_was_written(
    scenario: str, seed: int, order: str, schedule: Schedule | None
) -> None:
    token = Token(scenario, seed, order, schedule)
    text = token.encode()
    assert Token.decode(text) == token
    assert text.replace("-", "").replace("_", "").isalnum(), "one word, safe in any shell"


@pytest.mark.parametrize(
    "spoil", [lambda t: t[:-3], lambda t: "A" + t[1:], lambda t: "", lambda t: "é"]
)
def test_a_spoilt_token_is_refused(spoil: object) -> None:
    good = Token("m:f", 1).encode()
    with pytest.raises(InvalidInput, match="token"):
        Token.decode(spoil(good))  # type: ignore[operator]


def test_a_token_of_another_version_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcpcore.sim.replay.VERSION", 0)
    old = Token("m:f", 1).encode()
    monkeypatch.undo()
    with pytest.raises(InvalidInput, match="another version"):
        Token.decode(old)


def test_a_failure_replayed_from_its_token_fails_in_the_same_way_event_for_event() -> None:
    outcome = failing()
    again, _ = run_once(Token.decode(outcome.token.encode()), fragile)
    assert (again.error, again.digest, again.events) == (
        outcome.error,
        outcome.digest,
        outcome.events,
    )


def test_shrinking_keeps_the_two_faults_that_matter() -> None:
    outcome = failing()
    small = shrink(outcome, fragile)
    assert small.error is not None
    assert small.error.startswith("PropertyViolated: never both")
    down, stopped = sorted(fault.kind for fault in small.schedule.faults)
    assert down in ("crash", "pause", "suspend")
    assert stopped in ("pause", "suspend", "wipe")
    assert small.token.schedule == small.schedule


def test_a_scenario_is_found_by_module_or_by_file(tmp_path: Path) -> None:
    path = tmp_path / "my_scenario.py"
    path.write_text("def quiet(world):\n    world.run(1)\n")
    outcome, world = run_once(Token(f"{path}:quiet", 5))
    assert outcome.error is None
    assert outcome.virtual_s == world.now_s == 1
    assert callable(find_scenario("mcpcore.sim.replay:run_once"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonsense", "does not name a scenario"),
        ("no.such.module:f", "cannot import"),
        ("/no/such/file.py:f", "no file"),
        ("mcpcore.sim.replay:nothing", "no function 'nothing'"),
    ],
)
def test_a_scenario_that_cannot_be_found_says_why(name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        find_scenario(name)


def test_the_outcome_names_the_faults_that_did_nothing() -> None:
    def scenario(world: World) -> None:
        world.host("a", lambda: asyncio.sleep(1))
        world.apply(Schedule((Fault(1, "disk_stall", ("a",)), Fault(2, "crash", ("a",)))))
        world.run(5)

    outcome, _ = run_once(Token("s", 0), scenario)
    assert outcome.without_effect == ("1 s: disk_stall on a",)


def test_errors_of_the_scenario_are_its_outcome() -> None:
    def scenario(world: World) -> None:
        raise PropertyViolated("p", at_s=1, found="x")

    outcome, _ = run_once(Token("s", 0), scenario)
    assert outcome.error == "PropertyViolated: p: x, at 1.000000 s"


# --- traces --------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 39), st.integers(1, 50))
def test_the_first_difference_of_two_traces_is_the_first(
    values: list[int], at: int, keep: int
) -> None:
    def trace(items: list[int], keep: int) -> Trace:
        made = Trace(keep=keep)
        for number, item in enumerate(items):
            made.now_ns = number
            made.note("a", "value", item)
        return made

    assert first_difference(trace(values, 50), trace(values, keep)) is None
    if at < len(values):
        changed = [*values[:at], 99, *values[at + 1 :]]
        found = first_difference(trace(values, 50), trace(changed, 50))
        assert found is not None
        assert (found.number, found.exact) == (at + 1, True)
        assert found.second is not None
        assert found.second.detail == (99,)
        shorter = first_difference(trace(values, 50), trace(values[:at], 50))
        assert shorter is not None
        assert (shorter.number, shorter.second) == (at + 1, None)


def test_a_difference_beyond_what_was_kept_is_narrowed_to_a_chunk() -> None:
    def trace(last: int) -> Trace:
        made = Trace(keep=10)
        for number in range(10_000):
            made.note("a", "value", number if number < 9_000 else last)
        return made

    found = first_difference(trace(1), trace(2))
    assert found is not None
    assert not found.exact
    assert found.number == 2 * 4_096
    assert "trace_keep" in str(found)


def test_the_chain_of_causes_leads_from_a_delivery_to_its_request() -> None:
    async def serve() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readexactly(3)
            writer.write(b"pong")
            writer.close()

        await asyncio.start_server(answer, "0.0.0.0", 7)
        await asyncio.sleep(1e6)

    async def ask() -> None:
        reader, writer = await asyncio.open_connection("server", 7)
        writer.write(b"hey")
        await reader.read(4)
        writer.close()

    with World() as world:
        world.host("server", serve)
        world.run(1)
        world.call(world.host("client"), ask())
        answers = [
            e for e in world.trace.events("deliver") if e.host == "client" and e.detail[2] == 4
        ]
        chain = [(e.host, e.kind) for e in world.trace.explain(answers[0].number)]
    assert chain[-4:] == [
        ("client", "send"),
        ("server", "deliver"),
        ("server", "send"),
        ("client", "deliver"),
    ]

"""Operations of real clients become a history that any judge can read."""

from __future__ import annotations

from mcpcore.check import Outcome, Verdict, check_by_log, check_linearizable
from mcpcore.check.models import KeyValue
from mcpcore.experiment.history import as_history
from mcpcore.experiment.operations import Kind, Operation


def op(kind: Kind, value: str = "", *, at_s: float, index: int, **facts: object) -> Operation:
    told: dict[str, object] = {"outcome": Outcome.OK, "lane": "a/1", **facts}
    return Operation(
        site="a",
        kind=kind,
        key="k",
        value=value,
        called_s=at_s,
        returned_s=at_s + 0.5,
        term=1,
        index=index,
        **told,  # type: ignore[arg-type]
    )


GOOD = [
    op(Kind.INCREMENT, "1", at_s=1.0, index=2, swapped=True),
    op(Kind.INCREMENT, "2", at_s=2.0, index=0, outcome=Outcome.UNKNOWN, error="time ran out"),
    op(Kind.INCREMENT, "2", at_s=3.0, index=4, swapped=False),
    op(Kind.READ, at_s=4.0, index=4, read="2"),
]


def test_what_the_store_really_did_is_accepted_by_search_and_by_the_log() -> None:
    history = as_history(GOOD)
    history.check()
    assert check_linearizable(history, KeyValue()).verdict is Verdict.OK
    assert check_by_log(history, KeyValue()).verdict is Verdict.OK


def test_a_stale_read_is_refused_by_search_and_by_the_log() -> None:
    stale = [*GOOD, op(Kind.READ, at_s=5.0, index=5, read="1")]
    assert check_linearizable(as_history(stale), KeyValue()).verdict is Verdict.VIOLATED
    assert check_by_log(as_history(stale), KeyValue()).verdict is Verdict.VIOLATED


def test_a_lane_goes_on_as_another_process_after_an_unknown_operation() -> None:
    processes = [each.process for each in as_history(GOOD)]
    assert len(set(processes)) == 2
    assert processes[0] == processes[2] == processes[3] == "a/1"

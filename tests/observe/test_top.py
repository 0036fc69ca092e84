"""The cluster in a terminal of 80 columns and 24 rows."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mcpcore.ctl.top import Rates, screen
from mcpcore.observe.health import Account
from mcpcore.observe.picture import Picture
from tests.observe.test_picture import account, all_well, group, picture, verdict


def shown(drawn: Picture, width: int = 80, height: int = 24, rates: Rates | None = None) -> str:
    console = Console(width=width, height=height, file=io.StringIO())
    with console.capture() as caught:
        console.print(screen(drawn, rates or Rates(), width, height))
    return caught.get()


def troubled(groups: int) -> Picture:
    names = [f"orders-{number:03}" for number in range(groups)]
    ill = verdict("b", "split")
    return picture(
        account("a", {name: group(name, on="a") for name in names}),
        account("b", {n: group(n, on="b", verdict=ill if n == names[-1] else {}) for n in names}),
        Account("10.0.0.3:7101", "c", error="no answer within 1 s", zone="edge"),
    )


@pytest.mark.parametrize("size", [(80, 24), (80, 16), (200, 50), (60, 24)])
@pytest.mark.parametrize("groups", [1, 12, 1000])
def test_it_never_leaves_the_screen(size: tuple[int, int], groups: int) -> None:
    lines = shown(troubled(groups), *size).splitlines()
    assert len(lines) <= size[1]
    assert max(map(len, lines)) <= size[0]


def test_what_is_not_well_comes_first_and_what_has_no_room_is_counted() -> None:
    text = shown(troubled(1000))
    listed = [line.split()[0] for line in text.splitlines() if line.startswith(" orders-")]
    assert listed[0] == "orders-999"
    assert f"and {1000 - len(listed)} more groups" in text
    assert "c (10.0.0.3:7101) does not answer" in text


def test_busy_groups_come_before_idle_ones() -> None:
    rates = Rates()
    names = ("idle", "busy")
    rates.learn(picture(*(account(n, {g: group(g, on=n) for g in names}) for n in "abc")), 10.0)
    later = picture(
        *(
            account(n, {g: group(g, on=n, commit=70 if g == "busy" else 50) for g in names})
            for n in "abc"
        )
    )
    rates.learn(later, 12.0)
    assert rates.by_group["busy"] == 10.0
    text = shown(later, rates=rates)
    assert text.index("busy") < text.index("idle")


def test_a_well_cluster_says_so() -> None:
    assert "All is well: 3 of 3 nodes answer" in shown(all_well())

"""Promises are watched at every moment, and a broken one says what, when and how."""

from __future__ import annotations

import asyncio

import pytest

from mcpcore.errors import PropertyViolated
from mcpcore.sim import World


def test_a_promise_that_fails_for_one_moment_is_caught_at_that_moment() -> None:
    state = {"leaders": 1}

    async def main() -> None:
        await asyncio.sleep(2)
        state["leaders"] = 2
        await asyncio.sleep(0.000_001)
        state["leaders"] = 1
        await asyncio.sleep(100)

    with World(seed=4) as world:
        world.host("a", main)
        world.promises.always("one leader", lambda: state["leaders"] == 1)
        with pytest.raises(PropertyViolated, match="one leader: it did not hold") as caught:
            world.run(50)
    assert caught.value.at_s == pytest.approx(2)
    assert "seed 4" in caught.value.__notes__[0]


def test_what_a_predicate_asserts_is_what_the_error_says() -> None:
    def holds() -> bool:
        assert False, "a and b both lead term 3"  # noqa: B011, PT015 - the predicate's own words

    with World() as world:
        world.host("a", lambda: asyncio.sleep(1))
        world.promises.always("one leader", holds)
        with pytest.raises(PropertyViolated, match="one leader: a and b both lead term 3"):
            world.run(5)


def test_a_promise_with_a_deadline_is_kept_or_broken_at_the_deadline() -> None:
    done: list[bool] = []

    async def main() -> None:
        await asyncio.sleep(3)
        done.append(True)

    with World() as world:
        world.host("a", main)
        world.promises.eventually("done", lambda: done, within_s=5)
        world.promises.settle()
        assert world.promises.kept["done"] == pytest.approx(3)
        world.promises.eventually("done twice", lambda: len(done) == 2, within_s=7)
        with pytest.raises(PropertyViolated, match="within 7 s"):
            world.promises.settle()
        assert world.now_s == pytest.approx(12, abs=0.01)


def test_every_cause_must_lead_to_its_effect() -> None:
    state = {"asked": False, "answered": False}

    async def main() -> None:
        for wait_s in (1, 3):
            state.update(asked=True, answered=False)
            await asyncio.sleep(wait_s)
            state.update(asked=False, answered=True)
            await asyncio.sleep(10)
            state["answered"] = False

    with World() as world:
        world.host("a", main)
        world.promises.leads_to(
            "answer", lambda: state["asked"], lambda: state["answered"], within_s=2
        )
        world.run(12)
        assert world.promises.kept["answer"] == pytest.approx(1)
        with pytest.raises(PropertyViolated, match="within 2 s"):
            world.run(12)


def test_convergence_is_demanded_of_a_healed_core_while_the_rest_stays_broken() -> None:
    """Three of five must find each other within the bound; the slack is reported."""
    heard: dict[str, set[str]] = {}

    async def gossip() -> None:
        me = asyncio.get_running_loop().host.name  # type: ignore[attr-defined]
        heard[me] = set()

        class Ear(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: object) -> None:
                heard[me].add(data.decode())

        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            Ear, local_addr=("0.0.0.0", 9)
        )
        while True:
            for other in "abcde":
                transport.sendto(me.encode(), (other, 9))
            await asyncio.sleep(1)

    def together(names: str) -> bool:
        return all(heard[name] >= set(names) for name in names)

    with World() as world:
        for name in "abcde":
            world.host(name, gossip, start=False)
        world.network.partition("a", "b", "c", "d", "e")
        for host in world.hosts.values():
            host.start()
        world["c"].crash()
        world.run(10)
        result = world.promises.converge("gossip", lambda: together("abc"), core="abc", bound_s=1.5)
        assert 0 < result.took_s <= 1.5
        assert result.slack_s == result.bound_s - result.took_s
        assert "slack" in str(result)
        assert heard["d"] == {"d"}, "the rest is still cut off"
        with pytest.raises(PropertyViolated, match="bound of 2 s after healing a, b"):
            world.promises.converge("all", lambda: together("abcde"), core="ab", bound_s=2)


def test_a_wrong_promise_is_noticed_even_if_nothing_ever_happens() -> None:
    with World() as world:
        world.promises.eventually("pigs fly", lambda: False, within_s=5)
        with pytest.raises(PropertyViolated, match="pigs fly"):
            world.run(100)
        assert world.now_s == pytest.approx(5, abs=0.01)

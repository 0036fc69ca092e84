"""The live page: who may see, who may act, and what a browser shows of a real cluster."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from mcpcore.errors import InvalidInput, Rejected
from mcpcore.node.client.client import Client
from mcpcore.node.transport.addresses import Address
from mcpcore.observe.asking import NodeAsker
from mcpcore.observe.dash.actions import TICKET_S, Action, Desk, Given
from mcpcore.observe.dash.server import TOKEN_HEADER, Page
from mcpcore.observe.endpoint import HttpServer
from mcpcore.observe.health import Account
from mcpcore.observe.watcher import Watcher
from mcpcore.raft.settings import RaftSettings
from tests.browser import browser, needs_browser
from tests.node.local_cluster import SECURITY, LocalCluster, kv
from tests.observe.test_picture import account, group

TOKEN = "secret"


async def told(given: Given) -> str:
    return f"would hand {given['group']} over"


async def done(given: Given) -> str:
    return f"{given['group']} is handed over"


async def refused(given: Given) -> str:
    raise Rejected("not now")


class Moment:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def desk(now_s: Moment | None = None) -> Desk:
    actions = {"transfer": Action(told, done), "never": Action(refused, done)}
    return Desk(actions, now_s or Moment())


async def well() -> Account:
    return account("a", {"main": group("main", on="a")})


@contextlib.asynccontextmanager
async def served(desk: Desk | None = None) -> AsyncIterator[httpx.AsyncClient]:
    async with Watcher("clouds", {"a:1": well}, interval_s=0.02, lag_max=100) as watcher:
        page = Page(watcher, hosts=frozenset({"127.0.0.1"}), desk=desk, token=TOKEN if desk else "")
        server = HttpServer(page.application(), Address("127.0.0.1", 0))
        await server.start()
        async with httpx.AsyncClient(
            base_url=f"http://{server.address}", trust_env=False, timeout=20
        ) as client:
            yield client
        page.close()
        await server.close()


async def test_the_page_loads_nothing_from_elsewhere_and_may_not() -> None:
    async with served() as client:
        answer = await client.get("/")
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        for name in ("dash.css", "dash.js"):
            body = (await client.get(f"/static/{name}")).text
            assert "//" not in body.replace("http://www.w3.org/2000/svg", "").replace("// ", "")
        assert "http" not in answer.text
        for path in ("/static/../server.py", "/static/%2e%2e%2fserver.py", "/static/x"):
            assert (await client.get(path)).status_code == 404


async def test_a_foreign_name_that_points_here_gets_nothing() -> None:
    async with served(desk()) as client:
        for path in ("/", "/events", "/picture.json"):
            answer = await client.get(path, headers={"host": "evil.example"})
            assert answer.status_code == 421


async def test_without_actions_or_without_the_token_nobody_acts() -> None:
    async with served() as client:
        assert (await client.post("/plan", json={"action": "transfer"})).status_code == 403
    async with served(desk()) as client:
        for headers in ({}, {TOKEN_HEADER: "guess"}, {TOKEN_HEADER: b"gu\xe9ss"}):
            answer = await client.post("/plan", json={"action": "transfer"}, headers=headers)
            assert answer.status_code == 403
            assert "token" in answer.json()["error"]


async def test_a_plan_is_shown_and_its_ticket_is_good_once() -> None:
    async with served(desk()) as client:
        client.headers[TOKEN_HEADER] = TOKEN
        planned = await client.post("/plan", json={"action": "transfer", "group": "main"})
        assert planned.json()["plan"] == "would hand main over"
        ticket = {"ticket": planned.json()["ticket"]}
        assert (await client.post("/do", json=ticket)).json() == {"done": "main is handed over"}
        again = await client.post("/do", json=ticket)
        assert again.status_code == 400
        assert "no such plan waits" in again.json()["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"action": 3}', 400),
        (b'{"action": "nosuch"}', 400),
        (b'{"action": "never"}', 409),
        (b'"' + b"x" * 5000 + b'"', 400),
        (b"[" * 4000, 400),
    ],
)
async def test_a_plan_that_makes_no_sense_is_refused_in_words(body: bytes, status: int) -> None:
    async with served(desk()) as client:
        answer = await client.post("/plan", content=body, headers={TOKEN_HEADER: TOKEN})
        assert answer.status_code == status
        assert answer.json()["error"]


async def test_a_plan_grows_old() -> None:
    clock = Moment()
    plans = desk(clock)
    _, ticket = await plans.plan("transfer", {"group": "main"})
    clock.now_s += TICKET_S
    with pytest.raises(InvalidInput, match="no such plan"):
        await plans.carry_out(ticket)


async def test_pictures_stream_first_whole_and_then_what_changed() -> None:
    async with served() as client, client.stream("GET", "/events") as stream:
        pictures = []
        async for line in stream.aiter_lines():
            if line.startswith("data: ") and "nodes" in line:
                pictures.append(json.loads(line[6:]))
                if len(pictures) == 3:
                    break
        assert [each["whole"] for each in pictures] == [True, False, False]
        assert pictures[2]["groups"] == []
        assert pictures[2]["level"] == "warn" or pictures[2]["level"] == "good"


async def test_a_node_that_hangs_delays_only_its_own_row() -> None:
    never = asyncio.Event()

    async def hangs() -> Account:
        await never.wait()
        raise AssertionError

    asks = {"a:1": well, "b:1": hangs}
    async with Watcher("clouds", asks, interval_s=0.01, lag_max=100) as watcher:
        async with asyncio.timeout(5):
            picture = await watcher.after(3)
            while not any(node.up for node in picture.nodes):
                picture = await watcher.after(watcher.number)
        assert {node.name: node.up for node in picture.nodes} == {"a": True, "b:1": False}


@needs_browser
async def test_a_browser_shows_a_real_cluster_and_soon_a_lost_node(
    tmp_path: Path,
) -> None:
    groups = ("main", *(f"orders-{number:03}" for number in range(20)))
    calm = RaftSettings()
    async with (
        LocalCluster(tmp_path, groups=groups, settings=calm) as town,
        town.client() as writer,
    ):
        await kv(writer).put("a", "b")

        def connect(address: Address) -> Client:
            return Client((address,), cluster="test", security=SECURITY)

        askers = [NodeAsker(at, name, connect) for name, at in town.addresses.items()]
        asks = {asker.endpoint: asker.ask for asker in askers}
        async with Watcher("test", asks, interval_s=0.3, lag_max=100) as watcher, browser() as tab:
            page = Page(watcher, hosts=frozenset({"127.0.0.1"}), desk=desk(), token=TOKEN)
            server = HttpServer(page.application(), Address("127.0.0.1", 0))
            await server.start()
            await tab.size(1300, 900)
            await tab.open(f"http://{server.address}/#token={TOKEN}")
            rows = "document.querySelectorAll('#rows tr').length"
            await tab.until(f"{rows} === {len(groups)}")
            await tab.until("document.querySelectorAll('#map .node').length === 3")

            # Filter, by name and by being unwell.
            search = "document.getElementById('find').{}; undefined"
            await tab.run(search.format("value = 'orders-01'"))
            await tab.run(search.format("dispatchEvent(new Event('input'))"))
            await tab.until(f"{rows} === 10")
            await tab.run(search.format("value = ''"))
            await tab.run(search.format("dispatchEvent(new Event('input'))"))

            # Sort: the second click on a column turns it round.
            first = "document.querySelector('#rows .name').textContent"
            await tab.click("th button[data-by='name']")
            await tab.until(f"{first} === 'orders-019'")

            # A plan is shown before anything happens.
            await tab.click("#rows tr:last-child .name")
            await tab.until("document.getElementById('detail').open")
            await tab.until("document.querySelector('#detail-acts button') !== null")
            await tab.click("#detail-acts button")
            await tab.until("document.getElementById('plan-text').textContent.startsWith('would')")
            await tab.click("#plan-yes")
            await tab.until(
                "document.getElementById('plan-text').textContent.includes('is handed')"
            )

            # A node is lost: the banner says so, soon.
            lost = next(name for name in town.nodes)
            shown = "document.getElementById('advice').textContent"
            await town.nodes[lost].stop()
            told = f"{shown}.includes('{lost} (') && {shown}.includes('does not answer')"
            await tab.until(told, within_s=10)
            await tab.until("document.getElementById('banner').dataset.level === 'bad'")
            await tab.until("document.querySelectorAll('#map .node.down').length === 1")
            assert tab.complaints == []
            page.close()
            await server.close()
            for asker in askers:
                await asker.close()

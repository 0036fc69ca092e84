"""How fast the simulator is, against stock asyncio and against its peers.

A token ring has one task ready at a time and no input or output, so stock asyncio pays one system
call per hop and we pay none; the ring says what a *step* costs, not how fast a program is.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.foreign import loops
from benchmarks.harness.bench import Bench, Contestant, Measure, Measured
from benchmarks.harness.programs import Program, ProgramFailed
from benchmarks.peers.foreign import foreign, serving
from mcpcore.sim import World

STOCK, OURS = "stock asyncio", "mcpcore.sim"
PEERS = {
    "async-solipsism": "solipsism",
    "simloop": "simloop",
    "simloom": "simloom",
    "simpy": "simpy",
}
HOSTS = (2, 8, 32, 128)
ECHOES = 20


def measure(bench: Bench) -> None:
    """Three programs under every loop that can run them, and a world that grows."""
    bench.answer.method = (
        "Processor time. Ring: 100 tasks pass a token 200 times round. Sleepers: 100 tasks that "
        "wake once per virtual second each. Echo: 100 bytes there and back over streams. Ours "
        "keeps a digest of everything that happens; seeds and schedules are on. Hosts: each talks "
        f"to its neighbour over links with latency, {ECHOES} messages there and back."
    )
    bench.answer.bias = "The ring is what a step costs, not how fast a program is."
    bench.answer.references = (STOCK, "simloop", "simloom")
    with ExitStack() as stack:
        python = Path(sys.executable)
        programs = {STOCK: (serving(bench, stack, python, loops.__name__, "stock"), "stock")}
        for peer, loop in PEERS.items():
            program = foreign(bench, stack, peer, "loops")
            if program is not None:
                programs[peer] = (program, loop)
        hops = loops.TASKS * loops.TURNS_OF_THE_RING
        chosen = {name: each for name, each in programs.items() if name != "simpy"}
        contest(bench, "ring", "a hop", Measure("µs", "less"), 1e6 / hops, chosen)
        chosen = {name: each for name, each in programs.items() if name != STOCK}
        contest(bench, "sleepers", "a virtual second", Measure("ms", "less"),
                1e3 / loops.SLEEP_FOR_S, chosen)  # fmt: skip
        messages = 5 * loops.MESSAGES * 2
        chosen = {STOCK: programs[STOCK]}
        contest(bench, "chatter", "a message", Measure("µs", "less"), 1e6 / messages, chosen)
    for hosts in HOSTS:
        measures = {"a message": Measure("µs", "less")}
        contestants = {OURS: talking(hosts)}
        bench.interleave("growth of a world", {"hosts": hosts}, measures, contestants)


def contest(
    bench: Bench,
    program: str,
    name: str,
    measure: Measure,
    scale: float,
    programs: dict[str, tuple[Program, str]],
) -> None:
    """One program under every loop; a loop that cannot is reported, and tried with the next one."""

    def ours() -> Measured:
        began_s = time.process_time()
        with World(seed=1) as world:
            world.call(world.host("bench"), getattr(loops, program)())
        return Measured({name: (time.process_time() - began_s) * scale})

    def theirs(process: Program, loop: str) -> Contestant:
        def run() -> Measured:
            return Measured(
                {name: process.ask({"program": program, "loop": loop}, 120)["cpu_s"] * scale}
            )

        return run

    contestants: dict[str, Contestant] = {OURS: ours}
    for who, (process, loop) in programs.items():
        try:
            process.ask({"program": program, "loop": loop}, 120)
        except ProgramFailed as failure:
            bench.skip(f"{who}, {program}", str(failure))
            continue
        contestants[who] = theirs(process, loop)
    bench.interleave(program, {}, {name: measure}, contestants)


def talking(hosts: int) -> Contestant:
    """A ring of hosts; each echoes its neighbour's messages."""

    heard = [0]

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1_000):
            writer.write(data)
        writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(echo, "0.0.0.0", 7_007)
        await server.serve_forever()

    async def talk(neighbour: str) -> None:
        reader, writer = await asyncio.open_connection(neighbour, 7_007)
        for _ in range(ECHOES):
            writer.write(b"x" * 100)
            await reader.readexactly(100)
            heard[0] += 1
        writer.close()

    def run() -> Measured:
        heard[0] = 0
        began_s = time.process_time()
        with World(seed=1) as world:
            made = [world.host(f"h{number}") for number in range(hosts)]
            for host in made:
                host.spawn(serve())
            world.run(1)
            for number, host in enumerate(made):
                host.spawn(talk(made[(number + 1) % hosts].name))
            world.run(60)
            assert heard == [hosts * ECHOES], "not everything was echoed"
        took_s = time.process_time() - began_s
        return Measured({"a message": took_s / (hosts * ECHOES * 2) * 1e6})

    return run

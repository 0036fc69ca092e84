"""The article's experiment: a fuse of 3 s and one of 8 s, in virtual time.

It takes about half a minute. The article gives figures and no fault model, so ours are stated here;
each applies to both fuses alike:

- sagas of five steps over three services, arriving as a Poisson process, 20 a second, for one
  minute; a call takes 2 to 20 ms; 1 saga in 5 is refused for certain at its last step;
- *lost calls*: of calls and compensations alike, 1 in 500 is never answered, half of them after
  they took effect;
- *and brown-outs*: each service, every 60 s on average, answers nothing for 1 to 10 s besides; a
  call that arrives meanwhile takes effect or not with equal chance.

*Recovery time* is the time from the decision to turn back to the end of the last compensation.
A compensation has *failed* if it was given up and its saga parked. A saga is *lost* if it ended
neither completed nor compensated nor parked, or if the services hold what its end denies.
"""

from __future__ import annotations

import asyncio
import logging
import random
import statistics
from dataclasses import dataclass, field

from benchmarks.harness.bench import Bench
from mcpcore.errors import StepFailed
from mcpcore.saga import (
    FUSE_3S,
    FUSE_8S,
    Call,
    CallEnded,
    Event,
    Fuse,
    MemoryJournal,
    Retry,
    Saga,
    SagaChanged,
    SagaEngine,
    Status,
    Step,
    TargetSettings,
)
from mcpcore.sim import run

ARTICLE = {3.0: (89.0, 0.02), 8.0: (217.0, 1.3)}
"""Mean recovery in ms, failed compensations in percent."""
SERVICES = ("aws", "alibaba", "edge")


class Service:
    """A service that honours tokens, and now and then answers nothing for a while."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.ill_until_s = 0.0
        self.held: set[str] = set()
        self.barred: set[str] = set()

    async def fall_ill_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / 60))
            now = asyncio.get_running_loop().time()
            self.ill_until_s = now + self.rng.uniform(1, 10)

    async def call(self, call: Call) -> None:
        ill = asyncio.get_running_loop().time() < self.ill_until_s
        chance = self.rng.random()
        takes_effect = chance < 0.5 if ill else chance >= 0.001
        if takes_effect and call.token == call.do_token and call.do_token not in self.barred:
            self.held.add(call.do_token)
        elif takes_effect and call.token != call.do_token:
            self.barred.add(call.do_token)
            self.held.discard(call.do_token)
        if ill or chance < 0.002:
            await asyncio.sleep(1e6)
        await asyncio.sleep(self.rng.uniform(0.002, 0.02))


@dataclass
class Figures:
    """What one run found."""

    sagas: int = 0
    ends: dict[Status, int] = field(default_factory=dict)
    recovery_ms: list[float] = field(default_factory=list)
    compensations: int = 0
    failed: int = 0
    lost: int = 0


async def experiment(
    fuse: Fuse, *, seed: int, for_s: float, brown_outs: bool, per_s: float = 20.0
) -> Figures:
    rng = random.Random(seed)
    loop = asyncio.get_running_loop()
    services = {name: Service(random.Random(rng.random())) for name in SERVICES}
    found, turned = Figures(), dict[str, float]()
    held_at_end: dict[str, Status] = {}

    def observe(event: Event) -> None:
        match event:
            case SagaChanged(saga, _, Status.COMPENSATING):
                turned[saga] = loop.time()
            case SagaChanged(saga, _, status) if status.is_end or status is Status.PARKED:
                found.ends[status] = found.ends.get(status, 0) + 1
                held_at_end[saga] = status
                if status is Status.COMPENSATED and saga in turned:
                    found.recovery_ms.append((loop.time() - turned[saga]) * 1e3)
            case CallEnded(undo=True, outcome="done"):
                found.compensations += 1

    def step(number: int) -> Step:
        target = SERVICES[number % len(SERVICES)]

        async def act(call: Call) -> None:
            if number == 4 and call.input == "refused":
                raise StepFailed("refused")
            await services[target].call(call)

        return Step(
            act, services[target].call, name=f"step{number}", target=target,
            retry=Retry(attempts=3), undo_retry=Retry(attempts=8, first_s=0.2, max_s=30),
        )  # fmt: skip

    saga = Saga("fuse", *(step(number) for number in range(5)))
    settings = {name: TargetSettings(fuse=fuse, calls_max=256) for name in SERVICES}
    ill = services.values() if brown_outs else ()
    chores = [loop.create_task(each.fall_ill_now_and_then()) for each in ill]
    engine = SagaEngine(
        MemoryJournal(), [saga], rng=rng, targets=settings, observers=[observe]
    )  # fmt: skip
    async with engine:
        handles = []
        end_s = loop.time() + for_s
        while loop.time() < end_s:
            await asyncio.sleep(rng.expovariate(per_s))
            kind = "refused" if rng.random() < 0.2 else "fine"
            handles.append(await engine.start(saga, kind))
        outcomes = [await handle.outcome() for handle in handles]
        for chore in chores:
            chore.cancel()
        found.sagas = len(outcomes)
        for outcome in outcomes:
            tokens = {t for each in services.values() for t in each.held}
            state = await engine.state(outcome.saga)
            found.failed += sum(
                step.undo_final or (bool(step.undo_error) and outcome.status is Status.PARKED)
                for step in state.steps.values()
            )
            mine = sum(token.startswith(f"{outcome.saga}:") for token in tokens)
            wrong = (outcome.status is Status.COMPLETED and mine != 5) or (
                outcome.status is Status.COMPENSATED and mine != 0
            )
            found.lost += wrong or outcome.saga not in held_at_end
    return found


def measure(bench: Bench, for_s: float = 60.0) -> None:
    """Both fuses under both faults."""
    bench.answer.method = (
        f"{for_s:g} virtual seconds of sagas, seed 1: no machine is measured. Lost calls: 1 in 500 "
        "is never answered; brown-outs: each service answers nothing for 1 to 10 s now and then."
    )
    bench.answer.bias = (
        "The article states no fault model: its figures are quoted, ours are of our own model."
    )
    logging.getLogger("mcpcore.saga").setLevel(logging.CRITICAL)
    for brown_outs, faults in ((False, "lost calls"), (True, "and brown-outs")):
        for fuse in (FUSE_3S, FUSE_8S):
            case = {"faults": faults, "fuse": f"{fuse.timeout_s:g} s"}
            bench.progress.step("sagas", case)
            trial = experiment(fuse, seed=1, for_s=for_s, brown_outs=brown_outs)
            found: Figures = run(trial, seed=1, within_s=1e6)
            share = 100 * found.failed / max(1, found.compensations + found.failed)
            ours = {
                "mean recovery": (statistics.mean(found.recovery_ms), "ms"),
                "median recovery": (statistics.median(found.recovery_ms), "ms"),
                "compensations given up": (share, "%"),
                "sagas": (found.sagas, ""),
                "parked": (found.ends.get(Status.PARKED, 0), ""),
                "lost": (found.lost, ""),
            }
            for name, (value, unit) in ours.items():
                better = "" if name == "sagas" else "less"
                bench.figure("", "mcpcore", case, name, [value], unit=unit, better=better)
            recovery_ms, failed = ARTICLE[fuse.timeout_s]
            theirs = {"mean recovery": (recovery_ms, "ms"), "compensations given up": (failed, "%")}
            for name, (value, unit) in theirs.items():
                bench.figure("", "the article", case, name, [value], unit=unit, better="less")

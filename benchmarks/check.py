"""How fast histories are judged, and whether budgets hold.

The histories are made here, from seeds; the hard one has the shape of Porcupine's c50-bad (fifty
clients that append to ten keys, many at once, with a lost append now and then).
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.harness.bench import Bench, Measure, Measured
from benchmarks.harness.figures import Case
from benchmarks.peers.foreign import serving
from mcpcore.check.budget import Budget
from mcpcore.check.bylog import check_by_log
from mcpcore.check.history import History, LogPosition, Operation, Outcome, Recorder
from mcpcore.check.linear import check_linearizable
from mcpcore.check.models import CasRegister, FifoQueue, KeyValue
from mcpcore.check.txn import check_list_append
from mcpcore.check.verdict import Judgement, Verdict


def stamped(operations: int) -> History:
    """Overlapping operations of twenty clients on a hundred keys, each with its log position."""
    random, state, index, now, ops = Random(1), {}, 0, 0, []
    for at in range(operations):
        now += 10
        key, kind = random.randrange(100), random.random()
        if kind < 0.5:
            function, value, result = "get", None, state.get(key)
        else:
            index += 1
            function = "put" if kind < 0.9 else "cas"
            value = at if kind < 0.9 else (state.get(key), at)
            result, state[key] = value, at
        position = LogPosition("g", 1 + index // 5000, max(index, 1))
        called, returned = now - random.randrange(90), now + random.randrange(90)
        ops.append(
            Operation(
                at, at % 20, function, value, result, Outcome.OK, 0, 0, called, returned, key,
                position,
            )
        )  # fmt: skip
    return History.timed(ops)


def register(operations: int, clients: int, seed: int, lose: float = 0.005) -> History:
    """A correct compare-and-set register, some of whose clients give up."""
    random, recorder, held, fresh = Random(seed), Recorder(), None, clients
    idle, waiting, done, started = list(range(clients)), [], [], 0
    while started < operations or waiting or done:
        roll = random.random()
        if started < operations and idle and roll < 0.4:
            process = idle.pop(random.randrange(len(idle)))
            call = random.choice(
                [("read", None), ("write", random.randrange(5)),
                 ("cas", (random.randrange(5), random.randrange(5)))]
            )  # fmt: skip
            recorder.invoke(process, *call)
            waiting.append((process, *call))
            started += 1
        elif waiting and roll < 0.7:
            process, function, value = waiting.pop(random.randrange(len(waiting)))
            if random.random() < lose:
                fresh += 1
                idle.append(fresh)
                continue
            worked = function != "cas" or held == value[0]
            if worked and function != "read":
                held = value if function == "write" else value[1]
            done.append((process, worked, held if function == "read" else value))
        elif done:
            process, worked, answer = done.pop(random.randrange(len(done)))
            idle.append(process)
            if worked:
                recorder.ok(process, answer)
            else:
                recorder.fail(process)
    return recorder.history()


def appends(clients: int, operations: int, seed: int, bad: float) -> History:
    """Fifty clients and ten keys; a share ``bad`` of the writes is acknowledged and lost."""
    random, recorder, state = Random(seed), Recorder(), {}
    idle, pending, number, started = list(range(clients)), [], [0] * clients, 0
    while started < operations or pending:
        if idle and started < operations and (random.random() < 0.6 or not pending):
            process = idle.pop(random.randrange(len(idle)))
            key, roll = str(random.randrange(10)), random.random()
            function = "get" if roll < 0.45 else "append" if roll < 0.95 else "put"
            value = None if function == "get" else f"x {process} {number[process]} y"
            number[process] += function != "get"
            recorder.invoke(process, function, value, key=key)
            pending.append([process, function, value, key, None])
            started += 1
            continue
        at = random.randrange(len(pending))
        process, function, value, key, answer = pending[at]
        if answer is None:
            if function == "get":
                pending[at][4] = state.get(key, "")
            else:
                pending[at][4] = value
                if random.random() >= bad:
                    state[key] = value if function == "put" else state.get(key, "") + value
        else:
            pending.pop(at)
            idle.append(process)
            recorder.ok(process, answer)
    return recorder.history()


def hopeless(clients: int = 30) -> History:
    """Every order of thirty enqueues has to be tried: no search ends this."""
    recorder = Recorder()
    for process in range(clients):
        recorder.invoke(process, "enqueue", process)
    for process in range(clients):
        recorder.ok(process, process)
    recorder.invoke(0, "dequeue")
    recorder.ok(0, "nothing like it")
    return recorder.history()


def transactions(count: int) -> History:
    """A serial database of fifty lists, four clients at a time."""
    random, recorder, lists, fresh = Random(3), Recorder(), {}, 0
    for at in range(0, count, 4):
        batch = []
        for client in range(min(4, count - at)):
            steps = []
            for _ in range(3):
                key = random.randrange(50) + 50 * (at // 2000)
                fresh += 1
                write = ["append", key, fresh]
                steps.append(write if random.random() < 0.5 else ["r", key, None])
            recorder.invoke(client, "txn", steps)
            batch.append((client, steps))
        for client, steps in batch:
            result = []
            for function, key, value in steps:
                if function == "append":
                    lists[key] = (*lists.get(key, ()), value)
                    result.append([function, key, value])
                else:
                    result.append([function, key, lists.get(key, ())])
            recorder.ok(client, result)
    return recorder.history()


Judge = Callable[[History], Judgement]
Row = tuple[str, Callable[[], History], Judge, Verdict]
JUDGED = {"judged": Measure("ms", "less"), "memory": Measure("MiB", "less")}
WITHIN_S = 300.0
LENGTHS = (1_000, 10_000, 50_000, 100_000)


def rows() -> list[Row]:
    """History, judge, the right verdict."""

    def within(seconds: float) -> Budget:
        return Budget(time_ns=int(seconds * 1e9), monotonic_ns=time.process_time_ns)

    return [
        ("300 operations of a cas register, 10 clients", lambda: register(300, 10, 1),
         lambda h: check_linearizable(h, CasRegister()), Verdict.OK),
        ("5,000 operations of a cas register, 12 clients", lambda: register(5000, 12, 5, 0.002),
         lambda h: check_linearizable(h, CasRegister()), Verdict.OK),
        ("50 clients append to 10 keys, all well", lambda: appends(50, 2200, 2, 0.0),
         lambda h: check_linearizable(h, KeyValue(absent=""), within(20)), Verdict.OK),
        ("50 clients append to 10 keys, a write lost", lambda: appends(50, 2200, 1, 0.01),
         lambda h: check_linearizable(h, KeyValue(absent=""), within(5)), Verdict.VIOLATED),
        ("50 clients append to 10 keys, one write lost late", lambda: appends(50, 2200, 2, 0.002),
         lambda h: check_linearizable(h, KeyValue(absent=""), within(5)), Verdict.VIOLATED),
        ("a hopeless search with a budget of 2 s", hopeless,
         lambda h: check_linearizable(h, FifoQueue(), within(2)), Verdict.UNKNOWN),
        ("20,000 list-append transactions", lambda: transactions(20_000),
         check_list_append, Verdict.OK),
    ]  # fmt: skip


def handle(order: dict[str, Any]) -> dict[str, Any]:
    """Judge one history in this process, whose memory is then the history's own."""
    kind, size = order["kind"], order["size"]
    if kind == "row":
        _, make, judge, verdict = rows()[size]
    elif kind == "stamped":
        make, judge, verdict = partial(stamped, size), by_log, Verdict.OK
    else:
        make, judge, verdict = partial(register, size, 10, 1), by_search, Verdict.OK
    history = _made.get((kind, size))
    if history is None:
        history = _made[kind, size] = make()
    began_s = time.process_time()
    found = judge(history)
    took_s = time.process_time() - began_s
    if found.verdict is not verdict:
        return {"error": f"judged {found.verdict}, not {verdict}"}
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"judged": took_s * 1e3, "memory": peak_mib}


_made: dict[tuple[str, int], History] = {}


def by_log(history: History) -> Judgement:
    return check_by_log(history, KeyValue())


def by_search(history: History) -> Judgement:
    return check_linearizable(history, CasRegister())


def measure(bench: Bench) -> None:
    """Every history, and histories that grow; each in a process of its own."""
    bench.answer.method = (
        "Processor time of judging, not of making the history; memory: the most that a process "
        "which does nothing else ever held. A verdict that is not the right one fails the question."
    )
    bench.answer.bias = "What is slow: proving that a long, highly concurrent history is right."
    for number, (name, _, _, verdict) in enumerate(rows()):
        judged(bench, "", {"history": name}, f"mcpcore, {verdict}", ("row", number))
    for length in LENGTHS:
        case = {"operations": length}
        judged(bench, "growth: log-stamped", case, "mcpcore", ("stamped", length))
    for length in LENGTHS:
        case = {"operations": length // 20}
        judged(bench, "growth: cas register", case, "mcpcore", ("register", length // 20))


def judged(bench: Bench, table: str, case: Case, subject: str, order: tuple[str, int]) -> None:
    """One history, some rounds."""
    kind, size = order
    with ExitStack() as stack:
        name = f"judge-{kind}-{size}"
        program = serving(bench, stack, Path(sys.executable), "benchmarks.check", name)

        def run() -> Measured:
            return Measured(program.ask({"kind": kind, "size": size}, WITHIN_S))

        bench.interleave(table, case, JUDGED, {subject: run}, rounds=min(3, bench.options.rounds))

"""Many seeds, all cores, nothing lost.

This module exists so that a campaign of thousands of seeds is one call: it spreads seeds over
processes (or over an executor of the caller's, such as a Dask cluster's), writes each result to a
SQLite file as it comes, skips what an interrupted campaign already did, and returns what failed.
Workers run under ``PYTHONHASHSEED=0`` and are replaced now and then, since the remains of crashed
hosts are never freed (see :mod:`mcpcore.sim.host`).
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from threading import Lock
from time import perf_counter

from mcpcore.errors import InvalidInput
from mcpcore.sim.replay import VERSION, Outcome, Token, run_once

CHUNK_SEEDS = 20
_CHUNKS_PER_WORKER = 20
_ONE_AT_A_TIME = Lock()

_SCHEMA = """
create table if not exists runs (
  scenario text not null, version integer not null, ordering text not null, seed integer not null,
  digest text not null, events integer not null, virtual_s real not null, real_s real not null,
  error text, token text not null, without_effect text not null,
  primary key (scenario, version, ordering, seed)
)
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One seed's outcome, as it is stored; ``error`` is ``None`` if every promise was kept."""

    seed: int
    digest: str
    events: int
    virtual_s: float
    real_s: float
    error: str | None
    token: str
    without_effect: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What a campaign came to, earlier parts of it included."""

    runs: int
    failed: tuple[Result, ...]
    virtual_s: float
    interrupted: bool


def run_chunk(scenario: str, seeds: list[int], order: str) -> list[Result]:
    """Run some seeds in this process. Top-level, so that it can be sent to another one.

    Worlds of one process take turns, whatever threads an executor brings.
    """
    with _ONE_AT_A_TIME:
        return [_result(scenario, seed, order) for seed in seeds]


def _result(scenario: str, seed: int, order: str) -> Result:
    began = perf_counter()
    outcome, _ = run_once(Token(scenario, seed, order))
    return Result(
        seed,
        outcome.digest,
        outcome.events,
        outcome.virtual_s,
        perf_counter() - began,
        outcome.error,
        outcome.token.encode(),
        "\n".join(outcome.without_effect),
    )


def run_apart(token: Token) -> Outcome:
    """Run what a token names in a fresh process, under ``PYTHONHASHSEED=0`` as campaigns do."""
    with own_processes(1) as executor:
        return executor.submit(_outcome, token).result()


def _outcome(token: Token) -> Outcome:
    return run_once(token)[0]


@contextmanager
def own_processes(jobs: int) -> Iterator[Executor]:
    """Fresh processes under ``PYTHONHASHSEED=0``, replaced now and then; Ctrl-C is the caller's."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "0"
    try:
        with ProcessPoolExecutor(
            jobs,
            mp_context=get_context("spawn"),
            initializer=_ignore_interrupts,
            max_tasks_per_child=_CHUNKS_PER_WORKER,
        ) as executor:
            yield executor
    finally:
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before


def _ignore_interrupts() -> None:
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def sweep(
    scenario: str,
    seeds: Iterable[int],
    *,
    database: Path,
    jobs: int = 1,
    order: str = "fifo",
    executor: Executor | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> Summary:
    """Run every seed that ``database`` does not have yet.

    Ctrl-C ends the campaign after the chunks under way; calling again goes on from there.

    Args:
        scenario: ``module:function`` or ``path/to/file.py:function``.
        jobs: how many processes.
        executor: runs the chunks instead of processes of our own.
        on_result: hears of each new result, for a progress bar.

    Raises:
        InvalidInput: no such scenario, or the database cannot be used.
    """
    with closing(_open(database)) as db:
        rows = db.execute(
            "select seed from runs where scenario=? and version=? and ordering=?",
            (scenario, VERSION, order),
        )
        done = {seed for (seed,) in rows}
        fresh = iter([seed for seed in seeds if seed not in done])

        def keep(results: list[Result]) -> None:
            _store(db, scenario, order, results)
            for result in results:
                if on_result is not None:
                    on_result(result)

        if executor is not None:
            interrupted = _spread(executor, scenario, fresh, order, jobs, keep)
        else:
            with own_processes(jobs) as own:
                interrupted = _spread(own, scenario, fresh, order, jobs, keep)
        stored = load(database, scenario, order=order)
    return Summary(
        len(stored),
        tuple(result for result in stored if result.error is not None),
        sum(result.virtual_s for result in stored),
        interrupted,
    )


def _spread(
    executor: Executor,
    scenario: str,
    seeds: Iterator[int],
    order: str,
    jobs: int,
    keep: Callable[[list[Result]], None],
) -> bool:
    """Keep every worker busy with at most two chunks each; true if interrupted."""
    waiting: set[Future[list[Result]]] = set()
    interrupted = False
    while True:
        try:
            while not interrupted and len(waiting) < 2 * jobs:
                chunk = list(islice(seeds, CHUNK_SEEDS))
                if not chunk:
                    break
                waiting.add(executor.submit(run_chunk, scenario, chunk, order))
            if not waiting:
                return interrupted
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        except KeyboardInterrupt:
            interrupted = True
            waiting = {future for future in waiting if not future.cancel()}
            continue
        for future in finished:
            keep(future.result())


def _open(database: Path) -> sqlite3.Connection:
    db: sqlite3.Connection | None = None
    try:
        db = sqlite3.connect(database)
        db.execute(_SCHEMA)
    except sqlite3.Error as error:
        if db is not None:
            db.close()
        raise InvalidInput(
            f"cannot be used as a results file: {error}",
            where=str(database),
            remedy="Name a new file, or one that a sweep wrote.",
        ) from error
    return db


def _store(db: sqlite3.Connection, scenario: str, order: str, results: list[Result]) -> None:
    with db:
        db.executemany(
            "insert or replace into runs values (?,?,?,?,?,?,?,?,?,?,?)",
            [
                (
                    scenario,
                    VERSION,
                    order,
                    each.seed,
                    each.digest,
                    each.events,
                    each.virtual_s,
                    each.real_s,
                    each.error,
                    each.token,
                    each.without_effect,
                )
                for each in results
            ],
        )


def load(database: Path, scenario: str | None = None, *, order: str | None = None) -> list[Result]:
    """Return the stored results, by seed.

    Args:
        scenario: this one only.
        order: this scheduling order only.

    Raises:
        InvalidInput: not a results file.
    """
    with closing(_open(database)) as db:
        rows = db.execute(
            "select seed, digest, events, virtual_s, real_s, error, token, without_effect from runs"
            " where (:scenario is null or scenario=:scenario)"
            " and (:ordering is null or ordering=:ordering) and version=:version order by seed",
            {"scenario": scenario, "ordering": order, "version": VERSION},
        )
        return [Result(*row) for row in rows]

"""One scenario, many seeds, several settings: what is the worst, and what does it depend on?

This module exists so that a bound is asked of thousands of runs, not of one. Each run is a row in
a SQLite file, written as it comes, so that an interrupted sweep goes on where it was.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from mcpcore.errors import InvalidInput
from mcpcore.experiment.conclusion import conclude
from mcpcore.experiment.scenario_file import load_scenario
from mcpcore.experiment.simulated import run_simulated
from mcpcore.sim.sweep import own_processes

_SCHEMA = """
create table if not exists runs (
  scenario text not null, settings text not null, seed integer not null, verdict text not null,
  converged_s real, bound_s real, silence_s real not null, leaders integer not null,
  acknowledged integer not null, broken text not null, digest text not null,
  primary key (scenario, settings, seed)
)
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One run of a sweep.

    Args:
        settings: what was put in the place of the file's values.
        converged_s: from the last fault; None: not within the run, or there was no fault.
        bound_s: what was demanded; None if nothing was.
        broken: names of the promises that did not hold, separated by semicolons.
        digest: of everything that happened.
    """

    settings: str
    seed: int
    verdict: str
    converged_s: float | None
    bound_s: float | None
    silence_s: float
    leaders: int
    acknowledged: int
    broken: str
    digest: str


def combinations(varied: Mapping[str, Sequence[object]]) -> list[dict[str, object]]:
    """Every combination of the values that settings may have."""
    return [dict(zip(varied, values, strict=True)) for values in product(*varied.values())]


def run_point(path: str, settings: str, seed: int) -> Row:
    """Run one seed with some settings. Top-level, so that it can be sent to another process."""
    scenario = load_scenario(path, json.loads(settings))
    run = run_simulated(scenario, seed)
    conclusion = conclude(run)
    converged = conclusion.converged
    return Row(
        settings,
        seed,
        conclusion.verdict.value,
        None if converged is None else converged.total_s,
        scenario.expect.converged_within_s,
        conclusion.silence_s,
        conclusion.leaders,
        sum(figures.acknowledged for figures in conclusion.figures.values()),
        "; ".join(p.name for p in conclusion.promises if p.verdict.value != "ok"),
        run.digest,
    )


def sweep_scenario(
    path: Path,
    seeds: Iterable[int],
    varied: Mapping[str, Sequence[object]],
    *,
    database: Path,
    jobs: int = 1,
    executor: Executor | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Run every combination and seed that ``database`` does not have yet; return all rows.

    Ctrl-C ends it after the runs under way; calling again goes on from there.

    Args:
        varied: values to try, by their place in the scenario's file.
        executor: does the work instead of ``jobs`` processes of our own.
        on_row: hears of each new row.

    Raises:
        InvalidInput: the scenario, a setting or the database cannot be used.
    """
    settings = [json.dumps(each, sort_keys=True) for each in combinations(varied)]
    for each in settings:
        load_scenario(path, json.loads(each))  # refuse it before any run
    name = path.read_text(encoding="utf-8")
    with closing(_open(database)) as db:
        done = set(db.execute("select settings, seed from runs where scenario=?", (name,)))
        points = iter([(s, n) for n in seeds for s in settings if (s, n) not in done])

        def keep(row: Row) -> None:
            db.execute(
                "insert or replace into runs values (?,?,?,?,?,?,?,?,?,?,?)",
                (
                    name,
                    row.settings,
                    row.seed,
                    row.verdict,
                    row.converged_s,
                    row.bound_s,
                    row.silence_s,
                    row.leaders,
                    row.acknowledged,
                    row.broken,
                    row.digest,
                ),
            )
            db.commit()
            if on_row is not None:
                on_row(row)

        if executor is not None:
            _spread(executor, str(path), points, jobs, keep)
        else:
            with own_processes(jobs) as own:
                _spread(own, str(path), points, jobs, keep)
        rows = db.execute(
            "select settings, seed, verdict, converged_s, bound_s, silence_s, leaders, "
            "acknowledged, broken, digest from runs where scenario=? order by settings, seed",
            (name,),
        )
        return [Row(*row) for row in rows]


def _spread(
    executor: Executor,
    path: str,
    points: Iterator[tuple[str, int]],
    jobs: int,
    keep: Callable[[Row], None],
) -> None:
    waiting: set[Future[Row]] = set()
    interrupted = False
    while True:
        try:
            while not interrupted and len(waiting) < 2 * jobs:
                point = next(points, None)
                if point is None:
                    break
                waiting.add(executor.submit(run_point, path, *point))
            if not waiting:
                return
            finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        except KeyboardInterrupt:
            interrupted = True
            waiting = {future for future in waiting if not future.cancel()}
            continue
        for future in finished:
            keep(future.result())


def _open(database: Path) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(database)
        db.execute(_SCHEMA)
    except sqlite3.Error as error:
        raise InvalidInput(
            f"no results file: {error}", where=str(database), remedy="Name another with --database"
        ) from None
    return db

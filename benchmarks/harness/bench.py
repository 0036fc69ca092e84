"""What a question is handed: how long, against whom, where to write, and where to put its figures.

This module exists so that a question is a plain function that measures, and so that rounds are
interleaved in one place: A B C, B C A, C A B. A busy machine then disturbs all alike, and a ratio
is taken between neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.harness.figures import Answer, Case, Distribution, Figure
from benchmarks.harness.programs import ProgramFailed
from benchmarks.harness.progress import Progress
from benchmarks.harness.spread import middle_quantiles
from benchmarks.peers import supply
from benchmarks.peers.supply import PeerMissing, Supply

OURS = "mcpcore"
"""Subjects whose names begin so are ours: a failure of theirs ends the run."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller asked for.

    Args:
        seconds: of each measurement; a question may use a multiple of it.
        rounds: how often each measurement is repeated, in turn with the others.
        full: the sizes of the question as it is asked, however long that takes.
        peers: whom to measure beside us, where the question knows them.
    """

    seconds: float = 2.0
    rounds: int = 5
    full: bool = False
    peers: frozenset[str] = frozenset(supply.PEERS)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one contestant showed in one round: values by measure, and perhaps a distribution."""

    values: Mapping[str, float]
    quantiles: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Measure:
    """The meaning of a value."""

    unit: str
    better: str


Contestant = Callable[[], Measured]


class Bench:
    """One question's run.

    Args:
        answer: to fill.
        options: what was asked for.
        directory: empty, on a real disk; removed afterwards.
        progress: to show.
        obtain: how to get a peer.
    """

    def __init__(
        self,
        answer: Answer,
        options: Options,
        directory: Path,
        progress: Progress,
        obtain: Callable[[str], Supply] = supply.obtain,
    ) -> None:
        self.answer = answer
        self.options = options
        self.directory = directory
        self.progress = progress
        self._obtain = obtain
        self._failed: set[str] = set()

    def peer(self, name: str) -> Supply | None:
        """A peer, if it is wanted and can be had; otherwise the answer says why not."""
        if name not in self.options.peers:
            self.skip(name, "not asked for")
            return None
        self.progress.say(f"getting {name}")
        try:
            found = self._obtain(name)
        except PeerMissing as missing:
            self.skip(name, str(missing))
            return None
        self.answer.versions[name] = found.version
        return found

    def skip(self, what: str, why: str) -> None:
        """Say in the answer what was not measured."""
        self.answer.skipped[what] = why

    def interleave(
        self,
        table: str,
        case: Case,
        measures: Mapping[str, Measure],
        contestants: Mapping[str, Contestant],
        *,
        rounds: int | None = None,
        unit: str = "ms",
    ) -> None:
        """Measure everybody in turn, and put the figures into the answer.

        Args:
            table: the name of the table they belong to.
            case: what is special about these rounds.
            measures: what the contestants' values mean.
            contestants: what to run, by subject.
            rounds: how often; the options' unless given.
            unit: of the distributions.

        Raises:
            ProgramFailed: one of ours failed; a peer that fails is reported and left out from
                then on.
        """
        left = [name for name in contestants if name not in self._failed]
        found: dict[str, list[Measured]] = {name: [] for name in left}
        for turn in range(rounds or self.options.rounds):
            for name in left[turn % len(left) :] + left[: turn % len(left)]:
                self.progress.step(f"{table} {name}", case)
                try:
                    found[name].append(contestants[name]())
                except ProgramFailed as failure:
                    if name.startswith(OURS):
                        raise
                    self.skip(name, f"{', '.join(map(str, case.values()))}: {failure}")
                    left = [each for each in left if each != name]
                    found.pop(name)
                    self._failed.add(name)
        for name, results in found.items():
            self._keep(table, name, case, measures, results)
            if results and results[0].quantiles:
                middle = middle_quantiles([each.quantiles for each in results])
                self.answer.distributions.append(
                    Distribution(table, name, case, unit, tuple(middle))
                )

    def figure(
        self,
        table: str,
        subject: str,
        case: Case,
        measure: str,
        rounds: Collection[float],
        *,
        unit: str = "",
        better: str = "",
    ) -> None:
        """Put one figure into the answer, measured by the question itself."""
        self.answer.figures.append(
            Figure(table, subject, dict(case), measure, unit, better, tuple(map(float, rounds)))
        )

    def _keep(
        self,
        table: str,
        subject: str,
        case: Case,
        measures: Mapping[str, Measure],
        results: list[Measured],
    ) -> None:
        for measure, meaning in measures.items():
            rounds = [each.values[measure] for each in results if measure in each.values]
            if rounds:
                self.figure(
                    table, subject, case, measure, rounds, unit=meaning.unit, better=meaning.better
                )


THROUGHPUT: dict[str, Measure] = {
    "rate": Measure("per s", "more"),
    "p50": Measure("ms", "less"),
    "p99": Measure("ms", "less"),
}


def throughput(told: Mapping[str, Any]) -> Measured:
    """From what a load program answers: see ``benchmarks.loads.latencies``."""
    grid = [(float(q), float(ms)) for q, ms in told["quantiles_ms"]]
    by_quantile = dict(grid)
    rate = told["operations"] / told["seconds"]
    return Measured({"rate": rate, "p50": by_quantile[0.5], "p99": by_quantile[0.99]}, grid)

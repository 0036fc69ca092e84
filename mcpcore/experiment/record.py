"""A run as files: written once, read again by whoever reports, compares or judges anew.

This module exists so that a run can be sent to somebody who has nothing but the folder. The files
are described in docs/experiments.md: ``scenario.toml``, ``run.json``, ``results.json`` and one
``history-KIND.jsonl`` for each workload, which `mcpctl check` reads as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from mcpcore.check import as_data, read_history, write_jsonl
from mcpcore.check.report import plain
from mcpcore.errors import InvalidInput
from mcpcore.experiment.conclusion import Conclusion
from mcpcore.experiment.messages import MessageSample, MessageWindow, to_shiviz
from mcpcore.experiment.run import FaultRecord, NodeSample, ReplicaEnd, Run, StepRecord
from mcpcore.experiment.scenario_file import load_scenario
from mcpcore.sim.schedule import Schedule

FORMAT: Final = 1
"""Of ``run.json``."""

SCENARIO: Final = "scenario.toml"
RUN: Final = "run.json"
RESULTS: Final = "results.json"
SHIVIZ: Final = "messages.shiviz.log"


def save_run(run: Run, conclusion: Conclusion, source: str, directory: Path) -> None:
    """Write a run's files.

    Args:
        source: the scenario's file, as text.
        directory: made if absent; files of an earlier run in it are replaced.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / SCENARIO).write_text(source, encoding="utf-8")
    for kind, history in run.histories.items():
        (directory / f"history-{kind}.jsonl").write_text(write_jsonl(history), encoding="utf-8")
    (directory / SHIVIZ).write_text(to_shiviz(run.messages), encoding="utf-8")
    _write(directory / RUN, _run_data(run))
    _write(directory / RESULTS, results(run, conclusion))


def results(run: Run, conclusion: Conclusion) -> dict[str, Any]:
    """What a run proves, as plain data: for programs, and for comparing."""
    converged = conclusion.converged
    return {
        "scenario": run.scenario.name,
        "world": run.world,
        "seed": run.seed,
        "verdict": conclusion.verdict.value,
        "promises": [asdict(promise) for promise in conclusion.promises],
        "figures": {kind: asdict(figures) for kind, figures in conclusion.figures.items()},
        "converged": None if converged is None else {**asdict(converged), "s": converged.total_s},
        "silence_s": conclusion.silence_s,
        "leaders": conclusion.leaders,
        "judgements": {kind: as_data(found) for kind, found in conclusion.judgements.items()},
        "impossible": list(run.impossible),
        "environment": dict(run.environment),
        "digest": run.digest,
    }


def load_run(directory: Path) -> Run:
    """Read what ``save_run`` wrote.

    Raises:
        InvalidInput: it is no run's folder, or its files were changed.
    """
    path = directory / RUN
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(
            f"cannot be read: {error.strerror}",
            where=str(path),
            remedy="Name the folder that `mcpctl experiment run` wrote",
        ) from None
    except ValueError as error:
        raise InvalidInput(f"is no JSON: {error}", where=str(path)) from None
    try:
        return _run(data, directory)
    except (KeyError, TypeError, IndexError) as error:
        raise InvalidInput(f"misses something: {error!r}", where=str(path)) from None


def _run_data(run: Run) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "world": run.world,
        "seed": run.seed,
        "lanes": run.lanes,
        "faults": [
            {
                "fault": Schedule((record.fault,)).to_tables()[0],
                "began_s": record.began_s,
                "ended_s": record.ended_s,
                "effects": record.effects,
                "proof": record.proof,
            }
            for record in run.faults
        ],
        "samples": run.samples,
        "replicas": run.replicas,
        "healed_s": run.healed_s,
        "clients_ended_s": run.clients_ended_s,
        "failure": run.failure,
        "steps": run.steps,
        "members": run.members,
        "messages": run.messages,
        "windows": run.windows,
        "impossible": run.impossible,
        "digest": run.digest,
        "environment": run.environment,
    }


def _run(data: Mapping[str, Any], directory: Path) -> Run:
    if data["format"] != FORMAT:
        raise InvalidInput(
            f"has format {data['format']!r}, and this version reads {FORMAT}",
            where=str(directory / RUN),
        )
    histories = {}
    for kind in data["lanes"]:
        path = directory / f"history-{kind}.jsonl"
        try:
            histories[kind] = read_history(path.read_text(encoding="utf-8"), "jsonl")
        except OSError as error:
            raise InvalidInput(f"cannot be read: {error.strerror}", where=str(path)) from None
    faults = (
        FaultRecord(
            Schedule.from_tables([row["fault"]], where=str(directory / RUN)).faults[0],
            row["began_s"],
            row["ended_s"],
            row["effects"],
            row["proof"],
        )
        for row in data["faults"]
    )
    return Run(
        scenario=load_scenario(directory / SCENARIO),
        world=data["world"],
        seed=data["seed"],
        histories=histories,
        lanes=data["lanes"],
        faults=tuple(faults),
        samples=tuple(NodeSample(*row) for row in data["samples"]),
        replicas=tuple(ReplicaEnd(*row) for row in data["replicas"]),
        healed_s=data["healed_s"],
        clients_ended_s=data["clients_ended_s"],
        failure=data["failure"],
        steps=tuple(StepRecord(*row) for row in data.get("steps", ())),
        members=tuple(data.get("members", ())),
        messages=tuple(MessageSample(*row) for row in data.get("messages", ())),
        windows=tuple(MessageWindow(*row) for row in data.get("windows", ())),
        impossible=tuple(data["impossible"]),
        digest=data["digest"],
        environment=data["environment"],
    )


def _write(path: Path, data: Mapping[str, Any]) -> None:
    text = json.dumps(plain(data), ensure_ascii=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8")

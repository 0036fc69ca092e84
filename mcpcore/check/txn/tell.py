"""Cycles in sentences: who comes before whom, and why that cannot be.

This module exists so that an anomaly can be checked by hand against the history. It must never
find anything.
"""

from __future__ import annotations

from mcpcore.check.history import show
from mcpcore.check.txn.cycles import Cycle
from mcpcore.check.txn.graph import Dep, Step
from mcpcore.check.txn.inference import Inference
from mcpcore.check.verdict import Finding


def tell_cycle(cycle: Cycle, inference: Inference) -> Finding:
    """A cycle as a finding."""
    members = [step.a for step in cycle.steps]
    names = {id_: f"T{at}" for at, id_ in enumerate(members, start=1)}
    lines = []
    for id_, name in names.items():
        txn = inference.by_id[id_]
        lines.append(f"{name} is operation {id_} of process {txn.operation.process}: {txn.told()}")
    for at, step in enumerate(cycle.steps):
        last = at == len(cycle.steps) - 1
        lead = "But " if last else ""
        ending = ": a contradiction" if last else ""
        because = _because(step, names, appends="append" in inference.functions)
        lines.append(
            f"{lead}{names[step.a]} comes before {names[step.b]}, because {because}{ending}."
        )
    return Finding(
        cycle.kind,
        "\n".join(lines),
        tuple(dict.fromkeys(members)),
        {
            "steps": [
                {
                    "from": step.a,
                    "to": step.b,
                    "dependency": step.dep.name.lower() if step.dep.name else "",
                    "key": step.reason.key,
                    "value": step.reason.value,
                    "later": step.reason.later,
                }
                for step in cycle.steps
            ]
        },
    )


def _because(step: Step, names: dict[int, str], *, appends: bool) -> str:
    a, b = names[step.a], names[step.b]
    key, value, later = show(step.reason.key), step.reason.value, show(step.reason.later)
    put = "appended" if appends else "wrote"
    match step.dep:
        case Dep.WW:
            return f"{b} {put} {later} to {key} after {a} {put} {show(value)}"
        case Dep.WR:
            return f"{b} read {show(value)} in {key}, which {a} {put}"
        case Dep.RW if value is None:
            return f"{a} read {key} when nothing was in it, and {b} {put} {later} to it"
        case Dep.RW:
            return (
                f"{a} read {key} when {show(value)} was the latest in it, and {b} {put} {later} "
                "after that"
            )
        case Dep.PROCESS:
            return f"process {step.reason.key} ran {a} before {b}"
    return f"{a} had returned when {b} was called"

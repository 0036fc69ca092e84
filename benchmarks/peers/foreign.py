"""A peer's Python library, asked within its own virtual environment.

This module exists so that a question needs one line for each peer: see ``benchmarks.foreign``.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from benchmarks.harness.bench import Bench
from benchmarks.harness.programs import Program, ProgramFailed


def foreign(bench: Bench, stack: ExitStack, peer: str, module: str) -> Program | None:
    """A program that serves ``benchmarks.foreign.MODULE``, or None; the answer says why."""
    supply = bench.peer(peer)
    if supply is None:
        return None
    try:
        where = f"benchmarks.foreign.{module}"
        return serving(bench, stack, supply.program, where, peer)
    except ProgramFailed as failure:
        bench.skip(peer, str(failure))
        return None


def serving(bench: Bench, stack: ExitStack, python: Path, module: str, name: str) -> Program:
    """The same with any interpreter.

    Raises:
        ProgramFailed: it cannot import what it needs.
    """
    command = [python, "-m", "benchmarks.loads.foreign", module]
    program = stack.enter_context(Program(name, command, bench.directory / f"{name}.log"))
    program.hear()
    return program

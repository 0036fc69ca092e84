"""`mcpctl check`: judge a history in a file, say why, and answer the shell.

This module exists to do what judges may not: open files, read a clock, print. Its verdict is its
exit status: 0 ok, 1 violated, 2 unknown; 3 says that the file or the options cannot be used.
"""

from __future__ import annotations

import json
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from mcpcore.check.budget import MEBIBYTE, Budget
from mcpcore.check.formats import FORMATS, detect, read_history
from mcpcore.check.history import History
from mcpcore.check.judges import JUDGES, Options, judge, model_named
from mcpcore.check.model import Model
from mcpcore.check.models import MODELS
from mcpcore.check.page import render_page
from mcpcore.check.report import as_data, as_text
from mcpcore.check.txn.levels import LEVELS
from mcpcore.check.verdict import Judgement, Verdict
from mcpcore.errors import CoordinationError, InvalidInput

UNUSABLE = 3
"""The exit status when there is nothing to judge."""


class Semantics(StrEnum):
    """Whose reading of a nil read and of a failed compare-and-set."""

    AUTO = "auto"
    PORCUPINE = "porcupine"
    KNOSSOS = "knossos"


_COLOURS = {Verdict.OK: "green", Verdict.VIOLATED: "red", Verdict.UNKNOWN: "yellow"}

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="the history; - for standard input")],
    model: Annotated[
        str, typer.Option("--model", "-m", help=f"judge it as one of: {', '.join(JUDGES)}")
    ],
    notation: Annotated[
        str, typer.Option("--format", help=f"the file's notation: {', '.join(FORMATS)}")
    ] = "auto",
    semantics: Annotated[
        Semantics,
        typer.Option(
            help="porcupine: a nil read is absent, a failed cas is evidence; knossos: neither says "
            "anything; auto: knossos for EDN without keys, porcupine elsewhere"
        ),
    ] = Semantics.AUTO,
    keyed: Annotated[
        bool, typer.Option("--keyed", help="every value is [key value], as Jepsen writes them")
    ] = False,
    level: Annotated[
        str, typer.Option(help=f"the isolation promised, for transactions: {', '.join(LEVELS)}")
    ] = "strict-serializable",
    time_s: Annotated[float, typer.Option("--time", help="time budget in seconds")] = 60.0,
    memory_mb: Annotated[int, typer.Option("--memory", help="memory budget in MiB")] = 320,
    html: Annotated[Path | None, typer.Option(help="write the page here")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the judgement as JSON")] = False,
    within_ms: Annotated[
        float | None, typer.Option("--within", help="bound on convergence, in milliseconds")
    ] = None,
) -> None:
    """Judge a history: exit 0 if it is ok, 1 if it is violated, 2 if that stays unknown."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        told = detect(text) if notation == "auto" else notation
        history = read_history(text, told, keyed=keyed)
        if not len(history):  # "ok" about nothing would be believed
            raise InvalidInput(
                f"holds no operation in the notation {told}",
                where=str(file),
                remedy=f"Name another file, or another of --format {', '.join(FORMATS)}",
            )
        options = _options(semantics, told, history, level, within_ms)
        budget = Budget(
            time_ns=max(int(time_s * 1e9), 1),
            monotonic_ns=time.monotonic_ns,
            memory_bytes=memory_mb * MEBIBYTE,
        )
        judgement = judge(history, model, options, budget)
        words = model_named(model, options) if model in MODELS else None
        if html is not None:
            page = render_page(history, judgement, words, title=file.name)
            html.write_text(page, encoding="utf-8")
    except (CoordinationError, OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        errors.print(Text(f"{file}: {reason}", style="red"))
        raise typer.Exit(UNUSABLE) from error
    _show(judgement, history, words, options, as_json=as_json)
    if html is not None and not as_json:
        Console(highlight=False).print(Text(f"page: {html}", style="dim"))
    raise typer.Exit(judgement.verdict.exit_status)


def _options(
    semantics: Semantics,
    told: str,
    history: History,
    level: str,
    within_ms: float | None,
) -> Options:
    """Settle what the tools read differently; what was settled is printed with the verdict."""
    has_keys = any(op.key is not None for op in history)
    if semantics is Semantics.AUTO:
        plain_edn = told == "edn" and not has_keys
        semantics = Semantics.KNOSSOS if plain_edn else Semantics.PORCUPINE
    knossos = semantics is Semantics.KNOSSOS
    return Options(
        level=level,
        nil_reads="unknown" if knossos else "absent",
        failed_cas="ignored" if knossos else "evidence",
        absent="" if told == "edn" and has_keys and _reads_empty(history) else None,
        within_ns=None if within_ms is None else int(within_ms * 1e6),
    )


def _reads_empty(history: History) -> bool:
    """Whether the store answers "" for what is absent, as Porcupine's key-value logs do."""
    return any(op.function == "get" and op.result == "" for op in history)


def _show(
    judgement: Judgement,
    history: History,
    words: Model | None,
    options: Options,
    *,
    as_json: bool,
) -> None:
    if as_json:
        told = {**as_data(judgement), "options": _told(options)}
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False, soft_wrap=True)
    first, _, rest = as_text(judgement, history, words).partition("\n")
    head, _, summary = first.partition("  ")
    line = Text()
    line.append(head, style=f"bold {_COLOURS[judgement.verdict]}")
    line.append(f"  {summary}")
    console.print(line)
    console.print(Text(rest.rstrip("\n")))
    if words is not None:
        reads = f"nil read: {options.nil_reads}, failed cas: {options.failed_cas}"
        console.print(Text(reads, style="dim"))


def _told(options: Options) -> dict[str, str | int | None]:
    return {
        "level": options.level,
        "nil_reads": options.nil_reads,
        "failed_cas": options.failed_cas,
        "absent": options.absent,
        "within_ns": options.within_ns,
    }

"""What the demo found, as tables.

This module exists so that the end of the demo can be read apart from its screen, and in a log. It
shows a result and decides nothing.
"""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mcpcore.check import Verdict as Judged
from mcpcore.experiment import verdict as promises
from mcpcore.experiment.conclusion import Conclusion
from mcpcore.experiment.three_clouds import Result

_PROMISES = (
    ("writes lost", promises.LOST),
    ("writes changed", promises.CHANGED),
    ("writes duplicated", promises.DUPLICATED),
    ("writes out of order", promises.REORDERED),
    ("refused or invented writes found", promises.INVENTED),
    ("counters that miscount", promises.COUNTERS),
    ("stale reads", promises.STALE),
    ("differences between replicas", promises.IDENTICAL),
)

_LINEARIZABLE = {
    Judged.OK: Text("yes", "green"),
    Judged.VIOLATED: Text("no", "bold red"),
    Judged.UNKNOWN: Text("not judged in time", "yellow"),
}


def show(result: Result, conclusion: Conclusion, console: Console) -> None:
    """Print what came out.

    Args:
        conclusion: what the judges of other experiments say of the same run.
    """
    console.print(Padding(Group(*_parts(result, conclusion)), (1, 0, 0, 2)), highlight=False)


def holds(result: Result, conclusion: Conclusion) -> bool:
    """Whether both the demo's own verdict and the judges found every promise kept.

    Judges that ran out of time contradict nobody.
    """
    return result.holds and conclusion.verdict is not Judged.VIOLATED


def _parts(result: Result, conclusion: Conclusion) -> list[RenderableType]:
    parts: list[RenderableType] = [
        Text("What clients were told, against what three replicas hold", "bold"),
        _promises(result, conclusion),
        Text(),
        Text("What losing the leader cost: the longest time without an acknowledged write", "bold"),
        _faults(result),
        Text(),
        Text("What leaders accepted and nobody confirmed: in quarantine on their disks", "bold"),
        _quarantine(result),
        Text(),
        Text("Replicas", "bold"),
        _replicas(result),
        Text(),
    ]
    for rule in result.verdict.rules:
        parts += [Text(f"{rule.name}: {example}", "red") for example in rule.examples]
    parts += [
        Text(f"{fault.text}: this fault had no effect that we could see", "red")
        for fault in result.faults
        if not fault.proof
    ]
    parts += [
        Text(f"{promise.name}: {promise.found}", "red")
        for promise in conclusion.promises
        if promise.verdict is Judged.VIOLATED
    ]
    if holds(result, conclusion):
        last = Text("Every promise was kept.", "bold green")
    else:
        last = Text("A promise was broken, or the demo proved nothing: see above.", "bold red")
    last.append(f"  ({result.took_s:.0f} s in all)", "not bold dim")
    return [*parts, last]


def _promises(result: Result, conclusion: Conclusion) -> Table:
    verdict = result.verdict
    table = _table()
    table.add_column(justify="left", min_width=34)
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("writes acknowledged", f"{verdict.writes_acknowledged:,}", _others(result))
    table.add_row("linearizable reads", f"{verdict.reads:,}", "")
    for words, rule in _PROMISES:
        broken = verdict.broken(rule)
        count = Text(f"{broken:,}", "bold red" if broken else "green")
        table.add_row(words, count, "")
    for judgement in conclusion.judgements.values():
        table.add_row("all of it linearizable", _LINEARIZABLE[judgement.verdict], "")
    return table


def _others(result: Result) -> str:
    verdict = result.verdict
    if not verdict.writes_unknown and not verdict.writes_failed:
        return "and no write without a clear answer"
    return f"and {verdict.writes_unknown} with unknown outcome, {verdict.writes_failed} refused"


def _faults(result: Result) -> Table:
    table = _table()
    for heading in ("", "all clients", "clients there", "proof of the fault"):
        justify = "right" if "clients" in heading else "left"
        table.add_column(Text(heading, "dim"), justify=justify)  # type: ignore[arg-type]
    table.add_row("nothing broken yet", f"{result.quiet_silence_s:.2f} s", "", "")
    for fault in result.faults:
        table.add_row(
            fault.text,
            f"{fault.silence_s:.2f} s",
            f"{fault.site_silence_s:.2f} s",
            fault.proof or Text("no!", "bold red"),
        )
    return table


def _quarantine(result: Result) -> RenderableType:
    if not result.left_behind:
        return Text("nothing: no log had to give anything up", "dim")
    table = _table()
    for heading in ("node", "log index", "", "what would come of proposing them again"):
        table.add_column(Text(heading, "dim"), justify="left" if heading else "right")
    for left in result.left_behind:
        where = [left.node, f"{left.first_index:,}-{left.last_index:,}" if left.entries else ""]
        for what, count in left.prospects:
            table.add_row(*where, str(count), what)
            where = ["", ""]
        if left.problem:
            table.add_row(*where, "", Text(left.problem, "bold red"))
    hint = "A person decides: mcpctl quarantine list, show, export, repropose, discard"
    return Group(table, Text(hint, "dim"))


def _replicas(result: Result) -> Table:
    table = _table()
    for heading in ("node", "term", "applied", "records", "digest of the state"):
        justify = "right" if heading in ("term", "applied", "records") else "left"
        table.add_column(Text(heading, "dim"), justify=justify)  # type: ignore[arg-type]
    for replica in result.replicas:
        table.add_row(
            replica.node,
            str(replica.term),
            f"{replica.applied:,}",
            f"{len(replica.records):,}",
            replica.digest,
        )
    return table


def _table() -> Table:
    return Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))

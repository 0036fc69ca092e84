"""Our own histories, one JSON event a line; and the choice between all notations.

This module exists so that a program that records operations only has to append a line per event,
and so that a reader need not be told what it reads. It must never open a file: text in, text out.

    {"process": 0, "type": "invoke", "f": "write", "value": 3, "key": "a", "time_ns": 12}
    {"process": 0, "type": "ok", "value": 3, "time_ns": 40, "position": ["g", 1, 5]}
    {"type": "fault", "f": "partition", "value": "a | b", "started_ns": 20, "ended_ns": 90}

``type`` is invoke, ok, fail, unknown or fault. What JSON has no notation for is written
``{"$set": [...]}``, ``{"$map": [[key, value], ...]}`` and ``{"$bytes": "hex"}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from mcpcore.check.edn import Malformed
from mcpcore.check.events import events
from mcpcore.check.history import BEFORE_THE_LOG, History, LogPosition, Outcome, Recorder
from mcpcore.check.jepsen import read_jepsen, read_log
from mcpcore.errors import InvalidInput

Format = Literal["auto", "jsonl", "edn", "log"]
FORMATS: tuple[Format, ...] = ("auto", "jsonl", "edn", "log")

_OUTCOMES = {
    "ok": Outcome.OK, "fail": Outcome.FAIL, "unknown": Outcome.UNKNOWN, "info": Outcome.UNKNOWN,
}  # fmt: skip


def detect(text: str) -> Format:
    """Which notation ``text`` is in: ``jsonl``, ``edn`` or ``log``."""
    for line in text.splitlines():
        start = line.strip()
        if not start:
            continue
        if start.startswith("{"):
            return "jsonl" if start[1:].lstrip().startswith('"') else "edn"
        return "edn" if start[0] in "[(#;" else "log"
    return "jsonl"


def read_history(text: str, notation: str = "auto", *, keyed: bool = False) -> History:
    """Read a history in any notation.

    Args:
        notation: ``jsonl`` (ours), ``edn`` (Jepsen, Knossos, Elle, Porcupine's key-value logs),
            ``log`` (Jepsen's log lines), or ``auto`` to look.
        keyed: in ``edn`` and ``log``, every value is ``[key value]``.

    Raises:
        Malformed: says line, column and what was expected.
        InvalidInput: the notation is unknown, or a process does two things at once.
    """
    if notation == "auto":
        notation = detect(text)
    if notation == "jsonl":
        return read_jsonl(text)
    if notation == "edn":
        return read_jepsen(text, keyed=keyed)
    if notation == "log":
        return read_log(text, keyed=keyed)
    raise InvalidInput(
        f"no such notation: {notation}", where="notation", remedy=f"One of {', '.join(FORMATS)}."
    )


def write_jsonl(history: History) -> str:
    """The history as JSON lines; `read_jsonl` gives an equal one back."""
    lines = []
    for event in events(history):
        op = event.operation
        row: dict[str, Any] = {"process": op.process}
        row["type"] = "invoke" if event.outcome is None else event.outcome.value
        row["f"] = op.function
        row["value"] = _to_json(op.result if event.outcome is Outcome.OK else op.value)
        if event.outcome is Outcome.OK and op.called == BEFORE_THE_LOG:
            row["asked"] = _to_json(op.value)
        if op.key is not None:
            row["key"] = _to_json(op.key)
        row["time_ns"] = event.time_ns
        if event.outcome is not None:
            if op.position is not None:
                row["position"] = list(op.position)
            if op.error is not None:
                row["error"] = _to_json(op.error)
        lines.append(json.dumps(row, ensure_ascii=False))
    for fault in history.faults:
        told = {"type": "fault", "f": fault.name, "value": fault.text}
        times = {"started_ns": fault.started_ns, "ended_ns": fault.ended_ns}
        lines.append(json.dumps({**told, **times}, ensure_ascii=False))
    return "".join(line + "\n" for line in lines)


def read_jsonl(text: str) -> History:
    """Read JSON lines.

    Raises:
        Malformed: says line, column and what was expected.
        InvalidInput: a process calls while its last call is open.
    """
    recorder = Recorder()
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            column = getattr(error, "colno", 1)
            raise Malformed(number, column, f"no JSON ({error})", "one JSON object") from error
        if not isinstance(row, dict):
            raise Malformed(number, 1, f"{type(row).__name__}", "one JSON object")
        _add(recorder, _Line(row, line, number))
    return recorder.history()


class _Line:
    """One JSON object and where its fields stand."""

    def __init__(self, row: Mapping[str, Any], text: str, number: int) -> None:
        self.row = row
        self.text = text
        self.number = number

    def refuse(self, field: str, expected: str) -> Malformed:
        column = max(self.text.find(f'"{field}"'), 0) + 1
        found = json.dumps(self.row[field]) if field in self.row else f"no {field}"
        return Malformed(self.number, column, found, f'"{field}" to be {expected}')

    def whole(self, field: str, default: int | None = None) -> int:
        value = self.row.get(field, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.refuse(field, "a whole number")
        return value

    def value(self, field: str) -> Any:
        try:
            return _from_json(self.row.get(field))
        except (TypeError, ValueError) as error:
            raise self.refuse(
                field, "a value ($set, $map and $bytes of the right shape)"
            ) from error


def _add(recorder: Recorder, line: _Line) -> None:
    row = line.row
    kind, function = row.get("type"), row.get("f")
    if kind == "fault":
        if not isinstance(function, str):
            raise line.refuse("f", "the fault's name")
        ended = None if row.get("ended_ns") is None else line.whole("ended_ns")
        text = str(row.get("value") or "")
        recorder.fault(function, started_ns=line.whole("started_ns"), ended_ns=ended, text=text)
        return
    process = row.get("process")
    if not isinstance(process, (int, str)) or isinstance(process, bool):
        raise line.refuse("process", "a number or a name")
    if kind == "invoke":
        if not isinstance(function, str):
            raise line.refuse("f", "the function's name")
        recorder.invoke(
            process,
            function,
            line.value("value"),
            key=line.value("key"),
            time_ns=line.whole("time_ns", 0),
            line=line.number,
        )
        return
    if kind not in _OUTCOMES:
        raise line.refuse("type", "invoke, ok, fail, unknown or fault")
    if function is not None and not isinstance(function, str):
        raise line.refuse("f", "the function's name")
    recorder.complete(
        process,
        _OUTCOMES[kind],
        line.value("value"),
        function=function,
        value=line.value("asked" if "asked" in row else "value"),
        key=line.value("key"),
        time_ns=line.whole("time_ns", 0),
        position=_position(line),
        error=line.value("error"),
        line=line.number,
    )


def _position(line: _Line) -> LogPosition | None:
    told = line.row.get("position")
    if told is None:
        return None
    shape = isinstance(told, list) and [type(part) for part in told] == [str, int, int]
    if not shape:
        raise line.refuse("position", "[group, term, index]")
    return LogPosition(*told)


def _to_json(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_to_json(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return {"$set": sorted((_to_json(item) for item in value), key=json.dumps)}
    if isinstance(value, Mapping):
        if all(isinstance(k, str) and not k.startswith("$") for k in value):
            return {str(k): _to_json(v) for k, v in value.items()}
        return {"$map": [[_to_json(k), _to_json(v)] for k, v in value.items()]}
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": bytes(value).hex()}
    if isinstance(value, str):
        return str(value)
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_json(item) for item in value)
    if isinstance(value, dict):
        if "$set" in value:
            return frozenset(_from_json(item) for item in value["$set"])
        if "$map" in value:
            return {_from_json(k): _from_json(v) for k, v in value["$map"]}
        if "$bytes" in value:
            return bytes.fromhex(value["$bytes"])
        return {k: _from_json(v) for k, v in value.items()}
    return value

"""Histories as Jepsen, Knossos, Elle and Porcupine keep them: read and written.

This module exists so that the published histories of the field can be judged here, and ours there.
It must never settle what a tool leaves open: whether a nil read means "absent" or "unknown", and
whether a failed comparison proves anything, is for the model to say.

Three notations, one shape (process, type, function, value):

- EDN operations: ``{:process 0, :type :invoke, :f :read, :value nil}``, in one vector or one a
  line; Porcupine's key-value logs are the same with a ``:key``;
- log lines: ``INFO  jepsen.util - 0 :invoke :write 3``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mcpcore.check.edn import Form, Keyword, Malformed, read_edn, write_edn
from mcpcore.check.events import events
from mcpcore.check.history import History, Outcome, Recorder

_OUTCOMES = {
    "ok": Outcome.OK, "fail": Outcome.FAIL, "info": Outcome.UNKNOWN, "unknown": Outcome.UNKNOWN,
}  # fmt: skip
_TYPES = {Outcome.OK: "ok", Outcome.FAIL: "fail", Outcome.UNKNOWN: "info"}
_ENDINGS = re.compile(r"(stop|heal|resume|end|restart|recover|repair|fast|reset)\b")


def read_jepsen(text: str, *, keyed: bool = False) -> History:
    """Read EDN operations: Jepsen, Knossos, Elle histories and Porcupine's key-value logs.

    A return without a call is taken as called before the log begins. A call without a return has
    an unknown outcome. Operations of named processes (``:nemesis``) become fault windows.

    Args:
        keyed: every value is ``[key value]``, as Jepsen's independent keys are written.

    Raises:
        Malformed: not EDN, or not operations; says line, column and what was expected.
        InvalidInput: a process calls while its last call is open.
    """
    reading = _Reading(keyed)
    for form in read_edn(text):
        if isinstance(form.value, tuple):
            for value in form.value:
                reading.add(Form(value, form.line, form.column))
        else:
            reading.add(form)
    return reading.finish()


_LOG_LINE = re.compile(
    r"(?P<process>\d+|:[\w-]+)\s+:(?P<type>invoke|ok|fail|info)\s+:(?P<f>[^\s]+)(?:\s+(?P<rest>.*))?\Z"
)
_LOOKS_LIKE_ONE = re.compile(r"jepsen\.util\s.*\s:(invoke|ok|fail|info)\b")


def read_log(text: str, *, keyed: bool = False) -> History:
    """Read the operations that Jepsen logs, one a line; other lines are passed over.

    A keyword in the place of a value, as in ``:info :write :timed-out``, is an error.

    Raises:
        Malformed: a line of ``jepsen.util`` has a type but is no operation.
        InvalidInput: a process calls while its last call is open.
    """
    reading = _Reading(keyed)
    for number, line in enumerate(text.split("\n"), start=1):
        match = _LOG_LINE.search(line.rstrip())
        if match is None:
            looks = _LOOKS_LIKE_ONE.search(line)
            if looks:
                raise Malformed(
                    number,
                    looks.start() + 1,
                    f"'{line.strip()[:60]}'",
                    "process :type :function value, with tabs or spaces between",
                )
            continue
        if match["rest"] is None:
            raise Malformed(number, len(line) + 1, "the end of the line", "a value")
        forms = [form.value for form in read_edn(match["rest"], first_line=number)]
        if not forms:
            raise Malformed(number, match.start("rest") + 1, "no value", "a value")
        process = match["process"]
        told: dict[str, Any] = {
            "process": Keyword(process[1:]) if process[0] == ":" else int(process),
            "type": match["type"],
            "f": match["f"],
            "value": forms[0],
        }
        if len(forms) > 1:
            told["error"] = forms[1]
        elif isinstance(forms[0], Keyword) and match["type"] in ("fail", "info"):
            told["value"], told["error"] = None, forms[0]
        reading.add(Form(told, number, match.start() + 1))
    return reading.finish()


class _Reading:
    """Operations as they come."""

    def __init__(self, keyed: bool) -> None:
        self._keyed = keyed
        self._recorder = Recorder()
        self._faults: list[tuple[str, int, str]] = []
        self._place = 0

    def add(self, form: Form) -> None:
        """Take one operation."""
        op = form.value
        if not isinstance(op, Mapping):
            raise Malformed(form.line, form.column, f"{write_edn(op)[:40]}", "an operation, {...}")
        self._place += 1
        process, kind, function = op.get("process"), op.get("type"), op.get("f")
        time_ns = op.get("time", self._place * 1000)
        if not isinstance(time_ns, int):
            time_ns = int(time_ns) if isinstance(time_ns, float) else self._place * 1000
        if isinstance(process, str):
            if kind != "invoke":
                self._fault(str(function), time_ns, op.get("value"))
            return
        if not isinstance(process, int) or isinstance(process, bool):
            if process is None and kind in _OUTCOMES:
                process = -self._place  # Elle's examples leave it out: a client of its own
            else:
                raise self._lacks(form, ":process", "a number or :nemesis", process)
        if kind != "invoke" and kind not in _OUTCOMES:
            raise self._lacks(form, ":type", ":invoke, :ok, :fail or :info", kind)
        if function is None:
            if not isinstance(op.get("value"), tuple):
                raise self._lacks(form, ":f", "a function such as :read", function)
            function = "txn"
        value, key = op.get("value"), op.get("key")
        if self._keyed and value is not None:
            if not isinstance(value, tuple) or len(value) != 2:
                raise self._lacks(form, ":value", "[key value]", value)
            key, value = value
        if kind == "invoke":
            self._recorder.invoke(
                process, str(function), value, key=key, time_ns=time_ns, line=form.line
            )
            return
        self._recorder.complete(
            process,
            _OUTCOMES[kind],
            value,
            function=str(function),
            value=value,
            key=key,
            error=op.get("error"),
            time_ns=time_ns,
            line=form.line,
        )

    def _lacks(self, form: Form, field: str, expected: str, found: Any) -> Malformed:
        return Malformed(
            form.line, form.column, f"{field} {write_edn(found)}", f"{field} to be {expected}"
        )

    def _fault(self, name: str, time_ns: int, value: Any) -> None:
        text = "" if value is None else write_edn(value)
        ends = _ENDINGS.match(name)
        if ends is None:
            self._faults.append((name, time_ns, text))
            return
        subject = name[ends.end() :].lstrip("-_ ")
        matching = [fault for fault in self._faults if not subject or subject in fault[0]]
        for fault in matching or self._faults[:]:
            self._faults.remove(fault)
            shown = fault[0].removeprefix("start").lstrip("-_ ") or "fault"
            self._recorder.fault(shown, started_ns=fault[1], ended_ns=time_ns, text=fault[2])

    def finish(self) -> History:
        """Everything that was read."""
        for name, started_ns, text in self._faults:
            shown = name.removeprefix("start").lstrip("-_ ") or "fault"
            self._recorder.fault(shown, started_ns=started_ns, text=text)
        return self._recorder.history()


def _told(history: History) -> Iterator[dict[Keyword, Any]]:
    for event in events(history):
        op = event.operation
        kind = "invoke" if event.outcome is None else _TYPES[event.outcome]
        row: dict[Keyword, Any] = {
            Keyword("process"): op.process if isinstance(op.process, int) else Keyword(op.process),
            Keyword("type"): Keyword(kind),
            Keyword("f"): Keyword(op.function),
        }
        if op.key is not None:
            row[Keyword("key")] = op.key
        row[Keyword("value")] = op.result if event.outcome is Outcome.OK else op.value
        row[Keyword("time")] = event.time_ns
        if event.outcome is not None and op.error is not None:
            row[Keyword("error")] = op.error
        yield row


def write_jepsen(history: History) -> str:
    """The history as EDN operations, one a line. Faults and log positions are left out."""
    return "".join(write_edn(row) + "\n" for row in _told(history))


def write_porcupine(history: History) -> str:
    """The history as Porcupine's key-value log: no times, nothing about what never returned."""
    lines = []
    for row in _told(history):
        if row[Keyword("type")] in ("info", "fail"):
            continue
        del row[Keyword("time")]
        row.setdefault(Keyword("key"), "")
        ordered = {Keyword(k): row[Keyword(k)] for k in ("process", "type", "f", "key", "value")}
        lines.append(write_edn(ordered) + "\n")
    return "".join(lines)


def write_log(history: History) -> str:
    """The history as the lines that Jepsen logs."""
    lines = []
    for row in _told(history):
        value = row.get(Keyword("error"), row[Keyword("value")])
        parts = (row[Keyword("process")], row[Keyword("type")], row[Keyword("f")], value)
        lines.append("INFO  jepsen.util - " + "\t".join(write_edn(part) for part in parts) + "\n")
    return "".join(lines)

"""Judges of histories: what a history proves, and why.

Record what clients asked and saw (`Recorder`, or a file through `read_history`), ask a judge, and
show its answer (`as_text`, `as_data`, `render_page`). Pure: no clock, no file, no network.
"""

from mcpcore.check.budget import Budget
from mcpcore.check.bylog import check_by_log
from mcpcore.check.formats import read_history, write_jsonl
from mcpcore.check.history import (
    FaultWindow,
    History,
    LogPosition,
    Operation,
    Outcome,
    Recorder,
)
from mcpcore.check.judges import JUDGES, Options, judge
from mcpcore.check.linear import check_linearizable
from mcpcore.check.model import ILLEGAL, Choice, Model
from mcpcore.check.page import render_page
from mcpcore.check.report import as_data, as_text
from mcpcore.check.verdict import Finding, Judgement, Verdict

__all__ = [
    "ILLEGAL",
    "JUDGES",
    "Budget",
    "Choice",
    "FaultWindow",
    "Finding",
    "History",
    "Judgement",
    "LogPosition",
    "Model",
    "Operation",
    "Options",
    "Outcome",
    "Recorder",
    "Verdict",
    "as_data",
    "as_text",
    "check_by_log",
    "check_linearizable",
    "judge",
    "read_history",
    "render_page",
    "write_jsonl",
]

"""The report of a run: one HTML page that explains itself, offline."""

from mcpcore.experiment.report.page import render_report, write_report

__all__ = ["render_report", "write_report"]

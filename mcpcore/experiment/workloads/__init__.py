"""What clients do during an experiment, and who judges it."""

from mcpcore.experiment.workloads.kinds import KINDS
from mcpcore.experiment.workloads.store import Store
from mcpcore.experiment.workloads.work import Lane, Running, Work

__all__ = ["KINDS", "Lane", "Running", "Store", "Work"]

"""Transactions: dependency graphs, Adya's anomalies, and what they rule out."""

from mcpcore.check.txn.judge import check_list_append, check_rw_register
from mcpcore.check.txn.levels import LEVELS, ruled_out

__all__ = ["LEVELS", "check_list_append", "check_rw_register", "ruled_out"]

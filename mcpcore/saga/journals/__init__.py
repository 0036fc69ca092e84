"""Where journals are kept: the seam, in memory, in SQLite. A Raft group: ``mcpcore.node.sagas``."""

"""mcpctl: the command line."""

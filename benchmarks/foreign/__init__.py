"""What runs inside a peer's own virtual environment. Nothing here imports mcpcore."""

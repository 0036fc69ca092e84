"""mcpcore: coordination for services that span clouds."""

__version__ = "0.1.0"

"""asyncio drivers: node, group, transport, storage."""

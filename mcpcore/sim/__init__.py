"""A deterministic simulator for any asyncio program."""

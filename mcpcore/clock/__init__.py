"""Timestamps, hybrid logical clocks, offset and drift. Pure: every reading is handed in."""

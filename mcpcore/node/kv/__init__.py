"""The replicated key-value machine: commands in, results and events out."""

"""Benchmarks that argue against themselves: ``python -m benchmarks list``."""

"""Experiments: scenario, workload, faults, the two worlds, the report."""

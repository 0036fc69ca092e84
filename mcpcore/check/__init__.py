"""Judges of histories: what a history proves, and why."""

"""Policies of other systems, read and written with their own meaning."""

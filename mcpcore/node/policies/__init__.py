"""Policies on a running node: the log as a group, the edits as replicated data, and who asks."""

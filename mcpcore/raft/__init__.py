"""Raft as a pure step machine: messages and time in, effects out."""

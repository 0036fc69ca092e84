"""Whom we are measured beside: how to get them, how to start them, what they do not promise."""

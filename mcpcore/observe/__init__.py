"""Seeing what it does: metrics, traces, health, a live page.

Needs the extra ``mcpcore[observe]``. Everything here looks and nothing acts, except the live page
when an administrator lets it: no rule of any protocol lives in this package.
"""

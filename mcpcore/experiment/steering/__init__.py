"""Clocks and disks of a real process that an experiment can break from outside."""

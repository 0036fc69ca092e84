"""Snapshots of a group on a node: taken, kept, sent, received, restored at the start."""

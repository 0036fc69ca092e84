"""Disaster recovery: a group whose quorum is lost for good, brought back from what is left."""

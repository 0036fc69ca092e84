"""A client of a cluster: finds the leader, retries what is safe, says what is not known."""

"""Talking over the network: frames, handshake, mutual TLS, one connection for each pair."""

"""Measurements: how fast the codec and the servers are, against what, and what the size of a chunk does."""

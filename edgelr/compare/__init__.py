"""Latency regression checks: two packages or graphs, timed in turn on one machine; three answers."""

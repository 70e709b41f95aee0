"""The small graphs are those of all tests of graphs."""

from tiny_graphs import make_tiny, tiny

__all__ = ["make_tiny", "tiny"]

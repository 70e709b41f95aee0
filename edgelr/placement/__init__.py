"""Which provider takes which node of a graph, and why not: recorded where it runs, else analyzed."""

"""Stage validate: what a package is worth on each device: accuracy, latency, memory, placement, gates."""

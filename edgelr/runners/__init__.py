"""Where a graph is open that this process does not run with its own ONNX Runtime: one module a place."""

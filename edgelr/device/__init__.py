"""Where a package runs: device profiles, what this host has, and ONNX Runtime sessions as a profile says."""

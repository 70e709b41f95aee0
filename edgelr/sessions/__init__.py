"""Stage sessions: which of ONNX Runtime's own rewrites of a graph make it slower on a device, measured."""

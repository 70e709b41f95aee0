"""Stage ort: Package -> Package, its graphs in ONNX Runtime's own format too."""

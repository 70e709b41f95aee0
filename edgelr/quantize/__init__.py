"""Stage quantize: the same package with smaller weights, checked against the graph it was made of.

One module a scheme; ``vocabulary`` and ``blocks`` quantize embedding tables, which ONNX Runtime's quantizers
leave alone.
"""

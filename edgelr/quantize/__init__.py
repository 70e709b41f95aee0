"""Stage quantize: the same package with smaller weights, checked against the graph it was made of.

One module a scheme; ``vocabulary`` quantizes embedding tables, which every dynamic quantizer leaves alone.
"""

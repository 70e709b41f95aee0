"""Stage quantize: the same package with smaller weights, checked against the graph it was made of.

``graphs`` prepares a graph, whose ``layers`` have names then, and gives each its ``choice`` of ``schemes``,
one module each; ``vocabulary`` and ``blocks`` quantize embedding tables, which ONNX Runtime's quantizers
leave alone. With the scheme auto, ``times`` measures and ``fastest`` chooses. ``error_list`` says what each
layer loses, ``left`` what stayed fp32, ``control`` which layers to keep at higher precision.
"""

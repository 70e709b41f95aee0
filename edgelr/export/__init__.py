"""Stage export: a model becomes an ONNX graph that equals it, with everything a package needs.

Of a torch model (``torch_module``), ``graphs`` wraps what is traced, ``convert`` traces it, ``fuse`` joins
attention, ``tidy`` cleans the graph, ``parity`` compares the result with torch. A graph is one already
(``onnx_graph``). Of both, ``pivot`` makes factors smaller; ``chains`` finds where.
"""

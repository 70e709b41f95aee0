"""Stage export: a torch model becomes an ONNX graph that equals it, with everything a package needs.

``graphs`` wraps what is traced, ``convert`` traces it, ``fuse`` joins attention, ``tidy`` cleans the graph,
``pivot`` makes factors smaller (``chains`` and ``channels`` find where), ``parity`` compares the result with
torch.
"""

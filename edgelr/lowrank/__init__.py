"""What the stages share about factors: how they are found, the layers that compute with them, their files.

``svd``, ``bases``, ``factoring``, ``table``, ``tied``, ``pivot`` and ``rotate`` are numpy, and know a layer
by its ``weight``; ``svd`` fixes the matrix convention, ``conv_cost`` is arithmetic. ``layers``, ``conv``,
``embedding``, ``kinds`` and ``checkpoint`` are of torch modules; ``graph_file``, ``graph_layers`` and
``free_channels`` of ONNX graphs, without torch.
"""

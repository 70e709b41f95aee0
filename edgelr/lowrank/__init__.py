"""What every stage of the torch half shares: the factors, the layers that compute with them, their files.

``svd`` is numpy and fixes the matrix convention; ``table``, ``tied`` and ``rotate`` are numpy too,
``conv_cost`` is pure arithmetic. ``layers``, ``conv``, ``embedding`` and ``checkpoint`` are torch; ``kinds``
chooses the layer. Stage quantize, which has no torch, takes ``rotate`` from here.
"""

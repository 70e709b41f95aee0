"""What every stage of the torch half shares: the factors, the layers that compute with them, their files.

``svd`` is numpy and fixes the matrix convention; ``layers`` and ``checkpoint`` are torch.
"""

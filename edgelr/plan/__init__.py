"""Stage plan: share a budget among the sites. No torch: the same for every form of model.

All of it is arithmetic but ``kernels.py``, which times what the arithmetic of a latency budget needs.
"""

"""Stage plan: share a budget among the sites. Arithmetic only: no torch, the same for every form of model."""

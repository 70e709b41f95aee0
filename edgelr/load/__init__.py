"""Stage load: find and check the dense model, read its data, split it. Torch is not needed yet."""

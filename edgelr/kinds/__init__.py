"""The light face of every task: what a package of it can be asked, without torch. See ``kind.py``."""

"""Timing: a process that runs sessions and times them, and whoever asks it: stages plan and validate."""

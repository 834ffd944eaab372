"""Data sets of events, as their archives lie on the disk."""

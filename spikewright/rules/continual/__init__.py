"""Rules around rules, for one task after another."""

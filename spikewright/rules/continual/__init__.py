"""Rules that wrap another rule and learn one task after another."""

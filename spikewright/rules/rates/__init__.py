"""Rules that learn from firing rates: DSR, IDE and SPIDE, and the graph of rates that they differentiate."""

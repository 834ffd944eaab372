"""Rules that learn from firing rates (DSR, IDE, SPIDE), and the network evaluated at rates that they differentiate."""

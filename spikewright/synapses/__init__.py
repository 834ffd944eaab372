"""Layers with weights: their operations, and the one autograd function that transmits spikes through them."""

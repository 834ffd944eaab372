"""Layers with weights: their operations, and the one autograd function that transmits spikes through them."""

__all__: list[str] = []


def __dir__() -> list[str]:
    return __all__
